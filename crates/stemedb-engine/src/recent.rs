//! The records admitted last, in memory: those still in flight, which no index knows, and for a
//! while those before them, which saves the sequencer from asking the index.

use std::collections::{HashMap, VecDeque};

use stemedb_model::Head;
use stemedb_model::{Body, Hash, Position, RecordId};

use crate::submission::Submission;

/// How many applied records are kept besides those in flight: some seconds of writes, some 20 MB.
const KEEP: usize = 64 << 10;

/// Everything admitted after [`Recent::floor`].
pub(crate) struct Recent {
    floor: Position,
    order: VecDeque<Admitted>,
    heads: HashMap<RecordId, Head>,
    keys: HashMap<Hash, RecordId>,
    superseded_by: HashMap<RecordId, VecDeque<RecordId>>,
}

struct Admitted {
    position: Position,
    id: RecordId,
    key: Option<Hash>,
    superseded: Option<RecordId>,
}

impl Recent {
    pub(crate) fn after(floor: Position) -> Self {
        Self {
            floor,
            order: VecDeque::new(),
            heads: HashMap::new(),
            keys: HashMap::new(),
            superseded_by: HashMap::new(),
        }
    }

    /// Records up to here are the index's to know.
    pub(crate) fn floor(&self) -> Position {
        self.floor
    }

    pub(crate) fn head(&self, id: &RecordId) -> Option<&Head> {
        self.heads.get(id)
    }

    /// The record that an idempotency key stands for.
    pub(crate) fn key(&self, key: &Hash) -> Option<RecordId> {
        self.keys.get(key).copied()
    }

    pub(crate) fn superseded_by(&self, old: &RecordId) -> impl Iterator<Item = RecordId> {
        self.superseded_by.get(old).into_iter().flatten().copied()
    }

    pub(crate) fn add(&mut self, position: Position, submission: &Submission) {
        let id = submission.signed.id();
        let record = submission.signed.record();
        let superseded = match &record.body {
            Body::Supersede(supersede) => {
                self.superseded_by.entry(supersede.old).or_default().push_back(supersede.new);
                Some(supersede.old)
            }
            _ => None,
        };
        self.heads.insert(id, Head::of(position, record));
        if let Some(key) = submission.idempotency {
            self.keys.insert(key, id);
        }
        self.order.push_back(Admitted { position, id, key: submission.idempotency, superseded });
    }

    /// Forgets the oldest that the index knows at `applied`, down to what is worth keeping.
    pub(crate) fn prune(&mut self, applied: Position) {
        while self.order.len() > KEEP
            && let Some(oldest) = self.order.pop_front_if(|oldest| oldest.position <= applied)
        {
            self.floor = oldest.position;
            self.heads.remove(&oldest.id);
            if let Some(key) = oldest.key {
                self.keys.remove(&key);
            }
            if let Some(old) = oldest.superseded {
                // Links were added in order of position, so the oldest is the first.
                if let Some(links) = self.superseded_by.get_mut(&old) {
                    links.pop_front();
                    if links.is_empty() {
                        self.superseded_by.remove(&old);
                    }
                }
            }
        }
    }
}
