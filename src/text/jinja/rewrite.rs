//! Makes every operation of a template a call of one of our own filters.
//!
//! MiniJinja's operators, literals, subscripts and method calls are not quite Python's, and some
//! allocate or loop without limit, at compile time too, where constants are folded. So each becomes
//! a filter here, with a name that no template can write; the filters are in
//! [`operators`](super::operators). MiniJinja keeps control flow, scopes, macros and conditions.

use minijinja::machinery::Span;
use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, Spanned, Stmt};
use minijinja::value::Value;

use super::methods;
use super::python::{Result, fail};

/// A variable that no template can name: it takes values that nothing reads.
const NOWHERE: &str = "(nowhere)";

/// The rewritten template.
///
/// # Errors
/// If the template uses something that jinja2 does and MiniJinja does not.
pub(super) fn template<'s>(template: &Stmt<'s>) -> Result<Stmt<'s>> {
    let mut statements = Vec::new();
    statement(template, &mut statements)?;
    statements.pop().ok_or_else(|| fail("the template is empty"))
}

fn body<'s>(statements: &[Stmt<'s>]) -> Result<Vec<Stmt<'s>>> {
    let mut rewritten = Vec::with_capacity(statements.len());
    for stmt in statements {
        statement(stmt, &mut rewritten)?;
    }
    Ok(rewritten)
}

/// Statements whose assignments end with them, as in jinja2 those of a block that is captured.
fn scope<'s>(statements: &[Stmt<'s>], span: Span) -> Result<Vec<Stmt<'s>>> {
    let block = ast::WithBlock { assignments: Vec::new(), body: body(statements)? };
    Ok(vec![Stmt::WithBlock(Spanned::new(block, span))])
}

fn statement<'s>(stmt: &Stmt<'s>, to: &mut Vec<Stmt<'s>>) -> Result<()> {
    let rewritten = match stmt {
        Stmt::Template(s) => {
            Stmt::Template(Spanned::new(ast::Template { children: body(&s.children)? }, s.span()))
        }
        Stmt::EmitExpr(s) => Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr: expr(&s.expr)? }, s.span())),
        Stmt::EmitRaw(s) => Stmt::EmitRaw(Spanned::new(ast::EmitRaw { raw: s.raw }, s.span())),
        Stmt::ForLoop(s) if leaves(&s.else_body) => return Err(leaves_block("else")),
        // jinja2 runs `else` unless an iteration came to its end, MiniJinja unless one began.
        Stmt::ForLoop(s) if !s.else_body.is_empty() && leaves(&s.body) => {
            return Err(fail("a loop with 'else' and with 'break' or 'continue' is not supported"));
        }
        Stmt::ForLoop(s) => {
            let node = ast::ForLoop {
                target: target(&s.target)?,
                iter: filter("iter()", expr(&s.iter)?, Vec::new(), s.iter.span()),
                filter_expr: optional(s.filter_expr.as_ref())?,
                recursive: s.recursive,
                body: body(&s.body)?,
                else_body: body(&s.else_body)?,
            };
            Stmt::ForLoop(Spanned::new(node, s.span()))
        }
        Stmt::IfCond(s) => {
            let node = ast::IfCond {
                expr: expr(&s.expr)?,
                true_body: body(&s.true_body)?,
                false_body: body(&s.false_body)?,
            };
            Stmt::IfCond(Spanned::new(node, s.span()))
        }
        // MiniJinja would leave the scope or the captured text open.
        Stmt::WithBlock(s) if leaves(&s.body) => return Err(leaves_block("with")),
        Stmt::SetBlock(s) if leaves(&s.body) => return Err(leaves_block("set")),
        Stmt::FilterBlock(s) if leaves(&s.body) => return Err(leaves_block("filter")),
        Stmt::WithBlock(s) => {
            let assign = |(to, value): &(Expr<'s>, Expr<'s>)| Ok((target(to)?, expr(value)?));
            let assignments = s.assignments.iter().map(assign).collect::<Result<_>>()?;
            Stmt::WithBlock(Spanned::new(ast::WithBlock { assignments, body: body(&s.body)? }, s.span()))
        }
        Stmt::Set(s) => match &s.target {
            Expr::GetAttr(attribute) => set_attribute(attribute, expr(&s.expr)?, s.span())?,
            _ => Stmt::Set(Spanned::new(
                ast::Set { target: target(&s.target)?, expr: expr(&s.expr)? },
                s.span(),
            )),
        },
        Stmt::SetBlock(s) => {
            let namespace = match &s.target {
                Expr::GetAttr(attribute) => Some(attribute),
                _ => None,
            };
            let node = ast::SetBlock {
                target: if namespace.is_some() { variable(NOWHERE, s.span()) } else { target(&s.target)? },
                filter: optional(s.filter.as_ref())?,
                body: scope(&s.body, s.span())?,
            };
            let block = Stmt::SetBlock(Spanned::new(node, s.span()));
            match namespace {
                Some(attribute) => {
                    to.push(block);
                    set_attribute(attribute, variable(NOWHERE, s.span()), s.span())?
                }
                None => block,
            }
        }
        Stmt::FilterBlock(s) => {
            let node = ast::FilterBlock {
                filter: expr(&s.filter)?,
                filter_span: s.filter_span,
                body: scope(&s.body, s.span())?,
            };
            Stmt::FilterBlock(Spanned::new(node, s.span()))
        }
        Stmt::Macro(s) => Stmt::Macro(function(s)?),
        Stmt::CallBlock(s) => {
            let call = ast::Call { expr: callee(&s.call.expr)?, args: given(arguments(&s.call.args)?) };
            let node = ast::CallBlock {
                call: Spanned::new(call, s.call.span()),
                call_expr_span: s.call_expr_span,
                macro_decl: function(&s.macro_decl)?,
            };
            Stmt::CallBlock(Spanned::new(node, s.span()))
        }
        Stmt::Continue(s) => Stmt::Continue(Spanned::new(ast::Continue, s.span())),
        Stmt::Break(s) => Stmt::Break(Spanned::new(ast::Break, s.span())),
        // Hugging Face's environment has no `do`, and escapes nothing.
        Stmt::Do(_) => return Err(fail("the tag 'do' is not supported")),
        Stmt::AutoEscape(_) => return Err(fail("the tag 'autoescape' is not supported")),
    };
    to.push(rewritten);
    Ok(())
}

