//! Which keys a record may change the disagreement of. Errs on the side of more.

use std::collections::{BTreeSet, HashMap, HashSet};

use stemedb_model::{
    AgentAct, Body, Key, Position, PredicateName, Record, RecordId, RetractTarget, SourceKey,
    Space, Subject,
};

use crate::bytes::Malformed;
use crate::error::IndexError;
use crate::fold::key_of;
use crate::format::{NameTag, Posting, Table, parse_key};
use crate::pages::{KeyFilter, Span, bytes_of};
use crate::snapshot::Snapshot;
use crate::store::number;

/// Keys, by number, and wider nets where there is no list to go by.
#[derive(Default)]
pub(super) struct Touched {
    pub(super) keys: BTreeSet<u64>,
    /// All keys of these spaces.
    pub(super) spaces: BTreeSet<Space>,
    /// Watched keys in which a value refers to a subject, or a claim stands by a cosigner.
    pub(super) referring: bool,
    pub(super) cosigned: bool,
    /// Predicates whose keys are all touched.
    predicates: BTreeSet<(Space, PredicateName)>,
}

/// Looks records over, and what they lead to.
pub(super) struct Toucher<'a> {
    snapshot: &'a Snapshot,
    pub(super) touched: Touched,
    /// Claims that were followed already.
    seen: HashSet<Position>,
    /// Predicates that count a predicate as their opposite.
    denied: HashMap<(Space, PredicateName), Vec<PredicateName>>,
}

