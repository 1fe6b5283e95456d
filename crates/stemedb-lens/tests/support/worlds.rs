//! Made-up worlds in which the truth is known: who says what, and what is so.
#![allow(dead_code, unreachable_pub, reason = "each user takes its part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a wrong world fails whoever uses it"
)]

use std::collections::{BTreeMap, BTreeSet};

use stemedb_lens::trust::{Evidence, Learned, Statement, learn};
use stemedb_model::{AgentId, Cardinality, Position, PredicateName, Subject, Tolerance, Value};

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

#[derive(Clone)]
pub struct Said {
    pub agent: AgentId,
    pub subject: Subject,
    pub predicate: PredicateName,
    pub value: Value,
    pub position: u64,
}

#[derive(Clone, Default)]
pub struct World {
    pub tolerances: BTreeMap<PredicateName, Tolerance>,
    pub many: BTreeSet<PredicateName>,
    pub said: Vec<Said>,
    pub truth: BTreeMap<(PredicateName, Subject), Value>,
}

pub fn agent(name: &str) -> AgentId {
    AgentId(*blake3::hash(name.as_bytes()).as_bytes())
}

pub fn topic(name: &str) -> PredicateName {
    PredicateName::parse(name).unwrap()
}

pub fn subject(name: &str) -> Subject {
    Subject::parse(name).unwrap()
}

impl World {
    pub fn say(&mut self, who: &str, about: (&str, &str), value: Value) {
        let position = self.said.len() as u64 + 1;
        let (predicate, subject) = (topic(about.0), subject(about.1));
        self.said.push(Said { agent: agent(who), subject, predicate, value, position });
    }

    pub fn is(&mut self, about: (&str, &str), value: Value) {
        self.truth.insert((topic(about.0), subject(about.1)), value);
    }

    pub fn evidence(&self) -> Evidence {
        self.evidence_about(|_| true)
    }

    /// The part of the evidence that is about some subjects.
    pub fn evidence_about(&self, keep: impl Fn(&Subject) -> bool) -> Evidence {
        let mut evidence = Evidence::new();
        for (predicate, tolerance) in &self.tolerances {
            evidence.topic(predicate, Cardinality::One, Some(*tolerance));
        }
        for predicate in &self.many {
            evidence.topic(predicate, Cardinality::Many, None);
        }
        for said in self.said.iter().filter(|said| keep(&said.subject)) {
            evidence.add(Statement {
                position: Position(said.position),
                agent: &said.agent,
                subject: &said.subject,
                predicate: &said.predicate,
                value: &said.value,
                weight: 1.0,
            });
        }
        evidence
    }

    pub fn learn(&self) -> Learned {
        learn(&self.evidence(), 1)
    }

    /// Share of the truths that the heaviest value meets; ties count as the share that is right.
    pub fn accuracy(&self, weight: impl Fn(&AgentId, &PredicateName) -> f64) -> f64 {
        let scores = self.answers(weight).into_iter().map(|answer| answer.right);
        scores.sum::<f64>() / self.truth.len() as f64
    }

    pub fn vote(&self) -> f64 {
        self.accuracy(|_, _| 1.0)
    }

    pub fn trust(&self) -> f64 {
        let learned = self.learn();
        let table = learned.table();
        self.accuracy(|agent, topic| table.of(agent, topic).unwrap() as f64)
    }

    /// What a sum of weights answers to each question whose truth is known and that has claims.
    pub fn answers(&self, weight: impl Fn(&AgentId, &PredicateName) -> f64) -> Vec<Answer> {
        let mut live: BTreeMap<_, BTreeMap<AgentId, &Said>> = BTreeMap::new();
        for said in &self.said {
            let key = (said.predicate.clone(), said.subject.clone());
            if self.truth.contains_key(&key) {
                // In the order of positions: the last statement of an agent stands.
                live.entry(key).or_default().insert(said.agent, said);
            }
        }
        let mut answers = Vec::new();
        for (key, claims) in live {
            let tolerance = self.tolerances.get(&key.0);
            let mut exact: BTreeMap<&Value, (f64, f64)> = BTreeMap::new();
            for (agent, said) in claims {
                let of_value = exact.entry(&said.value).or_default();
                of_value.0 += 1.0;
                of_value.1 += weight(&agent, &key.0);
            }
            // As the lens does: the value with most voices takes all within tolerance.
            let mut heaviest: Vec<(&Value, (f64, f64))> = exact.into_iter().collect();
            heaviest.sort_by(|a, b| {
                b.1.0.total_cmp(&a.1.0).then_with(|| number(a.0).total_cmp(&number(b.0)))
            });
            let mut groups: Vec<(&Value, f64)> = Vec::new();
            for (value, (_, weight)) in heaviest {
                match groups.iter_mut().find(|(centre, _)| near(centre, value, tolerance)) {
                    Some(group) => group.1 += weight,
                    None => groups.push((value, weight)),
                }
            }
            let truth = &self.truth[&key];
            let total: f64 = groups.iter().map(|group| group.1).sum();
            let top = groups.iter().map(|group| group.1).fold(0.0, f64::max);
            let best: Vec<_> =
                groups.iter().filter(|group| group.1 >= top * (1.0 - 1e-9)).collect();
            let right = best.iter().filter(|group| near(truth, group.0, tolerance)).count();
            answers.push(Answer {
                predicate: key.0,
                subject: key.1,
                right: right as f64 / best.len() as f64,
                share: top / total,
            });
        }
        answers
    }
}

