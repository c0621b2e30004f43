//! jinja2's filters for values, as far as chat templates may use them.
//!
//! Not here are those for HTML and those whose result changes from call to call. A template that
//! uses one fails with an error that names it.

use std::cmp::Ordering;
use std::collections::HashSet;

use minijinja::value::{Kwargs, Tuple, Value};
use minijinja::{Error, ErrorKind, State};

use super::arguments::{bind, flag, required, split, text, whole};
use super::methods::{self, lines, soft_str};
use super::operators::{Function, add, item, test};
use super::python::{
    self, Group, ITEM, Iter, Kind, Result, Text, as_float, as_int, check_key, compare, equal, fail, int,
    items, kind, reserve, spend, to_str, type_name,
};
use super::{format, json, predicates};

pub(super) const FILTERS: [(&str, Function); 45] = [
    ("abs", abs),
    ("attr", attr),
    ("batch", batch),
    ("capitalize", |state, args| {
        let [value] = bind("capitalize", args, ["s"])?;
        Ok(Value::from(methods::capitalize(&string_of(state, value)?)))
    }),
    ("center", |state, args| {
        let [value, width] = bind("center", args, ["value", "width"])?;
        let width = whole("center", width.as_ref())?.unwrap_or(80);
        Ok(Value::from(methods::pad(state, &string_of(state, value)?, "center", width, ' ')?))
    }),
    ("count", length),
    ("d", default),
    ("default", default),
    ("dictsort", dictsort),
    ("e", escape),
    ("escape", escape),
    ("first", first),
    ("float", float),
    ("format", |state, args| {
        let [value, rest @ ..] = args else {
            return Err(fail("format lacks an argument"));
        };
        let (positional, named) = split(rest);
        let values = match named.is_empty() {
            true => Value::from(Tuple::from(positional)),
            false => {
                let pairs = named.into_iter().map(|(name, value)| (Value::from(name), value)).collect();
                super::operators::new_dict(state, pairs)?
            }
        };
        format::percent(state, &soft_str(state, value)?, &values).map(Value::from)
    }),
    ("groupby", groupby),
    ("indent", indent),
    ("int", to_int),
    ("items", |state, args| {
        let [value] = bind("items", args, ["value"])?;
        match value.as_ref().map(kind) {
            Some(Kind::Undefined) => Ok(Iter::generator(Vec::new())),
            Some(Kind::Dict(dict)) => {
                reserve(state, dict.0.len(), 3 * ITEM)?;
                spend(state, dict.0.len() * 3 * ITEM)?;
                let pair =
                    |(key, value): (&Value, &Value)| Value::from(Tuple::from([key.clone(), value.clone()]));
                Ok(Iter::generator(dict.0.iter().map(pair).collect()))
            }
            _ => Err(fail("Can only get item pairs from a mapping.")),
        }
    }),
    ("join", join),
    ("last", last),
    ("length", length),
    ("list", |state, args| {
        let [value] = bind("list", args, ["value"])?;
        items(state, &required("list", value)?).map(Value::from)
    }),
    ("lower", |state, args| {
        let [value] = bind("lower", args, ["s"])?;
        Ok(Value::from(string_of(state, value)?.to_lowercase()))
    }),
    ("map", map),
    ("max", |state, args| extreme(state, args, "max", Ordering::Greater)),
    ("min", |state, args| extreme(state, args, "min", Ordering::Less)),
    ("reject", |state, args| select(state, args, false, false)),
    ("rejectattr", |state, args| select(state, args, true, false)),
    ("replace", |state, args| {
        let [value, from, to, count] = bind("replace", args, ["s", "old", "new", "count"])?;
        let (from, to) = (string_of(state, from)?, string_of(state, to)?);
        let count = whole("replace", count.as_ref())?.unwrap_or(-1);
        methods::replace(state, &string_of(state, value)?, &from, &to, count).map(Value::from)
    }),
    ("reverse", reverse),
    ("round", round),
    ("safe", |state, args| {
        let [value] = bind("safe", args, ["value"])?;
        Ok(Value::from_safe_string(to_str(state, &required("safe", value)?)?.into_owned()))
    }),
    ("select", |state, args| select(state, args, false, true)),
    ("selectattr", |state, args| select(state, args, true, true)),
    ("slice", slice),
    ("sort", sort),
    ("string", |state, args| {
        let [value] = bind("string", args, ["s"])?;
        string_of(state, value).map(Value::from)
    }),
    ("sum", sum),
    ("title", title),
    ("tojson", json::tojson),
    ("trim", |state, args| {
        let [value, chars] = bind("trim", args, ["value", "chars"])?;
        let chars = text("trim", chars.as_ref())?;
        let value = string_of(state, value)?;
        Ok(Value::from(methods::strip(state, &value, chars.as_deref(), true, true)?))
    }),
    ("truncate", truncate),
    ("unique", unique),
    ("upper", |state, args| {
        let [value] = bind("upper", args, ["s"])?;
        Ok(Value::from(string_of(state, value)?.to_uppercase()))
    }),
    ("wordcount", |state, args| {
        let [value] = bind("wordcount", args, ["s"])?;
        let value = string_of(state, value)?;
        let words = value.split(|c: char| !c.is_alphanumeric() && c != '_');
        Ok(Value::from(words.filter(|word| !word.is_empty()).count()))
    }),
];

