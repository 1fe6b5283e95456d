//! Made-up worlds: what is true, who is there, and what happens, wave after wave.
//!
//! A world is a pure function of its kind and [`Spec`]. Everything is drawn by purpose, so a wave
//! adds to the world before it and changes nothing in it: the honest say the same whether nobody
//! copies or a thousand do.

use std::collections::BTreeMap;
use std::sync::Arc;

use stemedb_model::Value;

use super::dice::Dice;

/// What a world is made to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Agents, each a voice of its own, repeat what one says that is mostly wrong.
    Copies,
    /// The same, all run by one operator, who is one voice.
    OneOperator,
    /// Fresh keys, each a registered agent, say one false thing once and never speak again.
    Sybils,
    /// The same keys, registered by nobody: they are the voice of whoever sends them.
    Unregistered,
    /// Fresh keys repeat the same false things about everything that is attacked.
    Ring,
    /// Agents become better or worse in the middle of the time.
    Drift,
    /// Each agent knows one topic well and the others badly.
    Topics,
    /// Agents take back half of what they got wrong, and a wrong report that many rest on is
    /// withdrawn.
    Retractions,
}

/// The measures of a world.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The same seed and measures give the same world.
    pub seed: u64,
    /// Questions, over all topics.
    pub questions: u32,
    /// Agents that say what they believe.
    pub agents: u32,
    /// How many copies there are, wave by wave; ascending.
    pub copies: Vec<u32>,
    /// How many sybils there are for each question that is attacked, wave by wave; ascending.
    pub sybils: Vec<u32>,
    /// Share of what a copy says that it changes.
    pub slip: f64,
    /// Share of the questions whose answer is in the log as gold.
    pub known: f64,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// The registrar takes an agent in.
    Register { agent: Arc<str>, operator: Option<Arc<str>> },
    /// An agent claims something; `source` is its own word if it names none.
    Say { agent: Arc<str>, about: Question, value: u32, source: Option<Arc<str>> },
    /// An agent takes back what it said.
    TakeBack { agent: Arc<str>, about: Question },
    /// The registrar takes back a source.
    Withdraw { source: Arc<str> },
    /// The registrar tells what is true.
    Gold { about: Question, value: u32 },
}

/// A key, by numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Question {
    pub(super) topic: u32,
    pub(super) item: u32,
}

/// What is added before answers are looked at again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wave {
    /// Copies, or sybils for each attacked question; in `Retractions` 1 once things are taken back.
    pub(super) amount: u32,
    pub(super) acts: Vec<Act>,
}

/// A world, ready to happen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct World {
    pub(super) kind: Kind,
    /// What is asked for, and what is true.
    pub(super) truth: BTreeMap<Question, u32>,
    pub(super) waves: Vec<Wave>,
}

/// A topic of each kind of value.
pub(super) const TOPICS: [&str; 3] = ["colour", "is_open", "weight"];
/// How many values a question of the topic could have.
const VALUES: [u32; 3] = [10, 2, 10];
/// How many of those who are wrong fall for the one falsehood that is told most.
const RUMOUR: f64 = 0.5;
/// How many questions of the time an agent answers.
const ANSWERS: f64 = 0.6;
/// Accuracies of the honest, spread evenly.
const HONEST: (f64, f64) = (0.5, 0.9);
/// Accuracy of the agent that is copied.
const WRONG: f64 = 0.2;
/// How much of it a copy repeats.
const REPEATS: f64 = 0.9;
/// Skill where it is there, and where it is not.
const SKILL: (f64, f64) = (0.9, 0.35);
/// One question in so many is attacked by sybils.
const ATTACKED: u32 = 5;

impl Kind {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Copies,
        Self::OneOperator,
        Self::Sybils,
        Self::Unregistered,
        Self::Ring,
        Self::Drift,
        Self::Topics,
        Self::Retractions,
    ];

    /// Its name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copies => "copies",
            Self::OneOperator => "one-operator",
            Self::Sybils => "sybils",
            Self::Unregistered => "unregistered",
            Self::Ring => "ring",
            Self::Drift => "drift",
            Self::Topics => "topics",
            Self::Retractions => "retractions",
        }
    }
}

impl Question {
    /// The name of its item.
    pub(super) fn subject(self) -> String {
        format!("item-{:05}", self.item)
    }

    /// The name of its topic.
    pub(super) fn predicate(self) -> &'static str {
        TOPICS.get(self.topic as usize).copied().unwrap_or("colour")
    }

    fn values(self) -> u32 {
        VALUES.get(self.topic as usize).copied().unwrap_or(2)
    }

    /// The value with this number.
    pub(super) fn value(self, number: u32) -> Value {
        match self.predicate() {
            "is_open" => Value::Boolean(number == 1),
            "weight" => Value::Number { value: 100.0 + 7.0 * f64::from(number), unit: None },
            _ => Value::Text(format!("colour {number}").into()),
        }
    }
}