pub struct Answer {
    pub predicate: PredicateName,
    pub subject: Subject,
    /// 1 if it is right, 0 if not, between for ties.
    pub right: f64,
    /// Share of the heaviest value in all weight.
    pub share: f64,
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Number { value, .. } => *value,
        _ => 0.0,
    }
}

pub fn near(a: &Value, b: &Value, tolerance: Option<&Tolerance>) -> bool {
    match (a, b, tolerance) {
        (Value::Number { value: a, .. }, Value::Number { value: b, .. }, Some(tolerance)) => {
            let relative = tolerance.relative.unwrap_or(0.0) * a.abs();
            (a - b).abs() <= tolerance.absolute.unwrap_or(0.0).max(relative)
        }
        _ => a == b,
    }
}

/// How many values a question could have.
pub fn value(kind: u64, n: u64) -> Value {
    match kind {
        2 => Value::Boolean(n == 1),
        _ => Value::text(&format!("value {n}")).unwrap(),
    }
}

fn answer(dice: &mut Dice, accuracy: f64, truth: u64, values: u64) -> u64 {
    if dice.share() < accuracy { truth } else { (truth + 1 + dice.below(values - 1)) % values }
}

/// Honest sources of accuracy 0.55 to 0.9 that each answer 60 % of the questions, one source that
/// is wrong four times in five, and `copies` of it that change one value in `changed` (0: none).
pub fn copies(seed: u64, values: u64, copies: u64, changed: u64) -> World {
    let mut dice = Dice::new(seed);
    let mut world = World::default();
    let accuracies: Vec<f64> = (0..20).map(|n| 0.55 + 0.35 * f64::from(n) / 19.0).collect();
    for question in 0..200 {
        let name = format!("question {question}");
        let about = ("answer", name.as_str());
        let truth = dice.below(values);
        world.is(about, value(values, truth));
        for (n, accuracy) in accuracies.iter().enumerate() {
            if dice.share() < 0.6 {
                let said = answer(&mut dice, *accuracy, truth, values);
                world.say(&format!("honest {n}"), about, value(values, said));
            }
        }
        let wrong = answer(&mut dice, 0.2, truth, values);
        world.say("wrong", about, value(values, wrong));
        for n in 0..copies {
            let own = changed > 0 && dice.below(changed) == 0;
            let said = if own { dice.below(values) } else { wrong };
            world.say(&format!("copy {n}"), about, value(values, said));
        }
    }
    world
}

/// Harder: 12 honest agents of accuracy 0.5 to 0.9, topics of texts, of yes or no and of numbers, and half
/// of those who are wrong fall for one rumour. Copies repeat nine values in ten and change the
/// share `slip` of them. More copies change nothing of what the others say.
pub fn rumours(seed: u64, copies: u64, slip: f64) -> World {
    let mut dice = Dice::new(seed);
    let mut copiers: Vec<Dice> =
        (0..copies).map(|n| Dice::new(seed * 7919 + n * 104_729 + 13)).collect();
    let mut world = World::default();
    for question in 0..180 {
        let (name, values) =
            [("colour", 10), ("is_open", 2), ("weight", 10)][question as usize % 3];
        let named = |n: u64| match name {
            "weight" => Value::number(100.0 + 7.0 * n as f64, None).unwrap(),
            _ => value(values, n),
        };
        let another = |dice: &mut Dice, n: u64| (n + 1 + dice.below(values - 1)) % values;
        let subject = format!("item {}", question / 3);
        let about = (name, subject.as_str());
        let truth = dice.below(values);
        let rumour = another(&mut dice, truth);
        world.is(about, named(truth));
        let say = |dice: &mut Dice, accuracy: f64| match dice.share() {
            share if share < accuracy => truth,
            _ if dice.share() < 0.5 => rumour,
            _ => another(dice, truth),
        };
        for n in 0..12u32 {
            let said = say(&mut dice, 0.5 + 0.4 * f64::from(n) / 11.0);
            if dice.share() < 0.6 {
                world.say(&format!("honest {n}"), about, named(said));
            }
        }
        let wrong = say(&mut dice, 0.2);
        world.say("wrong", about, named(wrong));
        for (n, dice) in copiers.iter_mut().enumerate() {
            let slips = dice.share() < slip;
            let said = if slips { another(dice, wrong) } else { wrong };
            if dice.share() < 0.9 {
                world.say(&format!("copy {n}"), about, named(said));
            }
        }
    }
    world
}

