//! What one entry adds to the tables: the same function when an entry is applied and when the
//! inspector checks that it was.

use stemedb_lens::FactKind;
use stemedb_model::{
    AgentId, Assertion, Body, Key, Kind, Position, Principal, Record, RecordId, RetractTarget,
    SourceKey,
};

use crate::bytes::push_varint;
use crate::entry::Entry;
use crate::error::IndexError;
use crate::format::{
    NameTag, Posting, Table, key_key, name_key, number_key, pair_key, position_key, posting_key,
};
use crate::rows::{ClaimRow, FactRow, Home, IdRow, RecordRow, SourceRow};

/// Where rows go, and what is there already. Lookups see what was put before.
pub(crate) trait Target {
    /// The row of an id.
    fn id(&mut self, id: &RecordId) -> Result<Option<IdRow>, IndexError>;
    /// A row of `keys` or `names` that holds a number.
    fn number(&mut self, table: Table, key: &[u8]) -> Result<Option<u64>, IndexError>;
    /// Adds a row.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), IndexError>;
}

/// Buffers that are used again for every entry.
#[derive(Default)]
pub(crate) struct Scratch {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Adds the rows of `entry`. `registered` says whether the registry took the record in.
/// False for a copy of a record that is there already.
pub(crate) fn fold(
    entry: &Entry,
    registered: bool,
    target: &mut impl Target,
    scratch: &mut Scratch,
) -> Result<bool, IndexError> {
    Fold { entry, target, scratch }.run(registered)
}

struct Fold<'a, T> {
    entry: &'a Entry,
    target: &'a mut T,
    scratch: &'a mut Scratch,
}

