//! The operations of templates that [`rewrite`](super::rewrite) turns into calls: Python's
//! operators, literals, subscripts, attributes and method calls. The first argument is the left
//! operand.

use std::cmp::Ordering;
use std::sync::Arc;

use indexmap::IndexMap;
use minijinja::State;
use minijinja::value::{Kwargs, Object, ObjectRepr, Tuple, Value};

use super::python::{
    self, Dict, ITEM, Iter, Kind, Method, Namespace, Result, Text, as_float, as_int, check_key, compare,
    equal, fail, int, kind, reserve, spend, to_str, type_name,
};
use super::{format, methods};

/// A filter, a test, a function or an operation.
pub(super) type Function = fn(&mut State, &[Value]) -> Result<Value>;

/// The operations by the names that `rewrite` gives them. A template can write none of them.
pub(super) const OPERATORS: [(&str, Function); 27] = [
    ("+", |state, args| add(state, left(args), right(args))),
    ("-", |_, args| arithmetic("-", left(args), right(args))),
    ("*", |state, args| multiply(state, left(args), right(args))),
    ("/", |_, args| arithmetic("/", left(args), right(args))),
    ("//", |_, args| arithmetic("//", left(args), right(args))),
    ("%", |state, args| match kind(left(args)) {
        Kind::Str(text) => format::percent(state, text, right(args)).map(Value::from),
        _ => arithmetic("%", left(args), right(args)),
    }),
    ("**", |_, args| arithmetic("**", left(args), right(args))),
    ("-x", |_, args| negate(left(args))),
    ("~", |state, args| concatenate(state, left(args), right(args))),
    ("==", |state, args| compared(state, "==", args)),
    ("!=", |state, args| compared(state, "!=", args)),
    ("<", |state, args| compared(state, "<", args)),
    ("<=", |state, args| compared(state, "<=", args)),
    (">", |state, args| compared(state, ">", args)),
    (">=", |state, args| compared(state, ">=", args)),
    ("(in)", |state, args| compared(state, "in", args)),
    ("<<", comparison_chain),
    ("[]", |state, args| item(state, left(args), right(args))),
    ("[:]", slice),
    (".", |_, args| attribute(left(args), right(args))),
    (".=", set_attribute),
    (".()", call_method),
    ("[,]", |_, args| Ok(left(args).clone())),
    ("{}", dict_literal),
    ("iter()", check_iterable),
    ("given()", |_, args| Ok(given(left(args)))),
    ("taken()", |_, args| match left(args).downcast_object_ref::<Given>() {
        Some(Given) => Ok(Value::UNDEFINED),
        None => Ok(left(args).clone()),
    }),
];

fn left(args: &[Value]) -> &Value {
    args.first().unwrap_or(&Value::UNDEFINED)
}

fn right(args: &[Value]) -> &Value {
    args.get(1).unwrap_or(&Value::UNDEFINED)
}

/// An undefined argument of a macro, which MiniJinja would take for a missing one.
#[derive(Debug)]
struct Given;

