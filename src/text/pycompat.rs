//! Python's string and dictionary methods that chat templates call on values.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Called for a method minijinja does not know.
pub(crate) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => match value.as_str() {
            Some(text) => string(text, method, args),
            None => Err(Error::from(ErrorKind::UnknownMethod)),
        },
        ValueKind::Map => map(state, value, method, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// `items`, `keys`, `values`, `get`.
fn map(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let keys = || value.try_iter().map(Iterator::collect::<Vec<Value>>);
    Ok(match method {
        "items" => {
            let () = from_args(args)?;
            state.apply_filter("items", std::slice::from_ref(value))?
        }
        "keys" => {
            let () = from_args(args)?;
            Value::from(keys()?)
        }
        "values" => {
            let () = from_args(args)?;
            let values: Result<Vec<Value>, Error> = keys()?.iter().map(|key| value.get_item(key)).collect();
            Value::from(values?)
        }
        "get" => {
            let (key, default): (&Value, Option<Value>) = from_args(args)?;
            match value.get_item(key)? {
                found if found.is_undefined() => default.unwrap_or(Value::from(())),
                found => found,
            }
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn string(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            let cut = |c: char| match chars {
                Some(chars) => chars.contains(c),
                None => c.is_whitespace(),
            };
            Value::from(match method {
                "strip" => text.trim_matches(cut),
                "lstrip" => text.trim_start_matches(cut),
                _ => text.trim_end_matches(cut),
            })
        }
        "startswith" | "endswith" => {
            let (affix,): (&Value,) = from_args(args)?;
            let test = |affix: &str| match method {
                "startswith" => text.starts_with(affix),
                _ => text.ends_with(affix),
            };
            Value::from(match affix.as_str() {
                Some(affix) => test(affix),
                // A tuple: any of them.
                None => affix.try_iter()?.any(|affix| affix.as_str().is_some_and(test)),
            })
        }
        "removeprefix" | "removesuffix" => {
            let (affix,): (&str,) = from_args(args)?;
            let rest = match method {
                "removeprefix" => text.strip_prefix(affix),
                _ => text.strip_suffix(affix),
            };
            Value::from(rest.unwrap_or(text))
        }
        "split" | "rsplit" => {
            let (separator, limit): (Option<&str>, Option<i64>) = from_args(args)?;
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            split(text, method == "rsplit", separator, limit)?
        }
        "splitlines" => {
            let () = from_args(args)?;
            text.lines().map(Value::from).collect()
        }
        "replace" => {
            let (from, to, limit): (&str, &str, Option<i64>) = from_args(args)?;
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            // An empty pattern matches between all characters, and the result is that much longer.
            if text.len().saturating_mul(to.len().max(1)) > 1 << 24 {
                return Err(Error::new(ErrorKind::InvalidOperation, "replace gives too long a text"));
            }
            Value::from(text.replacen(from, to, limit.unwrap_or(usize::MAX)))
        }
        "find" | "count" => {
            let (needle,): (&str,) = from_args(args)?;
            match method {
                "count" => Value::from(text.matches(needle).count()),
                // In characters, as in Python.
                _ => match text.find(needle) {
                    Some(at) => Value::from(text[..at].chars().count()),
                    None => Value::from(-1),
                },
            }
        }
        "join" => {
            let (parts,): (&Value,) = from_args(args)?;
            let parts: Vec<String> = parts.try_iter()?.map(|part| part.to_string()).collect();
            Value::from(parts.join(text))
        }
        "upper" | "lower" | "capitalize" | "title" | "isdigit" | "isspace" => {
            let () = from_args(args)?;
            plain(text, method)
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

/// Methods without arguments.
fn plain(text: &str, method: &str) -> Value {
    match method {
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "isdigit" => Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())),
        "isspace" => Value::from(!text.is_empty() && text.chars().all(char::is_whitespace)),
        _ => {
            let mut result = String::new();
            let mut start = true;
            for c in text.chars() {
                match start {
                    true => result.extend(c.to_uppercase()),
                    false => result.extend(c.to_lowercase()),
                }
                start = method == "title" && !c.is_alphabetic();
            }
            Value::from(result)
        }
    }
}

/// Python's `split` and `rsplit`; without a separator at runs of whitespace.
fn split(
    text: &str,
    from_right: bool,
    separator: Option<&str>,
    limit: Option<usize>,
) -> Result<Value, Error> {
    let count = limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
    let parts: Vec<&str> = match separator {
        Some("") => {
            return Err(Error::new(ErrorKind::InvalidOperation, "split: empty separator"));
        }
        Some(separator) if from_right => {
            let mut parts: Vec<&str> = text.rsplitn(count, separator).collect();
            parts.reverse();
            parts
        }
        Some(separator) => text.splitn(count, separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim();
            while !rest.is_empty() && parts.len() + 1 < count && !from_right {
                let (part, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                parts.push(part);
                rest = after.trim_start();
            }
            while !rest.is_empty() && parts.len() + 1 < count && from_right {
                let (before, part) = rest.rsplit_once(char::is_whitespace).unwrap_or(("", rest));
                parts.push(part);
                rest = before.trim_end();
            }
            parts.extend((!rest.is_empty()).then_some(rest));
            if from_right {
                parts.reverse();
            }
            parts
        }
    };
    Ok(parts.into_iter().map(Value::from).collect())
}
