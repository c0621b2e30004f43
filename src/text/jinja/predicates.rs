//! jinja2's tests: `value is odd`.

use minijinja::State;
use minijinja::value::Value;

use super::arguments::bind;
use super::filters::{COMPARISONS, FILTERS};
use super::python::{Iter, Kind, Result, as_float, as_int, equal, fail, kind, spend, to_str, type_name};

pub(super) type Test = fn(&State, &Value, &[Value]) -> Result<bool>;

/// The tests besides the comparisons.
pub(super) const TESTS: [(&str, Test); 23] = [
    ("boolean", |_, value, _| Ok(matches!(kind(value), Kind::Bool(_)))),
    ("callable", |_, value, _| Ok(matches!(kind(value), Kind::Other | Kind::Undefined))),
    ("defined", |_, value, _| Ok(!value.is_undefined())),
    ("divisibleby", |_, value, args| {
        let [by] = bind("divisibleby", args, ["num"])?;
        remainder(value, by.as_ref().unwrap_or(&Value::UNDEFINED)).map(|rest| rest == 0.0)
    }),
    ("escaped", |_, value, _| Ok(value.is_safe())),
    ("even", |_, value, _| Ok(remainder(value, &Value::from(2))? == 0.0)),
    ("false", |_, value, _| Ok(matches!(kind(value), Kind::Bool(false)))),
    ("filter", |_, value, _| Ok(FILTERS.iter().any(|(name, _)| value.as_str() == Some(name)))),
    ("float", |_, value, _| Ok(matches!(kind(value), Kind::Float(_)))),
    ("integer", |_, value, _| Ok(matches!(kind(value), Kind::Int(_)))),
    ("iterable", |_, value, _| {
        let iterable = matches!(
            kind(value),
            Kind::Undefined
                | Kind::Str(_)
                | Kind::List(_)
                | Kind::Tuple(_)
                | Kind::Dict(_)
                | Kind::View(..)
                | Kind::Iter(_)
        );
        Ok(iterable)
    }),
    ("lower", |state, value, _| {
        let text = to_str(state, value)?;
        Ok(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase))
    }),
    ("mapping", |_, value, _| Ok(matches!(kind(value), Kind::Dict(_)))),
    ("none", |_, value, _| Ok(value.is_none())),
    ("number", |_, value, _| Ok(as_float(value).is_some())),
    ("odd", |_, value, _| Ok(remainder(value, &Value::from(2))? == 1.0)),
    ("sameas", |state, value, args| {
        let [other] = bind("sameas", args, ["other"])?;
        same(state, value, other.as_ref().unwrap_or(&Value::UNDEFINED))
    }),
    ("sequence", |_, value, _| {
        let sequence = matches!(
            kind(value),
            Kind::Undefined
                | Kind::Str(_)
                | Kind::List(_)
                | Kind::Tuple(_)
                | Kind::Dict(_)
                | Kind::Iter(Iter::Range { .. })
        );
        Ok(sequence)
    }),
    ("string", |_, value, _| Ok(matches!(kind(value), Kind::Str(_)))),
    ("test", |_, value, _| Ok(value.as_str().is_some_and(is_name))),
    ("true", |_, value, _| Ok(matches!(kind(value), Kind::Bool(true)))),
    ("undefined", |_, value, _| Ok(value.is_undefined())),
    ("upper", |state, value, _| {
        let text = to_str(state, value)?;
        Ok(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))
    }),
];

/// Whether a test has this name.
pub(super) fn is_name(name: &str) -> bool {
    TESTS.iter().any(|(test, _)| *test == name) || COMPARISONS.iter().any(|(test, _)| *test == name)
}

/// Runs a test, and pays for the text that it looks at.
pub(super) fn perform(state: &State, test: Test, args: &[Value]) -> Result<bool> {
    let [value, rest @ ..] = args else {
        return Err(fail("a test lacks a value"));
    };
    spend(state, value.as_str().map_or(0, str::len))?;
    test(state, value, rest)
}

/// What Python's `%` leaves of two numbers.
fn remainder(value: &Value, by: &Value) -> Result<f64> {
    match (as_int(value), as_int(by), as_float(value), as_float(by)) {
        (_, Some(0), ..) => Err(fail("division by zero")),
        (Some(value), Some(by), ..) => Ok(value.checked_rem_euclid(by).unwrap_or(0) as f64),
        (_, _, Some(_), Some(0.0)) => Err(fail("division by zero")),
        (_, _, Some(value), Some(by)) => Ok(value.rem_euclid(by)),
        _ => Err(fail(format!("'{}' values have no remainder", type_name(value)))),
    }
}

/// Python's `is`, where what it says does not depend on how Python stores values.
fn same(state: &State, value: &Value, other: &Value) -> Result<bool> {
    match (kind(value), kind(other)) {
        (Kind::None, Kind::None) => Ok(true),
        (Kind::Bool(a), Kind::Bool(b)) => Ok(a == b),
        (Kind::List(a), Kind::List(b)) => Ok(std::ptr::eq(a, b)),
        (Kind::Dict(a), Kind::Dict(b)) => Ok(std::ptr::eq(a, b)),
        (Kind::Namespace(a), Kind::Namespace(b)) => Ok(std::ptr::eq(a, b)),
        _ if type_name(value) != type_name(other) || !equal(state, value, other)? => Ok(false),
        _ => Err(fail(format!("sameas compares no equal '{}' values", type_name(value)))),
    }
}
