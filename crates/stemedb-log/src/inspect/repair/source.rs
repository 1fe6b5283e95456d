//! What is to be repaired: the file, and its header, given or made.

use stemedb_io::{Env, Open, VfsFile as _};
use stemedb_model::Position;

use super::neighbours::{Claim, Neighbours, cannot, own_header};
use super::patient::Patient;
use super::unpack::{Packed, unpack};
use super::{HeaderOrigin, RepairOptions};
use crate::error::LogError;
use crate::format::header::{FORMAT, HeaderState, SegmentHeader, segment_number};
use crate::recover::survey::{io, read_header};
use crate::recover::tail::{Torn, examine};
use crate::walk::Cursor;

/// A segment, ready to be read.
pub(super) struct Source {
    pub(super) name: String,
    /// `None`: there is no such file. Of a packed segment, what can be proved of it, as blocks.
    pub(super) file: Option<Patient>,
    /// What these blocks were made of.
    pub(super) packed: Option<Packed>,
    pub(super) len: u64,
    pub(super) header: SegmentHeader,
    pub(super) origin: HeaderOrigin,
    /// Where it ended, as the next segment tells.
    pub(super) end: Option<Cursor>,
    /// A later segment holds something, durable or not.
    pub(super) followed: bool,
    /// The log went on in a later segment.
    pub(super) went_on: bool,
    /// A position that was acknowledged, and can only have been in this one.
    pub(super) witness: Option<Position>,
    /// Everything up to here was durable, as later segments tell.
    pub(super) durable: Position,
}

impl Source {
    /// The file as it is, for bytes that are named in it.
    pub(super) fn raw(&self) -> Option<&Patient> {
        self.packed.as_ref().map(|packed| &packed.file).or(self.file.as_ref())
    }

    /// Where something that begins at this byte of the blocks begins in the file.
    pub(super) fn start_in_file(&self, byte: u64) -> u64 {
        self.packed.as_ref().map_or(byte, |packed| packed.start(byte))
    }

    /// Where something that ends before this byte of the blocks ends in the file.
    pub(super) fn end_in_file(&self, byte: u64) -> u64 {
        self.packed.as_ref().map_or(byte, |packed| packed.end(byte))
    }

    /// What is wrong with the file between these bytes of the blocks, if it has other words for it.
    pub(super) fn problem_in_file(&self, from: u64, to: u64) -> Option<&str> {
        self.packed.as_ref()?.problem(from, to)
    }

    /// Sectors that the medium did not give.
    pub(super) fn unreadable(&self) -> u64 {
        self.raw().map_or(0, Patient::unreadable)
    }
}

pub(super) fn look(env: &Env, options: &RepairOptions) -> Result<Source, LogError> {
    let path = &options.segment;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let vfs = &*env.vfs;
    let exists = vfs.exists(path).map_err(|source| io(&name, "look at", 0, source))?;
    let file = match exists {
        true => {
            let file = vfs.open(path, Open::Read).map_err(|source| io(&name, "open", 0, source))?;
            Some(Patient::new(file))
        }
        false => None,
    };
    let number = segment_number(&name);
    let neighbours = Neighbours::of(vfs, path, number)?;
    match file {
        Some(file) => present(env, options, name, file, &neighbours),
        None => missing(env, options, name, &neighbours),
    }
}