impl Object for Given {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

fn given(value: &Value) -> Value {
    if value.is_undefined() { Value::from_object(Given) } else { value.clone() }
}

fn unsupported(operator: &str, a: &Value, b: &Value) -> minijinja::Error {
    let (a, b) = (type_name(a), type_name(b));
    fail(format!("unsupported operand types for {operator}: '{a}' and '{b}'"))
}

/// MiniJinja's and jinja2's safe strings escape what is added to them.
pub(super) fn check_plain(value: &Value) -> Result<()> {
    match value.is_safe() {
        true => Err(fail("what the filters safe and escape give can be printed, but not used further")),
        false => Ok(()),
    }
}

pub(super) fn add(state: &State, a: &Value, b: &Value) -> Result<Value> {
    match (kind(a), kind(b)) {
        (Kind::Str(_), Kind::Str(_)) => {
            check_plain(a)?;
            check_plain(b)?;
            concatenate(state, a, b)
        }
        (Kind::List(left), Kind::List(right)) => joined(state, left, right).map(Value::from),
        (Kind::Tuple(left), Kind::Tuple(right)) => {
            joined(state, left, right).map(|items| Value::from(Tuple::from(items)))
        }
        _ => arithmetic("+", a, b),
    }
}

fn joined(state: &State, left: &[Value], right: &[Value]) -> Result<Vec<Value>> {
    reserve(state, left.len() + right.len(), ITEM)?;
    Ok(left.iter().chain(right).cloned().collect())
}

fn concatenate(state: &State, a: &Value, b: &Value) -> Result<Value> {
    let mut text = Text::new(state);
    text.push(&to_str(state, a)?)?;
    text.push(&to_str(state, b)?)?;
    text.finish(state).map(Value::from)
}

fn multiply(state: &State, a: &Value, b: &Value) -> Result<Value> {
    let times = |repeated: &Value, count: i128| -> Result<Value> {
        let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        let repeat = |items: &[Value]| {
            reserve(state, count, items.len().saturating_mul(ITEM))?;
            let count = if items.is_empty() { 0 } else { count };
            Ok(std::iter::repeat_n(items, count).flatten().cloned().collect::<Vec<_>>())
        };
        match kind(repeated) {
            Kind::Str(text) => {
                check_plain(repeated)?;
                reserve(state, count, text.len())?;
                Ok(Value::from(text.repeat(if text.is_empty() { 0 } else { count })))
            }
            Kind::List(items) => repeat(items).map(Value::from),
            Kind::Tuple(items) => repeat(items).map(|items| Value::from(Tuple::from(items))),
            _ => Err(unsupported("*", a, b)),
        }
    };
    let sequence = |value: &Value| matches!(kind(value), Kind::Str(_) | Kind::List(_) | Kind::Tuple(_));
    match (as_int(a), as_int(b)) {
        (None, Some(count)) if sequence(a) => times(a, count),
        (Some(count), None) if sequence(b) => times(b, count),
        _ => arithmetic("*", a, b),
    }
}

fn negate(value: &Value) -> Result<Value> {
    match (as_int(value), as_float(value)) {
        (Some(value), _) => value.checked_neg().map(int).ok_or_else(too_large),
        (None, Some(value)) => Ok(Value::from(-value)),
        _ => Err(fail(format!("bad operand type for unary -: '{}'", type_name(value)))),
    }
}

fn too_large() -> minijinja::Error {
    fail("an integer has more than 128 bits")
}

fn arithmetic(operator: &str, a: &Value, b: &Value) -> Result<Value> {
    if let (Some(x), Some(y)) = (as_int(a), as_int(b)) {
        return integers(operator, x, y);
    }
    let (Some(x), Some(y)) = (as_float(a), as_float(b)) else {
        return Err(unsupported(operator, a, b));
    };
    if y == 0.0 && matches!(operator, "/" | "//" | "%") {
        return Err(fail("division by zero"));
    }
    let result = match operator {
        "+" => x + y,
        "-" => x - y,
        "*" => x * y,
        "/" => x / y,
        "//" => (x - modulo(x, y)) / y,
        "%" => modulo(x, y),
        _ => power(x, y)?,
    };
    Ok(Value::from(if operator == "//" { floor_nearest(result) } else { result }))
}

/// Python's `%` of floats: with the sign of the divisor.
fn modulo(x: f64, y: f64) -> f64 {
    let rest = x % y;
    match rest != 0.0 && (rest < 0.0) != (y < 0.0) {
        true => rest + y,
        false if rest == 0.0 => 0f64.copysign(y),
        false => rest,
    }
}

/// The whole number that a division is meant to give, despite rounding.
fn floor_nearest(quotient: f64) -> f64 {
    let floor = quotient.floor();
    if quotient - floor > 0.5 { floor + 1.0 } else { floor }
}

fn power(x: f64, y: f64) -> Result<f64> {
    if x == 0.0 && y < 0.0 {
        return Err(fail("zero cannot be raised to a negative power"));
    }
    let result = x.powf(y);
    match (result.is_nan() && !x.is_nan() && !y.is_nan()) || (result.is_infinite() && x.is_finite()) {
        true => Err(fail("the result of ** is no finite real number")),
        false => Ok(result),
    }
}

fn integers(operator: &str, x: i128, y: i128) -> Result<Value> {
    let result = match operator {
        "+" => x.checked_add(y),
        "-" => x.checked_sub(y),
        "*" => x.checked_mul(y),
        "/" | "//" | "%" if y == 0 => return Err(fail("division by zero")),
        "/" => return Ok(Value::from(x as f64 / y as f64)),
        // Rounded down, as in Python.
        "//" => x.checked_div_euclid(y).map(|q| if y < 0 && x.rem_euclid(y) != 0 { q - 1 } else { q }),
        "%" => x.checked_rem_euclid(y).map(|r| if y < 0 && r != 0 { r + y } else { r }),
        _ if y < 0 => return power(x as f64, y as f64).map(Value::from),
        _ => match (x, u32::try_from(y)) {
            (0 | 1, _) => Some(if y == 0 { 1 } else { x }),
            (-1, _) => Some(if y % 2 == 0 { 1 } else { -1 }),
            (_, Ok(y)) => x.checked_pow(y),
            _ => None,
        },
    };
    result.map(int).ok_or_else(too_large)
}

fn compared(state: &State, operator: &str, args: &[Value]) -> Result<Value> {
    test(state, operator, left(args), right(args)).map(Value::from)
}

/// Whether the comparison `operator` holds.
pub(super) fn test(state: &State, operator: &str, a: &Value, b: &Value) -> Result<bool> {
    Ok(match operator {
        "==" => equal(state, a, b)?,
        "!=" => !equal(state, a, b)?,
        "<" => compare(state, a, b)? == Ordering::Less,
        "<=" => compare(state, a, b)? != Ordering::Greater,
        ">" => compare(state, a, b)? == Ordering::Greater,
        ">=" => compare(state, a, b)? != Ordering::Less,
        "in" => contains(state, b, a)?,
        _ => !contains(state, b, a)?,
    })
}

/// `a < b < c`: the arguments are an operand, then operators and operands by turns.
fn comparison_chain(state: &mut State, args: &[Value]) -> Result<Value> {
    let mut a = left(args);
    for pair in args.get(1..).unwrap_or_default().chunks_exact(2) {
        if let [operator, b] = pair {
            if !test(state, operator.as_str().unwrap_or_default(), a, b)? {
                return Ok(Value::from(false));
            }
            a = b;
        }
    }
    Ok(Value::from(true))
}

fn contains(state: &State, container: &Value, value: &Value) -> Result<bool> {
    match (kind(container), kind(value)) {
        (Kind::Str(text), Kind::Str(part)) => {
            spend(state, text.len())?;
            Ok(text.contains(part))
        }
        (Kind::Str(_), _) => {
            let name = type_name(value);
            Err(fail(format!("'in <string>' requires string as left operand, not {name}")))
        }
        (Kind::Dict(dict), _) => {
            check_key(state, value)?;
            Ok(dict.0.contains_key(value))
        }
        _ => {
            for item in python::items(state, container)? {
                if equal(state, &item, value)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// `value[key]`, which jinja2 also reads as `value.key`.
pub(super) fn item(state: &State, value: &Value, key: &Value) -> Result<Value> {
    let at = |length: usize| {
        let index = as_int(key)?;
        let length = i128::try_from(length).ok()?;
        let index = if index < 0 { index + length } else { index };
        usize::try_from(index).ok()
    };
    let found = match (kind(value), kind(key)) {
        (Kind::Undefined, _) => return Err(fail(format!("an undefined value has no item {}", shown(key)))),
        (Kind::Str(text), Kind::Int(_) | Kind::Bool(_)) => {
            spend(state, text.len())?;
            at(text.chars().count()).and_then(|at| text.chars().nth(at)).map(Value::from)
        }
        (Kind::List(items) | Kind::Tuple(items), Kind::Int(_) | Kind::Bool(_)) => {
            at(items.len()).and_then(|at| items.get(at)).cloned()
        }
        (Kind::Iter(&Iter::Range { start, step, length, .. }), Kind::Int(_) | Kind::Bool(_)) => {
            at(length).filter(|&at| at < length).and_then(|at| Iter::number(start, step, at)).map(Value::from)
        }
        (Kind::Dict(dict), _) if check_key(state, key).is_ok() => dict.0.get(key).cloned(),
        _ => None,
    };
    match (found, kind(key)) {
        (Some(found), _) => Ok(found),
        (None, Kind::Str(_)) => attribute(value, key),
        (None, _) => Ok(Value::UNDEFINED),
    }
}

fn shown(key: &Value) -> String {
    key.as_str().map_or_else(|| "of another type".to_owned(), |key| format!("'{key}'"))
}

/// `value.name`: a method of the type first, then an item.
fn attribute(value: &Value, name: &Value) -> Result<Value> {
    let text = name.as_str().unwrap_or_default();
    if value.is_undefined() {
        return Err(fail(format!("an undefined value has no attribute '{text}'")));
    }
    if methods::has(value, text) {
        return Ok(Value::from_object(Method));
    }
    value.get_attr(text)
}

fn set_attribute(state: &mut State, args: &[Value]) -> Result<Value> {
    let [target, name, value] = args else {
        return Err(fail("an attribute is set to one value"));
    };
    let (Kind::Namespace(namespace), Some(name)) = (kind(target), name.as_str()) else {
        return Err(fail("only attributes of a namespace can be set"));
    };
    if python::holds(state, value, namespace)? {
        return Err(fail("a namespace cannot hold itself"));
    }
    namespace.set(name, value.clone());
    python::check_depth(state, target)?;
    Ok(Value::UNDEFINED)
}

/// `value.name(…)`
fn call_method(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, name, rest @ ..] = args else {
        return Err(fail("a method has no name"));
    };
    let name = name.as_str().unwrap_or_default();
    for argument in rest {
        if let Some(text) = argument.as_str() {
            spend(state, text.len())?;
        }
    }
    match kind(value) {
        Kind::Undefined => Err(fail(format!("an undefined value has no method '{name}'"))),
        Kind::Other if name == "cycle" && rest.is_empty() => Err(fail("no items for cycling given")),
        Kind::Other => {
            // `loop.changed` compares with MiniJinja's equality, which costs no fuel.
            rest.iter().try_for_each(|value| python::check_depth(state, value))?;
            value.call_method(state, name, rest)
        }
        _ if methods::has(value, name) => methods::call(state, value, name, rest),
        _ => match value.get_attr(name)? {
            found if found.is_undefined() => {
                Err(fail(format!("'{}' object has no method '{name}'", type_name(value))))
            }
            // A macro in a namespace or a dictionary.
            found => {
                let (positional, named) = super::arguments::split(rest);
                let mut args: Vec<Value> = positional.iter().map(given).collect();
                if !named.is_empty() {
                    args.push(Value::from(
                        named.iter().map(|(n, v)| (n.clone(), given(v))).collect::<Kwargs>(),
                    ));
                }
                found.call(state, &args)
            }
        },
    }
}

fn dict_literal(state: &mut State, args: &[Value]) -> Result<Value> {
    let (Kind::List(keys), Kind::List(values)) = (kind(left(args)), kind(right(args))) else {
        return Err(fail("a dictionary has keys and values"));
    };
    let pairs = keys.iter().cloned().zip(values.iter().cloned());
    new_dict(state, pairs.collect())
}

/// A dictionary with these keys and values.
pub(super) fn new_dict(state: &State, pairs: Vec<(Value, Value)>) -> Result<Value> {
    reserve(state, pairs.len(), 4 * ITEM)?;
    spend(state, pairs.len() * 4 * ITEM)?;
    let mut dict = IndexMap::with_capacity(pairs.len());
    for (key, value) in pairs {
        check_key(state, &key)?;
        dict.insert(key, value);
    }
    Ok(Value::from_object(Dict(dict)))
}

/// What `for` and `*` go through, and `**` spreads.
fn check_iterable(state: &mut State, args: &[Value]) -> Result<Value> {
    let value = left(args);
    match kind(value) {
        // MiniJinja does not know how many characters are left, as `loop.last` asks.
        Kind::Str(_) => return python::items(state, value).map(Value::from),
        Kind::Dict(dict) => {
            // A dictionary may be spread into named arguments, whose names are hashed.
            for key in dict.0.keys() {
                spend(state, ITEM)?;
                check_key(state, key)?;
            }
        }
        Kind::Undefined | Kind::List(_) | Kind::Tuple(_) => (),
        Kind::View(_, items) => spend(state, items.len() * ITEM)?,
        Kind::Iter(_) => (),
        _ => return Err(fail(format!("'{}' object is not iterable", type_name(value)))),
    }
    Ok(value.clone())
}

/// `value[start:stop:step]`
fn slice(state: &mut State, args: &[Value]) -> Result<Value> {
    let [value, start, stop, step] = args else {
        return Err(fail("a slice has three parts"));
    };
    let part = |part: &Value| match kind(part) {
        Kind::None => Ok(None),
        _ => as_int(part).map(Some).ok_or_else(|| fail("slice indices must be integers or None")),
    };
    let (start, stop, step) = (part(start)?, part(stop)?, part(step)?.unwrap_or(1));
    if step == 0 {
        return Err(fail("slice step cannot be zero"));
    }
    let indices = |length: usize| {
        let length = i128::try_from(length).unwrap_or(i128::MAX);
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let clamp = |index: i128| {
            let index = if index < 0 { index.saturating_add(length) } else { index };
            index.clamp(low, high)
        };
        let first = start.map_or(if step > 0 { low } else { high }, clamp);
        let last = stop.map_or(if step > 0 { high } else { low }, clamp);
        let next = move |at: &i128| at.checked_add(step);
        std::iter::successors(Some(first), next)
            .take_while(move |&at| if step > 0 { at < last } else { at > last })
            .filter_map(|at| usize::try_from(at).ok())
    };
    let sliced = |items: &[Value]| -> Result<Vec<Value>> {
        reserve(state, items.len(), ITEM)?;
        Ok(indices(items.len()).filter_map(|at| items.get(at)).cloned().collect())
    };
    match kind(value) {
        Kind::Undefined => Err(fail("an undefined value cannot be sliced")),
        Kind::Str(text) => {
            spend(state, text.len() * 4)?;
            reserve(state, text.len(), 4)?;
            let chars: Vec<char> = text.chars().collect();
            Ok(Value::from(indices(chars.len()).filter_map(|at| chars.get(at)).collect::<String>()))
        }
        Kind::List(items) => sliced(items).map(Value::from),
        Kind::Tuple(items) => sliced(items).map(|items| Value::from(Tuple::from(items))),
        Kind::Iter(&Iter::Range { start, step: stride, length, .. }) => {
            spend(state, length)?;
            let mut at = indices(length);
            let first = at.next().unwrap_or(0);
            let length = if first < length { 1 + at.count() } else { 0 };
            let number = |at| Iter::number(start, stride, at).ok_or_else(|| fail("a range is too long"));
            let step = stride.checked_mul(i64::try_from(step).unwrap_or(i64::MAX));
            let step = step.ok_or_else(|| fail("a range is too long"))?;
            let start = number(first)?;
            let stop = Iter::number(start, step, length).ok_or_else(|| fail("a range is too long"))?;
            Ok(Value::from_object(Iter::Range { start, stop, step, length }))
        }
        // jinja2 finds nothing by a slice in anything else.
        _ => Ok(Value::UNDEFINED),
    }
}

/// `range(stop)`, `range(start, stop)` and `range(start, stop, step)`, of at most 100 000 items as in
/// jinja2's sandbox.
pub(super) fn range(_: &mut State, args: &[Value]) -> Result<Value> {
    let whole = |value: &Value| {
        let whole = as_int(value).and_then(|value| i64::try_from(value).ok());
        whole.ok_or_else(|| fail("range takes integers"))
    };
    let (start, stop, step) = match args {
        [stop] => (0, whole(stop)?, 1),
        [start, stop] => (whole(start)?, whole(stop)?, 1),
        [start, stop, step] => (whole(start)?, whole(stop)?, whole(step)?),
        _ => return Err(fail("range takes one to three integers")),
    };
    let (distance, stride) = match step {
        0 => return Err(fail("the step of a range cannot be zero")),
        1.. => (i128::from(stop) - i128::from(start), i128::from(step)),
        _ => (i128::from(start) - i128::from(stop), -i128::from(step)),
    };
    let length = if distance > 0 { (distance - 1) / stride + 1 } else { 0 };
    match usize::try_from(length) {
        Ok(length @ ..=100_000) => Ok(Value::from_object(Iter::Range { start, stop, step, length })),
        _ => Err(fail("a range has more than 100000 items")),
    }
}

/// `dict(…)`: of a dictionary or of pairs, and of named arguments.
pub(super) fn dict(state: &mut State, args: &[Value]) -> Result<Value> {
    let (positional, named) = super::arguments::split(args);
    let mut pairs = match positional {
        [] => Vec::new(),
        [source] => match kind(source) {
            Kind::Dict(dict) => {
                reserve(state, dict.0.len(), 2 * ITEM)?;
                dict.0.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
            }
            _ => {
                let mut pairs = Vec::new();
                for pair in python::items(state, source)? {
                    match python::items(state, &pair)?.as_slice() {
                        [key, value] => pairs.push((key.clone(), value.clone())),
                        _ => return Err(fail("dict takes pairs of a key and a value")),
                    }
                }
                pairs
            }
        },
        _ => return Err(fail("dict takes at most one argument without a name")),
    };
    pairs.extend(named.into_iter().map(|(name, value)| (Value::from(name), value)));
    new_dict(state, pairs)
}

/// `namespace(…)`: of what `dict(…)` takes.
pub(super) fn namespace(state: &mut State, args: &[Value]) -> Result<Value> {
    let attributes = dict(state, args)?;
    let namespace = Namespace::default();
    if let Kind::Dict(attributes) = kind(&attributes) {
        for (name, value) in &attributes.0 {
            // The namespace is new, so nothing can hold it; this asks for loops and macros.
            python::holds(state, value, &namespace)?;
            namespace.set(&to_str(state, name)?, value.clone());
        }
    }
    Ok(Value::from_object(namespace))
}