/// Python's `str` of an argument that must be given.
fn string_of(state: &State, value: Option<Value>) -> Result<String> {
    soft_str(state, &required("the filter", value)?)
}

/// An argument that must be a string.
fn needed_text(filter: &str, value: Option<Value>) -> Result<String> {
    text(filter, value.as_ref())?.ok_or_else(|| fail(format!("{filter} takes a str")))
}

/// The item of `value` at the end of a path: `a.b.0`, or an integer.
fn attribute(state: &State, value: &Value, path: &Value, default: Option<&Value>) -> Result<Value> {
    let step = |value: &Value, key: &Value| {
        let found = item(state, value, key)?;
        Ok(match default {
            Some(default) if found.is_undefined() => default.clone(),
            _ => found,
        })
    };
    let Some(path) = path.as_str() else {
        return step(value, path);
    };
    let mut value = value.clone();
    for part in path.split('.') {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let key = digits.then(|| part.parse::<i64>().ok()).flatten();
        value = step(&value, &key.map_or_else(|| Value::from(part), Value::from))?;
    }
    Ok(value)
}

/// Sorts by merging, with an order that may fail or be none, as that of Python's floats. Equal items
/// stay as they were. The sort of Rust's library may panic without a total order.
pub(super) fn sort_by<T>(
    state: &State,
    mut items: Vec<T>,
    order: &dyn Fn(&T, &T) -> Result<Ordering>,
) -> Result<Vec<T>> {
    if items.len() < 2 {
        return Ok(items);
    }
    spend(state, items.len() * ITEM)?;
    let mut merged = Vec::with_capacity(items.len());
    let right = sort_by(state, items.split_off(items.len() / 2), order)?;
    let mut right = right.into_iter().peekable();
    let mut left = sort_by(state, items, order)?.into_iter().peekable();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if order(a, b)? == Ordering::Greater { right.next() } else { left.next() };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    Ok(merged)
}

/// The item by which others are sorted or told apart: in small letters unless case matters.
fn sort_key(state: &State, value: &Value, path: Option<&Value>, case_sensitive: bool) -> Result<Value> {
    let key = match path {
        Some(path) if !path.is_none() => attribute(state, value, path, None)?,
        _ => value.clone(),
    };
    Ok(fold(key, case_sensitive))
}

fn fold(key: Value, case_sensitive: bool) -> Value {
    match key.as_str() {
        Some(text) if !case_sensitive => Value::from(text.to_lowercase()),
        _ => key,
    }
}

fn abs(_: &mut State, args: &[Value]) -> Result<Value> {
    let [value] = bind("abs", args, ["x"])?;
    let value = required("abs", value)?;
    match (as_int(&value), as_float(&value)) {
        (Some(value), _) => value.checked_abs().map(int).ok_or_else(|| fail("abs: the number is too large")),
        (None, Some(value)) => Ok(Value::from(value.abs())),
        _ => Err(fail(format!("bad operand type for abs(): '{}'", type_name(&value)))),
    }
}

/// An attribute, which is no item.
fn attr(_: &mut State, args: &[Value]) -> Result<Value> {
    let [value, name] = bind("attr", args, ["obj", "name"])?;
    let (value, name) = (required("attr", value)?, required("attr", name)?);
    match (kind(&value), name.as_str()) {
        (Kind::Undefined, _) => Err(fail("an undefined value has no attributes")),
        (Kind::Namespace(_) | Kind::Other, Some(name)) => value.get_attr(name),
        (_, Some(name)) if methods::has(&value, name) => Ok(Value::from_object(python::Method)),
        _ => Ok(Value::UNDEFINED),
    }
}

