//! What a pilot must show, and whether it did.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stemedb_bench::page::thousands;

use crate::Results;
use crate::check::Checked;
use crate::phase::{Part, Phase};
use crate::requests::Kind;
use crate::watch::{Growth, Sample, growth};

/// How much memory outside of bounded caches may grow over a phase, as its second half has it, of all
/// that there is.
pub(crate) const GROWTH_MAX: f64 = 0.05;
/// A phase must be this long before its memory says anything.
const GROWTH_AFTER: f64 = 60.0;

/// What is asked of one kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Goal {
    pub(crate) kind: Kind,
    /// Claims or questions.
    pub(crate) per_second: f64,
    pub(crate) p99_ms: u64,
}

impl Goal {
    /// Below it, counted from when a request was due.
    pub(crate) fn p99(&self) -> Duration {
        Duration::from_millis(self.p99_ms)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// It was not run, or too short.
    Open,
}

impl Verdict {
    fn of(met: bool) -> Self {
        if met { Self::Met } else { Self::Missed }
    }
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Criterion {
    pub(crate) what: String,
    pub(crate) found: String,
    pub(crate) verdict: Verdict,
    /// Not how fast it is, but whether what it says is so: never forgiven.
    pub(crate) truth: bool,
}

/// All of them.
pub(crate) fn judge(results: &Results) -> Vec<Criterion> {
    let mut criteria: Vec<Criterion> = Part::JUDGED
        .into_iter()
        .map(|part| rate(part, results.phases.iter().find(|phase| phase.part == part)))
        .collect();
    criteria.push(errors(&results.phases));
    criteria.push(memory_bound(&results.phases, results.memory_mib));
    criteria.push(memory_growth(&results.phases));
    criteria.extend(truths(&results.phases));
    criteria
}

/// 0: all is met. 1: something is not; only what is no truth is forgiven.
pub(crate) fn status(criteria: &[Criterion], forgiving: bool) -> u8 {
    let counts = |one: &&Criterion| one.truth || !forgiving;
    let missed = criteria.iter().filter(counts).any(|one| one.verdict == Verdict::Missed);
    u8::from(missed)
}

fn rate(part: Part, phase: Option<&Phase>) -> Criterion {
    let criterion = |what, found, verdict| Criterion { what, found, verdict, truth: false };
    let Some(phase) = phase else {
        return criterion(part.describe().to_owned(), "not run".to_owned(), Verdict::Open);
    };
    let asked = phase.goals.iter().map(|goal| {
        let Goal { kind, per_second, p99_ms } = goal;
        format!("{} {}/s, p99 < {p99_ms} ms", thousands(*per_second), kind.describe())
    });
    let what = format!(
        "{}: {}, {} s",
        part.describe(),
        asked.collect::<Vec<_>>().join("; "),
        phase.seconds
    );
    let Some(last) = phase.full.last() else {
        let found = "no rate holds, however low".to_owned();
        return criterion(what, found, Verdict::Missed);
    };
    let mut met = true;
    let mut found = Vec::new();
    for (goal, (kind, outcome)) in phase.goals.iter().zip(&last.streams) {
        let holds = outcome.holds(goal.p99());
        let rate = outcome.per_second * kind.size() as f64;
        // What is planned is a whole number of requests.
        met &= holds && rate >= goal.per_second * 0.999;
        let short = (1.0 - rate / goal.per_second) * 100.0;
        let short = if short < 0.1 { String::new() } else { format!(" ({short:.0} % less)") };
        let kept = if holds { "" } else { ", not held" };
        found.push(format!(
            "{}/s{short}, p99 {:.1} ms{kept}",
            thousands(rate),
            outcome.latency.p99 / 1e3
        ));
    }
    criterion(what, found.join("; "), Verdict::of(met))
}

/// In what was run to its full length; a trial is there to find out what is too much.
fn errors(phases: &[Phase]) -> Criterion {
    let last = phases.iter().filter_map(|phase| phase.full.last());
    let streams: Vec<_> = last.clone().flat_map(|full| &full.streams).collect();
    let failed: u64 = streams.iter().map(|(_, outcome)| outcome.failed()).sum();
    let answered: u64 = streams.iter().map(|(_, outcome)| outcome.answered).sum();
    let broken: u64 =
        last.filter_map(|full| full.beside.as_ref()).map(|beside| beside.errors).sum();
    let codes: Vec<String> = streams
        .iter()
        .flat_map(|(_, outcome)| &outcome.errors)
        .map(|(code, count)| format!("{count} × {code}"))
        .collect();
    let mut found = format!("{failed} of {} requests", thousands((answered + failed) as f64));
    if !codes.is_empty() {
        found = format!("{found}: {}", codes.join(", "));
    }
    if broken > 0 {
        found = format!("{found}; {broken} of the reads beside");
    }
    let verdict = match answered + failed {
        0 => Verdict::Open,
        _ => Verdict::of(failed + broken == 0),
    };
    Criterion { what: "no error".to_owned(), found, verdict, truth: true }
}

fn memory_bound(phases: &[Phase], bound_mib: u64) -> Criterion {
    let watch = phases.iter().flat_map(|phase| &phase.watch);
    let most = watch.map(|one| one.resident).fold(0.0, f64::max) / f64::from(1 << 20);
    let bound = bound_mib as f64;
    Criterion {
        what: format!("memory of the server: at most {} MiB", thousands(bound)),
        found: format!("{} MiB", thousands(most)),
        verdict: if most > 0.0 { Verdict::of(most <= bound) } else { Verdict::Open },
        truth: false,
    }
}

fn memory_growth(phases: &[Phase]) -> Criterion {
    let long = phases.iter().filter_map(|phase| {
        let full = phase.full.last().filter(|full| full.to - full.from >= GROWTH_AFTER)?;
        let during = |at: f64| (full.from..=full.to).contains(&at);
        let samples = phase.watch.iter().copied().filter(|sample| during(sample.at));
        let samples: Vec<_> = samples.collect();
        let all = growth(&samples, |sample| sample.resident);
        Some((phase.part, growth(&samples, Sample::outside), all))
    });
    let most = long.max_by(|(_, one, _), (_, other, _)| one.share.total_cmp(&other.share));
    let what = format!(
        "memory is flat: at most {:.0} % more over a phase, beside what fills caches that have a bound",
        GROWTH_MAX * 100.0
    );
    let (found, verdict) = match most {
        Some((part, most, all)) => (
            format!("{}, {}; with the caches {}", part.describe(), words(&most), words(&all)),
            Verdict::of(most.share <= GROWTH_MAX),
        ),
        None => ("too short to say".to_owned(), Verdict::Open),
    };
    Criterion { what, found, verdict, truth: false }
}

fn words(growth: &Growth) -> String {
    let a_minute = growth.bytes_per_second * 60.0 / f64::from(1 << 20);
    format!("{:+.1} %, {a_minute:+.2} MiB a minute", growth.share * 100.0)
}

fn truths(phases: &[Phase]) -> Vec<Criterion> {
    let criterion = |what: &str, found, verdict| Criterion {
        what: what.to_owned(),
        found,
        verdict,
        truth: true,
    };
    let there = "every acknowledged claim is there after kill -9, at its position";
    let whole = "`stemedb wal verify`: every byte of the log is whole";
    let all = phases.iter().map(|phase| phase.checked.clone()).reduce(Checked::and);
    let Some(checked) = all else {
        let open = || ("not run".to_owned(), Verdict::Open);
        let ((found, verdict), (log, of_log)) = (open(), open());
        return vec![criterion(there, found, verdict), criterion(whole, log, of_log)];
    };
    let mut found = format!(
        "{} acknowledged, {} contradicted; {} read one by one",
        thousands(checked.acknowledged as f64),
        checked.contradictions,
        checked.sampled,
    );
    if let Some(first) = &checked.first {
        found = format!("{found}; {first}");
    }
    let verdict = match checked.acknowledged {
        0 => Verdict::Open,
        _ => Verdict::of(checked.contradictions == 0),
    };
    let log = match checked.whole {
        true => format!("{} records", thousands(checked.records as f64)),
        false => checked.words.clone(),
    };
    vec![criterion(there, found, verdict), criterion(whole, log, Verdict::of(checked.whole))]
}

#[cfg(test)]
mod tests {
    use stemedb_bench::stats::Quantiles;

