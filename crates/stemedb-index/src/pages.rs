//! Lists, page by page: keys in byte order, assertions in log order, and what refers to a record.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;

use stemedb_model::{
    AgentId, Assertion, Body, Key, LifecycleState, Position, PredicateName, Record, SourceClass,
    SourceKey, Space, Subject,
};

use crate::bytes::Malformed;
use crate::error::IndexError;
use crate::format::{
    NameTag, Posting, Table, key_key, last_position, name_key, pair_key, parse_key, parse_pair,
    posting_key,
};
use crate::rows::FactRow;
use crate::snapshot::Snapshot;
use crate::store::number;

/// Rows looked at for one page. A filter that few rows pass gives short pages, not slow ones.
const SCAN_MAX: usize = 10_000;
/// Subjects under a prefix that are merged in log order; past it the whole log is walked.
const MERGE_KEYS_MAX: usize = 2_048;
/// How far each posting is counted to find the narrowest.
const PROBE_ROWS: usize = 128;

/// Part of a list. Concatenating pages, each asked for after the `next` of the one before, gives
/// the whole list once; a page may be short, or empty, and still have a `next`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<T>,
}

/// Which keys to list. Everything that is set must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyFilter {
    /// In this space; `None`: in all.
    pub space: Option<Space>,
    /// Subjects that begin with these bytes. Saves reading the others only with a space.
    pub subject_prefix: Option<String>,
    /// This subject, as written. Saves reading the others only with a space.
    pub subject: Option<Subject>,
    /// This predicate.
    pub predicate: Option<PredicateName>,
}

/// Which assertions to list. Everything that is set must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// In this space.
    pub space: Space,
    /// This subject, as written.
    pub subject: Option<Subject>,
    /// Subjects that begin with these bytes.
    pub subject_prefix: Option<String>,
    /// This predicate.
    pub predicate: Option<PredicateName>,
    /// Signed by this agent.
    pub agent: Option<AgentId>,
    /// Resting on this source, as written.
    pub source: Option<SourceKey>,
    /// Of this class, as declared.
    pub class: Option<SourceClass>,
    /// Made under the epoch record at this position.
    pub epoch: Option<Position>,
    /// In this state, as declared.
    pub declared_lifecycle: Option<LifecycleState>,
}

impl Filter {
    /// Every assertion of a space.
    pub fn new(space: Space) -> Self {
        Self {
            space,
            subject: None,
            subject_prefix: None,
            predicate: None,
            agent: None,
            source: None,
            class: None,
            epoch: None,
            declared_lifecycle: None,
        }
    }

    /// Whether a record is one; the epoch was compared already.
    fn fits(&self, record: &Record, assertion: &Assertion) -> bool {
        let prefix = self.subject_prefix.as_deref().unwrap_or_default();
        self.space == record.space
            && same(self.subject.as_ref(), &assertion.subject)
            && assertion.subject.as_str().starts_with(prefix)
            && same(self.predicate.as_ref(), &assertion.predicate)
            && same(self.agent.as_ref(), &record.agent)
            && same(self.source.as_ref(), &assertion.source_key(record.agent))
            && (self.class.is_none() || self.class == assertion.declared_class())
            && same(self.declared_lifecycle.as_ref(), &assertion.lifecycle)
    }
}

/// What refers to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Referrer {
    /// Assertions that name it as parent.
    Children,
    /// Assertions that rest on it.
    Dependants,
    /// Supersede records that name it as the new assertion.
    Supersessions,
    /// Assertions made under it, an epoch.
    Epoch,
}