fn batch(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, count, fill] = bind("batch", args, ["value", "linecount", "fill_with"])?;
    let items = items(state, &required("batch", value)?)?;
    let count = whole("batch", count.as_ref())?.and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|&count| count > 0).ok_or_else(|| fail("batch: linecount is at least 1"))?;
    let mut batches: Vec<Vec<Value>> = items.chunks(count).map(<[Value]>::to_vec).collect();
    if let (Some(last), Some(fill)) = (batches.last_mut(), fill.filter(|fill| !fill.is_none())) {
        reserve(state, count, ITEM)?;
        last.resize(count, fill);
    }
    spend(state, batches.len() * 2 * ITEM + items.len() * ITEM)?;
    Ok(Iter::generator(batches.into_iter().map(Value::from).collect()))
}

fn default(_: &mut State, args: &[Value]) -> Result<Value> {
    let [value, default, boolean] = bind("default", args, ["value", "default_value", "boolean"])?;
    let value = value.unwrap_or_default();
    match value.is_undefined() || (flag(boolean.as_ref()) && !value.is_true()) {
        true => Ok(default.unwrap_or_else(|| Value::from(""))),
        false => Ok(value),
    }
}

fn dictsort(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, case_sensitive, by, reverse] =
        bind("dictsort", args, ["value", "case_sensitive", "by", "reverse"])?;
    let value = required("dictsort", value)?;
    let Kind::Dict(dict) = kind(&value) else {
        return Err(fail("dictsort sorts dictionaries"));
    };
    let at = match text("dictsort", by.as_ref())?.as_deref() {
        None | Some("key") => 0,
        Some("value") => 1,
        Some(_) => return Err(fail("dictsort: by is either 'key' or 'value'")),
    };
    reserve(state, dict.0.len(), 4 * ITEM)?;
    spend(state, dict.0.len() * 4 * ITEM)?;
    let mut pairs = Vec::new();
    for (key, value) in &dict.0 {
        let by = if at == 0 { key } else { value };
        pairs.push((fold(by.clone(), flag(case_sensitive.as_ref())), [key.clone(), value.clone()]));
    }
    let reverse = flag(reverse.as_ref());
    let pairs = sort_by(state, pairs, &|a, b| ordered(state, &a.0, &b.0, reverse))?;
    let pair = |(_, pair)| Value::from(Tuple::from(pair));
    Ok(Value::from(pairs.into_iter().map(pair).collect::<Vec<_>>()))
}

fn ordered(state: &State, a: &Value, b: &Value, reverse: bool) -> Result<Ordering> {
    let ordering = compare(state, a, b)?;
    Ok(if reverse { ordering.reverse() } else { ordering })
}

fn escape(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value] = bind("escape", args, ["s"])?;
    let value = required("escape", value)?;
    if value.is_safe() {
        return Ok(value);
    }
    let mut escaped = Text::new(state);
    for c in to_str(state, &value)?.chars() {
        match c {
            '&' => escaped.push("&amp;")?,
            '>' => escaped.push("&gt;")?,
            '<' => escaped.push("&lt;")?,
            '\'' => escaped.push("&#39;")?,
            '"' => escaped.push("&#34;")?,
            _ => escaped.push_char(c)?,
        }
    }
    escaped.finish(state).map(Value::from_safe_string)
}

fn first(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value] = bind("first", args, ["seq"])?;
    let value = required("first", value)?;
    if let Kind::Iter(Iter::Generator(items)) = kind(&value) {
        let mut items = items.lock().map_err(|_| fail("a generator is in use"))?;
        spend(state, items.len() * ITEM)?;
        return Ok(if items.is_empty() { Value::UNDEFINED } else { items.remove(0) });
    }
    match kind(&value) {
        Kind::Str(text) => Ok(text.chars().next().map_or(Value::UNDEFINED, Value::from)),
        Kind::List(items) | Kind::Tuple(items) => Ok(items.first().cloned().unwrap_or_default()),
        _ => Ok(items(state, &value)?.into_iter().next().unwrap_or_default()),
    }
}