impl World {
    pub(super) fn new(kind: Kind, spec: &Spec) -> Self {
        let maker = Maker::new(spec);
        let mut world = match kind {
            Kind::Copies => maker.copies(kind, None),
            Kind::OneOperator => maker.copies(kind, Some("one hand".into())),
            Kind::Sybils | Kind::Unregistered | Kind::Ring => maker.attacked(kind),
            Kind::Drift => maker.drift(),
            Kind::Topics => maker.topics(),
            Kind::Retractions => maker.retractions(),
        };
        maker.tell(&mut world);
        world
    }

    /// Claims up to and with this wave.
    pub(super) fn claims(&self, wave: usize) -> u64 {
        let acts = self.waves.iter().take(wave + 1).flat_map(|wave| &wave.acts);
        acts.filter(|act| matches!(act, Act::Say { .. })).count() as u64
    }
}

/// Draws worlds.
struct Maker<'a> {
    spec: &'a Spec,
    /// In the order of time: what is true, and which falsehood is told most.
    facts: Vec<(Question, u32, u32)>,
}

impl<'a> Maker<'a> {
    fn new(spec: &'a Spec) -> Self {
        let dice = Dice::new(spec.seed, "facts");
        let topics = TOPICS.len() as u32;
        let facts = (0..spec.questions).map(|n| {
            let about = Question { topic: n % topics, item: n / topics };
            let truth = dice.below(about.values().into()) as u32;
            (about, truth, another(&dice, about, truth))
        });
        Self { spec, facts: facts.collect() }
    }

    fn truth(&self) -> BTreeMap<Question, u32> {
        self.facts.iter().map(|(about, truth, _)| (*about, *truth)).collect()
    }

    /// What somebody of this accuracy says.
    fn answer(&self, dice: &Dice, accuracy: f64, fact: &(Question, u32, u32)) -> u32 {
        let (about, truth, rumour) = *fact;
        if dice.chance(accuracy) {
            truth
        } else if dice.chance(RUMOUR) {
            rumour
        } else {
            another(dice, about, truth)
        }
    }

    /// Agents that answer a part of the questions with these accuracies, each by the number of the
    /// agent, the question's place in time, 0 to 1, and the question.
    fn speak(&self, accuracy: impl Fn(u32, f64, Question) -> f64) -> Vec<Act> {
        let names: Vec<Arc<str>> =
            (0..self.spec.agents).map(|n| format!("agent {n:03}").into()).collect();
        let register = |agent: &Arc<str>| Act::Register { agent: agent.clone(), operator: None };
        let mut acts: Vec<Act> = names.iter().map(register).collect();
        let dice = Dice::new(self.spec.seed, "agents");
        for (n, fact) in self.facts.iter().enumerate() {
            let time = n as f64 / self.facts.len() as f64;
            for (agent, name) in (0..).zip(&names) {
                let value = self.answer(&dice, accuracy(agent, time, fact.0), fact);
                if dice.chance(ANSWERS) {
                    acts.push(said(name, fact.0, value));
                }
            }
        }
        acts
    }

    /// Agents of even spread from bad to good.
    fn honest(&self) -> Vec<Act> {
        let last = f64::from(self.spec.agents.saturating_sub(1).max(1));
        let spread = HONEST.1 - HONEST.0;
        self.speak(|agent, _, _| HONEST.0 + spread * f64::from(agent) / last)
    }

    fn copies(&self, kind: Kind, operator: Option<Arc<str>>) -> World {
        let mut acts = self.honest();
        let dice = Dice::new(self.spec.seed, "wrong");
        let original: Vec<(Question, u32)> =
            self.facts.iter().map(|fact| (fact.0, self.answer(&dice, WRONG, fact))).collect();
        let wrong: Arc<str> = "wrong".into();
        acts.push(Act::Register { agent: wrong.clone(), operator: operator.clone() });
        acts.extend(original.iter().map(|(about, value)| said(&wrong, *about, *value)));
        let mut before = 0;
        let mut waves = Vec::new();
        for amount in &self.spec.copies {
            for copy in before..*amount {
                let dice = Dice::new(self.spec.seed, &format!("copy {copy}"));
                let agent: Arc<str> = format!("copy {copy:05}").into();
                acts.push(Act::Register { agent: agent.clone(), operator: operator.clone() });
                for (about, value) in &original {
                    let slips = dice.chance(self.spec.slip);
                    let value = if slips { another(&dice, *about, *value) } else { *value };
                    if dice.chance(REPEATS) {
                        acts.push(said(&agent, *about, value));
                    }
                }
            }
            before = before.max(*amount);
            waves.push(Wave { amount: *amount, acts: std::mem::take(&mut acts) });
        }
        World { kind, truth: self.truth(), waves }
    }

