//! Running a compiled expression on one claim.

use std::cmp::Ordering;

use stemedb_model::Millis;

use super::compile::{Function, Mass, Math, Node, Order, Search};
use super::inputs::Input;
use crate::decay::{WEIGHT_BITS, Weight, fixed};

/// Steps that one expression may take for one claim: one for each part of it, and one more for each
/// 64 bytes of text that are looked at.
pub const STEPS_MAX: u32 = 4096;

/// The largest weight of a claim, and the largest factor: sums of them fit.
pub(super) const NUMBER_MAX: f64 = 1e9;
/// Fading weights are up to twice what they weigh when new.
const MANTISSA_MAX: u128 = 1_000_000_000 << (WEIGHT_BITS + 1);

/// Why an expression has no value for a claim.
pub(super) type Fault = &'static str;

const STEPS: Fault = "more than 4,096 steps";
const OVERFLOW: Fault = "an int beyond 64 bits";
const DIVISION: Fault = "an int divided by zero";
const CONVERSION: Fault = "a double that no int can hold";
const LARGE: Fault = "a number beyond 1,000,000,000";
const NOT_A_NUMBER: Fault = "not a number";
/// The compiler lets nothing through that could be told this.
const ILL_TYPED: Fault = "a value of another type";

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Datum<'a> {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(&'a str),
}

/// What an expression may ask about a claim.
pub(super) trait Facts<'a> {
    fn input(&self, input: Input) -> Datum<'a>;
    /// Whether the claim is by this agent, and from this source, of those that the expression names.
    fn by(&self, agent: usize) -> bool;
    fn from(&self, source: usize) -> bool;
}

/// A part of what a claim weighs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    pub(crate) negative: bool,
    pub(crate) weight: Weight,
}

/// When a claim was made, and how it fades.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fading {
    pub(super) time: Millis,
    pub(super) half_life: Option<u64>,
}

/// Whether a filter keeps a claim.
pub(super) fn keeps<'a>(filter: &'a Node, facts: &dyn Facts<'a>) -> Result<bool, Fault> {
    Run { facts, steps: STEPS_MAX }.condition(filter)
}

/// What a claim weighs; `None`: it has no say.
pub(super) fn weighs<'a>(
    weight: &'a Mass,
    facts: &dyn Facts<'a>,
    fading: Fading,
) -> Result<Option<Vec<Part>>, Fault> {
    let mut parts = Vec::with_capacity(1);
    let says = Run { facts, steps: STEPS_MAX }.mass(weight, fading, &mut parts)?;
    Ok(says.then_some(parts))
}

struct Run<'f, 'a> {
    facts: &'f dyn Facts<'a>,
    steps: u32,
}

