//! The methods of Python's strings, lists and dictionaries that change nothing.

use std::collections::HashSet;

use minijinja::State;
use minijinja::value::{Tuple, Value};

use super::arguments::{bind, flag, required, text, whole};
use super::format;
use super::operators::{check_plain, new_dict};
use super::python::{
    ITEM, Iter, Kind, Result, Text, equal, fail, is_space, items, kind, reserve, spend, to_str, type_name,
};
use crate::text::category::{self, Category};

const STR: [&str; 45] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
    // Python's strings have these too; here they are an error.
    "encode",
    "format_map",
    "isidentifier",
    "translate",
];
const LIST: [&str; 11] =
    ["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const TUPLE: [&str; 2] = ["count", "index"];
const DICT: [&str; 11] =
    ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];

/// Whether a method of some type has this name.
pub(super) fn is_name(name: &str) -> bool {
    STR.contains(&name) || LIST.contains(&name) || DICT.contains(&name)
}

/// Whether `value` has the method `name`.
pub(super) fn has(value: &Value, name: &str) -> bool {
    match kind(value) {
        Kind::Str(_) => STR.contains(&name),
        Kind::List(_) => LIST.contains(&name),
        Kind::Tuple(_) | Kind::Iter(Iter::Range { .. }) => TUPLE.contains(&name),
        Kind::Dict(_) => DICT.contains(&name),
        _ => false,
    }
}

/// Calls `value.method(args)`; [`has`] says that there is such a method.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value> {
    match kind(value) {
        Kind::Str(of) => {
            check_plain(value)?;
            string(state, of, method, args)
        }
        Kind::List(of) | Kind::Tuple(of) => sequence(state, of, method, args),
        Kind::Iter(Iter::Range { .. }) => sequence(state, &items(state, value)?, method, args),
        Kind::Dict(_) => dict(state, value, method, args),
        _ => Err(unknown(value, method)),
    }
}

/// jinja2's sandbox refuses the methods that change a value; the others are not written here.
fn unknown(value: &Value, method: &str) -> minijinja::Error {
    let name = type_name(value);
    fail(format!("the method '{method}' of '{name}' objects changes them or is not supported"))
}

fn sequence(state: &State, of: &[Value], method: &str, args: &[Value]) -> Result<Value> {
    match method {
        "copy" => {
            let [] = bind(method, args, [])?;
            Ok(Value::from(of.to_vec()))
        }
        "count" => {
            let [value] = bind(method, args, ["value"])?;
            let value = required(method, value)?;
            let mut count = 0;
            for item in of {
                count += usize::from(equal(state, item, &value)?);
            }
            Ok(Value::from(count))
        }
        "index" => {
            let [value] = bind(method, args, ["value"])?;
            let value = required(method, value)?;
            for (at, item) in of.iter().enumerate() {
                if equal(state, item, &value)? {
                    return Ok(Value::from(at));
                }
            }
            Err(fail("the list does not hold the value"))
        }
        _ => Err(unknown(&Value::from(of.to_vec()), method)),
    }
}