impl<T: Target> Fold<'_, T> {
    fn run(&mut self, registered: bool) -> Result<bool, IndexError> {
        let entry = self.entry;
        let record = entry.signed.record();
        let id = entry.signed.id();
        let principal = self.principal(&entry.principal)?;
        let row = RecordRow {
            recorded_at: entry.recorded_at,
            principal,
            custodial: entry.custodial,
            idempotency: entry.idempotency,
            signature: entry.signed.signature(),
            bytes: entry.signed.bytes(),
        };
        row.encode(&mut self.scratch.value);
        self.put(Table::Records, &position_key(entry.position))?;
        if self.target.id(&id)?.is_some_and(|first| first.position != entry.position) {
            return Ok(false);
        }
        if let Some(hash) = &entry.idempotency {
            self.scratch.value.clear();
            push_varint(&mut self.scratch.value, entry.position.0);
            self.put(Table::Idempotency, hash.as_bytes())?;
        }
        if registered {
            self.scratch.value.clear();
            self.put(Table::Registry, &position_key(entry.position))?;
        }
        let home = match &record.body {
            Body::Assertion(assertion) => Some(self.assertion(record, assertion, principal)?),
            body => match self.fact(body)? {
                Some((about, kind)) => self.about(record, principal, about, kind)?,
                None => None,
            },
        };
        let row = IdRow { kind: record.body.kind(), position: entry.position, home };
        row.encode(&mut self.scratch.value);
        self.put(Table::Ids, id.as_bytes())?;
        Ok(true)
    }

    /// What a record says as a fact, and of which record.
    fn fact(&mut self, body: &Body) -> Result<Option<(RecordId, FactKind)>, IndexError> {
        Ok(Some(match body {
            Body::Cosign(cosign) => (cosign.assertion, FactKind::Cosign),
            Body::Vote(vote) => (vote.assertion, FactKind::Vote { weight: vote.weight }),
            Body::Lifecycle(lifecycle) => {
                (lifecycle.assertion, FactKind::Lifecycle { state: lifecycle.state })
            }
            Body::Supersede(supersede) => match self.position(&supersede.new, Kind::Assertion)? {
                Some(new) => (supersede.old, FactKind::Supersede { new }),
                None => return Ok(None),
            },
            Body::Retract(retract) => match &retract.target {
                RetractTarget::Record(target) => (*target, FactKind::Retract),
                RetractTarget::Source(_) => return Ok(None),
            },
            Body::Genesis(_)
            | Body::Assertion(_)
            | Body::Epoch(_)
            | Body::Source(_)
            | Body::Predicate(_)
            | Body::Alias(_)
            | Body::Agent(_)
            | Body::Lens(_)
            | Body::Gold(_)
            | Body::TrustSnapshot(_) => return Ok(None),
        }))
    }

    /// Adds a fact; `None` if it is about no assertion, as the retraction of an alias is.
    fn about(
        &mut self,
        record: &Record,
        principal: u64,
        about: RecordId,
        kind: FactKind,
    ) -> Result<Option<Home>, IndexError> {
        let position = self.entry.position;
        let Some(IdRow { position: target, home: Some(home), .. }) = self.earlier(&about)? else {
            return Ok(None);
        };
        let agent = self.agent(&record.agent)?;
        let row = FactRow {
            target,
            agent,
            principal,
            at: record.at,
            recorded_at: self.entry.recorded_at,
            kind,
        };
        row.encode(position, &mut self.scratch.value);
        self.put(Table::Claims, &pair_key(home.key, position))?;
        self.put(Table::Facts, &pair_key(home.assertion.0, position))?;
        if let FactKind::Supersede { new } = kind {
            self.posting(Posting::Superseding, new.0)?;
        }
        Ok(Some(home))
    }

    fn assertion(
        &mut self,
        record: &Record,
        assertion: &Assertion,
        principal: u64,
    ) -> Result<Home, IndexError> {
        let position = self.entry.position;
        let agent = self.agent(&record.agent)?;
        let source = match assertion.source_key(record.agent) {
            SourceKey::Agent(_) => SourceRow::Agent,
            SourceKey::Evidence(hash) => {
                SourceRow::Evidence(self.name(NameTag::Evidence, hash.as_bytes())?)
            }
            SourceKey::Uri(uri) => SourceRow::Uri(self.name(NameTag::Uri, uri.as_bytes())?),
        };
        let key = self.key(record, assertion)?;
        let mut premises = Vec::with_capacity(assertion.derived_from.len());
        for premise in &assertion.derived_from {
            premises.extend(self.position(premise, Kind::Assertion)?);
        }
        let row = ClaimRow {
            agent,
            principal,
            source,
            at: record.at,
            recorded_at: self.entry.recorded_at,
            class: assertion.declared_class(),
            lifecycle: assertion.lifecycle,
            confidence: assertion.confidence,
            valid_from: assertion.valid_from,
            valid_to: assertion.valid_to,
            epoch: self.optional(assertion.epoch.as_ref(), Kind::Epoch)?,
            parent: self.optional(assertion.parent.as_ref(), Kind::Assertion)?,
            premises: premises.into(),
            object: assertion.object.clone(),
        };
        row.encode(position, &mut self.scratch.value);
        self.put(Table::Claims, &pair_key(key, position))?;
        self.posting(Posting::Agent, agent)?;
        if let SourceRow::Evidence(number) | SourceRow::Uri(number) = source {
            self.posting(Posting::Source, number)?;
        }
        if let Some(epoch) = row.epoch {
            self.posting(Posting::Epoch, epoch.0)?;
        }
        if let Some(parent) = row.parent {
            self.posting(Posting::Parent, parent.0)?;
        }
        for premise in row.premises.iter() {
            self.posting(Posting::Premise, premise.0)?;
        }
        Ok(Home { assertion: position, key })
    }

    /// The row of an earlier record. Rows of this position or after it are none: they can only be
    /// there already, from before a crash that the log was replayed after.
    fn earlier(&mut self, id: &RecordId) -> Result<Option<IdRow>, IndexError> {
        Ok(self.target.id(id)?.filter(|row| row.position < self.entry.position))
    }

    /// Where an earlier record of this kind is.
    fn position(&mut self, id: &RecordId, kind: Kind) -> Result<Option<Position>, IndexError> {
        Ok(self.earlier(id)?.filter(|row| row.kind == kind).map(|row| row.position))
    }

    fn optional(
        &mut self,
        id: Option<&RecordId>,
        kind: Kind,
    ) -> Result<Option<Position>, IndexError> {
        match id {
            Some(id) => self.position(id, kind),
            None => Ok(None),
        }
    }

    fn agent(&mut self, agent: &AgentId) -> Result<u64, IndexError> {
        self.name(NameTag::Agent, agent.as_bytes())
    }

    fn principal(&mut self, principal: &Principal) -> Result<u64, IndexError> {
        self.name(NameTag::Principal, principal.as_str().as_bytes())
    }

    /// The number of a name, which this record may be the first to mention.
    fn name(&mut self, tag: NameTag, name: &[u8]) -> Result<u64, IndexError> {
        name_key(&mut self.scratch.key, tag, name);
        let number = self.number(Table::Names)?;
        if number == self.entry.position.0 {
            self.target.put(Table::Names, &number_key(tag, number), name)?;
        }
        Ok(number)
    }

    fn key(&mut self, record: &Record, assertion: &Assertion) -> Result<u64, IndexError> {
        let (subject, predicate) = (&assertion.subject, &assertion.predicate);
        key_key(&mut self.scratch.key, &record.space, subject, predicate);
        self.number(Table::Keys)
    }

    /// The number of the key in `scratch`; adds its row if this record is the first.
    fn number(&mut self, table: Table) -> Result<u64, IndexError> {
        let position = self.entry.position.0;
        let Scratch { key, value } = self.scratch;
        match self.target.number(table, key)? {
            Some(number) if number < position => Ok(number),
            _ => {
                value.clear();
                push_varint(value, position);
                self.target.put(table, key, value)?;
                Ok(position)
            }
        }
    }

    fn posting(&mut self, posting: Posting, number: u64) -> Result<(), IndexError> {
        let key = posting_key(posting, number, self.entry.position);
        self.target.put(Table::Postings, &key, &[])
    }

    /// Adds the row whose value is in `scratch`.
    fn put(&mut self, table: Table, key: &[u8]) -> Result<(), IndexError> {
        self.target.put(table, key, &self.scratch.value)
    }
}

/// The key of an assertion record.
pub(crate) fn key_of(record: &Record) -> Option<Key> {
    match &record.body {
        Body::Assertion(assertion) => Some(Key {
            space: record.space.clone(),
            subject: assertion.subject.clone(),
            predicate: assertion.predicate.clone(),
        }),
        _ => None,
    }
}

/// Whether the registry can have any use for records of this kind; it decides itself, this only
/// spares it the claims and votes that a database is full of.
pub(crate) fn may_register(kind: Kind) -> bool {
    match kind {
        Kind::Assertion | Kind::Cosign | Kind::Vote | Kind::Supersede | Kind::Lifecycle => false,
        Kind::Genesis
        | Kind::Epoch
        | Kind::Source
        | Kind::Retract
        | Kind::Predicate
        | Kind::Alias
        | Kind::Agent
        | Kind::Lens
        | Kind::Gold
        | Kind::TrustSnapshot => true,
    }
}
