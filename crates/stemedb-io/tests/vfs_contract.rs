//! The real and the simulated file system keep the same contract.
#![expect(clippy::unwrap_used, reason = "in a test the panic is the verdict")]

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use stemedb_io::sim::SimVfs;
use stemedb_io::{Clock, DIRECT_ALIGN, Open, RealClock, RealVfs, Vfs, VfsFile};

fn both(check: fn(&dyn Vfs, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    check(&RealVfs, dir.path());
    let sim = SimVfs::new(1);
    sim.create_dir_all(Path::new("/data")).unwrap();
    check(&sim, Path::new("/data"));
}

fn kind<T>(result: std::io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn open_modes() {
    both(|vfs, dir| {
        let path = dir.join("a");
        assert_eq!(kind(vfs.open(&path, Open::Read)), Some(ErrorKind::NotFound));
        assert_eq!(kind(vfs.open(&path, Open::Write)), Some(ErrorKind::NotFound));
        assert!(!vfs.exists(&path).unwrap());
        vfs.open(&path, Open::CreateNew).unwrap().close().unwrap();
        assert!(vfs.exists(&path).unwrap());
        assert_eq!(kind(vfs.open(&path, Open::CreateNew)), Some(ErrorKind::AlreadyExists));
        assert_eq!(kind(vfs.open(&dir.join("no/b"), Open::CreateNew)), Some(ErrorKind::NotFound));
        assert!(vfs.open(&path, Open::Read).unwrap().write_at(b"x", 0).is_err());
        assert!(vfs.metadata(dir).unwrap().is_dir);
    });
}

#[test]
fn bytes_and_lengths() {
    both(|vfs, dir| {
        let file = vfs.open(&dir.join("f"), Open::CreateNew).unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(b"hello", 5000).unwrap();
        assert_eq!(file.len().unwrap(), 5005);
        let mut buf = [1; 10];
        assert_eq!(file.read_at(&mut buf, 4998).unwrap(), 7);
        assert_eq!(&buf, b"\0\0hello\x01\x01\x01");
        assert_eq!(kind(file.read_exact_at(&mut buf, 4998)), Some(ErrorKind::UnexpectedEof));
        assert_eq!(file.read_at(&mut buf, 9999).unwrap(), 0);

        // What was cut off does not come back, synced or not.
        for sync in [false, true] {
            file.write_at(&[7; 10_000], 0).unwrap();
            file.sync_data().unwrap();
            file.set_len(100).unwrap();
            if sync {
                file.sync_all().unwrap();
            }
            file.set_len(10_000).unwrap();
            let mut all = vec![1; 10_000];
            file.read_exact_at(&mut all, 0).unwrap();
            assert_eq!(all.iter().filter(|b| **b == 7).count(), 100);
            assert_eq!(all.iter().filter(|b| **b == 0).count(), 9_900);
        }
        file.allocate(20_000).unwrap();
        assert_eq!(file.len().unwrap(), 20_000);
        file.allocate(10).unwrap();
        assert_eq!(file.len().unwrap(), 20_000);
        file.close().unwrap();
    });
}

#[test]
fn names() {
    both(|vfs, dir| {
        vfs.create_dir_all(&dir.join("x/y")).unwrap();
        vfs.create_dir_all(&dir.join("x/y")).unwrap();
        for name in ["b", "a", "c"] {
            vfs.open(&dir.join(name), Open::CreateNew)
                .unwrap()
                .write_at(name.as_bytes(), 0)
                .unwrap();
        }
        vfs.rename(&dir.join("a"), &dir.join("c")).unwrap();
        vfs.sync_dir(dir).unwrap();
        let open = vfs.open(&dir.join("b"), Open::Read).unwrap();
        vfs.remove_file(&dir.join("b")).unwrap();
        assert_eq!(kind(vfs.remove_file(&dir.join("b"))), Some(ErrorKind::NotFound));
        let mut byte = [0];
        assert_eq!((open.read_at(&mut byte, 0).unwrap(), byte), (1, *b"b"));
        let listed: Vec<_> = vfs.read_dir(dir).unwrap();
        let listed: Vec<_> = listed.iter().map(|e| (e.name.to_str().unwrap(), e.is_dir)).collect();
        assert_eq!(listed, [("c", false), ("x", true)]);
        vfs.open(&dir.join("c"), Open::Read).unwrap().read_at(&mut byte, 0).unwrap();
        assert_eq!(&byte, b"a");
    });
}

#[test]
fn a_folder_has_one_owner() {
    both(|vfs, dir| {
        let held = vfs.lock(dir).unwrap();
        assert_eq!(kind(vfs.lock(dir)), Some(ErrorKind::WouldBlock));
        drop(held);
        vfs.lock(dir).unwrap();
        assert!(vfs.read_dir(dir).unwrap().is_empty(), "a lock leaves nothing behind");
        assert!(vfs.space(dir).unwrap().available > 0);
    });
}

#[test]
fn eviction_can_be_seen() {
    both(|vfs, dir| {
        let file = vfs.open(&dir.join("f"), Open::CreateNew).unwrap();
        // Some pages, of which not one may stay.
        let len = 64 * 4096;
        file.write_at(&vec![1; len], 0).unwrap();
        let mut buf = [0; 100];
        match file.read_nowait(&mut buf, 0) {
            Ok(cached) => assert_eq!(cached, Some(100)),
            // Some file systems cannot tell, and then there is nothing more to see.
            Err(error) => return assert_eq!(error.kind(), ErrorKind::Unsupported),
        }
        file.sync_all().unwrap();
        // A page that the system has in hand survives a request; on a busy machine that was seen.
        let stays = |file: &dyn VfsFile| -> Vec<usize> {
            let cached = |at: &usize| {
                let found = file.read_nowait(&mut [0; 100], *at as u64).unwrap();
                found.is_some()
            };
            (0..len).step_by(4096).filter(cached).collect()
        };
        let gone = (0..500).any(|_| {
            RealClock::new().sleep(Duration::from_millis(2));
            file.evict().unwrap();
            stays(&*file).is_empty()
        });
        assert!(gone, "of the cached copy pages stay: {:?}", stays(&*file));
        file.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(file.read_nowait(&mut buf, 0).unwrap(), Some(100));
    });
}

#[test]
fn past_the_cache_bytes_arrive_and_do_not_stay_in_memory() {
    both(|vfs, dir| {
        let file = vfs.open(&dir.join("f"), Open::CreateNew).unwrap();
        file.allocate(8 * DIRECT_ALIGN as u64).or_else(|_| file.set_len(1 << 15)).unwrap();
        let mut room = vec![0; 3 * DIRECT_ALIGN];
        let from = room.as_ptr().align_offset(DIRECT_ALIGN);
        let piece = room.get_mut(from..from + 2 * DIRECT_ALIGN).unwrap();
        piece.fill(7);
        let past = file.bypass_cache(true).unwrap();
        file.write_at(piece, DIRECT_ALIGN as u64).unwrap();
        file.sync_data().unwrap();
        let mut buf = [0; 100];
        if past && let Ok(cached) = file.read_nowait(&mut buf, DIRECT_ALIGN as u64) {
            assert_eq!(cached, None);
        }
        // As before, and what was written shows.
        assert!(!file.bypass_cache(false).unwrap());
        file.write_at(b"odd", 3 * DIRECT_ALIGN as u64 - 1).unwrap();
        let mut found = vec![0; 4 * DIRECT_ALIGN];
        file.read_exact_at(&mut found, 0).unwrap();
        let mut expected = vec![0; 4 * DIRECT_ALIGN];
        expected.get_mut(DIRECT_ALIGN..3 * DIRECT_ALIGN).unwrap().fill(7);
        expected
            .get_mut(3 * DIRECT_ALIGN - 1..)
            .unwrap()
            .get_mut(..3)
            .unwrap()
            .copy_from_slice(b"odd");
        assert!(found == expected);
    });
}
