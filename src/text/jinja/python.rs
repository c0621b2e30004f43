//! Values as Python sees them: types, text, equality, order, and what they cost.
//!
//! MiniJinja counts fuel for its instructions and the values they make. What this module and its
//! callers do beyond that, they pay with [`spend`], and they ask for [`room`] before they allocate.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Object, ObjectRepr, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

pub(super) type Result<T> = std::result::Result<T, Error>;

/// Bytes that one fuel pays for, as in MiniJinja.
const BYTES_PER_FUEL: usize = 64;
/// Bytes that an item of a list counts for, as in MiniJinja.
pub(super) const ITEM: usize = 32;
/// How deep lists, dictionaries and namespaces may lie in one another. Every value is checked when
/// it is made, so whatever walks or drops a value may recurse.
const MAX_DEPTH: usize = 64;

/// An error with this reason.
pub(super) fn fail(reason: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// Pays for work on `bytes` bytes.
pub(super) fn spend(state: &State, bytes: usize) -> Result<()> {
    state.consume_fuel((bytes / BYTES_PER_FUEL + 1) as u64)
}

/// How many bytes may be allocated: those that the fuel left pays for.
pub(super) fn room(state: &State) -> usize {
    let fuel = state.fuel_levels().map_or(0, |(_, left)| left);
    usize::try_from(fuel).unwrap_or(usize::MAX).saturating_mul(BYTES_PER_FUEL)
}

/// Fails if there is no room for `count` times `size` bytes.
pub(super) fn reserve(state: &State, count: usize, size: usize) -> Result<()> {
    match count.checked_mul(size) {
        Some(bytes) if bytes < room(state) => Ok(()),
        _ => Err(Error::from(ErrorKind::OutOfFuel)),
    }
}

/// A dictionary, in the order of insertion.
#[derive(Debug, Default)]
pub(super) struct Dict(pub(super) IndexMap<Value, Value>);

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().cloned().collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }
}

/// What `namespace()` makes: attributes that a template may set.
#[derive(Debug, Default)]
pub(super) struct Namespace(Mutex<IndexMap<String, Value>>);

impl Namespace {
    pub(super) fn set(&self, name: &str, value: Value) {
        if let Ok(mut attributes) = self.0.lock() {
            attributes.insert(name.to_owned(), value);
        }
    }

    /// A copy of the attributes: no lock is held while they are used.
    fn attributes(&self) -> Vec<(String, Value)> {
        let copy = |attributes: &IndexMap<String, Value>| {
            attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        self.0.lock().map(|attributes| copy(&attributes)).unwrap_or_default()
    }
}

impl Object for Namespace {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.lock().ok()?.get(key.as_str()?).cloned()
    }
}

/// A group that the filter `groupby` makes: a tuple of two with names.
#[derive(Debug)]
pub(super) struct Group(pub(super) [Value; 2]);

impl Object for Group {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = match key.as_str() {
            Some("grouper") => 0,
            Some("list") => 1,
            _ => key.as_usize()?,
        };
        self.0.get(at).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}

/// What can be gone through, but is no list.
#[derive(Debug)]
pub(super) enum Iter {
    /// Python's generators and iterators: they can be gone through once, have no length and are true.
    Generator(Mutex<Vec<Value>>),
    /// A dictionary's items, keys or values; the name is Python's.
    View(&'static str, Vec<Value>),
    Range {
        start: i64,
        stop: i64,
        step: i64,
        length: usize,
    },
}

impl Iter {
    pub(super) fn generator(items: Vec<Value>) -> Value {
        Value::from_object(Iter::Generator(Mutex::new(items)))
    }

