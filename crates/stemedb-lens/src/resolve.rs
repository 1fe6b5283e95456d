//! Step 5, the answer: values weighed, ordered, and told with their reasons.

use stemedb_model::{Position, SourceClass, Tier};

use crate::BECAUSE_MAX;
use crate::answer::lens_hash;
use crate::candidates::Candidates;
use crate::choosing::{Choosing, Filter};
use crate::decay::{as_number, share, tiers};
use crate::disagreement::{Disagreement, bits, disagree, entropy};
use crate::lenses::{Reliability, Scales};
use crate::options::{LensName, Options};
use crate::question::{Camp, Camps, Question};
use crate::resolution::{Dissent, Excluded, Layer, Resolution, Status, ValueSupport};

/// Resolves one key under one lens. Cannot fail; without candidates the status is `unknown`.
///
/// - `trust`: the learned table of the trust snapshot in force, used by the lenses `trust` and
///   `votes`; without one every agent counts as 1/2.
///
/// The order of the lists in `candidates` does not matter. Time O(n log n), space O(n) in the
/// claims and facts of the key.
pub fn resolve(
    candidates: &Candidates,
    options: &Options,
    trust: Option<&dyn Reliability>,
) -> Resolution {
    answer(&Question::new(candidates, options), candidates, options, trust)
}

