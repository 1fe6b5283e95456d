//! From a syntax tree to one that can be run: names resolved, types checked, functions allowed.
//!
//! The types are those of CEL: `int` and `double` do not mix, and no text becomes a number. What is
//! refused here need not be expected when a claim is weighed.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use stemedb_model::{AgentId, Hash, SourceKey};

use super::inputs::{self, INPUTS, Input};
use super::parse::{parse, shown};

/// Types of expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Int,
    Double,
    Text,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::Text => "string",
        }
    }
}

/// `+ - * / %` of two numbers of one type; `%` of integers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Math {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    AtMost,
    Equal,
    Unequal,
    AtLeast,
    More,
}

/// Where one text is looked for in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    Within,
    AtStart,
    AtEnd,
}

/// Functions of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    ToInt,
    ToDouble,
    Abs,
    Exp2,
    Log2,
}

/// A typed expression. There is nothing in it that repeats.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Box<str>),
    Input(Input),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    If(Box<[Node; 3]>),
    Math(Math, Box<[Node; 2]>),
    Compare(Order, Box<[Node; 2]>),
    Among(Box<Node>, Vec<Node>),
    Search(Search, Box<[Node; 2]>),
    Size(Box<Node>),
    Call(Function, Box<Node>),
    Least(Box<[Node; 2]>),
    Most(Box<[Node; 2]>),
    /// The claim is by the agent of this number among [`Uses::agents`].
    By(usize),
    /// It names the source of this number among [`Uses::sources`].
    From(usize),
}

/// The outside of a weight: what is worked out in fixed point.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mass {
    /// No say.
    Null,
    Value(Node),
    /// A number that does not fade.
    Steady(Node),
    If(Node, Box<[Mass; 2]>),
    Negate(Box<Mass>),
    Add(Box<[Mass; 2]>),
    Subtract(Box<[Mass; 2]>),
    Multiply(Box<Mass>, Node),
}

/// What an expression asks for that has to be got ready.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Uses {
    /// Learned reliabilities.
    pub(crate) trust: bool,
    /// Votes on claims or values.
    pub(crate) votes: bool,
    pub(crate) agents: Vec<AgentId>,
    pub(crate) sources: Vec<SourceKey>,
}

#[derive(Debug, Clone)]
pub(crate) struct Compiled<T> {
    pub(crate) root: T,
    pub(crate) uses: Uses,
}

/// An expression that is true or false of a claim.
pub(super) fn filter(text: &str) -> Result<Compiled<Node>, String> {
    let parsed = parse(text)?;
    let mut compiler = Compiler { uses: Uses::default(), in_filter: true };
    match compiler.value(&parsed)? {
        (root, Type::Bool) => Ok(Compiled { root, uses: compiler.uses }),
        (_, other) => {
            let (shown, other) = (shown(&parsed), other.name());
            Err(format!("{shown} is of type {other}, expected bool: compare it with something"))
        }
    }
}

/// An expression that is a number for a claim, or null.
pub(super) fn weight(text: &str) -> Result<Compiled<Mass>, String> {
    let parsed = parse(text)?;
    let mut compiler = Compiler { uses: Uses::default(), in_filter: false };
    let (root, _) = compiler.mass(&parsed, true)?;
    Ok(Compiled { root, uses: compiler.uses })
}

struct Compiler {
    uses: Uses,
    in_filter: bool,
}

type Typed = Result<(Node, Type), String>;

impl Compiler {
    /// The outside of a weight; `None`: of any type, since it is null. `top` allows null.
    fn mass(&mut self, expr: &IdedExpr, top: bool) -> Result<(Mass, Option<Type>), String> {
        match &expr.expr {
            Expr::Literal(LiteralValue::Null) if top => return Ok((Mass::Null, None)),
            Expr::Call(call) => {
                if let Some(mass) = self.mass_of_call(expr, call, top)? {
                    return Ok(mass);
                }
            }
            _ => {}
        }
        match self.value(expr)? {
            (value, kind @ (Type::Int | Type::Double)) => Ok((Mass::Value(value), Some(kind))),
            (_, other) => {
                let (shown, other) = (shown(expr), other.name());
                let remedy = "write what it weighs, as in `claim.tier < 2 ? 1.0 : 0.5`";
                Err(format!("{shown} is of type {other}, expected a number: {remedy}"))
            }
        }
    }