fn dict(state: &State, value: &Value, method: &str, args: &[Value]) -> Result<Value> {
    let Kind::Dict(of) = kind(value) else {
        return Err(unknown(value, method));
    };
    let view = |name, items: Vec<Value>| Ok(Value::from_object(Iter::View(name, items)));
    if method == "get" {
        let [key, default] = bind(method, args, ["key", "default"])?;
        let key = required(method, key)?;
        super::python::check_key(state, &key)?;
        return Ok(of.0.get(&key).cloned().or(default).unwrap_or(Value::from(())));
    }
    let [] = bind(method, args, [])?;
    reserve(state, of.0.len(), 3 * ITEM)?;
    spend(state, of.0.len() * 3 * ITEM)?;
    match method {
        "items" => {
            let pair =
                |(key, value): (&Value, &Value)| Value::from(Tuple::from([key.clone(), value.clone()]));
            view("dict_items", of.0.iter().map(pair).collect())
        }
        "keys" => view("dict_keys", of.0.keys().cloned().collect()),
        "values" => view("dict_values", of.0.values().cloned().collect()),
        "copy" => new_dict(state, of.0.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
        _ => Err(unknown(value, method)),
    }
}

fn string(state: &mut State, of: &str, method: &str, args: &[Value]) -> Result<Value> {
    spend(state, of.len())?;
    Ok(match method {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = bind(method, args, ["chars"])?;
            let chars = text(method, chars.as_ref())?;
            Value::from(strip(state, of, chars.as_deref(), method != "rstrip", method != "lstrip")?)
        }
        "startswith" | "endswith" => {
            let [affix, start, end] = bind(method, args, ["prefix", "start", "end"])?;
            let affix = required(method, affix)?;
            let within = within(of, method, start.as_ref(), end.as_ref())?;
            let test = |affix: &Value| match (kind(affix), within) {
                (Kind::Str(affix), Some((_, text))) if method == "startswith" => Ok(text.starts_with(affix)),
                (Kind::Str(affix), Some((_, text))) => Ok(text.ends_with(affix)),
                (Kind::Str(_), None) => Ok(false),
                _ => Err(fail(format!("{method} takes a str or a tuple of str"))),
            };
            Value::from(match kind(&affix) {
                Kind::Tuple(affixes) => {
                    let mut any = false;
                    for affix in affixes {
                        spend(state, 1)?;
                        any |= test(affix)?;
                    }
                    any
                }
                _ => test(&affix)?,
            })
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = bind(method, args, ["prefix"])?;
            let affix = needed(method, affix)?;
            let rest = match method {
                "removeprefix" => of.strip_prefix(&*affix),
                _ => of.strip_suffix(&*affix),
            };
            Value::from(rest.unwrap_or(of))
        }
        "split" | "rsplit" => {
            let [separator, limit] = bind(method, args, ["sep", "maxsplit"])?;
            let separator = text(method, separator.as_ref())?;
            let limit = whole(method, limit.as_ref())?.unwrap_or(-1);
            split(state, of, method == "rsplit", separator.as_deref(), usize::try_from(limit).ok())?
        }
        "splitlines" => {
            let [keep] = bind(method, args, ["keepends"])?;
            let keep = flag(keep.as_ref());
            let lines = lines(of);
            reserve(state, lines.len(), ITEM)?;
            let line = |(line, end): &(&str, &str)| match keep {
                true => Value::from(format!("{line}{end}")),
                false => Value::from(*line),
            };
            Value::from(lines.iter().map(line).collect::<Vec<_>>())
        }
        "replace" => {
            let [from, to, count] = bind(method, args, ["old", "new", "count"])?;
            let (from, to) = (needed(method, from)?, needed(method, to)?);
            let count = whole(method, count.as_ref())?.unwrap_or(-1);
            Value::from(replace(state, of, &from, &to, count)?)
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [needle, start, end] = bind(method, args, ["sub", "start", "end"])?;
            let needle = needed(method, needle)?;
            let within = within(of, method, start.as_ref(), end.as_ref())?;
            if method == "count" {
                return Ok(Value::from(within.map_or(0, |(_, text)| text.matches(&*needle).count())));
            }
            let found = within.and_then(|(before, text)| {
                let at = if method.starts_with('r') { text.rfind(&*needle) } else { text.find(&*needle) }?;
                // In characters, as in Python.
                Some(before + text.get(..at)?.chars().count())
            });
            match found {
                Some(at) => Value::from(at),
                None if method.ends_with("find") => Value::from(-1),
                None => return Err(fail("substring not found")),
            }
        }
        "join" => {
            let [parts] = bind(method, args, ["iterable"])?;
            let mut joined = Text::new(state);
            for (at, part) in items(state, &required(method, parts)?)?.iter().enumerate() {
                let Kind::Str(part) = kind(part) else {
                    let name = type_name(part);
                    return Err(fail(format!("sequence item {at}: expected str instance, {name} found")));
                };
                joined.push(if at == 0 { "" } else { of })?;
                joined.push(part)?;
            }
            Value::from(joined.finish(state)?)
        }
        "partition" | "rpartition" => {
            let [separator] = bind(method, args, ["sep"])?;
            let separator = needed(method, separator)?;
            if separator.is_empty() {
                return Err(fail("empty separator"));
            }
            let cut = match method {
                "partition" => of.split_once(&*separator),
                _ => of.rsplit_once(&*separator),
            };
            let parts = match cut {
                Some((before, after)) => [before, &separator, after],
                None if method == "partition" => [of, "", ""],
                None => ["", "", of],
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "center" | "ljust" | "rjust" => {
            let [width, fill] = bind(method, args, ["width", "fillchar"])?;
            let width = whole(method, Some(&required(method, width)?))?.unwrap_or(0);
            let fill = text(method, fill.as_ref())?.unwrap_or_else(|| " ".to_owned());
            let mut chars = fill.chars();
            let (Some(fill), None) = (chars.next(), chars.next()) else {
                return Err(fail("The fill character must be exactly one character long"));
            };
            Value::from(pad(state, of, method, width, fill)?)
        }
        "zfill" => {
            let [width] = bind(method, args, ["width"])?;
            let width = whole(method, Some(&required(method, width)?))?.unwrap_or(0);
            let sign = of.chars().next().filter(|c| matches!(c, '+' | '-'));
            let (sign, digits) = of.split_at(sign.map_or(0, char::len_utf8));
            let width = width.saturating_sub(i64::from(!sign.is_empty()));
            let padded = pad(state, digits, "rjust", width, '0')?;
            Value::from(format!("{sign}{padded}"))
        }
        "expandtabs" => {
            let [size] = bind(method, args, ["tabsize"])?;
            let size = usize::try_from(whole(method, size.as_ref())?.unwrap_or(8)).unwrap_or(0);
            let mut expanded = Text::new(state);
            let mut column = 0;
            for c in of.chars() {
                match c {
                    '\t' => {
                        let width = if size == 0 { 0 } else { size - column % size };
                        expanded.fill(' ', width)?;
                        column += width;
                    }
                    _ => {
                        expanded.push_char(c)?;
                        column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                    }
                }
            }
            Value::from(expanded.finish(state)?)
        }
        "format" => Value::from(format::braces(state, of, args)?),
        _ => {
            let [] = bind(method, args, [])?;
            plain(of, method).ok_or_else(|| unknown(&Value::from(of), method))?
        }
    })
}

fn needed(method: &str, argument: Option<Value>) -> Result<String> {
    text(method, argument.as_ref())?.ok_or_else(|| fail(format!("{method} takes a str")))
}

/// Methods without arguments.
fn plain(of: &str, method: &str) -> Option<Value> {
    let letter = |c| category::of(c) == Category::Letter;
    let all = |test: &dyn Fn(char) -> bool| Value::from(!of.is_empty() && of.chars().all(test));
    let cased = |c: char| c.is_lowercase() || c.is_uppercase();
    Some(match method {
        "upper" => Value::from(of.to_uppercase()),
        "lower" => Value::from(of.to_lowercase()),
        // Python folds `ß` and the like; what Rust's standard library has is the lower case.
        "casefold" => Value::from(of.to_lowercase().replace('ß', "ss").replace('ς', "σ")),
        "swapcase" => {
            let swap = |c: char| match c.is_uppercase() {
                true => c.to_lowercase().collect::<String>(),
                false => c.to_uppercase().collect(),
            };
            Value::from(of.chars().map(swap).collect::<String>())
        }
        "capitalize" => Value::from(capitalize(of)),
        "title" => {
            let mut title = String::new();
            let mut start = true;
            for c in of.chars() {
                match start {
                    true => title.push_str(&titlecase(c)),
                    false => title.extend(c.to_lowercase()),
                }
                start = !cased(c);
            }
            Value::from(title)
        }
        "isdigit" => {
            all(&|c| is_decimal(c) || matches!(c, '²' | '³' | '¹' | '⁰'..='⁹' | '₀'..='₉' | '①'..='⑨'))
        }
        "isdecimal" => all(&is_decimal),
        "isnumeric" => all(&char::is_numeric),
        "isalpha" => all(&letter),
        "isalnum" => all(&|c| letter(c) || c.is_numeric()),
        "isspace" => all(&is_space),
        "isascii" => Value::from(of.is_ascii()),
        "islower" => Value::from(of.chars().any(cased) && !of.chars().any(char::is_uppercase)),
        "isupper" => Value::from(of.chars().any(cased) && !of.chars().any(char::is_lowercase)),
        "istitle" => {
            let mut after_cased = false;
            let mut title = of.chars().any(cased);
            for c in of.chars() {
                title &= if c.is_uppercase() { !after_cased } else { after_cased || !c.is_lowercase() };
                after_cased = cased(c);
            }
            Value::from(title)
        }
        _ => return None,
    })
}

/// The digit zero of every script of the Basic Multilingual Plane; nine more follow each.
const ZEROS: [u32; 37] = [
    0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50,
    0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40,
    0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10,
];

/// Whether `c` is a decimal digit of some script.
fn is_decimal(c: char) -> bool {
    ZEROS.iter().any(|&zero| (zero..zero + 10).contains(&u32::from(c)))
}

/// The title case of `c`: only its first letter is large.
fn titlecase(c: char) -> String {
    match c {
        'Ǆ'..='ǆ' => 'ǅ'.to_string(),
        'Ǉ'..='ǉ' => 'ǈ'.to_string(),
        'Ǌ'..='ǌ' => 'ǋ'.to_string(),
        'Ǳ'..='ǳ' => 'ǲ'.to_string(),
        _ => {
            let mut upper = c.to_uppercase();
            let first = upper.next().unwrap_or(c);
            std::iter::once(first).chain(upper.flat_map(char::to_lowercase)).collect()
        }
    }
}

pub(super) fn capitalize(of: &str) -> String {
    let mut chars = of.chars();
    let first = chars.next().map(titlecase).unwrap_or_default();
    first + &chars.as_str().to_lowercase()
}

/// Python's `strip`, `lstrip` and `rstrip`.
pub(super) fn strip<'t>(
    state: &State,
    of: &'t str,
    chars: Option<&str>,
    start: bool,
    end: bool,
) -> Result<&'t str> {
    spend(state, of.len())?;
    let set: HashSet<char> = chars.unwrap_or_default().chars().collect();
    let cut = |c: char| if chars.is_some() { set.contains(&c) } else { is_space(c) };
    let trimmed = if start { of.trim_start_matches(cut) } else { of };
    Ok(if end { trimmed.trim_end_matches(cut) } else { trimmed })
}