fn last(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value] = bind("last", args, ["seq"])?;
    let value = required("last", value)?;
    match kind(&value) {
        Kind::Str(text) => Ok(text.chars().next_back().map_or(Value::UNDEFINED, Value::from)),
        Kind::List(items) | Kind::Tuple(items) => Ok(items.last().cloned().unwrap_or_default()),
        Kind::Iter(Iter::Generator(_)) => Err(fail("'generator' object is not reversible")),
        _ => Ok(items(state, &value)?.into_iter().next_back().unwrap_or_default()),
    }
}

fn reverse(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value] = bind("reverse", args, ["value"])?;
    let value = required("reverse", value)?;
    if let Kind::Str(text) = kind(&value) {
        return Ok(Value::from(text.chars().rev().collect::<String>()));
    }
    let mut reversed = items(state, &value)?;
    reversed.reverse();
    Ok(match kind(&value) {
        // These cannot be reversed in Python, so jinja2 makes a list of them.
        Kind::Iter(Iter::Generator(_)) | Kind::Undefined => Value::from(reversed),
        _ => Iter::generator(reversed),
    })
}

fn length(_: &mut State, args: &[Value]) -> Result<Value> {
    let [value] = bind("length", args, ["obj"])?;
    python::length(&required("length", value)?).map(Value::from)
}

/// Python's `float(…)` of a string.
fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(python::is_space);
    let plain = text.replace('_', "");
    let word = plain.trim_start_matches(['+', '-']).to_ascii_lowercase();
    let number = word.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        || matches!(word.as_str(), "inf" | "infinity" | "nan");
    // Python takes underscores only between digits.
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let mut underscores = (0..bytes.len()).filter(|&at| bytes.get(at) == Some(&b'_'));
    if !number || !underscores.all(|at| digit(at.checked_sub(1)) && digit(Some(at + 1))) {
        return None;
    }
    plain.parse().ok()
}

fn float(_: &mut State, args: &[Value]) -> Result<Value> {
    let [value, default] = bind("float", args, ["value", "default"])?;
    let value = required("float", value)?;
    let number = match kind(&value) {
        Kind::Undefined => return Err(fail("an undefined value is no number")),
        Kind::Str(text) => parse_float(text),
        _ => as_float(&value),
    };
    Ok(number.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from))
}

/// Python's `int(text, base)`.
fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim_matches(python::is_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed = |prefix: [&str; 2]| prefix.iter().find_map(|prefix| digits.strip_prefix(prefix));
    let digits = match base {
        2 => prefixed(["0b", "0B"]),
        8 => prefixed(["0o", "0O"]),
        16 => prefixed(["0x", "0X"]),
        _ => None,
    }
    .map_or(digits, |rest| rest.strip_prefix('_').unwrap_or(rest));
    let edge = digits.starts_with(['_', '+', '-']) || digits.ends_with('_') || digits.contains("__");
    if edge || !(2..=36).contains(&base) {
        return None;
    }
    let value = i128::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(if negative { -value } else { value })
}

fn to_int(_: &mut State, args: &[Value]) -> Result<Value> {
    let [value, default, base] = bind("int", args, ["value", "default", "base"])?;
    let value = required("int", value)?;
    let base = u32::try_from(whole("int", base.as_ref())?.unwrap_or(10)).unwrap_or(0);
    #[allow(clippy::cast_possible_truncation)] // what `int` is for
    let truncated = |value: f64| match value.abs() {
        0.0..1e38 => Ok(Some(value as i128)),
        // Python's integers have no end.
        size if size.is_finite() => Err(fail("int: the number has more than 128 bits")),
        _ => Ok(None),
    };
    let number = match kind(&value) {
        Kind::Undefined => return Err(fail("an undefined value is no number")),
        Kind::Str(text) => match parse_int(text, base) {
            Some(value) => Some(value),
            None => parse_float(text).map(truncated).transpose()?.flatten(),
        },
        Kind::Float(value) => truncated(value)?,
        _ => as_int(&value),
    };
    Ok(number.map_or_else(|| default.unwrap_or_else(|| Value::from(0)), int))
}

