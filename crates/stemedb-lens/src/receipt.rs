//! What an answer rests on, so that it can be checked and made again. Normative page:
//! `docs/format/receipt.md`.

use stemedb_model::{Hash, Key, Position, RecordId, Tier, TrustSnapshot, Value, cbor};

use crate::answer::write_options;
use crate::decay::SHARE_BITS;
use crate::lenses::Reliability;
use crate::merkle;
use crate::options::Options;
use crate::question::Question;
use crate::resolution::{Excluded, Reason, Status};

/// The version of the form of receipts.
pub const RECEIPT_VERSION: u64 = 1;

/// One assertion that was considered.
#[derive(Debug, Clone, PartialEq)]
pub struct Considered {
    /// The assertion.
    pub position: Position,
    /// Its id.
    pub id: RecordId,
    /// It denies values of the key, under an opposite predicate.
    pub opposing: bool,
    /// Its tier.
    pub tier: Tier,
    /// Its value, in the form in which values are compared.
    pub value: Value,
    /// Why it has no part in the answer; `None` if it has.
    pub excluded: Option<(Reason, Option<Position>)>,
}

/// One candidate value, in integers.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiptValue {
    /// The value; of a group within tolerance, its centre.
    pub value: Value,
    /// Share of the disagreement, in 2^-52.
    pub share: u64,
    /// Undecayed independent support, in 2^-30.
    pub support: u128,
    /// The same of the claims that deny it.
    pub against: u128,
    /// Weight under the lens, in the lens's own unit.
    pub lens_weight: i128,
    /// The same of the claims that deny it.
    pub lens_against: i128,
    /// Assertions, distinct agents and independent voices that are heard.
    pub claims: u64,
    /// Distinct agents.
    pub agents: u64,
    /// Independent voices.
    pub voices: u64,
}

/// An answer with all that it depends on: the same log gives the same receipt, byte for byte.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// The key, named by the smallest subject of its alias class.
    pub key: Key,
    /// Lens, options and times.
    pub options: Options,
    /// Hash of lens and options.
    pub lens_hash: Hash,
    /// The answer is what the log up to here says.
    pub position: Position,
    /// The trust snapshot that the lens used, if it uses one and one was in force.
    pub trust: Option<TrustSnapshot>,
    /// Agreement.
    pub status: Status,
    /// Indices into `values`.
    pub winners: Vec<usize>,
    /// Every candidate value, in the order of the answer.
    pub values: Vec<ReceiptValue>,
    /// Assertions considered.
    pub considered: u64,
    /// How many of them have no part in the answer.
    pub excluded: u64,
    /// The root of the hash tree over the considered, ascending by position.
    pub root: Hash,
}

impl Considered {
    /// Its leaf in the tree: a DAG-CBOR list of position, id, opposing, tier, value, and the reason with
    /// its position, each absent as an empty list.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        cbor::list(&mut out, 6);
        cbor::uint(&mut out, self.position.0);
        cbor::bytes(&mut out, self.id.as_bytes());
        cbor::boolean(&mut out, self.opposing);
        cbor::uint(&mut out, u64::from(self.tier.0));
        out.extend_from_slice(&self.value.canonical_bytes());
        match self.excluded {
            None => cbor::list(&mut out, 0),
            Some((reason, by)) => {
                cbor::list(&mut out, 1 + usize::from(by.is_some()));
                cbor::text(&mut out, reason.as_str());
                if let Some(by) = by {
                    cbor::uint(&mut out, by.0);
                }
            }
        }
        out
    }
}

