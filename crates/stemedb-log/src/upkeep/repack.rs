//! Rewrites a sealed segment dense and compressed, under a temporary name, proves from the medium
//! that it says the same, and only then gives it the name of the original.

use stemedb_io::{Env, Open, VfsFile};

use super::prove::{Content, Pace, Trouble, header_of, prove};
use crate::format::header::{Fence, SegmentHeader, segment_name};
use crate::format::pack::GroupToPack;
use crate::format::packer::{PackedEnd, Packer};
use crate::prove::{CACHE_LOOK_EVERY, drop_cache};
use crate::recover::survey::io;
use crate::shared::Shared;

/// Written in pieces, each made durable before the next: a commit waits for the sync that is out beside
/// its own.
const PIECE: usize = 128 << 10;

/// Name of the packed form of a segment until it is proved.
fn temporary_name(segment: &str) -> String {
    format!("{segment}.packed.tmp")
}

/// Lengths of the file before and after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lengths {
    pub(crate) before: u64,
    pub(crate) after: u64,
}

/// Packs segment `number`, which ends at `fence`. `None`: it is packed. Until the packed file is
/// proved the original keeps its name, and an error leaves it as it was.
pub(crate) fn repack(
    shared: &Shared,
    env: &Env,
    number: u64,
    fence: &Fence,
    pace: &mut Pace<'_>,
) -> Result<Option<Lengths>, Trouble> {
    let name = segment_name(number);
    let temporary = temporary_name(&name);
    let built = build(shared, env, (number, &name, &temporary), fence, pace);
    let lengths = match built {
        Ok(Some(lengths)) => lengths,
        Ok(None) => return Ok(None),
        Err(trouble) => {
            // If it stays, the next attempt or the next start removes it.
            let _ = env.vfs.remove_file(&shared.dir.join(&temporary));
            return Err(trouble);
        }
    };
    place(shared, env, number, (&name, &temporary))?;
    Ok(Some(lengths))
}

/// Makes the packed file and proves it.
fn build(
    shared: &Shared,
    env: &Env,
    (number, name, temporary): (u64, &str, &str),
    fence: &Fence,
    pace: &mut Pace<'_>,
) -> Result<Option<Lengths>, Trouble> {
    let path = shared.dir.join(temporary);
    let original = env
        .vfs
        .open(&shared.dir.join(name), Open::Read)
        .map_err(|source| io(name, "open", 0, source))?;
    let header = header_of(&*original, name, number, fence)?;
    if header.packed {
        return Ok(None);
    }
    let before = original.len().map_err(|source| io(name, "measure", 0, source))?;
    let header = SegmentHeader { packed: true, ..header };
    match env.vfs.remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(io(temporary, "remove", 0, source).into());
        }
        _ => {}
    }
    let file = env
        .vfs
        .open(&path, Open::CreateNew)
        .map_err(|source| io(temporary, "create", 0, source))?;
    let mut writer = Writer::new(&*file, temporary, &header);
    let mut half = |bytes: u64| pace(bytes);
    let mut previous = header.fence.group;
    let content = prove(&*original, name, number, fence, &mut half, &mut |group, entries| {
        let group = GroupToPack {
            after: std::mem::replace(&mut previous, group.number),
            number: group.number,
            first: group.first,
            last: group.last,
            recorded_at: group.recorded_at,
            chain_before: group.chain_before,
            lost: group.lost.as_ref(),
        };
        writer.add(&group, &entries)
    })?;
    writer.finish(&content)?;
    file.sync_all().map_err(|source| io(temporary, "sync", 0, source))?;

    // Only what the medium says counts: what was just written is in the cache.
    let len = file.len().map_err(|source| io(temporary, "measure", 0, source))?;
    match drop_cache(&*file, len, CACHE_LOOK_EVERY, &*env.clock) {
        Ok(true) => {}
        Err(source) if source.kind() != std::io::ErrorKind::Unsupported => {
            return Err(io(temporary, "read", 0, source).into());
        }
        _ => return Err(Trouble::Unproved),
    }
    let read_back = prove(&*file, temporary, number, fence, pace, &mut |_, _| Ok(()));
    let same = match read_back {
        Ok(read_back) => read_back == content,
        // It is the packed file that is damaged, not the segment.
        Err(Trouble::Damaged(_)) => false,
        Err(trouble) => return Err(trouble),
    };
    if !same {
        let problem = "what was read back is not what was packed";
        return Err(io(temporary, "prove", 0, std::io::Error::other(problem)).into());
    }
    let after = len;
    file.close().map_err(|source| io(temporary, "close", 0, source))?;
    Ok(Some(Lengths { before, after }))
}

/// Gives the packed file its name. From here on either file is the segment, whole: the renaming
/// is atomic, and both say the same.
fn place(
    shared: &Shared,
    env: &Env,
    number: u64,
    (name, temporary): (&str, &str),
) -> Result<(), Trouble> {
    let _names = shared.lock_names();
    let path = shared.dir.join(temporary);
    let discard = |trouble| {
        let _ = env.vfs.remove_file(&path);
        Err(trouble)
    };
    let wanted = shared.published(|log| log.segments.iter().any(|s| s.number == number));
    if !wanted || shared.refuse_if_closed().is_err() {
        return discard(Trouble::Stopped);
    }
    if let Err(source) = env.vfs.rename(&path, &shared.dir.join(name)) {
        return discard(io(temporary, "rename", 0, source).into());
    }
    shared.forget(number);
    shared.publish(|log| {
        if let Some(segment) = log.segments.iter_mut().find(|s| s.number == number) {
            segment.packed = true;
        }
    });
    if let Err(source) = env.vfs.sync_dir(&shared.dir) {
        // The segment is whole under either name. But an error of the folder's sync is reported
        // once, and the worker renames in the same folder: its next sync could say ok for a name
        // that never arrived. So this is what every other failed sync of the folder is.
        return Err(shared.doubt_names("sync folder after packing", name, source).into());
    }
    Ok(())
}

/// A packed file in the making.
struct Writer<'a> {
    file: &'a dyn VfsFile,
    name: &'a str,
    packer: Packer,
}

impl<'a> Writer<'a> {
    fn new(file: &'a dyn VfsFile, name: &'a str, header: &SegmentHeader) -> Self {
        Self { file, name, packer: Packer::new(header) }
    }

    fn add(
        &mut self,
        group: &GroupToPack<'_>,
        entries: &[crate::entry::Entry],
    ) -> Result<(), Trouble> {
        self.packer.add(group, entries).map_err(|too_long| too_long.in_file(self.name))?;
        if self.packer.ready() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        let (mut at, bytes) = self.packer.take();
        for piece in bytes.chunks(PIECE) {
            let failed = |op| {
                let name = self.name;
                move |source| io(name, op, at, source)
            };
            self.file.write_at(piece, at).map_err(failed("write"))?;
            self.file.sync_data().map_err(failed("sync"))?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn finish(&mut self, content: &Content) -> Result<(), Trouble> {
        let end = PackedEnd {
            last: content.last,
            group: content.group,
            recorded_at: content.recorded_at,
            chain: content.chain,
        };
        self.packer.finish(&end).map_err(|too_long| too_long.in_file(self.name))?;
        self.flush()
    }
}