    use super::*;
    use crate::load::Outcome;
    use crate::phase::Measured;

    fn goal() -> Goal {
        Goal { kind: Kind::Assert, per_second: 10_000.0, p99_ms: 50 }
    }

    fn phase(per_second: f64, p99_ms: f64, change: impl Fn(&mut Outcome)) -> Phase {
        let planned = (per_second * 300.0) as u64;
        let latency = Quantiles { p99: p99_ms * 1e3, ..Quantiles::default() };
        let mut outcome = Outcome {
            per_second,
            planned,
            sent: planned,
            answered: planned,
            seconds: 300.0,
            latency,
            ..Outcome::default()
        };
        change(&mut outcome);
        let full = Measured { streams: vec![(Kind::Assert, outcome)], ..Measured::default() };
        Phase {
            part: Part::Asserts,
            goals: vec![goal()],
            seconds: 300.0,
            tries: Vec::new(),
            full: vec![full],
            watch: Vec::new(),
            checked: Checked::default(),
        }
    }

    fn verdict(phase: &Phase) -> Verdict {
        rate(phase.part, Some(phase)).verdict
    }

    #[test]
    fn a_rate_is_met_only_by_all_of_it_in_time_and_without_error() {
        assert_eq!(verdict(&phase(10_000.0, 49.9, |_| ())), Verdict::Met);
        assert_eq!(verdict(&phase(10_000.0, 50.0, |_| ())), Verdict::Missed);
        assert_eq!(verdict(&phase(9_900.0, 10.0, |_| ())), Verdict::Missed);
        let unanswered = |outcome: &mut Outcome| outcome.answered -= 1;
        assert_eq!(verdict(&phase(10_000.0, 10.0, unanswered)), Verdict::Missed);
        let refused = |outcome: &mut Outcome| {
            outcome.errors.insert("503 queue_full".into(), 1);
        };
        assert_eq!(verdict(&phase(10_000.0, 10.0, refused)), Verdict::Missed);
        let mut nothing = phase(10_000.0, 10.0, |_| ());
        nothing.full.clear();
        assert_eq!(verdict(&nothing), Verdict::Missed);
        assert_eq!(rate(Part::Asserts, None).verdict, Verdict::Open);
    }