fn groupby(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, path, default, case_sensitive] =
        bind("groupby", args, ["value", "attribute", "default", "case_sensitive"])?;
    let path = required("groupby", path)?;
    let default = default.filter(|default| !default.is_none());
    let case_sensitive = flag(case_sensitive.as_ref());
    let mut keyed = Vec::new();
    for item in items(state, &required("groupby", value)?)? {
        let key = attribute(state, &item, &path, default.as_ref())?;
        keyed.push((fold(key.clone(), case_sensitive), key, item));
    }
    spend(state, keyed.len() * 4 * ITEM)?;
    let keyed = sort_by(state, keyed, &|a, b| compare(state, &a.0, &b.0))?;
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for (folded, key, item) in keyed {
        match groups.last_mut() {
            Some((last, _, members)) if equal(state, last, &folded)? => members.push(item),
            // The group is named after its first item.
            _ => groups.push((folded, key, vec![item])),
        }
    }
    let group = |(_, key, members)| Value::from_object(Group([key, Value::from(members)]));
    Ok(Value::from(groups.into_iter().map(group).collect::<Vec<_>>()))
}

fn indent(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, width, first, blank] = bind("indent", args, ["s", "width", "first", "blank"])?;
    let value = needed_text("indent", value)? + "\n";
    let mut indent = Text::new(state);
    match width.as_ref().map(kind) {
        None => indent.fill(' ', 4)?,
        Some(Kind::Str(text)) => indent.push(text)?,
        _ => {
            let width = whole("indent", width.as_ref())?.unwrap_or(0);
            indent.fill(' ', usize::try_from(width).unwrap_or(0))?;
        }
    }
    let indent = indent.finish(state)?;
    let (first, blank) = (flag(first.as_ref()), flag(blank.as_ref()));
    let mut indented = Text::new(state);
    for (at, (line, _)) in lines(&value).into_iter().enumerate() {
        indented.push(if at == 0 { "" } else { "\n" })?;
        if if at == 0 { first } else { blank || !line.is_empty() } {
            indented.push(&indent)?;
        }
        indented.push(line)?;
    }
    indented.finish(state).map(Value::from)
}

fn join(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, separator, path] = bind("join", args, ["value", "d", "attribute"])?;
    let separator = separator.map_or(Ok(String::new()), |separator| soft_str(state, &separator))?;
    let path = path.filter(|path| !path.is_none());
    let mut joined = Text::new(state);
    for (at, item) in items(state, &required("join", value)?)?.iter().enumerate() {
        joined.push(if at == 0 { "" } else { &separator })?;
        match &path {
            Some(path) => joined.push(&soft_str(state, &attribute(state, item, path, None)?)?)?,
            None => joined.push(&soft_str(state, item)?)?,
        }
    }
    joined.finish(state).map(Value::from)
}

/// The name of a filter that a template may use.
fn filter_name(name: &Value) -> Result<&str> {
    let name = name.as_str().ok_or_else(|| fail("a filter has a name"))?;
    match FILTERS.iter().any(|(other, _)| *other == name) {
        true => Ok(name),
        false => Err(Error::new(ErrorKind::UnknownFilter, format!("filter {name} is unknown"))),
    }
}

fn map(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, rest @ ..] = args else {
        return Err(fail("map lacks an argument"));
    };
    // jinja2 looks at nothing else if there is nothing to go through.
    if !value.is_true() {
        return Ok(Iter::generator(Vec::new()));
    }
    let (positional, named) = split(rest);
    let mut mapped = Vec::new();
    if let [name, ..] = positional {
        let name = filter_name(name)?;
        for item in items(state, value)? {
            let arguments: Vec<Value> = std::iter::once(item).chain(rest.iter().skip(1).cloned()).collect();
            charge(state, &arguments)?;
            mapped.push(state.apply_filter(name, &arguments)?);
        }
    } else {
        let [path, default] = bind("map", rest, ["attribute", "default"]).and_then(|bound| {
            match named.iter().any(|(name, _)| name == "attribute") {
                true => Ok(bound),
                false => Err(fail("map requires a filter argument")),
            }
        })?;
        let default = default.filter(|default| !default.is_none());
        for item in items(state, value)? {
            mapped.push(attribute(state, &item, &required("map", path.clone())?, default.as_ref())?);
        }
    }
    spend(state, mapped.len() * ITEM)?;
    Ok(Iter::generator(mapped))
}

/// Pays for a call that MiniJinja does not see.
fn charge(state: &State, args: &[Value]) -> Result<()> {
    let bytes: usize = args.iter().filter_map(Value::as_str).map(str::len).sum();
    spend(state, bytes + args.len() * ITEM + 64)
}

