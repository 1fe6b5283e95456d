//! The answer root: one hash over every answer at one position and time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use stemedb_index::KeyFilter;
use stemedb_lens::trust::Table;
use stemedb_lens::{AnswerRoot, Excluded, Options, Question, answer_leaf, root_options};
use stemedb_model::{Hash, Key, Millis, Position, RecordId, Space};

use crate::error::ReadError;
use crate::trust::reliability;
use crate::view::View;

/// Keys asked for at a time, all with one state of the index.
const PAGE: usize = 256;

/// The answer root with what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// Every answer is of this position.
    pub position: Position,
    /// Weights and validity were taken at this time.
    pub evaluated_at: Millis,
    /// How many keys there are.
    pub keys: u64,
    /// The hash, by `docs/format/answer.md`.
    pub root: Hash,
}

impl View {
    /// The answer root of this view: all keys under all built-in lenses, evaluated at
    /// [`View::evaluated_at`]. Two nodes with the same log give the same at the same position and
    /// time, whatever became of their indexes; [`View::evaluated`] sets the time.
    ///
    /// Walks the keys twice and resolves each, and takes the view, to renew it on the way; memory for
    /// one page of keys, the largest key, and the names of keys whose subject has an alias. The bound
    /// of resolutions does not apply.
    pub fn answer_root(mut self) -> Result<Answers, ReadError> {
        let mut walk = Walk {
            options: &root_options(self.evaluated_at()),
            trust: None,
            keys: 0,
            root: AnswerRoot::new(),
        };
        self.each_entity_key(&KeyFilter::default(), |view, key| walk.add(view, key))?;
        Ok(Answers {
            position: self.position(),
            evaluated_at: self.evaluated_at(),
            keys: walk.keys,
            root: walk.root.finish(),
        })
    }

    /// Calls `visit` once for every key that somebody had spoken of, under the smallest name of its
    /// entity, in byte order, and renews the view on the way. `filter` names a space at most. Two walks
    /// over the keys; memory for the names of keys whose subject has an alias.
    pub(crate) fn each_entity_key(
        &mut self,
        filter: &KeyFilter,
        mut visit: impl FnMut(&Self, &Key) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        // A key has its place at that name, even if nobody used it. So the renamed ones are needed
        // before the walk.
        let mut renamed = BTreeSet::new();
        self.each_key(filter, |view, key| {
            let named = view.named(&key);
            if named != key {
                renamed.insert(named);
            }
            Ok(())
        })?;
        let mut renamed = renamed.into_iter().peekable();
        self.each_key(filter, |view, key| {
            while let Some(earlier) = renamed.next_if(|renamed| *renamed < key) {
                visit(view, &earlier)?;
            }
            if view.named(&key) == key {
                renamed.next_if_eq(&key);
                visit(view, &key)?;
            }
            Ok(())
        })?;
        renamed.try_for_each(|last| visit(self, &last))
    }

    /// Calls `visit` with every key somebody had spoken of, in byte order, as written, and renews the
    /// view on the way.
    pub(crate) fn each_key(
        &mut self,
        filter: &KeyFilter,
        mut visit: impl FnMut(&Self, Key) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut after = None;
        loop {
            self.renew();
            let page = self.keys(filter, after.as_ref(), PAGE)?;
            page.items.into_iter().try_for_each(|key| visit(self, key))?;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// The key under the smallest name of its entity.
    fn named(&self, key: &Key) -> Key {
        let registry = self.snapshot().registry();
        let subject = registry.canonical_subject(&key.space, &key.subject, self.position());
        Key { subject, ..key.clone() }
    }
}

struct Walk<'a> {
    options: &'a [Options],
    /// Of the space that was walked last.
    trust: Option<(Space, Option<Arc<Table>>)>,
    keys: u64,
    root: AnswerRoot,
}

impl Walk<'_> {
    fn add(&mut self, view: &View, key: &Key) -> Result<(), ReadError> {
        let (snapshot, as_of) = (view.snapshot(), view.position());
        let candidates = snapshot.candidates(key, as_of, usize::MAX)?;
        if self.trust.as_ref().is_none_or(|(space, _)| *space != key.space) {
            self.trust = Some((key.space.clone(), view.trust_now(&key.space)?));
        }
        let trust = self.trust.as_ref().and_then(|(_, table)| reliability(table.as_ref()));
        // By default all lenses hear the same claims: one question, and one list of the excluded.
        let Some(first) = self.options.first() else { return Ok(()) };
        let question = Question::new(&candidates, first);
        let excluded = question.excluded(first, trust);
        let ids = ids(view, &excluded)?;
        // Every position asked for is in the map; another id would be another root.
        let id = |position| ids.get(&position).copied().unwrap_or(RecordId([0; 32]));
        for options in self.options {
            self.root.add(&answer_leaf(&question.answer(options, trust), &excluded, &id));
        }
        self.keys += 1;
        Ok(())
    }
}

/// The ids of excluded assertions.
fn ids(view: &View, excluded: &[Excluded]) -> Result<HashMap<Position, RecordId>, ReadError> {
    let mut ids = HashMap::with_capacity(excluded.len());
    for Excluded { position, .. } in excluded {
        ids.extend(view.snapshot().id(*position)?.map(|id| (*position, id)));
    }
    Ok(ids)
}