/// Resolves one key under several lenses: one answer per entry of `options`, in their order, each
/// the same as [`resolve`] gives. Exclusion, values and disagreement are worked out once for all
/// options that agree on what takes part: `epoch_aware`, `asserted_before`, `valid_at`, and whether
/// `lifecycle` names deprecated or rejected.
pub fn resolve_many(
    candidates: &Candidates,
    options: &[Options],
    trust: Option<&dyn Reliability>,
) -> Vec<Resolution> {
    let mut questions: Vec<(Choosing, Question<'_>)> = Vec::new();
    let mut answers = Vec::with_capacity(options.len());
    for options in options {
        let choosing = Choosing::of(options);
        if !questions.iter().any(|(known, _)| *known == choosing) {
            questions.push((choosing, Question::new(candidates, options)));
        }
        let question = questions.iter().find(|(known, _)| *known == choosing);
        answers.extend(question.map(|(_, question)| answer(question, candidates, options, trust)));
    }
    answers
}

fn answer(
    question: &Question<'_>,
    candidates: &Candidates,
    options: &Options,
    trust: Option<&dyn Reliability>,
) -> Resolution {
    let filter = Filter::new(&question.exclusion, options);
    let heard = question.heard(&filter);
    let scales = Scales { question, key: &candidates.key, options, trust };
    let disagreement = &question.disagreement;
    let ranking = rank(&scales, &question.camps, disagreement, &heard);
    let winners = match options.lens {
        LensName::Skeptic => Vec::new(),
        _ => ranking.winners(question.many),
    };
    let (layers, cross_tier_conflict) = match options.lens {
        LensName::Layered => layers(&scales, &heard),
        _ => (Vec::new(), 0.0),
    };
    let judged = question.exclusion.judged.iter();
    let excluded: Vec<Excluded> = judged.filter_map(|judged| judged.excluded(&filter)).collect();
    Resolution {
        key: candidates.key.clone(),
        lens: options.lens,
        lens_hash: lens_hash(options),
        position: candidates.as_of,
        evaluated_at: options.evaluated_at,
        valid_at: options.valid_at,
        dissent: match options.lens {
            LensName::Skeptic => Vec::new(),
            _ => dissent(&scales, &heard, &ranking, &winners),
        },
        winners,
        status: disagreement.status,
        conflict_score: disagreement.conflict_score,
        effective_values: disagreement.effective_values,
        margin: disagreement.margin,
        lens_margin: ranking.lens_margin(question.many),
        evidence: disagreement.evidence,
        considered: question.exclusion.judged.len() as u64,
        excluded,
        layers,
        cross_tier_conflict,
        values: ranking.rows.into_iter().map(|row| row.support).collect(),
    }
}

/// A value, weighed.
struct Row {
    /// Index of its group.
    value: usize,
    /// Some claim has a say in its favour: it can win.
    eligible: bool,
    /// Distinct agents and the newest of the claims that have a say in its favour.
    agents: u64,
    newest: Position,
    support: ValueSupport,
}

/// Values in the order of an answer.
struct Ranking {
    rows: Vec<Row>,
}

impl Ranking {
    /// Of one value the first, of many all for which more weighs than against.
    fn winners(&self, many: bool) -> Vec<usize> {
        let rows = self.rows.iter().enumerate().filter(|(_, row)| row.eligible);
        if many {
            let accepted =
                rows.filter(|(_, row)| row.support.lens_weight > row.support.lens_against);
            return accepted.map(|(index, _)| index).collect();
        }
        rows.take(1).map(|(index, _)| index).collect()
    }

    /// First share less second; under cardinality many, the smallest distance between the two
    /// sides of one value.
    fn lens_margin(&self, many: bool) -> f64 {
        let eligible = self.rows.iter().filter(|row| row.eligible);
        if many {
            let margins = eligible.map(|row| {
                let decided = row.support.lens_share > 0.0 || row.support.lens_against != 0;
                if decided { (2.0 * row.support.lens_share - 1.0).abs() } else { 0.0 }
            });
            return margins.reduce(f64::min).unwrap_or(0.0);
        }
        let mut shares = self.rows.iter().map(|row| row.support.lens_share);
        let first = shares.next().unwrap_or(0.0);
        first - shares.next().unwrap_or(0.0)
    }
}

/// Weighs and orders all values that somebody asserts in `base`, by the claims `heard`.
///
/// Those that can win come first: by weight, then distinct agents, then newest recorded, then
/// smaller bytes; then the others by share of the disagreement, then smaller bytes.
fn rank(
    scales: &Scales<'_>,
    base: &[Camps],
    disagreement: &Disagreement,
    heard: &[Camps],
) -> Ranking {
    let question = scales.question;
    let lens = scales.options.lens;
    let best = heard.iter().filter_map(|camps| camps.yes.tally.best_tier()).min();
    let ballots = match lens {
        LensName::Votes => question.ballots_on(heard),
        _ => Default::default(),
    };
    // Under skeptic the weight is the share among the claims that are heard.
    let map = (lens == LensName::Skeptic).then(|| disagree(heard, question.many).shares);
    let mut rows = Vec::new();
    for (value, (base, heard)) in base.iter().zip(heard).enumerate() {
        let Some(group) = question.groups.get(value).filter(|_| !base.yes.claims.is_empty()) else {
            continue;
        };
        // Under cardinality many each value is a question of its own.
        let best = match question.many {
            true => [&heard.yes, &heard.no].iter().filter_map(|camp| camp.tally.best_tier()).min(),
            false => best,
        };
        let weigh = |camp: &Camp, opposing: bool| {
            let ballots = ballots.get(&(value, opposing)).map_or(&[][..], Vec::as_slice);
            scales.weigh(camp, best, ballots)
        };
        let (lens_weight, lens_against) = match &map {
            Some(shares) => (shares.get(value).copied().unwrap_or(0).into(), 0),
            None => (weigh(&heard.yes, false), weigh(&heard.no, true)),
        };
        let say = say(scales, &heard.yes, best);
        let tally = &heard.yes.tally;
        let best_tier = tally.best_tier().or(base.yes.tally.best_tier());
        rows.push(Row {
            value,
            eligible: say.claims > 0,
            agents: say.agents,
            newest: say.newest,
            support: ValueSupport {
                value: group.value.clone(),
                members: group.members.clone(),
                support: base.yes.tally.support(),
                against: base.no.tally.support(),
                share: as_number(disagreement.shares.get(value).copied().unwrap_or(0)),
                lens_weight,
                lens_against: if question.many { lens_against } else { 0 },
                lens_share: 0.0,
                best_tier: best_tier.unwrap_or(SourceClass::Anecdotal.tier()),
                claims: heard.yes.claims.len() as u64,
                agents: agents(scales, &heard.yes, |_| true),
                voices: tally.voices().count() as u64,
                because: because(&heard.yes),
            },
        });
    }
    lens_shares(&mut rows, lens, question.many);
    rows.sort_unstable_by(|a, b| {
        let by_lens = |row: &Row| (row.eligible, row.support.lens_weight, row.agents, row.newest);
        let by_share = |row: &Row| (row.eligible, row.support.share);
        let order = if a.eligible && b.eligible {
            by_lens(b).cmp(&by_lens(a))
        } else {
            let ((a, a_share), (b, b_share)) = (by_share(a), by_share(b));
            b.cmp(&a).then(b_share.total_cmp(&a_share))
        };
        order.then_with(|| a.support.value.cmp(&b.support.value))
    });
    Ranking { rows }
}

/// What decides between equal weights, of the claims that have a say.
struct Say {
    claims: u64,
    agents: u64,
    newest: Position,
}

fn say(scales: &Scales<'_>, camp: &Camp, best: Option<Tier>) -> Say {
    let hears = |tier| scales.hears(tier, best);
    let heard = camp.claims.iter().filter_map(|index| scales.question.live.get(*index));
    let heard = heard.filter(|claim| hears(claim.strength.tier()));
    let mut say = Say { claims: 0, agents: agents(scales, camp, hears), newest: Position::NONE };
    for claim in heard {
        say.claims += 1;
        say.newest = say.newest.max(claim.strength.position());
    }
    say
}

fn agents(scales: &Scales<'_>, camp: &Camp, keep: impl Fn(Tier) -> bool) -> u64 {
    let claims = camp.claims.iter().filter_map(|index| scales.question.live.get(*index));
    let mut agents: Vec<u32> =
        claims.filter(|claim| keep(claim.strength.tier())).map(|claim| claim.agent).collect();
    agents.sort_unstable();
    agents.dedup();
    agents.len() as u64
}

fn because(camp: &Camp) -> Vec<Position> {
    let mut claims: Vec<_> = camp.tally.voices().map(|(_, strongest)| *strongest).collect();
    if claims.len() > BECAUSE_MAX {
        claims.select_nth_unstable(BECAUSE_MAX);
        claims.truncate(BECAUSE_MAX);
    }
    claims.sort_unstable();
    claims.iter().map(|claim| claim.position()).collect()
}

/// Shares of the lens's weights. Under recency, whose weights are moments, the newest share all.
fn lens_shares(rows: &mut [Row], lens: LensName, many: bool) {
    let weight = |row: &Row| row.support.lens_weight.unsigned_abs();
    let whole: u128 = rows.iter().map(weight).fold(0, u128::saturating_add);
    let eligible = rows.iter().filter(|row| row.eligible);
    let newest = eligible.clone().map(|row| row.support.lens_weight).max();
    let newest_count =
        eligible.filter(|row| Some(row.support.lens_weight) == newest).count() as u128;
    for row in rows {
        let support = &row.support;
        let (yes, no) = (support.lens_weight, support.lens_against);
        let part = match (lens, many) {
            _ if !row.eligible => 0,
            (LensName::Skeptic, _) => weight(row) as u64,
            (LensName::Recency, true) => match yes.cmp(&no) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Equal => share(1, 2),
                std::cmp::Ordering::Greater => share(1, 1),
            },
            (LensName::Recency, false) if Some(yes) == newest => share(1, newest_count),
            (LensName::Recency, false) => 0,
            (_, true) => share(weight(row), weight(row).saturating_add(no.unsigned_abs())),
            (_, false) => share(weight(row), whole),
        };
        row.support.lens_share = as_number(part);
    }
}