impl Snapshot {
    /// Keys that somebody had spoken of by `as_of`, ascending by (space, subject, predicate) in
    /// byte order, after `after`, at most `limit` (at least 1).
    pub fn keys(
        &self,
        filter: &KeyFilter,
        as_of: Position,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page<Key>, IndexError> {
        let (start, end) = filter.range();
        let start = match after.map(bytes_of) {
            Some(after) if after >= end => return Ok(Page { items: Vec::new(), next: None }),
            Some(after) if after >= start => Bound::Excluded(after),
            _ => Bound::Included(start),
        };
        let mut items = Vec::new();
        let mut examined = None;
        let rows = self.range(Table::Keys, (start, Bound::Excluded(end)));
        for (scanned, row) in rows.enumerate() {
            if items.len() >= limit.max(1) || scanned >= SCAN_MAX {
                return Ok(Page { items, next: examined });
            }
            let (row, value) = row?;
            let key = parse_key(&row).ok_or_else(|| self.bad(Table::Keys, &row))?;
            let first = number(&value).map_err(|Malformed| self.bad(Table::Keys, &row))?;
            if first <= as_of.0 && filter.fits(&key) {
                items.push(key.clone());
            }
            examined = Some(key);
        }
        Ok(Page { items, next: None })
    }

    /// Assertions recorded up to `as_of` and after `after`, ascending by position, at most `limit` (at least 1).
    /// Retracted and superseded ones too: what an assertion is worth is for resolution to say.
    ///
    /// Walks the shortest of the postings that the filter allows and reads the record of each
    /// assertion in it. Without key, agent, source or epoch it walks the log.
    pub fn assertions(
        &self,
        filter: &Filter,
        as_of: Position,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Page<Position>, IndexError> {
        let span =
            Span { after: after.unwrap_or(Position::NONE), last: as_of.min(self.position()) };
        let mut items = Vec::new();
        let Some(walk) = self.narrowest(filter, span)? else {
            return Ok(Page { items, next: None });
        };
        let mut examined = None;
        for (scanned, position) in self.walk(walk, span)?.enumerate() {
            if items.len() >= limit.max(1) || scanned >= SCAN_MAX {
                return Ok(Page { items, next: examined });
            }
            let position = position?;
            examined = Some(position);
            if let Some(signed) = self.signed(position)?
                && let Body::Assertion(assertion) = &signed.record().body
                && filter.fits(signed.record(), assertion)
                && self.in_epoch(filter, position)?
            {
                items.push(position);
            }
        }
        Ok(Page { items, next: None })
    }

    /// What refers to the record at `position`, up to `as_of` and after `after`, ascending, at
    /// most `limit` (at least 1).
    pub fn referrers(
        &self,
        referrer: Referrer,
        position: Position,
        as_of: Position,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Page<Position>, IndexError> {
        let posting = match referrer {
            Referrer::Children => Posting::Parent,
            Referrer::Dependants => Posting::Premise,
            Referrer::Supersessions => Posting::Superseding,
            Referrer::Epoch => Posting::Epoch,
        };
        let span = Span { after: after.unwrap_or(Position::NONE), last: as_of };
        let mut items = Vec::new();
        for position in self.posting(posting, position.0, span) {
            if items.len() >= limit.max(1) {
                let next = items.last().copied();
                return Ok(Page { items, next });
            }
            items.push(position?);
        }
        Ok(Page { items, next: None })
    }

    /// The assertions that `agent` spoke of in any other way than by asserting: votes, cosigns,
    /// retractions, supersessions, lifecycle records, and what was said of those. Ascending, no repeats.
    ///
    /// Costs all such facts in the database: they are listed by assertion, not by agent.
    pub fn spoken_of_by(
        &self,
        agent: &AgentId,
        as_of: Position,
    ) -> Result<Vec<Position>, IndexError> {
        let Some(agent) = self.name_number(NameTag::Agent, agent.as_bytes())? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for row in self.range::<&[u8]>(Table::Facts, ..) {
            let (key, row) = row?;
            let bad = |Malformed| self.bad(Table::Facts, &key);
            let (assertion, position) = parse_pair(&key).ok_or_else(|| bad(Malformed))?;
            let assertion = Position(assertion);
            let fact = FactRow::decode(position, &row).map_err(bad)?;
            if fact.agent == agent && position <= as_of && found.last() != Some(&assertion) {
                found.push(assertion);
            }
        }
        Ok(found)
    }

    fn in_epoch(&self, filter: &Filter, position: Position) -> Result<bool, IndexError> {
        let Some(epoch) = filter.epoch else { return Ok(true) };
        let key = posting_key(Posting::Epoch, epoch.0, position);
        Ok(self.store().get(self.tables(), Table::Postings, &key)?.is_some())
    }

    /// The shortest list that holds all that the filter lets pass; `None` if that is nothing.
    fn narrowest(&self, filter: &Filter, span: Span) -> Result<Option<Walk>, IndexError> {
        let mut walks = Vec::new();
        if let (Some(subject), Some(predicate)) = (&filter.subject, &filter.predicate) {
            let (subject, predicate) = (subject.clone(), predicate.clone());
            let key = Key { space: filter.space.clone(), subject, predicate };
            match self.key_number(&key)? {
                Some(key) => walks.push(Walk::Keys(vec![key])),
                None => return Ok(None),
            }
        }
        if let Some(epoch) = filter.epoch {
            walks.push(Walk::Posting(Posting::Epoch, epoch.0));
        }
        let mut agents = Vec::from_iter(filter.agent);
        match &filter.source {
            Some(SourceKey::Agent(agent)) => agents.push(*agent),
            Some(SourceKey::Evidence(hash)) => {
                match self.name_number(NameTag::Evidence, hash.as_bytes())? {
                    Some(source) => walks.push(Walk::Posting(Posting::Source, source)),
                    None => return Ok(None),
                }
            }
            Some(SourceKey::Uri(uri)) => match self.name_number(NameTag::Uri, uri.as_bytes())? {
                Some(source) => walks.push(Walk::Posting(Posting::Source, source)),
                None => return Ok(None),
            },
            None => {}
        }
        for agent in agents {
            match self.name_number(NameTag::Agent, agent.as_bytes())? {
                Some(agent) => walks.push(Walk::Posting(Posting::Agent, agent)),
                None => return Ok(None),
            }
        }
        if walks.is_empty() {
            return Ok(Some(self.keys_walk(filter, span)?));
        }
        let mut narrowest: Option<(usize, Walk)> = None;
        for walk in walks {
            let most = narrowest.as_ref().map_or(PROBE_ROWS, |(rows, _)| *rows);
            let mut rows = 0;
            for position in self.walk(walk.clone(), span)?.take(most) {
                position?;
                rows += 1;
            }
            if narrowest.is_none() || rows < most {
                narrowest = Some((rows, walk));
            }
        }
        Ok(narrowest.map(|(_, walk)| walk))
    }

    /// The keys of a subject or of a prefix, if they are few; else the log.
    fn keys_walk(&self, filter: &Filter, span: Span) -> Result<Walk, IndexError> {
        if filter.subject.is_none() && filter.subject_prefix.is_none() {
            return Ok(Walk::Log);
        }
        let keys = KeyFilter {
            space: Some(filter.space.clone()),
            subject_prefix: filter.subject_prefix.clone(),
            subject: filter.subject.clone(),
            predicate: None,
        };
        let mut numbers = Vec::new();
        let (start, end) = keys.range();
        let range = (Bound::Included(start), Bound::Excluded(end));
        for row in self.range(Table::Keys, range) {
            let (key, row) = row?;
            let number = number(&row).map_err(|Malformed| self.bad(Table::Keys, &key))?;
            if number <= span.last.0 {
                numbers.push(number);
            }
            if numbers.len() > MERGE_KEYS_MAX {
                return Ok(Walk::Log);
            }
        }
        Ok(Walk::Keys(numbers))
    }

    pub(crate) fn name_number(&self, tag: NameTag, name: &[u8]) -> Result<Option<u64>, IndexError> {
        let mut key = Vec::new();
        name_key(&mut key, tag, name);
        self.store().read(self.tables(), Table::Names, &key, number)
    }

    fn walk(&self, walk: Walk, span: Span) -> Result<Positions<'_>, IndexError> {
        Ok(match walk {
            Walk::Posting(posting, number) => Box::new(self.posting(posting, number, span)),
            Walk::Keys(keys) => Box::new(self.merge(&keys, span)?),
            Walk::Log => {
                Box::new((span.after.0.saturating_add(1)..=span.last.0).map(|p| Ok(Position(p))))
            }
        })
    }

    pub(crate) fn posting(
        &self,
        posting: Posting,
        number: u64,
        span: Span,
    ) -> impl Iterator<Item = Result<Position, IndexError>> + '_ {
        let key = |position| posting_key(posting, number, position).to_vec();
        self.positions(Table::Postings, (key(span.after), key(span.last)))
    }

    /// The rows of several keys in one ascending order. Rows that are facts come along: their
    /// records are no assertions.
    fn merge(
        &self,
        keys: &[u64],
        span: Span,
    ) -> Result<impl Iterator<Item = Result<Position, IndexError>> + '_, IndexError> {
        let mut lists = Vec::with_capacity(keys.len());
        let mut heads = BinaryHeap::with_capacity(keys.len());
        for number in keys {
            let key = |position| pair_key(*number, position).to_vec();
            let mut list = self.positions(Table::Claims, (key(span.after), key(span.last)));
            if let Some(head) = list.next() {
                heads.push(Reverse((head?, lists.len())));
                lists.push(list);
            }
        }
        Ok(std::iter::from_fn(move || {
            let Reverse((position, index)) = heads.pop()?;
            match lists.get_mut(index).and_then(Iterator::next) {
                Some(Ok(head)) => heads.push(Reverse((head, index))),
                Some(Err(error)) => return Some(Err(error)),
                None => {}
            }
            Some(Ok(position))
        }))
    }

