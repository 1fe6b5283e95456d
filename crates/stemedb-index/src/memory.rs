//! Where an index keeps memory.

use crate::index::Index;

/// Bytes that an index keeps in memory, by what for. Of what it counts itself: what the allocator needs
/// on top is not in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Blocks of the tables, up to three quarters of `cache_bytes`.
    pub blocks: u64,
    /// Names by number, up to a quarter of it; and the numbers of keys and names that came up lately,
    /// up to 48 MiB.
    pub names: u64,
    /// Filters and indexes of the tables' files: in memory for as long as the files are there.
    pub filters: u64,
    /// Rows that are in no file yet, and those that a snapshot holds.
    pub write_buffers: u64,
    /// Questions with the ids of their claims, up to `questions_bytes`.
    pub questions: u64,
    /// Answers, up to `answers_bytes`.
    pub answers: u64,
}

impl Memory {
    /// Each part under its name.
    pub fn parts(&self) -> [(&'static str, u64); 6] {
        let Self { blocks, names, filters, write_buffers, questions, answers } = *self;
        [
            ("blocks", blocks),
            ("names", names),
            ("filters", filters),
            ("write_buffers", write_buffers),
            ("questions", questions),
            ("answers", answers),
        ]
    }
}

impl Index {
    /// Where memory is now; filters and write buffers as they were some moments ago. Never waits for the
    /// medium.
    pub fn memory(&self) -> Memory {
        let store = self.store();
        Memory {
            blocks: store.db.cache_size(),
            names: store.names_bytes(),
            filters: self.buffers().filter_bytes(),
            write_buffers: self.buffers().bytes(),
            questions: store.questions.bytes() + store.ids_bytes(),
            answers: store.answers.bytes(),
        }
    }
}