impl Receipt {
    /// The receipt of a question under `options`, which it must fit and be ready for, and everything
    /// that was considered, ascending by position. `trust` is the snapshot in force and its table, of a
    /// lens that uses one. `id` names the record at a position.
    ///
    /// O(n) in the claims of the key, with a look-up of each id.
    pub fn of<E>(
        question: &Question,
        options: &Options,
        trust: Option<(TrustSnapshot, &dyn Reliability)>,
        mut id: impl FnMut(Position) -> Result<RecordId, E>,
    ) -> Result<(Self, Vec<Considered>), E> {
        let table = trust.as_ref().map(|(_, table)| *table);
        let answer = question.answer(options, table);
        let mut excluded = question.excluded(options, table).into_iter().peekable();
        let mut considered = Vec::with_capacity(question.claims());
        for statement in question.statements.iter() {
            let position = statement.position;
            let Some(value) = question.statements.value(statement) else { continue };
            let out = excluded.next_if(|one| one.position == position);
            considered.push(Considered {
                position,
                id: id(position)?,
                opposing: statement.opposing,
                tier: statement.tier,
                value: value.clone(),
                excluded: out.map(|Excluded { reason, by, .. }| (reason, by)),
            });
        }
        let leaves: Vec<Hash> = considered.iter().map(|one| merkle::leaf(&one.bytes())).collect();
        let values = answer.values.into_iter().map(|value| ReceiptValue {
            // Shares are multiples of 2^-52, so this is exact.
            share: (value.share * (1u64 << SHARE_BITS) as f64) as u64,
            support: value.support,
            against: value.against,
            lens_weight: value.lens_weight,
            lens_against: value.lens_against,
            claims: value.claims,
            agents: value.agents,
            voices: value.voices,
            value: value.value,
        });
        let receipt = Self {
            key: answer.key,
            options: options.clone(),
            lens_hash: answer.lens_hash,
            position: answer.position,
            trust: trust.map(|(snapshot, _)| snapshot),
            status: answer.status,
            winners: answer.winners,
            values: values.collect(),
            considered: considered.len() as u64,
            excluded: considered.iter().filter(|one| one.excluded.is_some()).count() as u64,
            root: merkle::root(&leaves),
        };
        Ok((receipt, considered))
    }

    /// The canonical bytes: a DAG-CBOR map, keys length first.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let options = &self.options;
        let text = |out: &mut Vec<u8>, name: &str, value: &str| {
            cbor::text(out, name);
            cbor::text(out, value);
        };
        cbor::map(&mut out, 17 - usize::from(self.trust.is_none()));
        text(&mut out, "lens", &options.lens_name());
        cbor::text(&mut out, "root");
        cbor::bytes(&mut out, self.root.as_bytes());
        text(&mut out, "space", self.key.space.as_str());
        if let Some(trust) = &self.trust {
            cbor::text(&mut out, "trust");
            cbor::list(&mut out, 3);
            cbor::uint(&mut out, trust.input_position.0);
            cbor::bytes(&mut out, trust.config.as_bytes());
            cbor::bytes(&mut out, trust.table.as_bytes());
        }
        text(&mut out, "status", self.status.as_str());
        cbor::text(&mut out, "values");
        cbor::list(&mut out, self.values.len());
        self.values.iter().for_each(|value| value.write(&mut out));
        cbor::text(&mut out, "options");
        write_options(&mut out, options);
        text(&mut out, "subject", self.key.subject.as_str());
        cbor::text(&mut out, "version");
        cbor::uint(&mut out, RECEIPT_VERSION);
        cbor::text(&mut out, "winners");
        cbor::list(&mut out, self.winners.len());
        self.winners.iter().for_each(|winner| cbor::uint(&mut out, *winner as u64));
        cbor::text(&mut out, "excluded");
        cbor::uint(&mut out, self.excluded);
        cbor::text(&mut out, "position");
        cbor::uint(&mut out, self.position.0);
        cbor::text(&mut out, "valid_at");
        cbor::int(&mut out, options.valid_at.0);
        cbor::text(&mut out, "lens_hash");
        cbor::bytes(&mut out, self.lens_hash.as_bytes());
        text(&mut out, "predicate", self.key.predicate.as_str());
        cbor::text(&mut out, "considered");
        cbor::uint(&mut out, self.considered);
        cbor::text(&mut out, "evaluated_at");
        cbor::int(&mut out, options.evaluated_at.0);
        out
    }

    /// The name of the receipt: BLAKE3 over its bytes.
    pub fn hash(&self) -> Hash {
        Hash(*blake3::hash(&self.bytes()).as_bytes())
    }
}

impl ReceiptValue {
    /// A list of nine. Sums may not fit an integer of DAG-CBOR, so they are decimal text.
    fn write(&self, out: &mut Vec<u8>) {
        cbor::list(out, 9);
        out.extend_from_slice(&self.value.canonical_bytes());
        cbor::uint(out, self.share);
        cbor::text(out, &self.support.to_string());
        cbor::text(out, &self.against.to_string());
        cbor::text(out, &self.lens_weight.to_string());
        cbor::text(out, &self.lens_against.to_string());
        cbor::uint(out, self.claims);
        cbor::uint(out, self.agents);
        cbor::uint(out, self.voices);
    }
}
