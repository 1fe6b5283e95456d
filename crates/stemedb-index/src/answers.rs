//! Answers kept for as long as nothing that they rest on changes.
//!
//! An answer under options that do not fade depends on a question, on the options, on learned trust,
//! and on nothing else. A question is given a number that no other state of any question ever had,
//! anew whenever it changes; so an answer found under that number is exact. Nothing is ever taken out
//! because it is wrong: the number it stands under is not asked for again, and it ages out.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use stemedb_lens::{Options, Question, Reliability, Resolution, lens_hash};
use stemedb_model::{AgentId, Hash, Key};

/// What is kept besides the answer itself.
const SLOT_BYTES: u64 = 160;
/// A guess at an answer: five values and what stands behind them.
const ANSWER_BYTES: u64 = 2 << 10;

/// Learned trust as answers need it.
#[derive(Clone, Copy)]
pub struct Learned<'a> {
    /// The table.
    pub table: &'a dyn Reliability,
    /// Names its content: the same hash must always come with the same reliabilities.
    pub hash: Hash,
}

impl Reliability for Learned<'_> {
    fn reliability(&self, agent: &AgentId, key: &Key) -> Option<u64> {
        self.table.reliability(agent, key)
    }

    fn name(&self) -> Option<Hash> {
        Some(self.hash)
    }
}

impl std::fmt::Debug for Learned<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Learned").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// What a kept question is at this moment; never the same again after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State(pub(crate) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Asked {
    state: State,
    /// All options but the times.
    lens: Hash,
    trust: Option<Hash>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Asked, Arc<Resolution>> for ByBytes {
    fn weight(&self, _asked: &Asked, answer: &Arc<Resolution>) -> u64 {
        SLOT_BYTES + answer.weight() as u64
    }
}

/// Those asked for most, within a bound of bytes; of none if that is 0.
pub(crate) struct Answers(Option<Cache<Asked, Arc<Resolution>, ByBytes>>);

impl Answers {
    pub(crate) fn new(bytes: u64) -> Self {
        let slots = usize::try_from(bytes / ANSWER_BYTES).unwrap_or(usize::MAX);
        Self((bytes > 0).then(|| Cache::with_weighter(slots, bytes, ByBytes)))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, Cache::weight)
    }

    /// The answer of a question in this state, which must fit the options and be ready for them; and
    /// whether it was kept.
    pub(crate) fn answer(
        &self,
        (question, state): (&Question, Option<State>),
        options: &Options,
        trust: Option<Learned<'_>>,
    ) -> (Resolution, bool) {
        let trust = trust.filter(|_| options.uses_trust());
        let table = trust.as_ref().map(|trust| trust as &dyn Reliability);
        let make = || question.answer(options, table);
        let (Some(cache), Some(state)) = (&self.0, state) else { return (make(), false) };
        if options.fades() {
            return (make(), false);
        }
        let asked = Asked { state, lens: lens_hash(options), trust: trust.map(|trust| trust.hash) };
        match cache.get(&asked) {
            Some(kept) => (
                Resolution {
                    position: question.as_of(),
                    evaluated_at: options.evaluated_at,
                    valid_at: options.valid_at,
                    ..(*kept).clone()
                },
                true,
            ),
            None => {
                let answer = make();
                cache.insert(asked, Arc::new(answer.clone()));
                (answer, false)
            }
        }
    }
}