/// As `rumours`, without anybody who copies, and for 12 agents whose accuracy depends on who speaks
/// (by number), when (0 to 1) and of which topic.
pub fn rumours_by(seed: u64, accuracy: impl Fn(u64, f64, u64) -> f64) -> World {
    let mut dice = Dice::new(seed);
    let mut world = World::default();
    for question in 0..180 {
        let kind = question % 3;
        let (name, values) = [("colour", 10), ("is_open", 2), ("weight", 10)][kind as usize];
        let named = |n: u64| match name {
            "weight" => Value::number(100.0 + 7.0 * n as f64, None).unwrap(),
            _ => value(values, n),
        };
        let another = |dice: &mut Dice, n: u64| (n + 1 + dice.below(values - 1)) % values;
        let subject = format!("item {}", question / 3);
        let about = (name, subject.as_str());
        let truth = dice.below(values);
        let rumour = another(&mut dice, truth);
        world.is(about, named(truth));
        for n in 0..12 {
            let said = match dice.share() {
                share if share < accuracy(n, question as f64 / 180.0, kind) => truth,
                _ if dice.share() < 0.5 => rumour,
                _ => another(&mut dice, truth),
            };
            if dice.share() < 0.6 {
                world.say(&format!("agent {n}"), about, named(said));
            }
        }
    }
    world
}

/// Each agent is right in 90 of a hundred cases on one topic, in 35 on the two others.
pub fn specialists(seed: u64) -> World {
    rumours_by(seed, |agent, _, topic| if agent % 3 == topic { 0.9 } else { 0.35 })
}

/// In the middle of the time a third of the agents becomes bad, a third good.
pub fn turncoats(seed: u64) -> World {
    rumours_by(seed, |agent, time, _| match agent % 3 {
        0 if time < 0.5 => 0.9,
        1 if time >= 0.5 => 0.9,
        2 => 0.625,
        _ => 0.35,
    })
}

/// Each of 15 agents knows one of three topics well and the others badly.
pub fn topic_skill(seed: u64) -> World {
    let mut dice = Dice::new(seed);
    let mut world = World::default();
    for (t, name) in ["north", "south", "west"].iter().enumerate() {
        for question in 0..100 {
            let subject = format!("question {question}");
            let truth = dice.below(6);
            world.is((name, &subject), value(6, truth));
            for n in 0..15 {
                if dice.share() < 0.7 {
                    let accuracy = if n % 3 == t { 0.9 } else { 0.35 };
                    let said = answer(&mut dice, accuracy, truth, 6);
                    world.say(&format!("agent {n}"), (name, &subject), value(6, said));
                }
            }
        }
    }
    world
}

/// Half of 14 agents are right nine times in ten in the first half of the time and one time in
/// three in the second; the other half the other way round. Truth is asked for at the end.
pub fn drift(seed: u64) -> World {
    let mut dice = Dice::new(seed);
    let mut world = World::default();
    for question in 0..300 {
        let subject = format!("question {question:03}");
        let truth = dice.below(5);
        if question >= 150 {
            world.is(("answer", &subject), value(5, truth));
        }
        for n in 0..14 {
            if dice.share() < 0.7 {
                let good = (n % 2 == 0) == (question < 150);
                let said = answer(&mut dice, if good { 0.9 } else { 0.35 }, truth, 5);
                world.say(&format!("agent {n}"), ("answer", &subject), value(5, said));
            }
        }
    }
    world
}

/// Meters with errors of different spread, some of them with gross errors.
pub fn numbers(seed: u64) -> World {
    let mut dice = Dice::new(seed);
    let mut world = World::default();
    world.tolerances.insert(topic("level"), Tolerance { absolute: Some(5.0), relative: None });
    for question in 0..150 {
        let subject = format!("place {question}");
        let truth = (dice.share() * 1000.0).round();
        let measured = |at: f64| Value::number(at.round(), None).unwrap();
        world.is(("level", &subject), measured(truth));
        for n in 0..12u32 {
            let spread = 1.0 + f64::from(n) * 2.0;
            let error = (0..6).map(|_| dice.share() - 0.5).sum::<f64>() * spread * 2.0;
            let gross = if dice.below(24) < u64::from(n) { 60.0 } else { 0.0 };
            world.say(&format!("meter {n}"), ("level", &subject), measured(truth + error + gross));
        }
    }
    world
}

/// Many agents with two claims each: nothing can be learned here.
pub fn thin(seed: u64) -> World {
    let mut dice = Dice::new(seed);
    let mut world = World::default();
    for question in 0..150u64 {
        let subject = format!("question {question}");
        let truth = dice.below(4);
        world.is(("answer", &subject), value(4, truth));
        for n in 0..5 {
            let who = (question * 5 + n * 151) % 375;
            let said = answer(&mut dice, 0.65, truth, 4);
            world.say(&format!("agent {who}"), ("answer", &subject), value(4, said));
        }
    }
    world
}