fn leaves_block(name: &str) -> minijinja::Error {
    fail(format!("'break' and 'continue' in a '{name}' block are not supported"))
}

/// Whether the body of a loop has a `break` or `continue` of this loop.
fn leaves(body: &[Stmt<'_>]) -> bool {
    body.iter().any(|stmt| match stmt {
        Stmt::Break(_) | Stmt::Continue(_) => true,
        Stmt::IfCond(s) => leaves(&s.true_body) || leaves(&s.false_body),
        Stmt::WithBlock(s) => leaves(&s.body),
        Stmt::SetBlock(s) => leaves(&s.body),
        Stmt::FilterBlock(s) => leaves(&s.body),
        _ => false,
    })
}

/// `{% set namespace.name = value %}`
fn set_attribute<'s>(attribute: &Spanned<ast::GetAttr<'s>>, value: Expr<'s>, span: Span) -> Result<Stmt<'s>> {
    if !matches!(attribute.expr, Expr::Var(_)) {
        return Err(fail("only an attribute of a variable can be set"));
    }
    let arguments = vec![constant(Value::from(attribute.name), span), value];
    let set = filter(".=", expr(&attribute.expr)?, arguments, span);
    Ok(Stmt::Set(Spanned::new(ast::Set { target: variable(NOWHERE, span), expr: set }, span)))
}

/// A macro. Its defaults become assignments at the start of its body, where they see the arguments
/// before them. MiniJinja also takes an undefined argument for a missing one; so callers wrap what
/// they give ([`given`]), and the body unwraps it.
fn function<'s>(s: &Spanned<ast::Macro<'s>>) -> Result<Spanned<ast::Macro<'s>>> {
    let mut statements = Vec::new();
    let without = s.args.len().saturating_sub(s.defaults.len());
    for (at, argument) in s.args.iter().enumerate() {
        let Expr::Var(argument) = argument else {
            return Err(fail("the parameter of a macro is no name"));
        };
        let (id, span) = (argument.id, argument.span());
        if id == "caller" {
            return Err(fail("a parameter named 'caller' is not supported"));
        }
        let set = |value| Stmt::Set(Spanned::new(ast::Set { target: variable(id, span), expr: value }, span));
        if let Some(default) = at.checked_sub(without).and_then(|at| s.defaults.get(at)) {
            let test = ast::Test { name: "undefined", expr: variable(id, span), args: Vec::new() };
            let node = ast::IfCond {
                expr: Expr::Test(Spanned::new(test, span)),
                true_body: vec![set(expr(default)?)],
                false_body: Vec::new(),
            };
            statements.push(Stmt::IfCond(Spanned::new(node, span)));
        }
        statements.push(set(filter("taken()", variable(id, span), Vec::new(), span)));
    }
    statements.extend(body(&s.body)?);
    let args = s.args.iter().map(target).collect::<Result<_>>()?;
    let node = ast::Macro { name: s.name, args, defaults: Vec::new(), body: statements };
    Ok(Spanned::new(node, s.span()))
}