    /// The positions at the end of the keys of a range, its start excluded, its end included.
    fn positions(
        &self,
        table: Table,
        (after, last): (Vec<u8>, Vec<u8>),
    ) -> impl Iterator<Item = Result<Position, IndexError>> + '_ {
        // An empty span may have its ends crossed, which a range must not.
        let last = last.max(after.clone());
        let range = (Bound::Excluded(after), Bound::Included(last));
        self.range(table, range).map(move |row| {
            let (key, _) = row?;
            last_position(&key).ok_or_else(|| self.bad(table, &key))
        })
    }
}

/// Positions after `after`, up to and including `last`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) after: Position,
    pub(crate) last: Position,
}

type Positions<'a> = Box<dyn Iterator<Item = Result<Position, IndexError>> + 'a>;

#[derive(Debug, Clone)]
enum Walk {
    Posting(Posting, u64),
    /// By their numbers.
    Keys(Vec<u64>),
    Log,
}

impl KeyFilter {
    fn fits(&self, key: &Key) -> bool {
        let prefix = self.subject_prefix.as_deref().unwrap_or_default();
        same(self.space.as_ref(), &key.space)
            && same(self.subject.as_ref(), &key.subject)
            && key.subject.as_str().starts_with(prefix)
            && same(self.predicate.as_ref(), &key.predicate)
    }

    /// The rows of `keys` that may fit lie from the first, included, to the second, excluded.
    pub(crate) fn range(&self) -> (Vec<u8>, Vec<u8>) {
        let mut start = Vec::new();
        if let Some(space) = &self.space {
            start.extend_from_slice(space.as_str().as_bytes());
            start.push(0);
            if let Some(subject) = &self.subject {
                start.extend_from_slice(subject.as_str().as_bytes());
                start.push(0);
            } else if let Some(prefix) = &self.subject_prefix {
                start.extend_from_slice(prefix.as_bytes());
            }
        }
        // No key holds the byte ff: it is no part of UTF-8.
        let end = [start.as_slice(), &[0xff]].concat();
        (start, end)
    }
}

pub(crate) fn bytes_of(key: &Key) -> Vec<u8> {
    let mut out = Vec::new();
    key_key(&mut out, &key.space, &key.subject, &key.predicate);
    out
}

fn same<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
    wanted.is_none_or(|wanted| wanted == found)
}
