//! The contract of a store, on each that is at hand.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "somebody else moves the folder of the store")]

use std::io::{Read, Write};
use std::sync::Arc;

use stemedb_io::sim::SimRng;
use stemedb_remote::{MemoryStore, ObjectStore, Put, Store, StoreError, StoreOptions, probe};

/// Every clause; `store` is empty.
fn contract(store: Arc<dyn Store>) {
    probe(&*store, &SimRng::new(1)).unwrap();
    assert_eq!(store.get("a/x", 100), Err(StoreError::Missing { name: "a/x".into() }));
    assert_eq!(store.put_new("a/x", b"one"), Ok(Put::Created));
    assert_eq!(store.put_new("a/x", b"another"), Ok(Put::Exists));
    assert_eq!(store.get("a/x", 3).unwrap(), b"one");
    assert!(matches!(store.get("a/x", 2), Err(StoreError::TooLong { found: 3, most: 2, .. })));
    let long: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    for name in ["a/b/2", "a/b/10", "a/c", "ab/z", "b/q"] {
        assert_eq!(store.put_new(name, &long), Ok(Put::Created));
    }
    assert_eq!(store.get("a/b/2", u64::MAX).unwrap(), long);
    let names = |folder: &str, after: &str| -> Vec<(String, u64)> {
        let listed = store.list(folder, after).unwrap();
        listed.into_iter().map(|one| (one.name, one.bytes)).collect()
    };
    let long_len = long.len() as u64;
    assert_eq!(
        names("a", ""),
        [
            ("a/b/10".to_owned(), long_len),
            ("a/b/2".to_owned(), long_len),
            ("a/c".to_owned(), long_len),
            ("a/x".to_owned(), 3)
        ]
    );
    assert_eq!(names("a", "a/b/2"), [("a/c".to_owned(), long_len), ("a/x".to_owned(), 3)]);
    assert_eq!(names("nowhere", ""), []);
    assert_eq!(store.folders("").unwrap(), ["a", "ab", "b"]);
    assert_eq!(store.folders("a").unwrap(), ["b"]);
    store.remove("a/x").unwrap();
    store.remove("a/x").unwrap();
    assert!(store.get("a/x", 100).is_err());
    // Of many who put one name, one is told that it did.
    let created: usize = std::thread::scope(|scope| {
        let puts: Vec<_> = (0..8u8)
            .map(|n| {
                let store = Arc::clone(&store);
                scope.spawn(move || store.put_new("race", &[n; 50]).unwrap())
            })
            .collect();
        puts.into_iter()
            .filter_map(|put| (put.join().unwrap() == Put::Created).then_some(()))
            .count()
    });
    assert_eq!(created, 1);
    let found = store.get("race", 50).unwrap();
    assert!(found.iter().all(|byte| *byte == found[0]) && found.len() == 50);
}

#[test]
fn the_store_in_memory_keeps_the_contract() {
    contract(Arc::new(MemoryStore::default()));
}

#[test]
fn a_folder_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    for address in [
        dir.path().join("one/two").display().to_string(),
        format!("file://{}", dir.path().join("three").display()),
    ] {
        let store = ObjectStore::open(&address, &StoreOptions::default()).unwrap();
        assert_eq!(store.place(), address);
        contract(Arc::new(store));
    }
}

#[test]
fn what_is_no_address_is_refused_with_what_is() {
    for address in ["", "backups", "ftp://x/y", "s3://", "file://relative", "s3:///x"] {
        let error = ObjectStore::open(address, &StoreOptions::default()).unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{address}: {error}");
    }
}

#[test]
fn a_folder_is_made_by_the_first_put_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/mounted");
    let address = path.display().to_string();
    let store = ObjectStore::open(&address, &StoreOptions::default()).unwrap();
    assert_eq!(store.list("x", "").unwrap(), []);
    assert!(store.folders("").unwrap().is_empty());
    assert!(matches!(store.get("x/y", 9), Err(StoreError::Missing { .. })));
    store.remove("x/y").unwrap();
    assert!(!dir.path().join("not").exists());
    store.put_new("x/y", b"there").unwrap();
    assert_eq!(store.get("x/y", 9).unwrap(), b"there");
    assert_eq!(store.list("x", "").unwrap().len(), 1);
}

#[test]
fn a_folder_that_was_unmounted_is_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("place"), dir.path().join("away"));
    let store = ObjectStore::open(&path.display().to_string(), &StoreOptions::default()).unwrap();
    store.put_new("a/x", b"one").unwrap();
    // What an unmounted file system leaves: an empty mount point, or none.
    std::fs::rename(&path, &away).unwrap();
    for mount_point in [false, true] {
        if mount_point {
            std::fs::create_dir(&path).unwrap();
        }
        let errors = [
            store.put_new("a/y", b"two").unwrap_err(),
            store.get("a/x", 9).unwrap_err(),
            store.list("a", "").unwrap_err(),
            store.folders("").unwrap_err(),
            store.remove("a/x").unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
            assert!(error.to_string().contains("mount it again"), "{error}");
        }
        assert_eq!(path.exists(), mount_point);
    }
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    // Mounted again it goes on; also as another device, since what was there is there.
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&away, &path).unwrap();
    store.put_new("a/y", b"two").unwrap();
    std::fs::rename(&path, &away).unwrap();
    std::fs::create_dir_all(path.join("a")).unwrap();
    std::fs::copy(away.join("a/y"), path.join("a/y")).unwrap();
    assert_eq!(store.get("a/y", 9).unwrap(), b"two");
    // Nothing was seen of a place: it may still be mounted.
    let late = dir.path().join("late");
    std::fs::create_dir(&late).unwrap();
    let store = ObjectStore::open(&late.display().to_string(), &StoreOptions::default()).unwrap();
    assert_eq!(store.list("a", "").unwrap(), []);
    std::fs::remove_dir(&late).unwrap();
    std::fs::rename(&away, &late).unwrap();
    assert_eq!(store.list("a", "").unwrap().len(), 2);
}

/// A server that answers every request as S3 does for a bucket that is not there.
fn without_bucket() -> (String, std::thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serve = std::thread::spawn(move || {
        for _ in 0..4 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let body = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code></Error>";
            let length = body.len();
            let head = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\n");
            let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes());
        }
    });
    (address, serve)
}

#[test]
fn a_bucket_that_is_not_there_is_told_as_that() {
    let (endpoint, serve) = without_bucket();
    let settings = [
        ("aws_endpoint", endpoint.as_str()),
        ("aws_region", "nowhere"),
        ("aws_access_key_id", "x"),
        ("aws_secret_access_key", "y"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = StoreOptions { settings: settings.into(), retries: 0, ..StoreOptions::default() };
    let store = ObjectStore::open("s3://mistyped/prefix", &options).unwrap();
    let errors = [
        store.put_new("x", b"y").unwrap_err(),
        store.get("x", 9).unwrap_err(),
        store.list("x", "").unwrap_err(),
        store.folders("").unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("s3://mistyped/prefix"), "{error}");
    }
    serve.join().unwrap();
}