    /// Only what is attacked is asked for.
    fn attacked(&self, kind: Kind) -> World {
        let mut acts = self.honest();
        let targets: Vec<&(Question, u32, u32)> =
            self.facts.iter().filter(|fact| fact.0.item % ATTACKED == 0).collect();
        let mut before = 0;
        let mut waves = Vec::new();
        for amount in &self.spec.sybils {
            for sybil in before..*amount {
                let ring: Arc<str> = format!("ring {sybil:05}").into();
                if kind == Kind::Ring {
                    acts.push(Act::Register { agent: ring.clone(), operator: None });
                }
                for (about, _, rumour) in &targets {
                    let agent: Arc<str> = match kind {
                        Kind::Ring => ring.clone(),
                        _ => format!("sybil {sybil:05} {} {}", about.topic, about.item).into(),
                    };
                    if kind == Kind::Sybils {
                        acts.push(Act::Register { agent: agent.clone(), operator: None });
                    }
                    acts.push(said(&agent, *about, *rumour));
                }
            }
            before = before.max(*amount);
            waves.push(Wave { amount: *amount, acts: std::mem::take(&mut acts) });
        }
        let truth = targets.iter().map(|(about, truth, _)| (*about, *truth)).collect();
        World { kind, truth, waves }
    }

    /// A third becomes worse, a third better, a third stays.
    fn drift(&self) -> World {
        let acts = self.speak(|agent, time, _| match agent % 3 {
            0 if time < 0.5 => SKILL.0,
            1 if time >= 0.5 => SKILL.0,
            2 => 0.5 * (SKILL.0 + SKILL.1),
            _ => SKILL.1,
        });
        World { kind: Kind::Drift, truth: self.truth(), waves: vec![Wave { amount: 0, acts }] }
    }

    fn topics(&self) -> World {
        let topics = TOPICS.len() as u32;
        let knows = |agent: u32, about: Question| agent % topics == about.topic;
        let acts =
            self.speak(|agent, _, about| if knows(agent, about) { SKILL.0 } else { SKILL.1 });
        World { kind: Kind::Topics, truth: self.truth(), waves: vec![Wave { amount: 0, acts }] }
    }

    fn retractions(&self) -> World {
        let mut acts = self.honest();
        // A report that is mostly wrong, and readers who each pass on a part of it; the readers are
        // agents of their own, but what they say rests on it.
        let report: Arc<str> = "https://example.org/report".into();
        let dice = Dice::new(self.spec.seed, "report");
        let original: Vec<(Question, u32)> =
            self.facts.iter().map(|fact| (fact.0, self.answer(&dice, WRONG, fact))).collect();
        for reader in 0..self.spec.agents {
            let agent: Arc<str> = format!("reader {reader:03}").into();
            acts.push(Act::Register { agent: agent.clone(), operator: None });
            for (about, value) in &original {
                if dice.chance(0.5) {
                    // Some name their source, some do not.
                    let source = dice.chance(0.5).then(|| report.clone());
                    let (agent, about) = (agent.clone(), *about);
                    acts.push(Act::Say { agent, about, value: *value, source });
                }
            }
        }
        let truth = self.truth();
        let dice = Dice::new(self.spec.seed, "retractions");
        let mut later: Vec<Act> = acts
            .iter()
            .filter_map(|act| match act {
                Act::Say { agent, about, value, source: None }
                    if truth.get(about) != Some(value) && dice.chance(0.5) =>
                {
                    Some(Act::TakeBack { agent: agent.clone(), about: *about })
                }
                _ => None,
            })
            .collect();
        later.push(Act::Withdraw { source: report });
        let waves = vec![Wave { amount: 0, acts }, Wave { amount: 1, acts: later }];
        World { kind: Kind::Retractions, truth, waves }
    }

    /// Tells the truth about some questions, which are then asked for no more.
    fn tell(&self, world: &mut World) {
        let dice = Dice::new(self.spec.seed, "gold");
        for (about, truth, _) in &self.facts {
            if dice.chance(self.spec.known) {
                world.truth.remove(about);
                if let Some(first) = world.waves.first_mut() {
                    first.acts.push(Act::Gold { about: *about, value: *truth });
                }
            }
        }
    }
}

fn said(agent: &Arc<str>, about: Question, value: u32) -> Act {
    Act::Say { agent: agent.clone(), about, value, source: None }
}

/// Any value but this one.
fn another(dice: &Dice, about: Question, value: u32) -> u32 {
    let values = about.values();
    (value + 1 + dice.below(u64::from(values.saturating_sub(1))) as u32) % values
}
