//! Names and bytes of answers: lens hash, leaf, answer root. Normative page:
//! `docs/format/answer.md`.

use stemedb_model::{Hash, Position, RecordId, SourceKey, Tier, Value, cbor};

use crate::decay::SHARE_BITS;
use crate::options::{Decay, LensName, Options};
use crate::resolution::{Excluded, Resolution};

/// Version of the built-in lenses' rules: part of the lens hash, so that answers by other rules
/// are never taken for one another.
pub const LENS_VERSION: u64 = 1;

/// The name of a policy: BLAKE3 over the DAG-CBOR map of lens name, options and version; of a lens of
/// one's own its definition's hash too. The
/// times of evaluation and validity are no part of it; `asserted_before` is.
pub fn lens_hash(options: &Options) -> Hash {
    let mut out = Vec::with_capacity(96);
    let (name, version) = match &options.custom {
        Some(custom) => (&*custom.definition().name, custom.definition().version),
        None => (options.lens.as_str(), LENS_VERSION),
    };
    cbor::map(&mut out, 3 + usize::from(options.custom.is_some()));
    cbor::text(&mut out, "name");
    cbor::text(&mut out, name);
    cbor::text(&mut out, "options");
    write_options(&mut out, options);
    cbor::text(&mut out, "version");
    cbor::uint(&mut out, version);
    if let Some(custom) = &options.custom {
        cbor::text(&mut out, "definition");
        cbor::bytes(&mut out, custom.hash().as_bytes());
    }
    Hash(*blake3::hash(&out).as_bytes())
}

/// Keys length first, absent options left out.
pub(crate) fn write_options(out: &mut Vec<u8>, options: &Options) {
    let Options {
        lens: _,
        custom: _,
        epoch_aware,
        decay,
        min_confidence,
        lifecycle,
        tiers,
        agents,
        sources,
        asserted_before,
        evaluated_at: _,
        valid_at: _,
    } = options;
    let given = [
        min_confidence.is_some(),
        lifecycle.is_some(),
        tiers.is_some(),
        agents.is_some(),
        sources.is_some(),
        asserted_before.is_some(),
    ];
    cbor::map(out, 2 + given.into_iter().filter(|given| *given).count());
    cbor::text(out, "decay");
    match decay {
        Decay::Off => cbor::text(out, "off"),
        Decay::PerClass => cbor::text(out, "per_class"),
        Decay::HalfLife(ms) => cbor::uint(out, *ms),
    }
    if let Some(tiers) = tiers {
        cbor::text(out, "tiers");
        write_list(out, tiers, |out, Tier(tier)| cbor::uint(out, u64::from(*tier)));
    }
    if let Some(agents) = agents {
        cbor::text(out, "agents");
        write_list(out, agents, |out, agent| cbor::bytes(out, agent.as_bytes()));
    }
    if let Some(sources) = sources {
        cbor::text(out, "sources");
        write_list(out, sources, |out, source| match source {
            SourceKey::Evidence(hash) => cbor::bytes(out, hash.as_bytes()),
            SourceKey::Uri(uri) => cbor::text(out, uri),
            SourceKey::Agent(agent) => {
                cbor::list(out, 1);
                cbor::bytes(out, agent.as_bytes());
            }
        });
    }
    if let Some(lifecycle) = lifecycle {
        cbor::text(out, "lifecycle");
        write_list(out, lifecycle, |out, state| cbor::text(out, state.as_str()));
    }
    cbor::text(out, "epoch_aware");
    cbor::boolean(out, *epoch_aware);
    if let Some(min_confidence) = min_confidence {
        cbor::text(out, "min_confidence");
        cbor::float(out, *min_confidence);
    }
    if let Some(asserted_before) = asserted_before {
        cbor::text(out, "asserted_before");
        cbor::int(out, asserted_before.0);
    }
}

fn write_list<'a, T: 'a, I>(out: &mut Vec<u8>, items: I, write: impl Fn(&mut Vec<u8>, &T))
where
    I: IntoIterator<Item = &'a T, IntoIter: ExactSizeIterator>,
{
    let items = items.into_iter();
    cbor::list(out, items.len());
    items.for_each(|item| write(out, item));
}

/// One leaf of the answer root: the DAG-CBOR list of space, subject, predicate, lens hash, values,
/// status, shares, excluded ids with reasons. `excluded` is all of them, ascending by position; `ids`
/// names the record at a position, and is asked for those only.
pub fn answer_leaf(
    resolution: &Resolution,
    excluded: &[Excluded],
    ids: &dyn Fn(Position) -> RecordId,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let write_value = |out: &mut Vec<u8>, value: &Value| {
        out.extend_from_slice(&value.canonical_bytes());
    };
    cbor::list(&mut out, 8);
    cbor::text(&mut out, resolution.key.space.as_str());
    cbor::text(&mut out, resolution.key.subject.as_str());
    cbor::text(&mut out, resolution.key.predicate.as_str());
    cbor::bytes(&mut out, resolution.lens_hash.as_bytes());
    let winners: Vec<_> =
        resolution.winners.iter().filter_map(|winner| resolution.values.get(*winner)).collect();
    write_list(&mut out, &winners, |out, winner| write_value(out, &winner.value));
    cbor::text(&mut out, resolution.status.as_str());
    write_list(&mut out, &resolution.values, |out, value| {
        cbor::list(out, 2);
        write_value(out, &value.value);
        // Shares are multiples of 2^-52, so this is exact.
        cbor::uint(out, (value.share * (1u64 << SHARE_BITS) as f64) as u64);
    });
    write_list(&mut out, excluded, |out, excluded| {
        cbor::list(out, 2);
        cbor::bytes(out, ids(excluded.position).as_bytes());
        cbor::text(out, excluded.reason.as_str());
    });
    out
}

/// The answer root: BLAKE3 over all leaves, one after the other.
///
/// The order is the caller's part: keys by (space, subject, predicate) in byte order, each under
/// the name of its entity and once; for each key the lenses of [`LensName::ALL`] in that order,
/// with default options at one position and one time.
#[derive(Debug, Clone, Default)]
pub struct AnswerRoot(blake3::Hasher);

impl AnswerRoot {
    /// The root of no answers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next leaf.
    pub fn add(&mut self, leaf: &[u8]) {
        self.0.update(leaf);
    }

    /// The root of the leaves added so far.
    pub fn finish(&self) -> Hash {
        Hash(*self.0.finalize().as_bytes())
    }
}

/// The options of answer roots: every built-in lens in table order with its defaults at `at`.
pub fn root_options(at: stemedb_model::Millis) -> [Options; LensName::ALL.len()] {
    LensName::ALL.map(|lens| Options::new(lens, at))
}