    fn mass_of_call(
        &mut self,
        expr: &IdedExpr,
        call: &CallExpr,
        top: bool,
    ) -> Result<Option<(Mass, Option<Type>)>, String> {
        let mismatch = |left: Option<Type>, right: Option<Type>| match (left, right) {
            (Some(left), Some(right)) if left != right => Some(mixed(expr, left, right)),
            _ => None,
        };
        let pair = |left, right| Box::new([left, right]);
        let found = match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::CONDITIONAL, [when, then, other]) => {
                let when = self.condition(when)?;
                let (then, left) = self.mass(then, top)?;
                let (other, right) = self.mass(other, top)?;
                if let Some(mixed) = mismatch(left, right) {
                    return Err(mixed);
                }
                (Mass::If(when, pair(then, other)), left.or(right))
            }
            ("steady", [one]) if call.target.is_none() => {
                let (one, kind) = self.number(one)?;
                (Mass::Steady(one), Some(kind))
            }
            (operators::NEGATE, [one]) => {
                let (mass, kind) = self.mass(one, false)?;
                (Mass::Negate(Box::new(mass)), kind)
            }
            (sign @ (operators::ADD | operators::SUBSTRACT), [left, right]) => {
                let (left, one) = self.mass(left, false)?;
                let (right, other) = self.mass(right, false)?;
                if let Some(mixed) = mismatch(one, other) {
                    return Err(mixed);
                }
                let mass = match sign {
                    operators::ADD => Mass::Add(pair(left, right)),
                    _ => Mass::Subtract(pair(left, right)),
                };
                (mass, one)
            }
            (operators::MULTIPLY, [left, right]) => {
                let (left, one) = self.mass(left, false)?;
                let (right, other) = self.number(right)?;
                if let Some(mixed) = mismatch(one, Some(other)) {
                    return Err(mixed);
                }
                (Mass::Multiply(Box::new(left), right), one)
            }
            _ => return Ok(None),
        };
        Ok(Some(found))
    }

    fn value(&mut self, expr: &IdedExpr) -> Typed {
        match &expr.expr {
            Expr::Literal(literal) => literal_value(expr, literal),
            Expr::Ident(_) | Expr::Select(_) => self.input(expr),
            Expr::Call(call) => self.call(expr, call),
            Expr::Comprehension(_) => Err(format!(
                "{} repeats something; macros are not allowed: write what is meant for one claim",
                shown(expr)
            )),
            Expr::List(_) => Err(format!("{}: a list stands only behind `in`", shown(expr))),
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err(format!("{}: maps and messages are not allowed", shown(expr)))
            }
        }
    }

    fn input(&mut self, expr: &IdedExpr) -> Typed {
        let name = name_of(expr).ok_or_else(|| {
            format!("{}: only `claim`, `value` and `question` have fields", shown(expr))
        })?;
        let Some(input) = inputs::find(&name) else {
            let scope = name.split('.').next().filter(|scope| name.len() > scope.len());
            let scope = scope.filter(|scope| ["value", "question"].contains(scope));
            let scope = scope.unwrap_or("claim");
            let of_scope = INPUTS.iter().filter_map(|input| input.name.strip_prefix(scope));
            let known: Vec<&str> = of_scope.filter_map(|name| name.strip_prefix('.')).collect();
            let known = known.join(", ");
            return Err(format!("`{name}` is no input; of `{scope}` there are {known}"));
        };
        if self.in_filter && !input.in_filter {
            let name = input.name;
            return Err(format!(
                "`{name}` depends on which claims pass the filter, so a filter cannot ask for it; \
                 a weight can, and `null` gives a claim no say"
            ));
        }
        match input.input {
            Input::Reliability => self.uses.trust = true,
            Input::ValueVotes => (self.uses.trust, self.uses.votes) = (true, true),
            Input::VotesFor | Input::VotesAgainst | Input::Voters => self.uses.votes = true,
            _ => {}
        }
        Ok((Node::Input(input.input), input.kind()))
    }

    fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Typed {
        if let Some(target) = &call.target {
            return self.method(expr, call, target);
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, [one]) => {
                Ok((Node::Not(Box::new(self.condition(one)?)), Type::Bool))
            }
            (operators::LOGICAL_AND, [left, right]) => {
                let both = Box::new([self.condition(left)?, self.condition(right)?]);
                Ok((Node::And(both), Type::Bool))
            }
            (operators::LOGICAL_OR, [left, right]) => {
                let both = Box::new([self.condition(left)?, self.condition(right)?]);
                Ok((Node::Or(both), Type::Bool))
            }
            (operators::CONDITIONAL, [when, then, other]) => {
                let when = self.condition(when)?;
                let (branches, kind) = self.same(expr, then, other)?;
                let [then, other] = *branches;
                Ok((Node::If(Box::new([when, then, other])), kind))
            }
            (operators::IN, [one, list]) => self.among(expr, one, list),
            (operators::NEGATE, [one]) => {
                let (one, kind) = self.number(one)?;
                Ok((Node::Negate(Box::new(one)), kind))
            }
            (name, [left, right]) => {
                if let Some(order) = order(name) {
                    let (both, _) = self.same(expr, left, right)?;
                    return Ok((Node::Compare(order, both), Type::Bool));
                }
                if let Some(math) = math(name) {
                    let (both, kind) = self.numbers(expr, left, right)?;
                    if math == Math::Remainder && kind == Type::Double {
                        return Err(format!("{}: `%` is of int only", shown(expr)));
                    }
                    return Ok((Node::Math(math, both), kind));
                }
                match name {
                    "min" => {
                        let (both, kind) = self.numbers(expr, left, right)?;
                        Ok((Node::Least(both), kind))
                    }
                    "max" => {
                        let (both, kind) = self.numbers(expr, left, right)?;
                        Ok((Node::Most(both), kind))
                    }
                    _ => Err(no_function(expr)),
                }
            }
            (name, [one]) => self.function(expr, name, one),
            _ => Err(no_function(expr)),
        }
    }

    fn function(&mut self, expr: &IdedExpr, name: &str, one: &IdedExpr) -> Typed {
        let function = match name {
            "int" => Function::ToInt,
            "double" => Function::ToDouble,
            "abs" => Function::Abs,
            "exp2" => Function::Exp2,
            "log2" => Function::Log2,
            "size" => {
                return match self.value(one)? {
                    (text, Type::Text) => Ok((Node::Size(Box::new(text)), Type::Int)),
                    (_, other) => Err(wants(one, other, "string")),
                };
            }
            "by" => return self.by(one),
            "from" => return self.from(one),
            "steady" => {
                let problem = "`steady` stands only where a weight is added up: not inside a \
                               function, a comparison or the second factor of a product";
                return Err(format!("{}: {problem}", shown(expr)));
            }
            _ => return Err(no_function(expr)),
        };
        let (value, kind) = self.number(one)?;
        let kind = match function {
            Function::ToInt => Type::Int,
            Function::ToDouble => Type::Double,
            Function::Abs => kind,
            Function::Exp2 | Function::Log2 if kind == Type::Double => kind,
            Function::Exp2 | Function::Log2 => return Err(wants(one, kind, "double")),
        };
        Ok((Node::Call(function, Box::new(value)), kind))
    }

    fn by(&mut self, one: &IdedExpr) -> Typed {
        let agent = text_literal(one).and_then(|text| text.parse::<AgentId>().ok());
        let Some(agent) = agent else {
            return Err(format!(
                "{}: `by` takes a public key in quotes, 64 hex digits",
                shown(one)
            ));
        };
        self.uses.agents.push(agent);
        Ok((Node::By(self.uses.agents.len() - 1), Type::Bool))
    }

    fn from(&mut self, one: &IdedExpr) -> Typed {
        let Some(text) = text_literal(one) else {
            let remedy = "`from` takes a source in quotes, a URI or the 64 hex digits of a hash";
            return Err(format!("{}: {remedy}", shown(one)));
        };
        let source = match text.parse::<Hash>() {
            Ok(hash) => SourceKey::Evidence(hash),
            Err(_) => SourceKey::Uri(text.into()),
        };
        source.check("source").map_err(|error| format!("{}: {}", shown(one), error.problem))?;
        self.uses.sources.push(source);
        Ok((Node::From(self.uses.sources.len() - 1), Type::Bool))
    }

    fn method(&mut self, expr: &IdedExpr, call: &CallExpr, target: &IdedExpr) -> Typed {
        let search = match call.func_name.as_str() {
            "contains" => Search::Within,
            "startsWith" => Search::AtStart,
            "endsWith" => Search::AtEnd,
            _ => return Err(no_function(expr)),
        };
        let [what] = call.args.as_slice() else { return Err(no_function(expr)) };
        let mut text = |one: &IdedExpr| match self.value(one)? {
            (text, Type::Text) => Ok(text),
            (_, other) => Err(wants(one, other, "string")),
        };
        Ok((Node::Search(search, Box::new([text(target)?, text(what)?])), Type::Bool))
    }

    fn among(&mut self, expr: &IdedExpr, one: &IdedExpr, list: &IdedExpr) -> Typed {
        let Expr::List(list) = &list.expr else {
            return Err(format!("{}: behind `in` stands a list, as in `[0, 1]`", shown(expr)));
        };
        let (one, kind) = self.value(one)?;
        let mut elements = Vec::with_capacity(list.elements.len());
        for element in &list.elements {
            match self.value(element)? {
                (element, of) if of == kind => elements.push(element),
                (_, of) => return Err(mixed(expr, kind, of)),
            }
        }
        Ok((Node::Among(Box::new(one), elements), Type::Bool))
    }

    fn condition(&mut self, expr: &IdedExpr) -> Result<Node, String> {
        match self.value(expr)? {
            (node, Type::Bool) => Ok(node),
            (_, other) => Err(wants(expr, other, "bool")),
        }
    }

    fn number(&mut self, expr: &IdedExpr) -> Typed {
        match self.value(expr)? {
            (node, kind @ (Type::Int | Type::Double)) => Ok((node, kind)),
            (_, other) => Err(wants(expr, other, "a number")),
        }
    }

    fn numbers(
        &mut self,
        expr: &IdedExpr,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<(Box<[Node; 2]>, Type), String> {
        match self.same(expr, left, right)? {
            (both, kind @ (Type::Int | Type::Double)) => Ok((both, kind)),
            (_, other) => Err(wants(left, other, "a number")),
        }
    }

    fn same(
        &mut self,
        expr: &IdedExpr,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<(Box<[Node; 2]>, Type), String> {
        let (left, kind) = self.value(left)?;
        let (right, other) = self.value(right)?;
        if kind != other {
            return Err(mixed(expr, kind, other));
        }
        Ok((Box::new([left, right]), kind))
    }
}

fn literal_value(expr: &IdedExpr, literal: &LiteralValue) -> Typed {
    match literal {
        LiteralValue::Boolean(value) => Ok((Node::Bool(*value.inner()), Type::Bool)),
        LiteralValue::Int(value) => Ok((Node::Int(*value.inner()), Type::Int)),
        LiteralValue::Double(value) => Ok((Node::Double(*value.inner()), Type::Double)),
        LiteralValue::String(value) => Ok((Node::Text(value.inner().into()), Type::Text)),
        LiteralValue::Null => {
            Err("`null` stands only for a whole weight, or as a branch of one".into())
        }
        LiteralValue::UInt(_) | LiteralValue::Bytes(_) => {
            Err(format!("{}: write an int, a double or a string", shown(expr)))
        }
    }
}

fn text_literal(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// The dotted name that an expression is.
fn name_of(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => {
            Some(format!("{}.{}", name_of(&select.operand)?, select.field))
        }
        _ => None,
    }
}

fn order(name: &str) -> Option<Order> {
    Some(match name {
        operators::LESS => Order::Less,
        operators::LESS_EQUALS => Order::AtMost,
        operators::EQUALS => Order::Equal,
        operators::NOT_EQUALS => Order::Unequal,
        operators::GREATER_EQUALS => Order::AtLeast,
        operators::GREATER => Order::More,
        _ => return None,
    })
}

fn math(name: &str) -> Option<Math> {
    Some(match name {
        operators::ADD => Math::Add,
        operators::SUBSTRACT => Math::Subtract,
        operators::MULTIPLY => Math::Multiply,
        operators::DIVIDE => Math::Divide,
        operators::MODULO => Math::Remainder,
        _ => return None,
    })
}

fn mixed(expr: &IdedExpr, left: Type, right: Type) -> String {
    let remedy = match (left, right) {
        (Type::Int, Type::Double) | (Type::Double, Type::Int) => {
            "write 2.0 for a double, 2 for an int, or convert with double() or int()"
        }
        _ => "both must be of one type",
    };
    let (left, right) = (left.name(), right.name());
    format!("{}: {left} beside {right}; {remedy}", shown(expr))
}

fn wants(expr: &IdedExpr, found: Type, expected: &str) -> String {
    format!("{} is of type {}, expected {expected}", shown(expr), found.name())
}

fn no_function(expr: &IdedExpr) -> String {
    format!(
        "{}: no such function; there are int, double, abs, min, max, exp2, log2, size, by, from, \
         steady and the methods contains, startsWith, endsWith",
        shown(expr)
    )
}
