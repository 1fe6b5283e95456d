//! What an assertion rests on and revises, and what came of it.

use std::collections::{HashSet, VecDeque};

use stemedb_index::{IndexError, Referrer};
use stemedb_lens::FactKind;
use stemedb_model::{Body, Position, RecordId, RetractTarget};

use crate::error::ReadError;
use crate::view::{RecordView, View};

/// How two records hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// The first revises the second, its parent.
    Revises,
    /// The first rests on the second, one of its premises.
    RestsOn,
    /// The first takes the place of the second, says a supersede record.
    Supersedes,
    /// The first, an assertion, was made under the second, an epoch.
    Under,
}

/// That two records hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    /// The later of the two, but for what a supersede record says.
    pub from: Position,
    /// What it refers to.
    pub to: Position,
    /// How.
    pub relation: Relation,
    /// The record that says so, where it is neither of the two.
    pub by: Option<Position>,
}

/// The neighbourhood of a record.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The record that was asked for, then what is one link away, and so on; each with what others
    /// said of it.
    pub records: Vec<RecordView>,
    /// The links between these, as they were found.
    pub links: Vec<Link>,
    /// Nothing was left out for a bound.
    pub complete: bool,
}

impl View {
    /// Follows parents, premises and supersessions from a record, in both directions, at most `depth`
    /// links far and at most `records_max` records; `None` if there is no such record. A record that
    /// only speaks of an assertion (a vote, a retraction, …) leads to that one; an epoch to the
    /// assertions made under it.
    ///
    /// Costs the key of every assertion that is found, each within the bound of [`View::resolve`];
    /// past it a record comes without its standing.
    pub fn trace(
        &self,
        id: &RecordId,
        depth: usize,
        records_max: usize,
    ) -> Result<Option<Trace>, ReadError> {
        let Some(start) = self.start(id)? else { return Ok(None) };
        let mut walk = Walk {
            view: self,
            seen: HashSet::from([start]),
            next: VecDeque::from([(start, 0)]),
            links: HashSet::new(),
            trace: Trace { records: Vec::new(), links: Vec::new(), complete: true },
            records_max: records_max.max(1),
        };
        while let Some((position, far)) = walk.next.pop_front() {
            walk.visit(position, far, depth)?;
        }
        Ok(Some(walk.trace))
    }

    /// Where to begin: at the record, or at the assertion that it speaks of.
    fn start(&self, id: &RecordId) -> Result<Option<Position>, ReadError> {
        let mut id = *id;
        loop {
            let Some(entry) = self.find(&id)? else { return Ok(None) };
            id = match &entry.signed.record().body {
                Body::Cosign(cosign) => cosign.assertion,
                Body::Vote(vote) => vote.assertion,
                Body::Lifecycle(lifecycle) => lifecycle.assertion,
                Body::Supersede(supersede) => supersede.old,
                Body::Retract(retract) => match retract.target {
                    RetractTarget::Record(target) => target,
                    RetractTarget::Source(_) => return Ok(Some(entry.position)),
                },
                _ => return Ok(Some(entry.position)),
            };
        }
    }

    /// [`View::record`], without what only the whole key could tell where that has more claims than
    /// the bound.
    pub fn record_or_bare(&self, id: &RecordId) -> Result<Option<RecordView>, ReadError> {
        match self.record(id) {
            Err(ReadError::Index(IndexError::TooLarge { .. })) => {}
            found => return found,
        }
        let Some(entry) = self.find(id)? else { return Ok(None) };
        let facts = self.snapshot().facts_under(entry.position, self.position())?;
        Ok(Some(RecordView { entry, standing: None, excluded: None, facts }))
    }
}

struct Walk<'a> {
    view: &'a View,
    seen: HashSet<Position>,
    /// What is to be visited, and how far it is from the start.
    next: VecDeque<(Position, usize)>,
    links: HashSet<Link>,
    trace: Trace,
    records_max: usize,
}

impl Walk<'_> {
    fn visit(&mut self, position: Position, far: usize, depth: usize) -> Result<(), ReadError> {
        let Some(id) = self.view.snapshot().id(position)? else { return Ok(()) };
        let Some(found) = self.view.record_or_bare(&id)? else { return Ok(()) };
        let links = self.links_of(&found)?;
        self.trace.records.push(found);
        for link in links {
            let other = if link.from == position { link.to } else { link.from };
            if !self.seen.contains(&other) {
                if far >= depth || self.seen.len() >= self.records_max {
                    self.trace.complete = false;
                    continue;
                }
                self.seen.insert(other);
                self.next.push_back((other, far + 1));
            }
            if self.links.insert(link) {
                self.trace.links.push(link);
            }
        }
        Ok(())
    }

    /// Everything that one record hangs together with.
    fn links_of(&mut self, found: &RecordView) -> Result<Vec<Link>, ReadError> {
        let (snapshot, position) = (self.view.snapshot(), found.entry.position);
        let mut links = Vec::new();
        let mut link = |from, to, relation, by| links.push(Link { from, to, relation, by });
        let record = found.entry.signed.record();
        if matches!(record.body, Body::Epoch(_)) {
            for claim in self.referrers(Referrer::Epoch, position)? {
                link(claim, position, Relation::Under, None);
            }
        }
        let Body::Assertion(assertion) = &record.body else { return Ok(links) };
        if let Some(parent) = assertion.parent
            && let Some(parent) = snapshot.position_of(&parent)?
        {
            link(position, parent, Relation::Revises, None);
        }
        for premise in &assertion.derived_from {
            if let Some(premise) = snapshot.position_of(premise)? {
                link(position, premise, Relation::RestsOn, None);
            }
        }
        for fact in &found.facts {
            if let FactKind::Supersede { new } = fact.kind {
                link(new, position, Relation::Supersedes, Some(fact.position));
            }
        }
        for by in self.referrers(Referrer::Supersessions, position)? {
            if let Some(entry) = self.view.entry(by)?
                && let Body::Supersede(supersede) = &entry.signed.record().body
                && let Some(old) = snapshot.position_of(&supersede.old)?
            {
                link(position, old, Relation::Supersedes, Some(by));
            }
        }
        for child in self.referrers(Referrer::Children, position)? {
            link(child, position, Relation::Revises, None);
        }
        for dependant in self.referrers(Referrer::Dependants, position)? {
            link(dependant, position, Relation::RestsOn, None);
        }
        Ok(links)
    }

    /// As many as may still be shown, and one more, by which it is known that there are more.
    fn referrers(&self, of: Referrer, position: Position) -> Result<Vec<Position>, ReadError> {
        let most = self.records_max + 1;
        let (view, as_of) = (self.view, self.view.position());
        Ok(view.snapshot().referrers(of, position, as_of, None, most)?.items)
    }
}