/// Python's `replace`; a negative `count` is no limit.
pub(super) fn replace(state: &State, of: &str, from: &str, to: &str, count: i64) -> Result<String> {
    spend(state, of.len())?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut replaced = Text::new(state);
    let mut end = 0;
    for (at, part) in of.match_indices(from).take(count) {
        replaced.push(of.get(end..at).unwrap_or_default())?;
        replaced.push(to)?;
        end = at + part.len();
    }
    replaced.push(of.get(end..).unwrap_or_default())?;
    replaced.finish(state)
}

/// `of` with `fill` on one side or both, so that it has `width` characters.
pub(super) fn pad(state: &State, of: &str, method: &str, width: i64, fill: char) -> Result<String> {
    let length = of.chars().count();
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(length);
    let before = match method {
        "ljust" => 0,
        "rjust" => missing,
        // As Python rounds.
        _ => missing / 2 + (missing & width & 1),
    };
    let mut padded = Text::new(state);
    padded.fill(fill, before)?;
    padded.push(of)?;
    padded.fill(fill, missing - before)?;
    padded.finish(state)
}

/// The lines and their ends, as Python's `splitlines` sees them.
pub(super) fn lines(of: &str) -> Vec<(&str, &str)> {
    let mut lines = Vec::new();
    let mut rest = of;
    let ends = |c| matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    while let Some(at) = rest.find(ends) {
        let (line, tail) = rest.split_at(at);
        let length = match tail.starts_with("\r\n") {
            true => 2,
            false => tail.chars().next().map_or(1, char::len_utf8),
        };
        let (end, tail) = tail.split_at(length);
        lines.push((line, end));
        rest = tail;
    }
    if !rest.is_empty() {
        lines.push((rest, ""));
    }
    lines
}

