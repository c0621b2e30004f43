//! Python's two ways to format: `'%s' % value` and `'{}'.format(value)`.
//!
//! The parts of a format are read here; a number with a width, a precision or a base is written by
//! MiniJinja.

use minijinja::State;
use minijinja::formatting::{FormatStyle, format};
use minijinja::value::Value;

use super::arguments;
use super::operators::{check_plain, item};
use super::python::{
    Kind, Result, Text, as_float, as_int, fail, int, kind, spend, to_repr, to_str, type_name,
};

/// The largest width and precision.
const MAX_WIDTH: usize = 1000;

/// `template % values`
pub(super) fn percent(state: &State, template: &str, values: &Value) -> Result<String> {
    check_plain(values)?;
    let single = std::slice::from_ref(values);
    let (values, mapping) = match kind(values) {
        Kind::Tuple(values) => (values, None),
        Kind::Dict(_) => (single, Some(values)),
        _ => (single, None),
    };
    let mut values = values.iter();
    let mut missing = || values.next().ok_or_else(|| fail("not enough arguments for format string"));
    let mut text = Text::new(state);
    let mut rest = template;
    let mut named = false;
    while let Some(at) = rest.find('%') {
        spend(state, 64)?;
        text.push(rest.get(..at).unwrap_or_default())?;
        rest = rest.get(at + 1..).unwrap_or_default();
        let mut value = None;
        if let Some(inner) = rest.strip_prefix('(') {
            let (name, after) = inner.split_once(')').ok_or_else(|| fail("incomplete format key"))?;
            let mapping = mapping.ok_or_else(|| fail("format requires a mapping"))?;
            let Kind::Dict(dict) = kind(mapping) else {
                return Err(fail("format requires a mapping"));
            };
            let found = dict.0.get(&Value::from(name));
            value = Some(found.ok_or_else(|| fail(format!("the format names no key '{name}'")))?.clone());
            named = true;
            rest = after;
        }
        let flags = take(&mut rest, |c| matches!(c, '#' | '0' | '-' | ' ' | '+'));
        let mut number = |rest: &mut &str| match rest.strip_prefix('*') {
            Some(after) => {
                *rest = after;
                as_int(missing()?).map(|width| width.to_string()).ok_or_else(|| fail("* wants int"))
            }
            None => Ok(take(rest, |c| c.is_ascii_digit()).to_owned()),
        };
        let mut width = number(&mut rest)?;
        let mut flags = flags.to_owned();
        if let Some(positive) = width.strip_prefix('-') {
            (flags, width) = (flags + "-", positive.to_owned());
        }
        let precision = match rest.strip_prefix('.') {
            Some(after) => {
                rest = after;
                Some(number(&mut rest)?)
            }
            None => None,
        };
        take(&mut rest, |c| matches!(c, 'h' | 'l' | 'L'));
        let mut chars = rest.chars();
        let conversion = chars.next().ok_or_else(|| fail("incomplete format"))?;
        rest = chars.as_str();
        if conversion == '%' {
            text.push("%")?;
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => missing()?.clone(),
        };
        let width = limited(&width)?;
        let precision = precision.as_deref().map(limited).transpose()?;
        let shown = match conversion {
            's' => to_str(state, &value)?.into_owned(),
            'r' | 'a' if conversion == 'r' || to_repr(state, &value)?.is_ascii() => to_repr(state, &value)?,
            'd' | 'i' | 'u' => number_text(&flags, width, precision, 'd', &whole(&value, true)?)?,
            'o' | 'x' | 'X' => number_text(&flags, width, precision, conversion, &whole(&value, false)?)?,
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match as_float(&value) {
                Some(float) => number_text(&flags, width, precision, conversion, &Value::from(float))?,
                None => return Err(fail(format!("must be real number, not {}", type_name(&value)))),
            },
            'c' => character(&value)?,
            _ => return Err(fail(format!("unsupported format character '{conversion}'"))),
        };
        let cut = |length| shown.chars().take(length).collect::<String>();
        let shown = match precision {
            Some(length) if matches!(conversion, 's' | 'r' | 'a') => cut(length),
            _ => shown,
        };
        let missing = width.saturating_sub(shown.chars().count());
        let left = flags.contains('-');
        text.fill(' ', if left { 0 } else { missing })?;
        text.push(&shown)?;
        text.fill(' ', if left { missing } else { 0 })?;
    }
    text.push(rest)?;
    if values.next().is_some() && mapping.is_none() && !named {
        return Err(fail("not all arguments converted during string formatting"));
    }
    text.finish(state)
}

fn take<'t>(rest: &mut &'t str, while_: impl Fn(char) -> bool) -> &'t str {
    let end = rest.find(|c| !while_(c)).unwrap_or(rest.len());
    let (taken, after) = rest.split_at(end);
    *rest = after;
    taken
}

/// A width or precision.
fn limited(digits: &str) -> Result<usize> {
    match digits {
        "" => Ok(0),
        _ => {
            let width = digits.parse().ok().filter(|&width| width <= MAX_WIDTH);
            width.ok_or_else(|| fail(format!("a width or precision in a format is more than {MAX_WIDTH}")))
        }
    }
}