/// `select` and `reject`, with `attr` in the name or not.
fn select(state: &mut State, args: &[Value], by_attribute: bool, wanted: bool) -> Result<Value> {
    let [value, rest @ ..] = args else {
        return Err(fail("select lacks an argument"));
    };
    if !value.is_true() {
        return Ok(Iter::generator(Vec::new()));
    }
    let (path, rest) = match (by_attribute, rest) {
        (true, [path, rest @ ..]) => (Some(path), rest),
        (true, []) => return Err(fail("Missing parameter for attribute name")),
        (false, rest) => (None, rest),
    };
    let mut selected = Vec::new();
    for item in items(state, value)? {
        let tested = match path {
            Some(path) => attribute(state, &item, path, None)?,
            None => item.clone(),
        };
        let holds = match rest {
            [] => tested.is_true(),
            [name, arguments @ ..] => {
                let name = name.as_str().ok_or_else(|| fail("a test has a name"))?;
                if !predicates::is_name(name) {
                    return Err(Error::new(ErrorKind::UnknownTest, format!("test {name} is unknown")));
                }
                let arguments: Vec<Value> =
                    std::iter::once(tested).chain(arguments.iter().cloned()).collect();
                charge(state, &arguments)?;
                state.perform_test(name, &arguments)?
            }
        };
        if holds == wanted {
            selected.push(item);
        }
    }
    Ok(Iter::generator(selected))
}

fn extreme(state: &mut State, args: &[Value], name: &str, wanted: Ordering) -> Result<Value> {
    let [value, case_sensitive, path] = bind(name, args, ["value", "case_sensitive", "attribute"])?;
    let mut best: Option<(Value, Value)> = None;
    for item in items(state, &required(name, value)?)? {
        let key = sort_key(state, &item, path.as_ref(), flag(case_sensitive.as_ref()))?;
        let better = match &best {
            Some((other, _)) => compare(state, &key, other)? == wanted,
            None => true,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or(Value::UNDEFINED, |(_, item)| item))
}

fn round(_: &mut State, args: &[Value]) -> Result<Value> {
    let [value, precision, method] = bind("round", args, ["value", "precision", "method"])?;
    let value = required("round", value)?;
    let precision = whole("round", precision.as_ref())?.unwrap_or(0);
    let precision = i32::try_from(precision).ok().filter(|precision| precision.abs() <= 300);
    let precision = precision.ok_or_else(|| fail("round: the precision is from -300 to 300"))?;
    let method = text("round", method.as_ref())?.unwrap_or_else(|| "common".to_owned());
    let Some(number) = as_float(&value) else {
        return Err(fail(format!("type {} doesn't define __round__ method", type_name(&value))));
    };
    if method == "common" {
        let value = as_int(&value).map_or(Value::from(number), int);
        return minijinja::filters::round(value, Some(precision), None, no_names());
    }
    minijinja::filters::round(Value::from(number), Some(precision), Some(&method), no_names())
}

fn no_names() -> Kwargs {
    Kwargs::from_iter::<[(&str, Value); 0]>([])
}

fn slice(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, count, fill] = bind("slice", args, ["value", "slices", "fill_with"])?;
    let items = items(state, &required("slice", value)?)?;
    let count = whole("slice", count.as_ref())?.and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|&count| count > 0).ok_or_else(|| fail("slice: slices is at least 1"))?;
    reserve(state, count, 2 * ITEM)?;
    spend(state, count * 2 * ITEM)?;
    let fill = fill.filter(|fill| !fill.is_none());
    let (least, longer) = (items.len() / count, items.len() % count);
    let mut rest = items.as_slice();
    let mut slices = Vec::new();
    for at in 0..count {
        let (slice, after) = rest.split_at(least + usize::from(at < longer));
        rest = after;
        let fill = fill.iter().filter(|_| at >= longer);
        slices.push(Value::from(slice.iter().chain(fill).cloned().collect::<Vec<_>>()));
    }
    Ok(Iter::generator(slices))
}

