//! The bytes of a segment. The normative page is `docs/format/wal.md`; nothing here touches a file.

pub(crate) mod block;
pub(crate) mod envelope;
pub(crate) mod group;
pub(crate) mod header;
pub(crate) mod pack;
pub(crate) mod packer;

#[cfg(test)]
mod tests;