/// What speaks against the winners, by tier, best first: the claims for other values, and under
/// cardinality many those that deny a winner.
fn dissent(
    scales: &Scales<'_>,
    heard: &[Camps],
    ranking: &Ranking,
    winners: &[usize],
) -> Vec<Dissent> {
    let mut by_tier: Vec<Dissent> = SourceClass::ALL
        .into_iter()
        .map(|class| Dissent { class, voices: 0, claims: 0, support: 0 })
        .collect();
    for (index, row) in ranking.rows.iter().enumerate() {
        let Some(camps) = heard.get(row.value) else { continue };
        let camp = if winners.contains(&index) { &camps.no } else { &camps.yes };
        for (dissent, tier) in by_tier.iter_mut().zip(tiers()) {
            let sum = camp.tally.tier(tier);
            dissent.voices += sum.voices;
            dissent.support += sum.support;
        }
        for claim in camp.claims.iter().filter_map(|index| scales.question.live.get(*index)) {
            let tier = usize::from(claim.strength.tier().0);
            if let Some(dissent) = by_tier.get_mut(tier) {
                dissent.claims += 1;
            }
        }
    }
    by_tier.retain(|dissent| dissent.claims > 0);
    by_tier
}

/// Each tier by itself, and the conflict between what they say.
fn layers(scales: &Scales<'_>, heard: &[Camps]) -> (Vec<Layer>, f64) {
    let question = scales.question;
    let mut layers = Vec::new();
    // Per value, the tiers that accept it and those that do not.
    let mut verdicts = vec![[0u128; 2]; heard.len()];
    for tier in tiers() {
        let camps = question.of_tier(heard, tier);
        if camps.iter().all(|camps| camps.yes.claims.is_empty() && camps.no.claims.is_empty()) {
            continue;
        }
        let disagreement = disagree(&camps, question.many);
        let ranking = rank(scales, &camps, &disagreement, &camps);
        let winners: Vec<usize> = ranking
            .winners(question.many)
            .into_iter()
            .filter_map(|winner| ranking.rows.get(winner).map(|row| row.value))
            .collect();
        for (value, (verdict, camps)) in verdicts.iter_mut().zip(&camps).enumerate() {
            let spoken = !camps.yes.claims.is_empty() || !camps.no.claims.is_empty();
            if winners.contains(&value) {
                verdict[0] += 1;
            } else if spoken {
                verdict[1] += 1;
            }
        }
        if disagreement.status != Status::Unknown {
            layers.push(Layer {
                tier,
                values: ranking.rows.into_iter().map(|row| row.support).collect(),
                status: disagreement.status,
                conflict_score: disagreement.conflict_score,
            });
        }
    }
    let conflict = if question.many {
        let of_value = verdicts.iter().map(|verdict| spread(verdict));
        of_value.max().unwrap_or(0)
    } else {
        let winners: Vec<u128> = verdicts.iter().map(|[accepting, _]| *accepting).collect();
        spread(&winners)
    };
    (layers, bits(conflict).min(1.0))
}

/// Entropy of counts.
fn spread(counts: &[u128]) -> u64 {
    let whole = counts.iter().sum();
    let shares: Vec<u64> = counts.iter().map(|count| share(*count, whole)).collect();
    entropy(&shares)
}