fn sort(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, reverse, case_sensitive, path] =
        bind("sort", args, ["value", "reverse", "case_sensitive", "attribute"])?;
    let case_sensitive = flag(case_sensitive.as_ref());
    // Several attributes, with commas between them, are compared one after another.
    let paths: Vec<Value> = match path {
        None => vec![Value::from(())],
        Some(path) => match path.as_str() {
            Some(paths) => paths.split(',').map(Value::from).collect(),
            None => vec![path],
        },
    };
    let mut keyed = Vec::new();
    for item in items(state, &required("sort", value)?)? {
        let mut keys = Vec::new();
        for path in &paths {
            keys.push(sort_key(state, &item, Some(path), case_sensitive)?);
        }
        spend(state, keys.len() * ITEM)?;
        keyed.push((Value::from(keys), item));
    }
    let reverse = flag(reverse.as_ref());
    let keyed = sort_by(state, keyed, &|a, b| ordered(state, &a.0, &b.0, reverse))?;
    Ok(Value::from(keyed.into_iter().map(|(_, item)| item).collect::<Vec<_>>()))
}

fn sum(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, path, start] = bind("sum", args, ["iterable", "attribute", "start"])?;
    let path = path.filter(|path| !path.is_none());
    let mut sum = start.unwrap_or_else(|| Value::from(0));
    if sum.as_str().is_some() {
        return Err(fail("sum() can't sum strings"));
    }
    for item in items(state, &required("sum", value)?)? {
        let item = match &path {
            Some(path) => attribute(state, &item, path, None)?,
            None => item,
        };
        sum = add(state, &sum, &item)?;
        if let Kind::List(items) | Kind::Tuple(items) = kind(&sum) {
            spend(state, items.len() * ITEM)?;
        }
    }
    Ok(sum)
}

/// jinja2's own: words start behind white space, hyphens and open brackets.
fn title(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value] = bind("title", args, ["s"])?;
    let mut title = String::new();
    let mut start = true;
    let value = string_of(state, value)?;
    for part in
        value.split_inclusive(|c: char| python::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<'))
    {
        let mut chars = part.chars();
        if start {
            title.extend(chars.next().into_iter().flat_map(char::to_uppercase));
        }
        title += &chars.as_str().to_lowercase();
        start = true;
    }
    Ok(Value::from(title))
}

fn truncate(_: &mut State, args: &[Value]) -> Result<Value> {
    let [value, length, kill, end, leeway] =
        bind("truncate", args, ["s", "length", "killwords", "end", "leeway"])?;
    let value = needed_text("truncate", value)?;
    let size = |argument: Option<&Value>, default| {
        let size = whole("truncate", argument)?.unwrap_or(default);
        usize::try_from(size).map_err(|_| fail("truncate: the length is negative"))
    };
    let (length, leeway) = (size(length.as_ref(), 255)?, size(leeway.as_ref(), 5)?);
    let end = text("truncate", end.as_ref())?.unwrap_or_else(|| "...".to_owned());
    let kept = length.checked_sub(end.chars().count());
    let kept = kept.ok_or_else(|| fail("truncate: the end is longer than the length"))?;
    if value.chars().count() <= length.saturating_add(leeway) {
        return Ok(Value::from(value));
    }
    let cut: String = value.chars().take(kept).collect();
    let words = cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words);
    Ok(Value::from(if flag(kill.as_ref()) { cut + &end } else { words.to_owned() + &end }))
}

fn unique(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, case_sensitive, path] = bind("unique", args, ["value", "case_sensitive", "attribute"])?;
    let mut seen = HashSet::new();
    let mut unique = Vec::new();
    for item in items(state, &required("unique", value)?)? {
        let key = sort_key(state, &item, path.as_ref(), flag(case_sensitive.as_ref()))?;
        check_key(state, &key)?;
        spend(state, 2 * ITEM)?;
        if seen.insert(key) {
            unique.push(item);
        }
    }
    Ok(Iter::generator(unique))
}

/// jinja2's tests that compare two values, by all their names.
pub(super) const COMPARISONS: [(&str, &str); 16] = [
    ("==", "=="),
    ("eq", "=="),
    ("equalto", "=="),
    ("!=", "!="),
    ("ne", "!="),
    ("<", "<"),
    ("lt", "<"),
    ("lessthan", "<"),
    ("<=", "<="),
    ("le", "<="),
    (">", ">"),
    ("gt", ">"),
    ("greaterthan", ">"),
    (">=", ">="),
    ("ge", ">="),
    ("in", "in"),
];

/// The test that `operator` is.
pub(super) fn comparison(state: &State, operator: &str, args: &[Value]) -> Result<bool> {
    let [a, b] = bind("the test", args, ["a", "b"])?;
    test(state, operator, &required("the test", a)?, &required("the test", b)?)
}
