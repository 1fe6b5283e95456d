//! Where a page begins, as an opaque text.
//!
//! Hex of: version, the snapshot's timeline and position, the time of evaluation, a hash of the
//! question, then what the page before ended with. All numbers are big-endian. Nothing in it is
//! secret or trusted: a made-up cursor reads no more than a question may.

use stemedb_engine::SnapshotToken;
use stemedb_index::ConflictPlace;
use stemedb_model::{Key, Millis, Position, PredicateName, Space, Subject, Timeline};

use crate::error::{ApiError, ApiResult};
use crate::wire::{ConflictParams, ErrorCode, ExplainParams, LensesParams, QueryParams};

const VERSION: u8 = 1;
const KEYS: u8 = b'k';
const POSITIONS: u8 = b'p';
const CONFLICTS: u8 = b'c';

/// What the page before ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum After {
    Key(Key),
    Position(Position),
    Conflict(ConflictPlace),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) snapshot: SnapshotToken,
    pub(crate) evaluated_at: Millis,
    pub(crate) after: After,
}

/// A hash of everything that must stay the same from page to page.
pub(crate) fn question_hash(asked: &QueryParams) -> [u8; 8] {
    hash_of(&QueryParams { cursor: None, limit: None, at_least: None, ..asked.clone() })
}

/// The same of a list of lenses.
pub(crate) fn lenses_hash(asked: &LensesParams) -> [u8; 8] {
    hash_of(&LensesParams { cursor: None, limit: None, at_least: None, ..asked.clone() })
}

/// The same of a receipt.
pub(crate) fn explain_hash(asked: &ExplainParams) -> [u8; 8] {
    hash_of(&ExplainParams { cursor: None, at_least: None, ..asked.clone() })
}

/// The same of a list of conflicts.
pub(crate) fn conflict_hash(asked: &ConflictParams) -> [u8; 8] {
    hash_of(&ConflictParams { cursor: None, limit: None, at_least: None, ..asked.clone() })
}

pub(crate) fn hash_of(same: &impl std::fmt::Debug) -> [u8; 8] {
    let hash = blake3::hash(format!("{same:?}").as_bytes());
    let mut short = [0; 8];
    for (to, from) in short.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    short
}

impl Cursor {
    pub(crate) fn to_text(&self, question: &[u8; 8]) -> String {
        let mut out = vec![VERSION];
        out.extend_from_slice(self.snapshot.timeline.as_bytes());
        out.extend_from_slice(&self.snapshot.position.0.to_be_bytes());
        out.extend_from_slice(&self.evaluated_at.0.to_be_bytes());
        out.extend_from_slice(question);
        match &self.after {
            After::Position(position) => {
                out.push(POSITIONS);
                out.extend_from_slice(&position.0.to_be_bytes());
            }
            After::Conflict(place) => {
                out.push(CONFLICTS);
                out.extend_from_slice(place.as_bytes());
            }
            After::Key(Key { space, subject, predicate }) => {
                out.push(KEYS);
                // No name holds a zero byte.
                let parts = [space.as_str(), subject.as_str(), predicate.as_str()];
                out.extend_from_slice(parts.join("\0").as_bytes());
            }
        }
        hex::encode(out)
    }

    pub(crate) fn parse(text: &str, question: &[u8; 8]) -> ApiResult<Self> {
        let bytes = hex::decode(text).unwrap_or_default();
        let (cursor, of) = Self::read(&bytes)
            .ok_or_else(|| ApiError::parameter("cursor", "is not one that an answer gave"))?;
        if of != *question {
            return Err(Self::mismatch());
        }
        Ok(cursor)
    }

    pub(crate) fn mismatch() -> ApiError {
        let detail = "cursor: is of another question; all other parameters must stay the same";
        ApiError::new(ErrorCode::CursorMismatch, detail).field("cursor")
    }

    fn read(bytes: &[u8]) -> Option<(Self, [u8; 8])> {
        let (version, rest) = bytes.split_first()?;
        if *version != VERSION {
            return None;
        }
        let (timeline, rest) = rest.split_first_chunk::<16>()?;
        let (position, rest) = rest.split_first_chunk::<8>()?;
        let (evaluated_at, rest) = rest.split_first_chunk::<8>()?;
        let (question, rest) = rest.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first()?;
        let after = match *kind {
            POSITIONS => After::Position(Position(u64::from_be_bytes(rest.try_into().ok()?))),
            CONFLICTS => After::Conflict(ConflictPlace::from_slice(rest)?),
            KEYS => {
                let mut parts = std::str::from_utf8(rest).ok()?.split('\0');
                let key = Key {
                    space: Space::parse(parts.next()?).ok()?,
                    subject: Subject::parse(parts.next()?).ok()?,
                    predicate: PredicateName::parse(parts.next()?).ok()?,
                };
                if parts.next().is_some() {
                    return None;
                }
                After::Key(key)
            }
            _ => return None,
        };
        let snapshot = SnapshotToken {
            timeline: Timeline(*timeline),
            position: Position(u64::from_be_bytes(*position)),
        };
        let evaluated_at = Millis(i64::from_be_bytes(*evaluated_at));
        Some((Self { snapshot, evaluated_at, after }, *question))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(after: After) -> Cursor {
        let snapshot = SnapshotToken { timeline: Timeline([7; 16]), position: Position(12) };
        Cursor { snapshot, evaluated_at: Millis(-5), after }
    }

    #[test]
    fn a_cursor_survives_its_text() {
        let key = Key {
            space: Space::default(),
            subject: Subject::parse("drogues/sémaglutide").unwrap(),
            predicate: PredicateName::parse("p").unwrap(),
        };
        let place = ConflictPlace::from_slice(&[5; 24]).unwrap();
        for after in [After::Position(Position(9)), After::Key(key), After::Conflict(place)] {
            let cursor = cursor(after);
            let text = cursor.to_text(&[1; 8]);
            assert_eq!(Cursor::parse(&text, &[1; 8]).unwrap(), cursor);
            let other = Cursor::parse(&text, &[2; 8]).unwrap_err();
            assert_eq!(other.problem.code, ErrorCode::CursorMismatch);
        }
    }

    #[test]
    fn made_up_cursors_are_refused() {
        let good = cursor(After::Position(Position(9))).to_text(&[1; 8]);
        for text in [
            "",
            "zz",
            &good[2..],
            &good[..good.len() - 2],
            &format!("{good}00"),
            &good.replacen("01", "02", 1),
        ] {
            let error = Cursor::parse(text, &[1; 8]).unwrap_err();
            assert_eq!(error.problem.code, ErrorCode::InvalidParameter, "{text}");
        }
    }

    #[test]
    fn the_question_is_all_but_where_and_how_much() {
        let asked = QueryParams { limit: Some(3), ..QueryParams::default() };
        assert_eq!(question_hash(&asked), question_hash(&QueryParams::default()));
        let other = QueryParams { subject: Some("s".into()), ..QueryParams::default() };
        assert_ne!(question_hash(&other), question_hash(&QueryParams::default()));
    }
}