fn number_text(
    flags: &str,
    width: usize,
    precision: Option<usize>,
    conversion: char,
    value: &Value,
) -> Result<String> {
    let width = if width == 0 { String::new() } else { width.to_string() };
    let precision = precision.map_or_else(String::new, |precision| format!(".{precision}"));
    let specification = format!("%{flags}{width}{precision}{conversion}");
    format(FormatStyle::Printf, &specification, std::slice::from_ref(value))
}

fn whole(value: &Value, float: bool) -> Result<Value> {
    match (as_int(value), as_float(value)) {
        (Some(value), _) => Ok(int(value)),
        // Every float of this size is whole.
        #[allow(clippy::cast_possible_truncation)] // the bound is checked
        (None, Some(value)) if float && value.abs() < 1e38 => Ok(int(value as i128)),
        _ => Err(fail(format!("a number is required, not {}", type_name(value)))),
    }
}

fn character(value: &Value) -> Result<String> {
    let c = match (kind(value), as_int(value)) {
        (Kind::Str(text), _) if text.chars().count() == 1 => text.chars().next(),
        (_, Some(code)) => u32::try_from(code).ok().and_then(char::from_u32),
        _ => None,
    };
    c.map(String::from).ok_or_else(|| fail("%c requires an int or a unicode character"))
}

/// `template.format(…)`
pub(super) fn braces(state: &State, template: &str, args: &[Value]) -> Result<String> {
    let (positional, named) = arguments::split(args);
    let mut text = Text::new(state);
    let mut rest = template;
    // Fields are numbered by themselves until one has a number.
    let mut next = Some(0);
    while let Some(at) = rest.find(['{', '}']) {
        spend(state, 64)?;
        let (before, brace) = rest.split_at(at);
        text.push(before)?;
        if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
            text.push(if brace.starts_with('{') { "{" } else { "}" })?;
            rest = after;
            continue;
        }
        let field = brace.strip_prefix('{').and_then(|field| field.split_once('}'));
        let (field, after) = field.ok_or_else(|| fail("a brace in a format string is single"))?;
        rest = after;
        if field.contains('{') {
            return Err(fail("a field within a field of a format string is not supported"));
        }
        let (field, specification) = field.split_once(':').unwrap_or((field, ""));
        let (path, conversion) = field.split_once('!').unwrap_or((field, ""));
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (first, mut path) = path.split_at(end);
        let named_value = |name: &str| named.iter().find(|(other, _)| other == name);
        let mut value = match (first, first.parse::<usize>()) {
            ("", _) => {
                let at = next.ok_or_else(|| fail("a format string numbers only some of its fields"))?;
                next = Some(at + 1);
                positional.get(at).cloned()
            }
            (_, Ok(at)) => {
                if next.is_some_and(|next| next > 0) {
                    return Err(fail("a format string numbers only some of its fields"));
                }
                next = None;
                positional.get(at).cloned()
            }
            (name, _) => named_value(name).map(|(_, value)| value.clone()),
        }
        .ok_or_else(|| fail(format!("the format string has no value for the field '{first}'")))?;
        while !path.is_empty() {
            let key = match path.strip_prefix('[').and_then(|key| key.split_once(']')) {
                Some((key, after)) => {
                    path = after;
                    key.parse().map_or_else(|_| Value::from(key), |at: i64| Value::from(at))
                }
                None => {
                    let attribute =
                        path.strip_prefix('.').ok_or_else(|| fail("a format field is no path"))?;
                    let (name, after) =
                        attribute.split_at(attribute.find(['.', '[']).unwrap_or(attribute.len()));
                    path = after;
                    // In Python, an attribute is no item: only what has attributes has it.
                    match kind(&value) {
                        Kind::Namespace(_) => Value::from(name),
                        _ => return Err(fail(format!("'{}' has no attribute '{name}'", type_name(&value)))),
                    }
                }
            };
            value = item(state, &value, &key)?;
            if value.is_undefined() {
                return Err(fail("a format field names an item that is not there"));
            }
        }
        check_plain(&value)?;
        let value = match conversion {
            "" => value,
            "s" => Value::from(to_str(state, &value)?.into_owned()),
            "r" => Value::from(to_repr(state, &value)?),
            _ => return Err(fail(format!("the conversion '!{conversion}' is not supported"))),
        };
        text.push(&specified(state, &value, specification)?)?;
    }
    text.push(rest)?;
    text.finish(state)
}

/// The value in the layout that the part of a field behind the colon asks for.
fn specified(state: &State, value: &Value, specification: &str) -> Result<String> {
    if specification.is_empty() {
        return Ok(to_str(state, value)?.into_owned());
    }
    let mut numbers = specification.split(|c: char| !c.is_ascii_digit());
    numbers.try_for_each(|number| limited(number).map(drop))?;
    let value = match kind(value) {
        Kind::Bool(_) => int(as_int(value).unwrap_or(0)),
        Kind::Int(_) | Kind::Float(_) | Kind::Str(_) => value.clone(),
        _ => {
            let name = type_name(value);
            return Err(fail(format!("unsupported format string passed to {name}.__format__")));
        }
    };
    match (specification.strip_suffix('%'), as_float(&value)) {
        // MiniJinja has no percentages.
        (Some(precision), Some(number)) if precision.is_empty() || precision.starts_with('.') => {
            let percents = Value::from(number * 100.0);
            Ok(format(FormatStyle::StrFormat, &format!("{{:{precision}f}}"), &[percents])? + "%")
        }
        _ => format(FormatStyle::StrFormat, &format!("{{:{specification}}}"), &[value]),
    }
}