    pub(super) fn number(start: i64, step: i64, at: usize) -> Option<i64> {
        start.checked_add(step.checked_mul(i64::try_from(at).ok()?)?)
    }
}

impl Object for Iter {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match **self {
            Iter::Range { .. } => ObjectRepr::Seq,
            _ => ObjectRepr::Iterable,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match **self {
            Iter::Range { start, step, length, .. } => {
                let at = key.as_usize().filter(|&at| at < length)?;
                Iter::number(start, step, at).map(Value::from)
            }
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match &**self {
            Iter::Generator(items) => {
                let items = items.lock().map(|mut items| std::mem::take(&mut *items));
                Enumerator::Values(items.unwrap_or_default())
            }
            Iter::View(_, items) => Enumerator::Values(items.clone()),
            Iter::Range { length, .. } => Enumerator::Seq(*length),
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        match &**self {
            Iter::Generator(_) => None,
            Iter::View(_, items) => Some(items.len()),
            Iter::Range { length, .. } => Some(*length),
        }
    }
}

/// A method that is named but not called.
#[derive(Debug)]
pub(super) struct Method;

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// A value by its type in Python.
pub(super) enum Kind<'v> {
    Undefined,
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(&'v str),
    List(&'v [Value]),
    Tuple(&'v [Value]),
    Dict(&'v Dict),
    Namespace(&'v Namespace),
    /// A dictionary's items, keys or values; the name is Python's.
    View(&'static str, &'v [Value]),
    /// A generator or a range.
    Iter(&'v Iter),
    /// A macro, a loop, a method.
    Other,
}

pub(super) fn kind(value: &Value) -> Kind<'_> {
    match value.kind() {
        ValueKind::Undefined => Kind::Undefined,
        ValueKind::None => Kind::None,
        ValueKind::Bool => Kind::Bool(value.is_true()),
        ValueKind::Number => {
            let int = value.is_integer().then(|| i128::try_from(value.clone()).ok()).flatten();
            match (int, f64::try_from(value.clone())) {
                (Some(int), _) => Kind::Int(int),
                (None, Ok(float)) if !value.is_integer() => Kind::Float(float),
                _ => Kind::Other,
            }
        }
        ValueKind::String => value.as_str().map_or(Kind::Other, Kind::Str),
        _ => {
            if let Some(list) = value.downcast_object_ref::<Vec<Value>>() {
                Kind::List(list)
            } else if let Some(tuple) = value.downcast_object_ref::<Tuple>() {
                Kind::Tuple(tuple)
            } else if let Some(group) = value.downcast_object_ref::<Group>() {
                Kind::Tuple(&group.0)
            } else if let Some(dict) = value.downcast_object_ref::<Dict>() {
                Kind::Dict(dict)
            } else if let Some(namespace) = value.downcast_object_ref::<Namespace>() {
                Kind::Namespace(namespace)
            } else if let Some(iter) = value.downcast_object_ref::<Iter>() {
                match iter {
                    Iter::View(name, items) => Kind::View(name, items),
                    _ => Kind::Iter(iter),
                }
            } else {
                Kind::Other
            }
        }
    }
}

/// The name of the value's type in Python.
pub(super) fn type_name(value: &Value) -> &'static str {
    match kind(value) {
        Kind::Undefined => "Undefined",
        Kind::None => "NoneType",
        Kind::Bool(_) => "bool",
        Kind::Int(_) => "int",
        Kind::Float(_) => "float",
        Kind::Str(_) => "str",
        Kind::List(_) => "list",
        Kind::Tuple(_) => "tuple",
        Kind::Dict(_) => "dict",
        Kind::Namespace(_) => "Namespace",
        Kind::Iter(Iter::Generator(_) | Iter::View(..)) => "generator",
        Kind::View(name, _) => name,
        Kind::Iter(Iter::Range { .. }) => "range",
        Kind::Other => "object",
    }
}

/// An integer; the smallest of MiniJinja's types that holds it.
pub(super) fn int(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_| Value::from(value), Value::from)
}

/// The value as an integer, if it is one; `True` is 1.
pub(super) fn as_int(value: &Value) -> Option<i128> {
    match kind(value) {
        Kind::Bool(value) => Some(i128::from(value)),
        Kind::Int(value) => Some(value),
        _ => None,
    }
}

/// The value as a float, if it is a number.
pub(super) fn as_float(value: &Value) -> Option<f64> {
    match kind(value) {
        Kind::Float(value) => Some(value),
        _ => as_int(value).map(|value| value as f64),
    }
}

/// Whether Python counts `c` as white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// Fails if `value` is nested deeper than allowed. Call it for every value that holds others.
pub(super) fn check_depth(state: &State, value: &Value) -> Result<()> {
    /// What looking at one item costs.
    const STEP: usize = 4;
    fn walk(value: &Value, depth: usize, steps: &mut usize) -> Result<()> {
        let mut each = |values: &mut dyn Iterator<Item = &Value>| {
            if depth == MAX_DEPTH {
                return Err(fail(format!("a value is nested deeper than {MAX_DEPTH}")));
            }
            for value in values {
                *steps = steps.checked_sub(1).ok_or(ErrorKind::OutOfFuel)?;
                if value.as_object().is_some() {
                    walk(value, depth + 1, steps)?;
                }
            }
            Ok(())
        };
        match kind(value) {
            Kind::List(items) | Kind::Tuple(items) | Kind::View(_, items) => each(&mut items.iter()),
            Kind::Dict(dict) => each(&mut dict.0.iter().flat_map(|(key, value)| [key, value])),
            Kind::Namespace(namespace) => each(&mut namespace.attributes().iter().map(|(_, value)| value)),
            Kind::Iter(Iter::Generator(items)) => {
                let items = items.lock().map(|items| items.clone()).unwrap_or_default();
                each(&mut items.iter())
            }
            _ => Ok(()),
        }
    }
    if value.as_object().is_none() {
        return Ok(());
    }
    let all = room(state) / STEP;
    let mut left = all;
    walk(value, 0, &mut left)?;
    spend(state, (all - left) * STEP)
}

/// Whether `value` is or holds `namespace`.
pub(super) fn holds(state: &State, value: &Value, namespace: &Namespace) -> Result<bool> {
    let any = |values: &[Value]| {
        spend(state, values.len())?;
        for value in values.iter().filter(|value| value.as_object().is_some()) {
            if holds(state, value, namespace)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    match kind(value) {
        Kind::Namespace(this) if std::ptr::eq(this, namespace) => Ok(true),
        Kind::Namespace(this) => {
            any(&this.attributes().into_iter().map(|(_, value)| value).collect::<Vec<_>>())
        }
        Kind::List(items) | Kind::Tuple(items) | Kind::View(_, items) => any(items),
        Kind::Dict(dict) => any(&dict.0.values().cloned().collect::<Vec<_>>()),
        Kind::Iter(Iter::Generator(items)) => {
            any(&items.lock().map(|items| items.clone()).unwrap_or_default())
        }
        // A loop holds the items that it goes through, out of sight. Nothing else has an `index0`.
        Kind::Other if value.get_attr("index0").is_ok_and(|index| !index.is_undefined()) => {
            Err(fail("a namespace can hold no loop"))
        }
        _ => Ok(false),
    }
}

/// The items that going through `value` gives.
pub(super) fn items(state: &State, value: &Value) -> Result<Vec<Value>> {
    reserve(state, length(value).unwrap_or(0), ITEM)?;
    let items: Vec<Value> = match kind(value) {
        Kind::Undefined => Vec::new(),
        Kind::Str(text) => text.chars().map(Value::from).collect(),
        Kind::List(items) | Kind::Tuple(items) | Kind::View(_, items) => items.to_vec(),
        Kind::Dict(dict) => dict.0.keys().cloned().collect(),
        Kind::Iter(Iter::Generator(items)) => {
            items.lock().map(|mut items| std::mem::take(&mut *items)).unwrap_or_default()
        }
        Kind::Iter(&Iter::Range { start, step, length, .. }) => {
            (0..length).filter_map(|at| Iter::number(start, step, at)).map(Value::from).collect()
        }
        _ => return Err(fail(format!("'{}' object is not iterable", type_name(value)))),
    };
    spend(state, items.len() * ITEM)?;
    Ok(items)
}

/// Python's `len`.
pub(super) fn length(value: &Value) -> Result<usize> {
    Ok(match kind(value) {
        Kind::Undefined => 0,
        Kind::Str(text) => text.chars().count(),
        Kind::List(items) | Kind::Tuple(items) | Kind::View(_, items) => items.len(),
        Kind::Dict(dict) => dict.0.len(),
        Kind::Iter(Iter::Range { length, .. }) => *length,
        _ => return Err(fail(format!("object of type '{}' has no len()", type_name(value)))),
    })
}

/// Text that grows up to what the fuel left pays for.
pub(super) struct Text {
    text: String,
    room: usize,
}

impl Text {
    pub(super) fn new(state: &State) -> Self {
        Text { text: String::new(), room: room(state) }
    }

    pub(super) fn push(&mut self, text: &str) -> Result<()> {
        if text.len() >= self.room - self.text.len() {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
        self.text.push_str(text);
        Ok(())
    }

    pub(super) fn push_char(&mut self, c: char) -> Result<()> {
        self.push(c.encode_utf8(&mut [0; 4]))
    }

    /// Appends `count` times `c`.
    pub(super) fn fill(&mut self, c: char, count: usize) -> Result<()> {
        if count.saturating_mul(c.len_utf8()) >= self.room - self.text.len() {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
        self.text.extend(std::iter::repeat_n(c, count));
        Ok(())
    }

    /// The text, paid for.
    pub(super) fn finish(self, state: &State) -> Result<String> {
        spend(state, self.text.len())?;
        Ok(self.text)
    }
}

/// Python's `str`.
pub(super) fn to_str<'v>(state: &State, value: &'v Value) -> Result<Cow<'v, str>> {
    match kind(value) {
        Kind::Str(text) => Ok(Cow::Borrowed(text)),
        Kind::Undefined => Ok(Cow::Borrowed("")),
        _ => to_repr(state, value).map(Cow::Owned),
    }
}

/// Python's `repr`.
pub(super) fn to_repr(state: &State, value: &Value) -> Result<String> {
    let mut text = Text::new(state);
    repr(value, &mut text)?;
    text.finish(state)
}

fn repr(value: &Value, to: &mut Text) -> Result<()> {
    let list = |items: &[Value], open: &str, close: &str, to: &mut Text| {
        to.push(open)?;
        for (at, item) in items.iter().enumerate() {
            to.push(if at == 0 { "" } else { ", " })?;
            repr(item, to)?;
        }
        to.push(close)
    };
    match kind(value) {
        Kind::Undefined => to.push("Undefined"),
        Kind::None => to.push("None"),
        Kind::Bool(value) => to.push(if value { "True" } else { "False" }),
        Kind::Int(value) => to.push(&value.to_string()),
        Kind::Float(value) => to.push(&float_repr(value)),
        Kind::Str(text) => str_repr(text, to),
        Kind::List(items) => list(items, "[", "]", to),
        Kind::Tuple([item]) => list(std::slice::from_ref(item), "(", ",)", to),
        Kind::Tuple(items) => list(items, "(", ")", to),
        Kind::Dict(dict) => pairs(&mut dict.0.iter(), to),
        Kind::Namespace(namespace) => {
            to.push("<Namespace ")?;
            let attributes = namespace.attributes();
            let attributes: Vec<_> = attributes.into_iter().map(|(name, v)| (Value::from(name), v)).collect();
            pairs(&mut attributes.iter().map(|(name, v)| (name, v)), to)?;
            to.push(">")
        }
        Kind::View(name, items) => {
            to.push(name)?;
            list(items, "([", "])", to)
        }
        Kind::Iter(&Iter::Range { start, stop, step, .. }) => to.push(&match step {
            1 => format!("range({start}, {stop})"),
            _ => format!("range({start}, {stop}, {step})"),
        }),
        Kind::Iter(_) => Err(fail("a generator cannot be printed: use the filter list")),
        Kind::Other => Err(fail("a macro, a loop or a method cannot be printed")),
    }
}

fn pairs<'v>(pairs: &mut dyn Iterator<Item = (&'v Value, &'v Value)>, to: &mut Text) -> Result<()> {
    to.push("{")?;
    for (at, (key, value)) in pairs.enumerate() {
        to.push(if at == 0 { "" } else { ", " })?;
        repr(key, to)?;
        to.push(": ")?;
        repr(value, to)?;
    }
    to.push("}")
}

fn str_repr(text: &str, to: &mut Text) -> Result<()> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    to.push_char(quote)?;
    for c in text.chars() {
        match c {
            '\n' => to.push("\\n")?,
            '\r' => to.push("\\r")?,
            '\t' => to.push("\\t")?,
            '\\' => to.push("\\\\")?,
            _ if c == quote => {
                to.push("\\")?;
                to.push_char(c)?;
            }
            ' '..='~' => to.push_char(c)?,
            // The Shield's marks stand for other characters.
            _ if is_mark(c) => to.push_char(c)?,
            _ if is_printable(c) => to.push_char(c)?,
            _ => to.push(&match u32::from(c) {
                code @ ..=0xFF => format!("\\x{code:02x}"),
                code @ 0x100..=0xFFFF => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            })?,
        }
    }
    to.push_char(quote)
}

/// Whether `c` may stand for the first character of a control token while a template is rendered.
pub(super) fn is_mark(c: char) -> bool {
    matches!(c, '\u{FDD0}'..='\u{FDEF}' | '\u{F0000}'..)
}

/// Whether Python prints `c` in a `repr` as it is.
fn is_printable(c: char) -> bool {
    // Rust escapes the marks that extend a character as well; Python does not.
    let escapes = c.escape_debug().count() > 1;
    (!escapes || crate::text::category::of(c) == crate::text::category::Category::Mark)
        && !(c.is_whitespace() && c != ' ')
}

/// Python's `repr` of a float: the shortest digits that give the same number.
pub(super) fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Python's `==`.
pub(super) fn equal(state: &State, a: &Value, b: &Value) -> Result<bool> {
    let all = |a: &[Value], b: &[Value]| {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (a, b) in a.iter().zip(b) {
            if !equal(state, a, b)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    spend(state, 1)?;
    match (kind(a), kind(b)) {
        (Kind::Str(a), Kind::Str(b)) => {
            spend(state, a.len().min(b.len()))?;
            Ok(a == b)
        }
        (Kind::List(a), Kind::List(b)) | (Kind::Tuple(a), Kind::Tuple(b)) => all(a, b),
        (Kind::Dict(a), Kind::Dict(b)) => {
            if a.0.len() != b.0.len() {
                return Ok(false);
            }
            for (key, value) in &a.0 {
                match b.0.get(key) {
                    Some(other) if equal(state, value, other)? => (),
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        (Kind::Undefined, Kind::Undefined) | (Kind::None, Kind::None) => Ok(true),
        (Kind::Namespace(a), Kind::Namespace(b)) => Ok(std::ptr::eq(a, b)),
        (Kind::Iter(a), Kind::Iter(b)) if std::ptr::eq(a, b) => Ok(true),
        (Kind::View(..) | Kind::Iter(_) | Kind::Other, Kind::View(..) | Kind::Iter(_) | Kind::Other) => {
            Err(fail("views, ranges, generators, loops and macros cannot be compared"))
        }
        _ => match (as_int(a), as_int(b)) {
            (Some(a), Some(b)) => Ok(a == b),
            _ => Ok(as_float(a).is_some_and(|a| as_float(b) == Some(a))),
        },
    }
}

/// Python's order, as `<` and `sort` have it.
pub(super) fn compare(state: &State, a: &Value, b: &Value) -> Result<Ordering> {
    spend(state, 1)?;
    match (kind(a), kind(b)) {
        (Kind::Str(a), Kind::Str(b)) => {
            spend(state, a.len().min(b.len()))?;
            Ok(a.cmp(b))
        }
        (Kind::List(a), Kind::List(b)) | (Kind::Tuple(a), Kind::Tuple(b)) => {
            for (a, b) in a.iter().zip(b) {
                if !equal(state, a, b)? {
                    return compare(state, a, b);
                }
            }
            Ok(a.len().cmp(&b.len()))
        }
        _ => {
            let ordering = match (as_int(a), as_int(b)) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => as_float(a).zip(as_float(b)).and_then(|(a, b)| a.partial_cmp(&b)),
            };
            ordering.ok_or_else(|| {
                let (a, b) = (type_name(a), type_name(b));
                fail(format!("values of types '{a}' and '{b}' have no order"))
            })
        }
    }
}

/// Fails if `value` cannot be the key of a dictionary, and pays for its hash.
pub(super) fn check_key(state: &State, value: &Value) -> Result<()> {
    match kind(value) {
        Kind::Str(text) => spend(state, text.len()),
        Kind::Tuple(items) => {
            spend(state, 1)?;
            items.iter().try_for_each(|item| check_key(state, item))
        }
        Kind::Undefined | Kind::None | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) => Ok(()),
        _ => Err(fail(format!("unhashable type: '{}'", type_name(value)))),
    }
}
