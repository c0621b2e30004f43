//! The filter `tojson` of Hugging Face: Python's `json.dumps`, not made safe for HTML.

use minijinja::State;
use minijinja::value::Value;

use super::arguments::{bind, required};
use super::python::{Kind, Result, Text, as_int, compare, fail, float_repr, is_mark, kind, type_name};

/// How the text is laid out.
struct Style {
    ascii: bool,
    /// What every level is indented by; without it all is on one line.
    indent: Option<String>,
    comma: String,
    colon: String,
    sort: bool,
}

pub(super) fn tojson(state: &mut State, args: &[Value]) -> Result<Value> {
    let names = ["value", "ensure_ascii", "indent", "separators", "sort_keys"];
    let [value, ascii, indent, separators, sort] = bind("tojson", args, names)?;
    let mut json = Text::new(state);
    let indent = match indent.as_ref().map(|indent| (kind(indent), indent)) {
        None | Some((Kind::None, _)) => None,
        Some((Kind::Str(indent), _)) => Some(indent.to_owned()),
        Some((_, indent)) => {
            let width = as_int(indent).ok_or_else(|| fail("tojson: indent is an int or a str"))?;
            let mut spaces = Text::new(state);
            spaces.fill(' ', usize::try_from(width.max(0)).unwrap_or(usize::MAX))?;
            Some(spaces.finish(state)?)
        }
    };
    let (comma, colon) = match separators.as_ref().map(kind) {
        None | Some(Kind::None) => (if indent.is_some() { "," } else { ", " }, ": "),
        Some(Kind::List([comma, colon]) | Kind::Tuple([comma, colon])) => {
            match (comma.as_str(), colon.as_str()) {
                (Some(comma), Some(colon)) => (comma, colon),
                _ => return Err(fail("tojson: separators are two str")),
            }
        }
        _ => return Err(fail("tojson: separators are two str")),
    };
    let flag = |argument: Option<Value>| argument.is_some_and(|value| value.is_true());
    let style = Style {
        ascii: flag(ascii),
        indent,
        comma: comma.to_owned(),
        colon: colon.to_owned(),
        sort: flag(sort),
    };
    write(state, &style, &required("tojson", value)?, 0, &mut json)?;
    json.finish(state).map(Value::from)
}

fn write(state: &State, style: &Style, value: &Value, depth: usize, to: &mut Text) -> Result<()> {
    match kind(value) {
        Kind::None => to.push("null"),
        Kind::Bool(value) => to.push(if value { "true" } else { "false" }),
        Kind::Int(value) => to.push(&value.to_string()),
        Kind::Float(value) => to.push(&number(value)),
        Kind::Str(text) => string(style, text, to),
        Kind::List([]) | Kind::Tuple([]) => to.push("[]"),
        Kind::List(items) | Kind::Tuple(items) => {
            to.push("[")?;
            for (at, item) in items.iter().enumerate() {
                to.push(if at == 0 { "" } else { &style.comma })?;
                line(style, depth + 1, to)?;
                write(state, style, item, depth + 1, to)?;
            }
            line(style, depth, to)?;
            to.push("]")
        }
        Kind::Dict(dict) if dict.0.is_empty() => to.push("{}"),
        Kind::Dict(dict) => {
            let mut pairs: Vec<_> = dict.0.iter().collect();
            if style.sort {
                pairs = super::filters::sort_by(state, pairs, &|a, b| compare(state, a.0, b.0))?;
            }
            to.push("{")?;
            for (at, (key, value)) in pairs.into_iter().enumerate() {
                to.push(if at == 0 { "" } else { &style.comma })?;
                line(style, depth + 1, to)?;
                match kind(key) {
                    Kind::Str(key) => string(style, key, to)?,
                    Kind::None => string(style, "null", to)?,
                    Kind::Bool(key) => string(style, if key { "true" } else { "false" }, to)?,
                    Kind::Int(key) => string(style, &key.to_string(), to)?,
                    Kind::Float(key) => string(style, &number(key), to)?,
                    _ => {
                        let name = type_name(key);
                        return Err(fail(format!("keys must be str, int, float, bool or None, not {name}")));
                    }
                }
                to.push(&style.colon)?;
                write(state, style, value, depth + 1, to)?;
            }
            line(style, depth, to)?;
            to.push("}")
        }
        _ => Err(fail(format!("Object of type {} is not JSON serializable", type_name(value)))),
    }
}

fn number(value: f64) -> String {
    match value.is_finite() {
        true => float_repr(value),
        false if value.is_nan() => "NaN".to_owned(),
        false => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
    }
}

/// A new line of this depth, if the text is laid out in lines.
fn line(style: &Style, depth: usize, to: &mut Text) -> Result<()> {
    let Some(indent) = &style.indent else {
        return Ok(());
    };
    to.push("\n")?;
    (0..depth).try_for_each(|_| to.push(indent))
}

fn string(style: &Style, text: &str, to: &mut Text) -> Result<()> {
    to.push("\"")?;
    for c in text.chars() {
        match c {
            '"' => to.push("\\\"")?,
            '\\' => to.push("\\\\")?,
            '\n' => to.push("\\n")?,
            '\r' => to.push("\\r")?,
            '\t' => to.push("\\t")?,
            '\x0C' => to.push("\\f")?,
            '\x08' => to.push("\\b")?,
            '\0'..=' ' if c != ' ' => to.push(&format!("\\u{:04x}", u32::from(c)))?,
            // The Shield's marks stand for other characters.
            _ if style.ascii && !(' '..='~').contains(&c) && !is_mark(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    to.push(&format!("\\u{unit:04x}"))?;
                }
            }
            _ => to.push_char(c)?,
        }
    }
    to.push("\"")
}