/// The arguments of a call, marked as given even if they are undefined.
fn given<'s>(args: Vec<CallArg<'s>>) -> Vec<CallArg<'s>> {
    let given = |e: Expr<'s>| {
        let span = e.span();
        filter("given()", e, Vec::new(), span)
    };
    let each = |arg| match arg {
        CallArg::Pos(e) => CallArg::Pos(given(e)),
        CallArg::Kwarg(name, e) => CallArg::Kwarg(name, given(e)),
        other => other,
    };
    args.into_iter().map(each).collect()
}

/// What a loop, a macro or an assignment gives a value.
fn target<'s>(target_: &Expr<'s>) -> Result<Expr<'s>> {
    match target_ {
        Expr::Var(s) => Ok(variable(s.id, s.span())),
        Expr::List(s) => {
            let items = s.items.iter().map(target).collect::<Result<_>>()?;
            Ok(Expr::List(Spanned::new(ast::List { items }, s.span())))
        }
        _ => Err(fail("an attribute can be set only by itself, not with others")),
    }
}

fn optional<'s>(e: Option<&Expr<'s>>) -> Result<Option<Expr<'s>>> {
    e.map(expr).transpose()
}

fn variable(id: &str, span: Span) -> Expr<'_> {
    Expr::Var(Spanned::new(ast::Var { id }, span))
}

fn constant<'s>(value: Value, span: Span) -> Expr<'s> {
    Expr::Const(Spanned::new(ast::Const { value }, span))
}

fn filter<'s>(name: &'s str, operand: Expr<'s>, arguments: Vec<Expr<'s>>, span: Span) -> Expr<'s> {
    let args = arguments.into_iter().map(CallArg::Pos).collect();
    Expr::Filter(Spanned::new(ast::Filter { name, expr: Some(operand), args }, span))
}

fn arguments<'s>(args: &[CallArg<'s>]) -> Result<Vec<CallArg<'s>>> {
    let argument = |arg: &CallArg<'s>| {
        Ok(match arg {
            CallArg::Pos(e) => CallArg::Pos(expr(e)?),
            CallArg::Kwarg(name, e) => CallArg::Kwarg(name, expr(e)?),
            CallArg::PosSplat(e) => CallArg::PosSplat(filter("iter()", expr(e)?, Vec::new(), e.span())),
            CallArg::KwargSplat(e) => CallArg::KwargSplat(filter("iter()", expr(e)?, Vec::new(), e.span())),
        })
    };
    args.iter().map(argument).collect()
}

/// What is called, if it is no method: macros and functions are called by MiniJinja.
fn callee<'s>(e: &Expr<'s>) -> Result<Expr<'s>> {
    match e {
        Expr::GetAttr(s) => {
            Ok(Expr::GetAttr(Spanned::new(ast::GetAttr { expr: expr(&s.expr)?, name: s.name }, s.span())))
        }
        _ => expr(e),
    }
}