    #[test]
    fn a_miss_says_by_how_much() {
        let missed = rate(Part::Asserts, Some(&phase(2_500.0, 30.0, |_| ())));
        assert_eq!(missed.found, "2,500/s (75 % less), p99 30.0 ms");
        let late = rate(Part::Asserts, Some(&phase(10_000.0, 60.0, |_| ())));
        assert_eq!(late.found, "10,000/s, p99 60.0 ms, not held");
    }

    #[test]
    fn an_error_is_one_too_many() {
        assert_eq!(errors(&[phase(100.0, 1.0, |_| ())]).verdict, Verdict::Met);
        let refused = |outcome: &mut Outcome| {
            outcome.errors.insert("503 queue_full".into(), 2);
        };
        let found = errors(&[phase(100.0, 1.0, refused)]);
        assert_eq!(found.verdict, Verdict::Missed);
        assert!(found.found.ends_with("2 × 503 queue_full"), "{}", found.found);
        assert_eq!(errors(&[]).verdict, Verdict::Open);
    }

    #[test]
    fn memory_is_bounded_and_flat_or_it_is_missed() {
        let during = |from, to, growing: f64| {
            let mut phase = phase(100.0, 1.0, |_| ());
            phase.full[0].from = from;
            phase.full[0].to = to;
            let resident = |at| 5e8 + growing * at;
            let sample = |at| Sample { at, resident: resident(at), caches: 0.0, threads: 1 };
            phase.watch = (0..300).map(f64::from).map(sample).collect();
            phase
        };
        assert_eq!(memory_bound(&[during(0.0, 30.0, 0.0)], 477).verdict, Verdict::Met);
        assert_eq!(memory_bound(&[during(0.0, 30.0, 0.0)], 476).verdict, Verdict::Missed);
        assert_eq!(memory_bound(&[], 476).verdict, Verdict::Open);

        let phases = |growing| [during(0.0, 30.0, growing), during(100.0, 250.0, growing)];
        assert_eq!(memory_growth(&phases(0.0)).verdict, Verdict::Met);
        // A tenth in 150 s, and too little to see in 30.
        let leak = memory_growth(&phases(4e5));
        assert_eq!(leak.verdict, Verdict::Missed);
        let words = "+10.3 %, +22.89 MiB a minute";
        assert_eq!(leak.found, format!("asserts, {words}; with the caches {words}"));
        let mut cache = phases(4e5);
        let full = cache.iter_mut().flat_map(|phase| &mut phase.watch);
        full.for_each(|sample| sample.caches = sample.resident - 4e8);
        assert_eq!(memory_growth(&cache).verdict, Verdict::Met);
        assert!(memory_growth(&cache).found.ends_with(words), "{}", memory_growth(&cache).found);
        assert_eq!(memory_growth(&phases(4e5)[..1]).verdict, Verdict::Open);
    }

    #[test]
    fn a_lost_claim_is_a_missed_truth() {
        let good = Checked { acknowledged: 5, whole: true, ..Checked::default() };
        // After one phase of three, whichever.
        let found = |one: &Checked| {
            [one, &good, &good].map(|checked| {
                let mut phase = phase(100.0, 1.0, |_| ());
                phase.checked = checked.clone();
                phase
            })
        };
        assert!(truths(&found(&good)).iter().all(|one| one.verdict == Verdict::Met));
        assert!(truths(&found(&good))[0].found.starts_with("15 acknowledged, 0 contradicted"));
        let lost = Checked { contradictions: 1, first: Some("x is lost".into()), ..good.clone() };
        assert_eq!(truths(&found(&lost))[0].verdict, Verdict::Missed);
        let torn = Checked { whole: false, words: "damaged".into(), ..good.clone() };
        assert_eq!(truths(&found(&torn))[1].verdict, Verdict::Missed);
        assert_eq!(truths(&found(&torn))[1].found, "damaged");
        assert_eq!(truths(&[])[0].verdict, Verdict::Open);
    }

    #[test]
    fn only_speed_is_forgiven() {
        let criteria = |verdict, truth| {
            let words = String::new();
            [Criterion { what: words.clone(), found: words, verdict, truth }]
        };
        for (verdict, truth, forgiving, expected) in [
            (Verdict::Met, true, false, 0),
            (Verdict::Open, true, false, 0),
            (Verdict::Missed, false, false, 1),
            (Verdict::Missed, false, true, 0),
            (Verdict::Missed, true, false, 1),
            (Verdict::Missed, true, true, 1),
        ] {
            assert_eq!(status(&criteria(verdict, truth), forgiving), expected);
        }
    }
}
