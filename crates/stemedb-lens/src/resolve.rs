//! Step 5, the answer: values weighed, ordered, and told with their reasons.

use std::sync::Arc;

use stemedb_model::{Position, SourceClass, TieRule};

use crate::EXCLUDED_MAX;
use crate::answer::lens_hash;
use crate::camp::{Camp, Camps, Sides};
use crate::candidates::Candidates;
use crate::choosing::Filter;
use crate::custom::{Say, Weighed};
use crate::decay::{as_number, share, tiers};
use crate::disagreement::{Verdict, bits, disagree, entropy};
use crate::lenses::{Reliability, Scales};
use crate::options::{LensName, Options};
use crate::question::{Candidate, Question};
use crate::resolution::{Dissent, Excluded, Layer, Reason, Resolution, Status, ValueSupport};
use crate::statements::Standing;

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
    Question::new(candidates, options).answer(options, trust)
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
    let mut questions: Vec<Question> = Vec::new();
    let mut answers = Vec::with_capacity(options.len());
    for options in options {
        let known = questions.iter().position(|question| question.fits(options));
        let known = known.unwrap_or_else(|| {
            questions.push(Question::new(candidates, options));
            questions.len() - 1
        });
        let Some(question) = questions.get_mut(known) else { continue };
        question.prepare(options.valid_at);
        answers.push(question.answer(options, trust));
    }
    answers
}

impl Question {
    /// The answer under `options`, which this question must fit and be ready for.
    ///
    /// O(v log v) in the distinct values; with filters in the claims too, with decay in the voices, under
    /// `votes` in the votes, and under `trust` in the voices unless the question has
    /// [learned](Question::learn) this table.
    pub fn answer(&self, options: &Options, trust: Option<&dyn Reliability>) -> Resolution {
        debug_assert!(self.fits(options) && self.ready(options.valid_at), "not that question");
        let (filter, weighed) = self.filter(options, trust);
        let candidates: Vec<Candidate<'_>> = self.candidates().collect();
        let filtered = (!filter.keeps_all()).then(|| self.heard(&filter));
        let all: Vec<&Camps> = candidates.iter().map(|candidate| candidate.camps).collect();
        let heard: Vec<&Camps> = match &filtered {
            Some(filtered) => filtered.iter().collect(),
            None => all.clone(),
        };
        let (all, heard_sides) = (sides(&all), sides(&heard));
        let disagreement = disagree(&all, self.many);
        let scales = Scales { question: self, options, trust, weighed: weighed.as_ref() };
        let ranking = rank(&scales, &candidates, &all, &disagreement.shares, &heard_sides);
        let winners = match options.lens {
            LensName::Skeptic => Vec::new(),
            _ => ranking.winners(self.many),
        };
        let (layers, cross_tier_conflict) = match options.lens {
            LensName::Layered => layers(&scales, &candidates, &heard),
            _ => (Vec::new(), 0.0),
        };
        let (considered, out) = self.statements.counts();
        let (excluded, excluded_count, excluded_for) = match filter.keeps_all() {
            true => {
                (self.statements.newest_out(EXCLUDED_MAX), out, told(self.statements.out_for()))
            }
            false => newest(self.statements.excluded(&filter)),
        };
        Resolution {
            key: self.key().clone(),
            lens: options.lens,
            lens_hash: lens_hash(options),
            position: self.as_of(),
            evaluated_at: options.evaluated_at,
            valid_at: options.valid_at,
            dissent: match options.lens {
                LensName::Skeptic => Vec::new(),
                _ => dissent(&heard_sides, &ranking, &winners),
            },
            winners,
            status: disagreement.status,
            conflict_score: disagreement.conflict_score,
            effective_values: disagreement.effective_values,
            margin: disagreement.margin,
            lens_margin: ranking.lens_margin(self.many),
            evidence: disagreement.evidence,
            considered: considered as u64,
            excluded_count: excluded_count as u64,
            excluded_for,
            excluded,
            layers,
            cross_tier_conflict,
            values: ranking.told(),
            custom: options.custom.clone(),
            faults: weighed.map(|weighed| weighed.faults).unwrap_or_default(),
        }
    }

