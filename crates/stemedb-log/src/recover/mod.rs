//! From a folder of files to a log, or to a refusal that names what is wrong.
//!
//! Three steps that do not mix: `survey` reads and decides nothing, `judge` decides and reads
//! nothing, `open` acts. The inspectors use the first two.

pub(crate) mod floor;
pub(crate) mod judge;
pub(crate) mod open;
pub(crate) mod survey;
pub(crate) mod tail;
pub(crate) mod verified;