impl<'a> Run<'_, 'a> {
    fn step(&mut self, steps: u32) -> Result<(), Fault> {
        self.steps = self.steps.checked_sub(steps).ok_or(STEPS)?;
        Ok(())
    }

    fn look_at(&mut self, bytes: usize) -> Result<(), Fault> {
        self.step(u32::try_from(bytes / 64).unwrap_or(u32::MAX))
    }

    fn mass(
        &mut self,
        mass: &'a Mass,
        fading: Fading,
        parts: &mut Vec<Part>,
    ) -> Result<bool, Fault> {
        self.step(1)?;
        match mass {
            Mass::Null => return Ok(false),
            Mass::Value(node) => {
                let number = self.number(node)?;
                parts.push(part(number, fading)?);
            }
            Mass::Steady(node) => {
                let number = self.number(node)?;
                parts.push(part(number, Fading { half_life: None, ..fading })?);
            }
            Mass::If(when, branches) => {
                let [then, other] = &**branches;
                let branch = if self.condition(when)? { then } else { other };
                return self.mass(branch, fading, parts);
            }
            Mass::Negate(one) => {
                let from = parts.len();
                self.mass(one, fading, parts)?;
                self.turn(parts, from)?;
            }
            Mass::Add(both) => {
                let [left, right] = &**both;
                self.mass(left, fading, parts)?;
                self.mass(right, fading, parts)?;
            }
            Mass::Subtract(both) => {
                let [left, right] = &**both;
                self.mass(left, fading, parts)?;
                let from = parts.len();
                self.mass(right, fading, parts)?;
                self.turn(parts, from)?;
            }
            Mass::Multiply(one, factor) => {
                let from = parts.len();
                self.mass(one, fading, parts)?;
                let factor = bounded(self.number(factor)?)?;
                let times = fixed(factor.abs());
                for part in parts.iter_mut().skip(from) {
                    self.step(1)?;
                    let product = u128::from(part.weight.mantissa()) * u128::from(times);
                    if product >> WEIGHT_BITS > MANTISSA_MAX {
                        return Err(LARGE);
                    }
                    part.weight = part.weight.scaled(times);
                    part.negative ^= factor < 0.0;
                }
            }
        }
        Ok(true)
    }

    fn turn(&mut self, parts: &mut [Part], from: usize) -> Result<(), Fault> {
        for part in parts.iter_mut().skip(from) {
            self.step(1)?;
            part.negative = !part.negative;
        }
        Ok(())
    }

    fn condition(&mut self, node: &'a Node) -> Result<bool, Fault> {
        match self.value(node)? {
            Datum::Bool(value) => Ok(value),
            _ => Err(ILL_TYPED),
        }
    }

    /// A number of either type; an int that f64 cannot hold is rounded, half to even.
    fn number(&mut self, node: &'a Node) -> Result<f64, Fault> {
        match self.value(node)? {
            Datum::Int(value) => Ok(value as f64),
            Datum::Double(value) => Ok(value),
            _ => Err(ILL_TYPED),
        }
    }

    fn text(&mut self, node: &'a Node) -> Result<&'a str, Fault> {
        match self.value(node)? {
            Datum::Text(value) => Ok(value),
            _ => Err(ILL_TYPED),
        }
    }

    fn value(&mut self, node: &'a Node) -> Result<Datum<'a>, Fault> {
        self.step(1)?;
        Ok(match node {
            Node::Bool(value) => Datum::Bool(*value),
            Node::Int(value) => Datum::Int(*value),
            Node::Double(value) => Datum::Double(*value),
            Node::Text(value) => Datum::Text(value),
            Node::Input(input) => self.facts.input(*input),
            Node::By(agent) => Datum::Bool(self.facts.by(*agent)),
            Node::From(source) => Datum::Bool(self.facts.from(*source)),
            Node::Not(one) => Datum::Bool(!self.condition(one)?),
            Node::Negate(one) => match self.value(one)? {
                Datum::Int(value) => Datum::Int(value.checked_neg().ok_or(OVERFLOW)?),
                Datum::Double(value) => Datum::Double(-value),
                _ => return Err(ILL_TYPED),
            },
            Node::And(both) => Datum::Bool(self.logic(both, false)?),
            Node::Or(both) => Datum::Bool(self.logic(both, true)?),
            Node::If(parts) => {
                let [when, then, other] = &**parts;
                let branch = if self.condition(when)? { then } else { other };
                self.value(branch)?
            }
            Node::Math(math, both) => {
                let [left, right] = &**both;
                let (left, right) = (self.value(left)?, self.value(right)?);
                calculate(*math, left, right)?
            }
            Node::Compare(order, both) => {
                let [left, right] = &**both;
                let (left, right) = (self.value(left)?, self.value(right)?);
                let found = self.compare(left, right)?;
                Datum::Bool(holds(*order, found))
            }
            Node::Among(one, list) => {
                let one = self.value(one)?;
                for element in list {
                    let element = self.value(element)?;
                    if self.compare(one, element)? == Some(Ordering::Equal) {
                        return Ok(Datum::Bool(true));
                    }
                }
                Datum::Bool(false)
            }
            Node::Search(search, both) => {
                let [text, what] = &**both;
                let (text, what) = (self.text(text)?, self.text(what)?);
                Datum::Bool(match search {
                    Search::Within => {
                        self.look_at(text.len() + what.len())?;
                        text.contains(what)
                    }
                    Search::AtStart => {
                        self.look_at(what.len())?;
                        text.starts_with(what)
                    }
                    Search::AtEnd => {
                        self.look_at(what.len())?;
                        text.ends_with(what)
                    }
                })
            }
            Node::Size(text) => {
                let text = self.text(text)?;
                self.look_at(text.len())?;
                Datum::Int(i64::try_from(text.chars().count()).unwrap_or(i64::MAX))
            }
            Node::Call(function, one) => {
                let one = self.value(one)?;
                call(*function, one)?
            }
            Node::Least(both) => {
                let [left, right] = &**both;
                let (left, right) = (self.value(left)?, self.value(right)?);
                if self.compare(right, left)? == Some(Ordering::Less) { right } else { left }
            }
            Node::Most(both) => {
                let [left, right] = &**both;
                let (left, right) = (self.value(left)?, self.value(right)?);
                if self.compare(right, left)? == Some(Ordering::Greater) { right } else { left }
            }
        })
    }

    /// `&&` and `||`, where `wins` decides alone. As in CEL, a side without a value does not matter
    /// if the other decides.
    fn logic(&mut self, both: &'a [Node; 2], wins: bool) -> Result<bool, Fault> {
        let [left, right] = both;
        let first = self.condition(left);
        if first == Ok(wins) || first == Err(STEPS) {
            return first;
        }
        let second = self.condition(right);
        if second == Ok(wins) { second } else { first.and(second) }
    }

    fn compare(&mut self, left: Datum<'_>, right: Datum<'_>) -> Result<Option<Ordering>, Fault> {
        Ok(match (left, right) {
            (Datum::Bool(left), Datum::Bool(right)) => Some(left.cmp(&right)),
            (Datum::Int(left), Datum::Int(right)) => Some(left.cmp(&right)),
            (Datum::Double(left), Datum::Double(right)) => left.partial_cmp(&right),
            (Datum::Text(left), Datum::Text(right)) => {
                self.look_at(left.len().min(right.len()))?;
                Some(left.cmp(right))
            }
            _ => return Err(ILL_TYPED),
        })
    }
}

fn holds(order: Order, found: Option<Ordering>) -> bool {
    match order {
        Order::Less => found == Some(Ordering::Less),
        Order::AtMost => matches!(found, Some(Ordering::Less | Ordering::Equal)),
        Order::Equal => found == Some(Ordering::Equal),
        Order::Unequal => found != Some(Ordering::Equal),
        Order::AtLeast => matches!(found, Some(Ordering::Greater | Ordering::Equal)),
        Order::More => found == Some(Ordering::Greater),
    }
}

fn calculate(math: Math, left: Datum<'_>, right: Datum<'_>) -> Result<Datum<'static>, Fault> {
    match (left, right) {
        (Datum::Int(left), Datum::Int(right)) => {
            let found = match math {
                Math::Add => left.checked_add(right),
                Math::Subtract => left.checked_sub(right),
                Math::Multiply => left.checked_mul(right),
                Math::Divide | Math::Remainder if right == 0 => return Err(DIVISION),
                Math::Divide => left.checked_div(right),
                Math::Remainder => left.checked_rem(right),
            };
            found.map(Datum::Int).ok_or(OVERFLOW)
        }
        // Each is rounded once, to nearest even, on every machine.
        (Datum::Double(left), Datum::Double(right)) => Ok(Datum::Double(match math {
            Math::Add => left + right,
            Math::Subtract => left - right,
            Math::Multiply => left * right,
            Math::Divide => left / right,
            Math::Remainder => return Err(ILL_TYPED),
        })),
        _ => Err(ILL_TYPED),
    }
}