/// A file that is there.
fn present(
    env: &Env,
    options: &RepairOptions,
    name: String,
    file: Patient,
    neighbours: &Neighbours<'_>,
) -> Result<Source, LogError> {
    let len = file.len().map_err(|source| io(&name, "measure", 0, source))?;
    let state = own_header(&file, &name, neighbours.number, read_header(&file, &name)?)?;
    if matches!(state, HeaderState::Blank(_))
        && examine(&file, &name, len, 0, 1, Torn::First(0))?.unwritten()
        && !neighbours.followed()?
        && !neighbours.closed_before()?
        && !all_is_gone(neighbours, options)
    {
        return Err(cannot(&name, "is a prepared segment that was not used yet")
            .hint("there is nothing to repair in it; the next start makes another"));
    }
    let packed;
    let (header, origin) = match state {
        HeaderState::TooNew(found) => {
            return Err(LogError::TooNew { file: name, found, supported: FORMAT });
        }
        HeaderState::Ok(header) => {
            neighbours.accept(&name, &header)?;
            // Both shapes of a segment have the same header but for its kind: one may have been
            // written over the other's.
            let claim = Claim::of(&file, &name, len, None, &neighbours.salts())?;
            let told = claim.salt.is_some_and(|(salt, _)| salt == header.salt);
            packed = if told { claim.packed } else { header.packed };
            let origin = match packed == header.packed {
                true => HeaderOrigin::Kept,
                false => HeaderOrigin::Rebuilt("its kind from what is behind it".into()),
            };
            (header, origin)
        }
        HeaderState::Blank(mark) | HeaderState::Bad(mark) => {
            let claim = Claim::of(&file, &name, len, mark, &neighbours.salts())?;
            packed = claim.packed;
            let (salt, from) = match claim.salt {
                Some((salt, from)) => (salt, from),
                None => match neighbours.next_names_salt() {
                    Some(salt) => (salt, "the next segment"),
                    // Nothing in it can be proved; it is as good as missing.
                    None => (env.rng.next_u64().max(1), "nothing: no sector of it verifies"),
                },
            };
            if neighbours.number == 0 {
                return Err(cannot(
                    &name,
                    "its header is damaged, and its name is none of a log's",
                )
                .hint("call it segment.NNN.wal, by its number, in the folder of its log"));
            }
            let whole = if packed { 0 } else { len };
            let (header, place) = neighbours.make(&name, salt, whole, claim.first, options)?;
            let sentence = format!("salt from {from}, place in the log from {place}");
            (header, HeaderOrigin::Rebuilt(sentence))
        }
    };
    let end = neighbours.end(&header)?;
    let (file, packed, len) = if packed {
        let (blocks, packed) = unpack(file, &name, len, &header)?;
        let len = blocks.len().map_err(|source| io(&name, "measure", 0, source))?;
        (Patient::new(Box::new(blocks)), Some(packed), len)
    } else {
        (file, None, len)
    };
    // The result is not packed.
    let header = SegmentHeader { packed: false, ..header };
    Ok(Source {
        name,
        file: Some(file),
        packed,
        len,
        header,
        origin,
        end,
        followed: neighbours.followed()?,
        went_on: neighbours.went_on(),
        witness: witness(neighbours, options)?,
        durable: neighbours.durable(),
    })
}

fn witness(
    neighbours: &Neighbours<'_>,
    options: &RepairOptions,
) -> Result<Option<Position>, LogError> {
    match options.witness {
        Some(witness) if neighbours.ends_with(witness)? => Ok(Some(witness)),
        _ => Ok(None),
    }
}

/// There were records, and no segment has any: the first one can hold their positions.
fn all_is_gone(neighbours: &Neighbours<'_>, options: &RepairOptions) -> bool {
    neighbours.number == 1 && options.witness.is_some_and(|witness| witness > Position::NONE)
}

/// A file that is not there, and should be.
fn missing(
    env: &Env,
    options: &RepairOptions,
    name: String,
    neighbours: &Neighbours<'_>,
) -> Result<Source, LogError> {
    let followed = neighbours.followed()?;
    let expected = followed || neighbours.closed_before()? || all_is_gone(neighbours, options);
    if neighbours.number == 0 || !expected {
        return Err(cannot(&name, "is not there, and no other segment says that it should be")
            .hint("name a segment of a log; `stemedb wal verify` tells which are missing"));
    }
    let salt = neighbours.next_names_salt().unwrap_or_else(|| env.rng.next_u64().max(1));
    let (header, place) = neighbours.make(&name, salt, 0, None, options)?;
    let end = neighbours.end(&header)?;
    let origin = HeaderOrigin::Missing(format!("place in the log from {place}"));
    let durable = neighbours.durable();
    Ok(Source {
        name,
        file: None,
        packed: None,
        len: 0,
        header,
        origin,
        end,
        followed,
        went_on: neighbours.went_on(),
        witness: witness(neighbours, options)?,
        durable,
    })
}