impl<'a> Toucher<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        let (touched, seen, denied) = (Touched::default(), HashSet::new(), HashMap::new());
        Self { snapshot, touched, seen, denied }
    }

    /// What the record at a position may change.
    pub(super) fn record(
        &mut self,
        position: Position,
        id: impl FnOnce() -> RecordId,
        record: &Record,
    ) -> Result<(), IndexError> {
        let (space, registry) = (&record.space, self.snapshot.registry());
        let newest = self.snapshot.position();
        match &record.body {
            // Nothing can rest on a claim that is new.
            Body::Assertion(_) => match key_of(record) {
                Some(key) => self.key(&key),
                None => Ok(()),
            },
            Body::Cosign(_) | Body::Supersede(_) | Body::Lifecycle(_) => self.fact(&id()).map(drop),
            Body::Retract(retract) => match &retract.target {
                RetractTarget::Source(source) => self.source(space, source),
                RetractTarget::Record(_) => {
                    if !self.fact(&id())? {
                        self.touched.spaces.insert(space.clone());
                    }
                    Ok(())
                }
            },
            Body::Source(source) => {
                source.keys.iter().try_for_each(|source| self.source(space, source))
            }
            Body::Agent(agent) => {
                let state = registry.agent(space, &agent.key, newest);
                // Keys that replaced one another are one agent, and a revocation reaches what the key
                // did to others; so does its end.
                let alone = state.lineage == agent.key && state.replaced_by.is_none();
                let before = Position(position.0.saturating_sub(1));
                let revoked = registry.agent(space, &agent.key, before).revoked_from.is_some();
                if !matches!(agent.act, AgentAct::Register { .. }) || !alone || revoked {
                    self.touched.spaces.insert(space.clone());
                    return Ok(());
                }
                self.touched.cosigned = true;
                self.named(NameTag::Agent, agent.key.as_bytes(), Posting::Agent)
            }
            Body::Predicate(predicate) => {
                let denied = registry.denied_by(space, &predicate.name, newest);
                let names = denied.into_iter().chain([predicate.name.clone()]);
                self.touched.predicates.extend(names.map(|name| (space.clone(), name)));
                Ok(())
            }
            Body::Alias(alias) => {
                self.touched.referring = true;
                let subjects = registry.entity(space, &alias.subject, newest);
                for subject in subjects.iter().chain([&alias.other]) {
                    self.subject(space, subject)?;
                }
                Ok(())
            }
            Body::Epoch(epoch) => match &epoch.supersedes {
                Some((old, _)) => {
                    let old = self.snapshot.position_of(old)?.unwrap_or(position);
                    self.postings(Posting::Epoch, old.0)
                }
                None => Ok(()),
            },
            Body::Genesis(_)
            | Body::Vote(_)
            | Body::Lens(_)
            | Body::Gold(_)
            | Body::TrustSnapshot(_) => Ok(()),
        }
    }

    /// Turns predicates into keys: one scan of the keys' names for all of them.
    pub(super) fn finish(mut self) -> Result<Touched, IndexError> {
        let predicates = std::mem::take(&mut self.touched.predicates);
        let spaces: BTreeSet<&Space> = predicates.iter().map(|(space, _)| space).collect();
        for space in spaces {
            if self.touched.spaces.contains(space) {
                continue;
            }
            let wanted =
                |key: &Key| predicates.contains(&(key.space.clone(), key.predicate.clone()));
            self.keys_in(
                &KeyFilter { space: Some(space.clone()), ..KeyFilter::default() },
                wanted,
            )?;
        }
        Ok(self.touched)
    }

    /// A key that a claim was made under, and those under whose predicates that claim is a denial.
    fn key(&mut self, key: &Key) -> Result<(), IndexError> {
        let snapshot = self.snapshot;
        if let Some(number) = snapshot.key_number(key)? {
            self.touched.keys.insert(number);
        }
        let name = (key.space.clone(), key.predicate.clone());
        let denied = self.denied.entry(name).or_insert_with(|| {
            snapshot.registry().denied_by(&key.space, &key.predicate, snapshot.position())
        });
        if denied.is_empty() {
            return Ok(());
        }
        let subjects = snapshot.registry().entity(&key.space, &key.subject, snapshot.position());
        for subject in subjects {
            for predicate in denied.iter() {
                let (subject, predicate) = (subject.clone(), predicate.clone());
                let denied = Key { space: key.space.clone(), subject, predicate };
                if let Some(number) = snapshot.key_number(&denied)? {
                    self.touched.keys.insert(number);
                }
            }
        }
        Ok(())
    }

    /// The claim that a fact is about, and what rests on it; false if it is about none.
    fn fact(&mut self, id: &RecordId) -> Result<bool, IndexError> {
        let home = self.snapshot.id_row(id)?.and_then(|row| row.home);
        match home {
            Some(home) => self.claims(vec![home.assertion]).map(|()| true),
            None => Ok(false),
        }
    }

    /// The claims of a source, by whatever key of it they name it.
    fn source(&mut self, space: &Space, source: &SourceKey) -> Result<(), IndexError> {
        let registered = self.snapshot.registry().source(space, source, self.snapshot.position());
        let bound = registered.map_or_else(Vec::new, |source| source.keys);
        for key in bound.iter().chain([source]) {
            match key {
                SourceKey::Agent(agent) => {
                    self.named(NameTag::Agent, agent.as_bytes(), Posting::Agent)?;
                }
                SourceKey::Evidence(hash) => {
                    self.named(NameTag::Evidence, hash.as_bytes(), Posting::Source)?;
                }
                SourceKey::Uri(uri) => self.named(NameTag::Uri, uri.as_bytes(), Posting::Source)?,
            }
        }
        Ok(())
    }

    fn named(&mut self, tag: NameTag, name: &[u8], posting: Posting) -> Result<(), IndexError> {
        match self.snapshot.name_number(tag, name)? {
            Some(number) => self.postings(posting, number),
            None => Ok(()),
        }
    }

    fn postings(&mut self, posting: Posting, number: u64) -> Result<(), IndexError> {
        let span = Span { after: Position::NONE, last: self.snapshot.position() };
        let claims: Result<Vec<Position>, IndexError> =
            self.snapshot.posting(posting, number, span).collect();
        self.claims(claims?)
    }

    /// The keys of claims whose fate may have changed, and of the claims that it hangs on.
    fn claims(&mut self, mut todo: Vec<Position>) -> Result<(), IndexError> {
        let snapshot = self.snapshot;
        let span = Span { after: Position::NONE, last: snapshot.position() };
        while let Some(claim) = todo.pop() {
            if !self.seen.insert(claim) {
                continue;
            }
            let Some(signed) = snapshot.signed(claim)? else { continue };
            let Some(key) = key_of(signed.record()) else { continue };
            self.key(&key)?;
            for dependant in snapshot.posting(Posting::Premise, claim.0, span) {
                todo.push(dependant?);
            }
            for supersession in snapshot.posting(Posting::Superseding, claim.0, span) {
                let id = snapshot.id(supersession?)?;
                let row = id.map(|id| snapshot.id_row(&id)).transpose()?.flatten();
                todo.extend(row.and_then(|row| row.home).map(|home| home.assertion));
            }
        }
        Ok(())
    }

    fn subject(&mut self, space: &Space, subject: &Subject) -> Result<(), IndexError> {
        let filter = KeyFilter {
            space: Some(space.clone()),
            subject: Some(subject.clone()),
            ..KeyFilter::default()
        };
        self.keys_in(&filter, |_| true)
    }

    fn keys_in(
        &mut self,
        filter: &KeyFilter,
        wanted: impl Fn(&Key) -> bool,
    ) -> Result<(), IndexError> {
        let snapshot = self.snapshot;
        for row in snapshot.key_rows(filter, None) {
            let (key, number) = row?;
            if wanted(&key) {
                self.touched.keys.insert(number);
            }
        }
        Ok(())
    }
}

impl Snapshot {
    /// Keys within the range of a filter, and after one of them, each with its number, in byte order.
    pub(super) fn key_rows(
        &self,
        filter: &KeyFilter,
        after: Option<&Key>,
    ) -> impl Iterator<Item = Result<(Key, u64), IndexError>> + '_ {
        let (first, end) = filter.range();
        let start = after.map_or(first, |key| [bytes_of(key).as_slice(), &[0]].concat());
        self.range(Table::Keys, start..end).map(|row| {
            let (key, row) = row?;
            let bad = || self.bad(Table::Keys, &key);
            let number = number(&row).map_err(|Malformed| bad())?;
            Ok((parse_key(&key).ok_or_else(bad)?, number))
        })
    }
}
