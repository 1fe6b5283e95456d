//! Receipts: an answer with everything it rests on, and the same made again.

use stemedb_lens::{Considered, Options, Question, Receipt};
use stemedb_model::Key;

use crate::error::ReadError;
use crate::trust::reliability;
use crate::view::View;

impl View {
    /// The receipt of the answer to one key under `options`, and every assertion that was considered,
    /// ascending by position. Another node with the same log, or this one after its index was made
    /// anew, gives the same at the same position.
    ///
    /// Costs the claims of the key, within the bound of [`View::resolve`], and a look-up of each.
    pub fn explain(
        &self,
        key: &Key,
        options: &Options,
    ) -> Result<(Receipt, Vec<Considered>), ReadError> {
        let candidates = self.candidates(key)?;
        let question = Question::new(&candidates, options);
        let (snapshot, table) = match options.uses_trust() {
            true => (self.trust_snapshot(&key.space), self.trust(&key.space)?),
            false => (None, None),
        };
        let snapshot = snapshot.map(|in_force| in_force.snapshot);
        let trust = snapshot.zip(reliability(table.as_ref()));
        Receipt::of(&question, options, trust, |position| {
            Ok(self.snapshot().id_of_claim(position)?)
        })
    }
}
