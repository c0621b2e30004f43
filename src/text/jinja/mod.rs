//! Jinja templates that render as Python's jinja2 renders them under Hugging Face's settings, and
//! whose time, memory, output and depth are bounded.
//!
//! [MiniJinja](minijinja) parses the templates and runs them. [`source`] prepares the text for its
//! parser and bounds its depth, and [`rewrite`] makes every operation on values a call of ours. The
//! parts of MiniJinja that this takes are not stable, so `Cargo.toml` names one exact version.

mod arguments;
mod clock;
mod filters;
mod format;
mod json;
mod methods;
mod operators;
mod predicates;
mod python;
mod rewrite;
mod source;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use minijinja::machinery::{CodeGenerator, Instructions, eval, make_string_output, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State};

use crate::error::{Error, Result};

/// What MiniJinja calls the template; no message shows it.
const NAME: &str = "chat";
/// Frames that may be open: a macro's call takes five, a loop one.
const MAX_FRAMES: usize = 300;

/// A template that can be rendered.
#[derive(Debug)]
pub(crate) struct Template {
    /// The text as MiniJinja's parser takes it.
    source: String,
}

/// The functions of a template that are not macros.
const FUNCTIONS: [&str; 5] = ["dict", "namespace", "raise_exception", "range", "strftime_now"];

type Program<'s> = (Instructions<'s>, BTreeMap<&'s str, Instructions<'s>>);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`Error::Template`] if it is no template, or beyond a bound.
    pub(crate) fn new(source: &str) -> Result<Self> {
        let template = Template { source: source::prepare(source)? };
        template.compile().map_err(template_error)?;
        Ok(template)
    }

    /// The text of the template, in which the escapes of string literals stand for themselves.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The instructions. They borrow the source, so they are made anew for every rendering; that
    /// takes less than a millisecond.
    fn compile(&self) -> std::result::Result<Program<'_>, minijinja::Error> {
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        let template = rewrite::template(&parse(&self.source, NAME, syntax)?)?;
        let mut generator = CodeGenerator::new(NAME, &self.source);
        generator.compile_stmt(&template);
        Ok(generator.finish())
    }

    /// Renders the template with these variables. `fuel` bounds its instructions, and its memory and
    /// output by 64 bytes a fuel.
    ///
    /// # Errors
    /// [`Error::Template`] if the template raises an exception or passes a bound.
    pub(crate) fn render(&self, variables: Vec<(&str, Value)>, fuel: u64) -> Result<String> {
        let mut environment = ENVIRONMENT.clone();
        environment.set_fuel(Some(fuel));
        let (instructions, blocks) = self.compile().map_err(template_error)?;
        let mut text = String::new();
        let root = Value::from_pairs(variables);
        let mut output = make_string_output(&mut text);
        eval(&environment, &instructions, root, &blocks, &mut output, AutoEscape::None)
            .map_err(template_error)?;
        drop(output);
        Ok(text)
    }
}

/// A dictionary for a template.
pub(crate) fn dict<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    let pairs = pairs.into_iter().map(|(name, value)| (Value::from(name), value));
    Value::from_object(python::Dict(pairs.collect()))
}

fn template_error(error: minijinja::Error) -> Error {
    let reason = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it runs too long or uses too much memory".to_owned(),
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    };
    let reason = match error.line() {
        Some(line) => format!("{reason} (line {line})"),
        None => reason,
    };
    Error::Template { reason }
}

/// Hugging Face's filters, tests and functions.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_recursion_limit(MAX_FRAMES);
    environment.set_formatter(write);
    for (name, filter) in operators::OPERATORS.into_iter().chain(filters::FILTERS) {
        environment.add_filter(name, checked(filter));
    }
    for (name, test) in predicates::TESTS {
        environment.add_test(name, move |state: &State, args: Rest<ValueOrKwargs>| {
            predicates::perform(state, test, &args.into_values())
        });
    }
    for (name, operator) in filters::COMPARISONS {
        environment.add_test(name, move |state: &State, args: Rest<ValueOrKwargs>| {
            filters::comparison(state, operator, &args.into_values())
        });
    }
    environment.add_function("range", checked(operators::range));
    environment.add_function("dict", checked(operators::dict));
    environment.add_function("namespace", checked(operators::namespace));
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| {
        let unsupported = |c| python::fail(format!("strftime_now does not support the directive %{c}"));
        clock::strftime_now(&format).map_err(unsupported)
    });
    environment
});

/// `function` for MiniJinja; what it returns is not nested too deep.
fn checked(
    function: operators::Function,
) -> impl Fn(&mut State, Rest<ValueOrKwargs>) -> python::Result<Value> + Send + Sync + 'static {
    move |state, args| {
        let value = function(state, &args.into_values())?;
        python::check_depth(state, &value)?;
        Ok(value)
    }
}

/// Writes what `{{ value }}` shows.
fn write(output: &mut Output, state: &mut State, value: &Value) -> python::Result<()> {
    output.write_str(&python::to_str(state, value)?).map_err(minijinja::Error::from)
}