    /// What keeps claims from the answer, and under a lens of one's own what the others weigh.
    fn filter(
        &self,
        options: &Options,
        trust: Option<&dyn Reliability>,
    ) -> (Filter, Option<Weighed>) {
        let filter = || Filter::new(&self.statements.lookup, options);
        let Some(custom) = &options.custom else { return (filter(), None) };
        let scales = Scales { question: self, options, trust, weighed: None };
        let weighed = Weighed::new(&scales, custom, filter());
        let mut filter = filter();
        filter.drop(&weighed.dropped);
        (filter, Some(weighed))
    }

    /// Every assertion of the key that has no part in the answer under `options`, and why, ascending by
    /// position. The question must fit the options and be ready for them. `trust` is that of
    /// [`Question::answer`]: a lens of one's own may filter by it. O(those), with filters O(n).
    pub fn excluded(&self, options: &Options, trust: Option<&dyn Reliability>) -> Vec<Excluded> {
        self.statements.excluded(&self.filter(options, trust).0)
    }

    /// Every assertion of the key and how it stands under `options`, ascending by position. O(n).
    pub fn standings(&self, options: &Options, trust: Option<&dyn Reliability>) -> Vec<Standing> {
        self.statements.standings(&self.filter(options, trust).0)
    }
}

fn sides<'a>(camps: &[&'a Camps]) -> Vec<Sides<'a>> {
    camps.iter().map(|camps| camps.sides()).collect()
}

/// As many of the excluded as an answer names, how many there are, and how many for which reason.
fn newest(mut excluded: Vec<Excluded>) -> (Vec<Excluded>, usize, Vec<(Reason, u64)>) {
    let mut counts = [0; Reason::ALL.len()];
    for one in &excluded {
        if let Some(count) = counts.get_mut(one.reason as usize) {
            *count += 1;
        }
    }
    let count = excluded.len();
    excluded.drain(..count.saturating_sub(EXCLUDED_MAX));
    (excluded, count, told(&counts))
}

/// The reasons that occur.
fn told(counts: &[u64; Reason::ALL.len()]) -> Vec<(Reason, u64)> {
    Reason::ALL.into_iter().zip(*counts).filter(|(_, count)| *count > 0).collect()
}

/// A value, weighed.
struct Row<'a> {
    /// Index of its group.
    value: usize,
    candidate: Candidate<'a>,
    /// Those of the disagreement, and those that the lens hears.
    base: Sides<'a>,
    heard: Sides<'a>,
    /// Some claim has a say in its favour: it can win.
    eligible: bool,
    /// Distinct agents and the newest of the claims that have a say in its favour.
    agents: u64,
    newest: Position,
    share: f64,
    lens_weight: i128,
    lens_against: i128,
    lens_share: f64,
}

impl Row<'_> {
    fn told(&self) -> ValueSupport {
        let (yes, base) = (self.heard.yes, self.base);
        let best_tier = yes.tally.best_tier().or(base.yes.tally.best_tier());
        ValueSupport {
            value: self.candidate.value.clone(),
            members: Arc::clone(self.candidate.members),
            support: base.yes.tally.support(),
            against: base.no.tally.support(),
            share: self.share,
            lens_weight: self.lens_weight,
            lens_against: self.lens_against,
            lens_share: self.lens_share,
            best_tier: best_tier.unwrap_or(SourceClass::Anecdotal.tier()),
            claims: yes.len() as u64,
            agents: yes.agents(None),
            voices: yes.tally.spoken().len() as u64,
            because: yes.because().clone(),
        }
    }
}

/// Values in the order of an answer.
struct Ranking<'a> {
    rows: Vec<Row<'a>>,
}

