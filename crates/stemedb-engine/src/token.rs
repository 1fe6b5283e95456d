//! The opaque name of a state of the database, as answers carry it.

use std::fmt;
use std::str::FromStr;

use stemedb_model::{Position, Timeline};

/// A position on a timeline. Its text is 48 hex digits: the 16 bytes of the timeline, then the
/// position as 8 bytes big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotToken {
    /// The branch of the log.
    pub timeline: Timeline,
    /// The newest record that the answer knew.
    pub position: Position,
}

/// Text that is not a snapshot token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot token: expected 48 hex digits")]
pub struct InvalidToken;

impl fmt::Display for SnapshotToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:016x}", self.timeline, self.position.0)
    }
}

impl FromStr for SnapshotToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let (timeline, position) = text.split_at_checked(32).ok_or(InvalidToken)?;
        if position.len() != 16 || !position.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidToken);
        }
        Ok(Self {
            timeline: timeline.parse().map_err(|_| InvalidToken)?,
            position: Position(u64::from_str_radix(position, 16).map_err(|_| InvalidToken)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text() {
        let token = SnapshotToken { timeline: Timeline([0xab; 16]), position: Position(258) };
        let text = token.to_string();
        assert_eq!(text, format!("{}{}", "ab".repeat(16), "0000000000000102"));
        assert_eq!(text.parse(), Ok(token));
    }

    #[test]
    fn other_text_is_refused() {
        let good = "ab".repeat(24);
        for text in ["", &good[1..], &format!("{good}0"), &good.replace('a', "+"), &"é".repeat(24)]
        {
            assert_eq!(text.parse::<SnapshotToken>(), Err(InvalidToken), "{text}");
        }
    }
}