/// The part of `of` from character `start` to `end`, and how many characters come before. `None` if
/// it starts behind the end.
fn within<'t>(
    of: &'t str,
    method: &str,
    start: Option<&Value>,
    end: Option<&Value>,
) -> Result<Option<(usize, &'t str)>> {
    let (start, end) = (whole(method, start)?, whole(method, end)?);
    if start.is_none() && end.is_none() {
        return Ok(Some((0, of)));
    }
    let length = of.chars().count();
    let clamp = |index: i64| match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => length.saturating_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let (start, end) = (clamp(start.unwrap_or(0)), clamp(end.unwrap_or(i64::MAX)).min(length));
    if start > end {
        return Ok(None);
    }
    let byte = |at: usize| of.char_indices().nth(at).map_or(of.len(), |(byte, _)| byte);
    Ok(of.get(byte(start)..byte(end)).map(|text| (start, text)))
}

/// Python's `split` and `rsplit`; without a separator at runs of white space.
fn split(
    state: &State,
    of: &str,
    from_right: bool,
    separator: Option<&str>,
    limit: Option<usize>,
) -> Result<Value> {
    let count = limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
    // No more parts than bytes.
    reserve(state, of.len().min(count), ITEM)?;
    let parts: Vec<&str> = match separator {
        Some("") => return Err(fail("empty separator")),
        Some(separator) if from_right => {
            let mut parts: Vec<&str> = of.rsplitn(count, separator).collect();
            parts.reverse();
            parts
        }
        Some(separator) => of.splitn(count, separator).collect(),
        None if from_right => {
            let mut parts = Vec::new();
            let mut rest = of.trim_end_matches(is_space);
            while !rest.is_empty() && parts.len() + 1 < count {
                let (before, part) = match rest.char_indices().rfind(|&(_, c)| is_space(c)) {
                    Some((at, c)) => (rest.get(..at), rest.get(at + c.len_utf8()..)),
                    None => (None, Some(rest)),
                };
                parts.extend(part);
                rest = before.unwrap_or_default().trim_end_matches(is_space);
            }
            parts.extend((!rest.is_empty()).then_some(rest));
            parts.reverse();
            parts
        }
        None => {
            let mut parts = Vec::new();
            let mut rest = of.trim_start_matches(is_space);
            while !rest.is_empty() && parts.len() + 1 < count {
                let (part, after) = rest.split_once(is_space).unwrap_or((rest, ""));
                parts.push(part);
                rest = after.trim_start_matches(is_space);
            }
            parts.extend((!rest.is_empty()).then_some(rest));
            parts
        }
    };
    Ok(Value::from(parts.into_iter().map(Value::from).collect::<Vec<_>>()))
}

/// Python's `str` of the argument.
pub(super) fn soft_str(state: &State, value: &Value) -> Result<String> {
    check_plain(value)?;
    to_str(state, value).map(|text| text.into_owned())
}