impl Ranking<'_> {
    fn told(&self) -> Vec<ValueSupport> {
        self.rows.iter().map(Row::told).collect()
    }

    /// Of one value the first, of many all for which more weighs than against.
    fn winners(&self, many: bool) -> Vec<usize> {
        let rows = self.rows.iter().enumerate().filter(|(_, row)| row.eligible);
        if many {
            let accepted = rows.filter(|(_, row)| row.lens_weight > row.lens_against);
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
                let decided = row.lens_share > 0.0 || row.lens_against != 0;
                if decided { (2.0 * row.lens_share - 1.0).abs() } else { 0.0 }
            });
            return margins.reduce(f64::min).unwrap_or(0.0);
        }
        let mut shares = self.rows.iter().map(|row| row.lens_share);
        let first = shares.next().unwrap_or(0.0);
        first - shares.next().unwrap_or(0.0)
    }
}

/// Weighs and orders all values that somebody asserts in `base`, by the claims `heard`.
///
/// Those that can win come first: by weight, then distinct agents, then newest recorded, then
/// smaller bytes; then the others by share of the disagreement, then smaller bytes. `shares` are those.
fn rank<'a>(
    scales: &Scales<'_>,
    candidates: &[Candidate<'a>],
    base: &[Sides<'a>],
    shares: &[u64],
    heard: &[Sides<'a>],
) -> Ranking<'a> {
    let question = scales.question;
    let lens = scales.options.lens;
    let best = heard.iter().filter_map(|sides| sides.yes.tally.best_tier()).min();
    let ballots = match lens {
        LensName::Votes => question.ballots_on(heard),
        _ => Default::default(),
    };
    // Under skeptic the weight is the share among the claims that are heard.
    let map = (lens == LensName::Skeptic).then(|| Verdict::of(heard, question.many).shares);
    let mut rows = Vec::with_capacity(candidates.len());
    for (value, ((candidate, base), heard)) in candidates.iter().zip(base).zip(heard).enumerate() {
        if base.yes.is_empty() {
            continue;
        }
        // Under cardinality many each value is a question of its own.
        let best = match question.many {
            true => [heard.yes, heard.no].iter().filter_map(|camp| camp.tally.best_tier()).min(),
            false => best,
        };
        let weigh = |camp: &Camp, opposing: bool| {
            let ballots = ballots.get(&(value, opposing)).map_or(&[][..], Vec::as_slice);
            scales.weigh(camp, best, ballots)
        };
        let (lens_weight, lens_against) = match &map {
            Some(shares) => (shares.get(value).copied().unwrap_or(0).into(), 0),
            None => (weigh(heard.yes, false), weigh(heard.no, true)),
        };
        let (yes, only) = (heard.yes, scales.hears_only(best));
        let say = match scales.weighed {
            Some(weighed) => weighed.say(yes, scales),
            None => Say {
                claims: only.map_or(yes.len() as u64, |tier| yes.of_tier(tier)),
                agents: yes.agents(only),
                newest: yes.newest(only),
            },
        };
        rows.push(Row {
            value,
            candidate: *candidate,
            base: *base,
            heard: *heard,
            eligible: say.claims > 0,
            agents: say.agents,
            newest: say.newest,
            share: as_number(shares.get(value).copied().unwrap_or(0)),
            lens_weight,
            lens_against: if question.many { lens_against } else { 0 },
            lens_share: 0.0,
        });
    }
    lens_shares(&mut rows, lens, question.many);
    let ties = match &scales.options.custom {
        Some(custom) => custom.ties(),
        None => &[TieRule::Agents, TieRule::Newest],
    };
    rows.sort_unstable_by(|a, b| {
        let by_share = |row: &Row<'_>| (row.eligible, row.share);
        let order = if a.eligible && b.eligible {
            let by_weight = b.lens_weight.cmp(&a.lens_weight);
            let tie = |rule: &TieRule| match rule {
                TieRule::Agents => b.agents.cmp(&a.agents),
                TieRule::Newest => b.newest.cmp(&a.newest),
                TieRule::Bytes => a.candidate.value.cmp(b.candidate.value),
            };
            ties.iter().fold(by_weight, |order, rule| order.then_with(|| tie(rule)))
        } else {
            let ((a, a_share), (b, b_share)) = (by_share(a), by_share(b));
            b.cmp(&a).then(b_share.total_cmp(&a_share))
        };
        order.then_with(|| a.candidate.value.cmp(b.candidate.value))
    });
    Ranking { rows }
}

/// Shares of the lens's weights. Under recency, whose weights are moments, the newest share all.
fn lens_shares(rows: &mut [Row<'_>], lens: LensName, many: bool) {
    let weight = |row: &Row<'_>| row.lens_weight.unsigned_abs();
    let whole: u128 = rows.iter().map(weight).fold(0, u128::saturating_add);
    let eligible = rows.iter().filter(|row| row.eligible);
    let newest = eligible.clone().map(|row| row.lens_weight).max();
    let newest_count = eligible.filter(|row| Some(row.lens_weight) == newest).count() as u128;
    for row in rows {
        let (yes, no) = (row.lens_weight, row.lens_against);
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
        row.lens_share = as_number(part);
    }
}

/// What speaks against the winners, by tier, best first: the claims for other values, and under
/// cardinality many those that deny a winner.
fn dissent(heard: &[Sides<'_>], ranking: &Ranking<'_>, winners: &[usize]) -> Vec<Dissent> {
    let mut by_tier: Vec<Dissent> = SourceClass::ALL
        .into_iter()
        .map(|class| Dissent { class, voices: 0, claims: 0, support: 0 })
        .collect();
    for (index, row) in ranking.rows.iter().enumerate() {
        let Some(sides) = heard.get(row.value) else { continue };
        let camp = if winners.contains(&index) { sides.no } else { sides.yes };
        for (dissent, tier) in by_tier.iter_mut().zip(tiers()) {
            let sum = camp.tally.tier(tier);
            dissent.voices += sum.voices;
            dissent.support += sum.support;
            dissent.claims += camp.of_tier(tier);
        }
    }
    by_tier.retain(|dissent| dissent.claims > 0);
    by_tier
}

/// Each tier by itself, and the conflict between what they say.
fn layers(
    scales: &Scales<'_>,
    candidates: &[Candidate<'_>],
    heard: &[&Camps],
) -> (Vec<Layer>, f64) {
    let question = scales.question;
    let nobody = Camp::default();
    let silence = Sides { yes: &nobody, no: &nobody };
    let mut layers = Vec::new();
    // Per value, the tiers that accept it and those that do not.
    let mut verdicts = vec![[0u128; 2]; heard.len()];
    for tier in tiers() {
        let camps: Vec<Sides<'_>> =
            heard.iter().map(|camps| camps.of_tier(tier).unwrap_or(silence)).collect();
        if camps.iter().all(|sides| sides.is_empty()) {
            continue;
        }
        let verdict = Verdict::of(&camps, question.many);
        let ranking = rank(scales, candidates, &camps, &verdict.shares, &camps);
        let winners: Vec<usize> = ranking
            .winners(question.many)
            .into_iter()
            .filter_map(|winner| ranking.rows.get(winner).map(|row| row.value))
            .collect();
        for (value, (verdict, sides)) in verdicts.iter_mut().zip(&camps).enumerate() {
            let spoken = !sides.is_empty();
            if winners.contains(&value) {
                verdict[0] += 1;
            } else if spoken {
                verdict[1] += 1;
            }
        }
        if verdict.status != Status::Unknown {
            layers.push(Layer {
                tier,
                values: ranking.told(),
                status: verdict.status,
                conflict_score: verdict.conflict_score(),
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
