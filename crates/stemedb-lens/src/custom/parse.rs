//! From text to the syntax tree of the crate `cel`, within bounds.

use cel::common::ast::{CallExpr, Expr, IdedExpr};
use cel::parser::PrattParser;

/// How deep brackets may be nested.
pub(super) const NESTING_MAX: usize = 32;
/// Words, numbers, strings and operators of one expression.
pub(super) const TOKENS_MAX: usize = 512;

/// Parses one expression.
///
/// The parser recurses, and so does what drops the tree: the number of tokens bounds both, before it
/// is called.
pub(super) fn parse(text: &str) -> Result<IdedExpr, String> {
    check_bounds(text)?;
    // Nothing is known to panic in there; if something does, the text is refused.
    let parsed = std::panic::catch_unwind(|| {
        PrattParser::new()
            .max_recursion_depth(2 * NESTING_MAX as u16)
            .error_recovery_limit(1)
            .error_reporting_limit(1)
            .parse(text)
    });
    match parsed {
        Ok(Ok(parsed)) => Ok(parsed),
        Ok(Err(errors)) => match errors.errors.first() {
            Some(error) => Err(format!(
                "line {}, column {}: {}; expected an expression of CEL",
                error.pos.0.max(1),
                error.pos.1.max(1),
                error.msg.trim()
            )),
            None => Err("is no expression of CEL".into()),
        },
        Err(_) => Err("is no expression of CEL that can be read".into()),
    }
}

fn check_bounds(text: &str) -> Result<(), String> {
    let (mut depth, mut tokens, mut in_word) = (0usize, 0usize, false);
    for (at, byte) in text.bytes().enumerate() {
        let word = byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
        let goes_on = byte.is_ascii_whitespace() || (word && in_word);
        tokens += usize::from(!goes_on);
        in_word = word;
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            let problem = format!("byte {}: more than {NESTING_MAX} brackets are open", at + 1);
            return Err(problem + "; write it flatter");
        }
        if tokens > TOKENS_MAX {
            let problem = format!("byte {}: more than {TOKENS_MAX} words and signs", at + 1);
            return Err(problem + "; write it shorter");
        }
    }
    Ok(())
}

/// A part of an expression, for messages: short, and as one would write it.
pub(super) fn shown(expr: &IdedExpr) -> String {
    let mut text = String::new();
    show(expr, &mut text);
    if text.chars().count() > 60 {
        text = text.chars().take(57).collect::<String>() + "...";
    }
    format!("`{text}`")
}

fn show(expr: &IdedExpr, out: &mut String) {
    use cel::common::ast::LiteralValue;
    if out.len() > 240 {
        return;
    }
    match &expr.expr {
        Expr::Ident(name) => out.push_str(name),
        Expr::Select(select) => {
            show(&select.operand, out);
            out.push('.');
            out.push_str(&select.field);
        }
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(value) => out.push_str(&value.inner().to_string()),
            LiteralValue::Double(value) => out.push_str(&format!("{:?}", value.inner())),
            LiteralValue::Int(value) => out.push_str(&value.inner().to_string()),
            LiteralValue::String(value) => out.push_str(&format!("{:?}", value.inner())),
            LiteralValue::Null => out.push_str("null"),
            LiteralValue::Bytes(_) => out.push_str("b\"...\""),
            LiteralValue::UInt(_) => out.push_str("...u"),
        },
        Expr::List(list) => {
            out.push('[');
            for (index, element) in list.elements.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                show(element, out);
            }
            out.push(']');
        }
        Expr::Call(call) => show_call(call, out),
        Expr::Comprehension(_) => out.push_str("a macro"),
        Expr::Map(_) => out.push_str("{...}"),
        Expr::Struct(_) => out.push_str("a message"),
        Expr::Unspecified => out.push('?'),
    }
}

fn show_call(call: &CallExpr, out: &mut String) {
    let name = call.func_name.as_str();
    let signs: Vec<&str> = name.split('_').filter(|sign| !sign.is_empty()).collect();
    match (signs.as_slice(), call.args.as_slice()) {
        (["?", ":"], [when, then, other]) => {
            show(when, out);
            out.push_str(" ? ");
            show(then, out);
            out.push_str(" : ");
            show(other, out);
        }
        (["@in"], [left, right]) => {
            show(left, out);
            out.push_str(" in ");
            show(right, out);
        }
        ([sign], [left, right]) if name.starts_with('_') => {
            show(left, out);
            out.push_str(&format!(" {sign} "));
            show(right, out);
        }
        ([sign], [one]) if name.ends_with('_') => {
            out.push_str(sign);
            show(one, out);
        }
        _ => {
            if let Some(target) = &call.target {
                show(target, out);
                out.push('.');
            }
            out.push_str(name);
            out.push('(');
            for (index, argument) in call.args.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                show(argument, out);
            }
            out.push(')');
        }
    }
}
