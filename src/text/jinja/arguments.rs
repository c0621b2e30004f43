//! Arguments of filters, methods and functions, given by place or by name as in Python.

use minijinja::value::{Kwargs, Value};

use super::python::{Kind, Result, as_int, fail, kind, type_name};

/// The arguments without and with names.
pub(super) fn split(args: &[Value]) -> (&[Value], Vec<(String, Value)>) {
    let Some((last, positional)) = args.split_last().filter(|(last, _)| last.is_kwargs()) else {
        return (args, Vec::new());
    };
    let named = Kwargs::try_from(last.clone()).ok();
    let named = named.iter().flat_map(|named| {
        let value = |name| named.get::<Value>(name).unwrap_or_default();
        named.args().map(move |name| (name.to_owned(), value(name)))
    });
    (positional, named.collect())
}

/// The arguments `args` of `function`, whose parameters have these names. The arguments that are not
/// given are `None`.
///
/// # Errors
/// If there are too many, or one has no parameter or two values.
pub(super) fn bind<const N: usize>(
    function: &str,
    args: &[Value],
    names: [&str; N],
) -> Result<[Option<Value>; N]> {
    let (positional, named) = split(args);
    if positional.len() > N {
        let reason = format!("{function} takes at most {N} arguments, not {}", positional.len());
        return Err(fail(reason));
    }
    let mut bound = [const { None }; N];
    for (slot, value) in bound.iter_mut().zip(positional) {
        *slot = Some(value.clone());
    }
    for (name, value) in named {
        let at = names.iter().position(|&parameter| parameter == name);
        match at.and_then(|at| bound.get_mut(at)) {
            Some(slot @ None) => *slot = Some(value),
            Some(Some(_)) => {
                return Err(fail(format!("{function} has two values for the argument '{name}'")));
            }
            None => return Err(fail(format!("{function} has no argument '{name}'"))),
        }
    }
    Ok(bound)
}

/// An argument that must be given.
pub(super) fn required(function: &str, argument: Option<Value>) -> Result<Value> {
    argument.ok_or_else(|| fail(format!("{function} lacks an argument")))
}

/// The argument as a string; `None` if it is not given or is `None`.
pub(super) fn text(function: &str, argument: Option<&Value>) -> Result<Option<String>> {
    match argument.map(|value| (kind(value), value)) {
        None | Some((Kind::None, _)) => Ok(None),
        Some((Kind::Str(text), value)) => {
            super::operators::check_plain(value)?;
            Ok(Some(text.to_owned()))
        }
        Some((_, value)) => Err(fail(format!("{function} takes a str, not '{}'", type_name(value)))),
    }
}

/// The argument as an integer; `None` if it is not given or is `None`.
pub(super) fn whole(function: &str, argument: Option<&Value>) -> Result<Option<i64>> {
    match argument.map(|value| (kind(value), value)) {
        None | Some((Kind::None, _)) => Ok(None),
        Some((_, value)) => match as_int(value) {
            // Python's integers have no end; what these count has.
            Some(value) => {
                Ok(Some(i64::try_from(value.clamp(i64::MIN.into(), i64::MAX.into())).unwrap_or(0)))
            }
            None => Err(fail(format!("{function} takes an int, not '{}'", type_name(value)))),
        },
    }
}

/// Whether the argument is given and true.
pub(super) fn flag(argument: Option<&Value>) -> bool {
    argument.is_some_and(Value::is_true)
}