fn call(function: Function, one: Datum<'_>) -> Result<Datum<'static>, Fault> {
    Ok(match (function, one) {
        (Function::ToInt | Function::Abs, Datum::Int(value)) => match function {
            Function::Abs => Datum::Int(value.checked_abs().ok_or(OVERFLOW)?),
            _ => Datum::Int(value),
        },
        (Function::ToInt, Datum::Double(value)) => {
            let whole = value.trunc();
            // As everywhere in CEL both ends are out, though -2^63 would fit. So is NaN.
            match whole.abs() < 9_223_372_036_854_775_808.0 {
                true => Datum::Int(whole as i64),
                false => return Err(CONVERSION),
            }
        }
        (Function::ToDouble, Datum::Int(value)) => Datum::Double(value as f64),
        (Function::ToDouble, Datum::Double(value)) => Datum::Double(value),
        (Function::Abs, Datum::Double(value)) => Datum::Double(value.abs()),
        (Function::Exp2, Datum::Double(value)) => Datum::Double(libm::exp2(value)),
        (Function::Log2, Datum::Double(value)) => Datum::Double(libm::log2(value)),
        _ => return Err(ILL_TYPED),
    })
}

fn bounded(number: f64) -> Result<f64, Fault> {
    if number.is_nan() {
        return Err(NOT_A_NUMBER);
    }
    if number.abs() > NUMBER_MAX { Err(LARGE) } else { Ok(number) }
}

fn part(number: f64, fading: Fading) -> Result<Part, Fault> {
    let number = bounded(number)?;
    let weight = Weight::new(number.abs(), fading.time, fading.half_life);
    Ok(Part { negative: number < 0.0, weight })
}