/// The rewritten expression. It recurses as deep as the expression is, so each kind of expression has
/// a function of its own: that keeps the frames small.
fn expr<'s>(e: &Expr<'s>) -> Result<Expr<'s>> {
    match e {
        Expr::Var(s) => name(s),
        Expr::Const(s) => literal(s),
        Expr::Slice(s) => slice(s),
        Expr::UnaryOp(s) => unary(s),
        Expr::BinOp(s) => binary(s),
        Expr::Compare(s) => comparison(s),
        Expr::IfExpr(s) => condition(s),
        Expr::Filter(s) => filtered(s),
        Expr::Test(s) => tested(s),
        Expr::GetAttr(s) => attribute(s),
        Expr::GetItem(s) => Ok(filter("[]", expr(&s.expr)?, vec![expr(&s.subscript_expr)?], s.span())),
        Expr::Call(s) => call(s),
        Expr::List(s) => Ok(filter("[,]", list(&s.items, s.span())?, Vec::new(), s.span())),
        Expr::Tuple(s) => {
            let items = s.items.iter().map(expr).collect::<Result<_>>()?;
            let tuple = Expr::Tuple(Spanned::new(ast::Tuple { items }, s.span()));
            Ok(filter("[,]", tuple, Vec::new(), s.span()))
        }
        Expr::Map(s) => {
            Ok(filter("{}", list(&s.keys, s.span())?, vec![list(&s.values, s.span())?], s.span()))
        }
    }
}

fn name<'s>(s: &Spanned<ast::Var<'s>>) -> Result<Expr<'s>> {
    match s.id {
        "varargs" | "kwargs" | "self" | "super" => {
            Err(fail(format!("the variable '{}' is not supported", s.id)))
        }
        _ => Ok(variable(s.id, s.span())),
    }
}

fn literal<'s>(s: &Spanned<ast::Const>) -> Result<Expr<'s>> {
    match s.value.is_integer() && i128::try_from(s.value.clone()).is_err() {
        true => Err(fail("an integer has more than 128 bits")),
        false => Ok(constant(s.value.clone(), s.span())),
    }
}

fn list<'s>(items: &[Expr<'s>], span: Span) -> Result<Expr<'s>> {
    let items = items.iter().map(expr).collect::<Result<_>>()?;
    Ok(Expr::List(Spanned::new(ast::List { items }, span)))
}

fn slice<'s>(s: &Spanned<ast::Slice<'s>>) -> Result<Expr<'s>> {
    let mut parts = Vec::new();
    for part in [&s.start, &s.stop, &s.step] {
        parts.push(optional(part.as_ref())?.unwrap_or_else(|| constant(Value::from(()), s.span())));
    }
    Ok(filter("[:]", expr(&s.expr)?, parts, s.span()))
}

fn unary<'s>(s: &Spanned<ast::UnaryOp<'s>>) -> Result<Expr<'s>> {
    let operand = expr(&s.expr)?;
    Ok(match s.op {
        ast::UnaryOpKind::Not => {
            let node = ast::UnaryOp { op: ast::UnaryOpKind::Not, expr: operand };
            Expr::UnaryOp(Spanned::new(node, s.span()))
        }
        ast::UnaryOpKind::Neg => filter("-x", operand, Vec::new(), s.span()),
    })
}

/// Repetitions of a literal that no rendering could pay for, were they evaluated.
const MAX_REPETITIONS: i64 = 10_000_000;

/// Whether `*` repeats a literal too often: an error, as jinja2 would fold it even if nothing used it.
fn repeats_too_often(s: &ast::BinOp<'_>) -> bool {
    let often = |e: &Expr<'_>| matches!(e, Expr::Const(s) if s.value.is_integer() && s.value.as_i64().is_none_or(|n| n > MAX_REPETITIONS));
    let filled = |e: &Expr<'_>| match e {
        Expr::List(s) => !s.items.is_empty(),
        Expr::Tuple(s) => !s.items.is_empty(),
        Expr::Const(s) => s.value.as_str().is_some_and(|text| !text.is_empty()),
        _ => false,
    };
    (often(&s.right) && filled(&s.left)) || (often(&s.left) && filled(&s.right))
}

