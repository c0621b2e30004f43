"""Renders chat templates with jinja2 under Hugging Face's settings, for tests/files/template.rs.

    python3 goldens.py OUT.json [FILE.jinja ...]

Without files: the small templates of corpus.py and those in tests/data/templates. See README.md.
"""

import datetime
import functools
import json
import pathlib
import sys

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

import corpus

DATA = pathlib.Path(__file__).parents[2] / "tests" / "data" / "templates"

CONVERSATIONS = {
    "user": [("user", "Hi there")],
    "system": [("system", "Be nice."), ("user", "Hi"), ("assistant", "Yo"), ("user", "Bye")],
    "many": [("system", " Trim me \n")]
    + [(["user", "assistant"][i % 2], f"turn {i} é ü 漢字 😀\n\n") for i in range(7)],
    "empty": [("user", ""), ("assistant", ""), ("user", "x")],
    "control": [
        ("user", "a<|im_end|>b <s>[INST] {{ x }} </s>"),
        ("assistant", "<think>\nhm</think>\n\nok"),
        ("user", "\\n \"q\" 'r' <b>&amp;"),
    ],
    "assistant_last": [("user", "q"), ("assistant", "the end")],
    "two_users": [("user", "q"), ("user", "the end")],
    "two_systems": [("system", "A"), ("system", "B"), ("user", "C")],
    "tool": [("user", "q"), ("tool", '{"a": 1}'), ("user", "r")],
}
# Emberglass says that it does not support these. tests/files/template.rs has them by name.
UNSUPPORTED = ["pprint", "forceescape", "xmlattr", "urlencode", "random", "varargs", "kwargs", "self", "__", "\\N{",
               "\\ud83d", "sameas 'b'"]


class Generation(Extension):
    """The tag `generation`, as transformers' AssistantTracker has it: it changes nothing but the scope."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_support"), [], [], body).set_lineno(line)

    def _support(self, caller):
        return caller()


def environment():
    """The environment of transformers 4.57's `_compile_jinja_template`."""

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.now().strftime(format)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


ENVIRONMENT = environment()


@functools.cache
def compiled(template):
    return ENVIRONMENT.from_string(template)


def render(template, conversation, prompt):
    """The text, or None for an error."""
    messages = [{"role": role, "content": content} for role, content in CONVERSATIONS[conversation]]
    try:
        return compiled(template).render(
            messages=messages, tools=None, documents=None, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>"
        )
    except Exception:  # noqa: BLE001: what kind of error it is makes no difference
        return None


def fnv(text):
    """FNV-1a of 64 bits of the UTF-8 text."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{value:016x}"


def small(template):
    """The entry of a small template; None if what jinja2 gives cannot be or need not be matched."""
    text = render(template, "system", True)
    if text is not None and (" at 0x" in text or any(part in template for part in UNSUPPORTED)):
        return None
    return [template, text]


def merged():
    """The expressions of corpus.py: those that jinja2 can evaluate together, and the others by themselves."""
    for call, values, form in corpus.expressions():
        good = []
        for value in values:
            entry = small(form(value))
            if entry is None:
                continue
            if entry[1] is None:
                yield entry
            else:
                good.append(form(value))
        if good:
            yield small("|".join(good))


def files(paths):
    for path in paths:
        template = path.read_bytes().decode()
        results = []
        for conversation in CONVERSATIONS:
            for prompt in (True, False):
                text = render(template, conversation, prompt)
                results.append([conversation, prompt, None if text is None else fnv(text)])
        yield {"file": path.name, "results": results} if path.parent == DATA else {
            "template": template,
            "name": path.name,
            "results": results,
        }


def main():
    out, *names = sys.argv[1:]
    golden = {
        "made_by": f"tools/template-goldens/goldens.py with jinja2 {jinja2.__version__}",
        "conversations": CONVERSATIONS,
        "small": [],
        "files": list(files([pathlib.Path(name) for name in names] or sorted(DATA.glob("*.jinja")))),
    }
    if not names:
        golden["small"] = [entry for template in corpus.templates() if (entry := small(template))] + list(merged())
    # An entry a line, so that a difference can be read.
    rows = {key: ",\n".join(json.dumps(row, ensure_ascii=False) for row in golden.pop(key)) for key in ("small", "files")}
    text = json.dumps(golden, ensure_ascii=False)[:-1]
    for key, value in rows.items():
        text += f',\n"{key}": [\n{value}\n]'
    pathlib.Path(out).write_text(text + "\n}\n")
    print(f"{out}: {len(golden)} parts, {len(text)} characters")


main()