fn binary<'s>(s: &Spanned<ast::BinOp<'s>>) -> Result<Expr<'s>> {
    if matches!(s.op, BinOpKind::Mul) && repeats_too_often(s) {
        return Err(fail(format!(
            "a literal is repeated more than {MAX_REPETITIONS} times: too much memory"
        )));
    }
    let (left, right) = (expr(&s.left)?, expr(&s.right)?);
    let name = match s.op {
        BinOpKind::ScAnd | BinOpKind::ScOr => {
            let node = ast::BinOp { op: s.op, left, right };
            return Ok(Expr::BinOp(Spanned::new(node, s.span())));
        }
        BinOpKind::Eq => "==",
        BinOpKind::Ne => "!=",
        BinOpKind::Lt => "<",
        BinOpKind::Lte => "<=",
        BinOpKind::Gt => ">",
        BinOpKind::Gte => ">=",
        BinOpKind::Add => "+",
        BinOpKind::Sub => "-",
        BinOpKind::Mul => "*",
        BinOpKind::Div => "/",
        BinOpKind::FloorDiv => "//",
        BinOpKind::Rem => "%",
        BinOpKind::Pow => "**",
        BinOpKind::Concat => "~",
        BinOpKind::In => "(in)",
    };
    Ok(filter(name, left, vec![right], s.span()))
}

/// `a < b < c`; unlike in Python, all operands are evaluated.
fn comparison<'s>(s: &Spanned<ast::Compare<'s>>) -> Result<Expr<'s>> {
    let mut operands = Vec::new();
    for op in &s.ops {
        let name = match op.op {
            CompareOpKind::Eq => "==",
            CompareOpKind::Ne => "!=",
            CompareOpKind::Lt => "<",
            CompareOpKind::Lte => "<=",
            CompareOpKind::Gt => ">",
            CompareOpKind::Gte => ">=",
            CompareOpKind::In => "in",
            CompareOpKind::NotIn => "not in",
        };
        operands.extend([constant(Value::from(name), s.span()), expr(&op.expr)?]);
    }
    Ok(filter("<<", expr(&s.expr)?, operands, s.span()))
}

fn condition<'s>(s: &Spanned<ast::IfExpr<'s>>) -> Result<Expr<'s>> {
    let node = ast::IfExpr {
        test_expr: expr(&s.test_expr)?,
        true_expr: expr(&s.true_expr)?,
        false_expr: optional(s.false_expr.as_ref())?,
    };
    Ok(Expr::IfExpr(Spanned::new(node, s.span())))
}

fn filtered<'s>(s: &Spanned<ast::Filter<'s>>) -> Result<Expr<'s>> {
    let node = ast::Filter { name: s.name, expr: optional(s.expr.as_ref())?, args: arguments(&s.args)? };
    Ok(Expr::Filter(Spanned::new(node, s.span())))
}

fn tested<'s>(s: &Spanned<ast::Test<'s>>) -> Result<Expr<'s>> {
    let node = ast::Test { name: s.name, expr: expr(&s.expr)?, args: arguments(&s.args)? };
    Ok(Expr::Test(Spanned::new(node, s.span())))
}

fn attribute<'s>(s: &Spanned<ast::GetAttr<'s>>) -> Result<Expr<'s>> {
    if s.name.starts_with("__") {
        return Err(fail(format!("the attribute '{}' is not safe", s.name)));
    }
    let of = expr(&s.expr)?;
    Ok(match methods::is_name(s.name) {
        true => filter(".", of, vec![constant(Value::from(s.name), s.span())], s.span()),
        false => Expr::GetAttr(Spanned::new(ast::GetAttr { expr: of, name: s.name }, s.span())),
    })
}

fn call<'s>(s: &Spanned<ast::Call<'s>>) -> Result<Expr<'s>> {
    let span = s.span();
    let mut args = arguments(&s.args)?;
    Ok(match &s.expr {
        Expr::GetAttr(method) => {
            args.insert(0, CallArg::Pos(constant(Value::from(method.name), span)));
            let node = ast::Filter { name: ".()", expr: Some(expr(&method.expr)?), args };
            Expr::Filter(Spanned::new(node, span))
        }
        Expr::Var(function) if function.id == "loop" => {
            // A recursive loop: what it goes through is checked as in the `for` tag.
            let each = |arg| match arg {
                CallArg::Pos(e) => CallArg::Pos(filter("iter()", e, Vec::new(), span)),
                other => other,
            };
            let args = args.into_iter().map(each).collect();
            Expr::Call(Spanned::new(ast::Call { expr: variable("loop", span), args }, span))
        }
        function => {
            let ours = matches!(function, Expr::Var(s) if super::FUNCTIONS.contains(&s.id));
            let args = if ours { args } else { given(args) };
            Expr::Call(Spanned::new(ast::Call { expr: expr(function)?, args }, span))
        }
    })
}
