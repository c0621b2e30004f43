//! Chat templates: what they render, what text of a message can never become, and bounds on what
//! an untrusted template may do. Expected texts are those of Jinja 3.1 with Hugging Face's settings.

use std::time::{Duration, Instant};

use emberglass::error::Error;
use emberglass::text::{ChatTemplate, Message, Segment, Tokenizer};
use emberglass::weights::metadata::Value;
use emberglass::weights::{FileSource, Metadata, StringArray, read_directory};

const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe nice<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Control tokens of the test vocabulary, ids 256 and up.
const CONTROL: [&str; 8] =
    ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]", "<|im_end|><s>", "※"];

fn tokenizer() -> Tokenizer {
    let mut texts: Vec<String> = Vec::new();
    let mut next = 0x100;
    for byte in 0..=255u32 {
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        texts.push(char::from_u32(if printable { byte } else { next }).unwrap().to_string());
        next += u32::from(!printable);
    }
    texts.extend(CONTROL.map(str::to_owned));
    texts.push("<think>".to_owned());
    let mut types = vec![1; 256];
    types.extend([3; 8]);
    types.push(4);
    let mut metadata = Metadata::default();
    let text = |text: &str| Value::String(text.to_owned());
    metadata.insert("tokenizer.ggml.model", text("gpt2"));
    metadata.insert("tokenizer.ggml.pre", text("gpt-2"));
    metadata.insert("tokenizer.ggml.tokens", Value::Strings(texts.iter().collect()));
    metadata.insert("tokenizer.ggml.token_type", Value::Integers(types));
    metadata.insert("tokenizer.ggml.merges", Value::Strings(StringArray::default()));
    metadata.insert("tokenizer.ggml.bos_token_id", Value::Unsigned(258));
    metadata.insert("tokenizer.ggml.eos_token_id", Value::Unsigned(259));
    Tokenizer::from_metadata(&metadata).unwrap()
}

fn conversation(turns: &[(&str, &str)]) -> Vec<Message> {
    turns.iter().map(|&(role, content)| Message::new(role, content)).collect()
}

/// The text of segments, control tokens as they are written.
fn plain(segments: Vec<Segment>) -> String {
    let text = |segment| match segment {
        Segment::Text(text) => text,
        Segment::Control(id) => CONTROL[id as usize - 256].to_owned(),
    };
    segments.into_iter().map(text).collect()
}

fn render(source: &str, turns: &[(&str, &str)]) -> Result<Vec<Segment>, Error> {
    ChatTemplate::new(Some(source), &tokenizer()).render(&conversation(turns), true)
}

/// The rendered text, control tokens as `⟦text⟧`.
fn shown(source: &str, turns: &[(&str, &str)]) -> String {
    let show = |segment| match segment {
        Segment::Text(text) => text,
        Segment::Control(id) => format!("⟦{}⟧", CONTROL[id as usize - 256]),
    };
    render(source, turns).unwrap().into_iter().map(show).collect()
}

#[track_caller]
fn fails(source: &str, message: &str) {
    let error = render(source, &[("user", "hi")]).unwrap_err();
    assert_eq!(error.code(), "template");
    assert!(error.to_string().contains(message), "{error}");
}

#[test]
fn chatml_without_and_with_a_system_message_and_several_turns() {
    assert_eq!(
        shown(CHATML, &[("user", "Hi")]),
        "⟦<|im_start|>⟧system\nBe nice⟦<|im_end|>⟧\n⟦<|im_start|>⟧user\nHi⟦<|im_end|>⟧\n⟦<|im_start|>⟧assistant\n"
    );
    let turns = [("system", "Be terse"), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Bye")];
    assert_eq!(
        shown(CHATML, &turns),
        "⟦<|im_start|>⟧system\nBe terse⟦<|im_end|>⟧\n⟦<|im_start|>⟧user\nHi⟦<|im_end|>⟧\n⟦<|im_start|>⟧assistant\nYes?⟦<|im_end|>⟧\n⟦<|im_start|>⟧user\nBye⟦<|im_end|>⟧\n⟦<|im_start|>⟧assistant\n"
    );
    // A longer conversation begins with the shorter one: its KV cache is reused.
    let tokenizer = tokenizer();
    let template = ChatTemplate::new(Some(CHATML), &tokenizer);
    let ids = |count: usize, prompt| {
        let segments = template.render(&conversation(&turns[..count]), prompt).unwrap();
        tokenizer.encode_segments(&segments).unwrap()
    };
    assert!(ids(4, true).starts_with(&ids(2, true)));
    assert!(ids(2, true).len() > ids(2, false).len());
}

#[test]
fn the_real_template_and_its_ids() {
    let path = std::env::var("EMBERGLASS_MODEL")
        .unwrap_or_else(|_| ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf".to_owned());
    let file = FileSource::open(&path)
        .unwrap_or_else(|e| panic!("the model file is needed, and `cargo xtask test` fetches it: {e}"));
    let directory = pollster::block_on(read_directory(&mut [Box::new(file)])).unwrap();
    let tokenizer = Tokenizer::from_metadata(&directory.metadata).unwrap();
    let template = ChatTemplate::from_metadata(&directory.metadata, &tokenizer);
    assert!(template.is_present());
    let segments = template.render(&[Message::new("user", "hi <|im_end|>")], true).unwrap();
    let controls = segments.iter().filter(|s| matches!(s, Segment::Control(_))).count();
    assert_eq!(controls, 5);
    let ids = tokenizer.encode_segments(&segments).unwrap();
    assert_eq!(
        tokenizer.decode(&ids, false),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nhi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    );
    // The one the user typed is text.
    assert_eq!(ids.iter().filter(|&&id| id == 2).count(), 2);
}

#[test]
fn filters_and_python_methods_see_the_content() {
    let each = |body: &str, content: &str| {
        let source = format!("{{% for m in messages %}}{{% set c = m['content'] %}}{body}{{% endfor %}}");
        shown(&source, &[("user", content)])
    };
    assert_eq!(each("{{ bos_token + c | trim + eos_token }}", " \n hi \t"), "⟦<s>⟧hi⟦</s>⟧");
    assert_eq!(each("{{ '[INST] ' + c.strip() + ' [/INST]' }}", "  hi  "), "⟦[INST]⟧ hi ⟦[/INST]⟧");
    assert_eq!(each("{{ c.split('</t>')[-1].lstrip('\\n') }}", "a</t>\n\nb"), "b");
    assert_eq!(each("{{ c.startswith('ab') }},{{ c.endswith(('x', 'c')) }}", "abc"), "True,True");
    assert_eq!(each("{{ c.replace('a', 'b').upper() }}|{{ c.title() }}", "a cat"), "B CBT|A Cat");
    assert_eq!(
        each("{{ m.items() | length }} {{ m.get('x') is none }} {{ m.get('x', 'y') }}", ""),
        "2 True y"
    );
    assert_eq!(
        each("{{ '-'.join(c.split()) }}|{{ c.rsplit(' ', 1)[0] }}|{{ c.find('b') }}", "é b  c"),
        "é-b-c|é b |2"
    );
    assert_eq!(each("{{ c | tojson }}", "a<b> & 'c' \"d\" é\n"), r#""a<b> & 'c' \"d\" é\n""#);
    assert_eq!(each("{{ c | length }}", "<s>é"), "4");
    assert_eq!(each("{{ tools is none }} {{ documents is none }} {{ x is defined }}", ""), "True True False");
    assert_eq!(each("{{ strftime_now('%Y') | int > 2024 }}", ""), "True");
}

/// trim_blocks and lstrip_blocks: lines that hold only a block leave nothing behind.
#[test]
fn whitespace_of_blocks_is_removed_as_by_hugging_face() {
    let source = "{% for m in messages %}\n    {% if m.role == 'user' %}\nU: {{ m.content }}\n    {% elif true %}\n  O: {{ m.content }}\n    {% endif %}\n{% endfor %}\n{% generation %}\nend{%- endgeneration -%}  \n.\n";
    assert_eq!(shown(source, &[("user", "a"), ("system", "b")]), "U: a\n  O: b\nend.");
}

#[test]
fn macros_namespaces_and_loop_controls_work() {
    let source = "{%- macro turn(m) -%}[{{ m.role }}:{{ m.content }}]{%- endmacro -%}{% set ns = namespace(n=0) %}{% for m in messages[1:] %}{% if m.role == 'assistant' %}{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}{{ turn(m) }}{% endfor %}{{ ns.n }}{{ messages[-1].content }}";
    let turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")];
    assert_eq!(shown(source, &turns), "[user:a][user:c]2c");
}

#[test]
fn control_text_in_a_message_stays_text() {
    for control in CONTROL {
        let content = format!("a{control}b{control}{control}");
        let rendered = shown(CHATML, &[("system", &content), ("user", control)]);
        assert_eq!(
            rendered,
            format!(
                "⟦<|im_start|>⟧system\n{content}⟦<|im_end|>⟧\n⟦<|im_start|>⟧user\n{control}⟦<|im_end|>⟧\n⟦<|im_start|>⟧assistant\n"
            )
        );
    }
    // In the role too.
    assert!(shown(CHATML, &[("<s>", "x")]).contains("⟦<|im_start|>⟧<s>\nx"));
    // Overlapping tokens.
    assert!(
        shown(CHATML, &[("user", "<|im_end|><s><s><|im_end|><s")])
            .contains("\n<|im_end|><s><s><|im_end|><s⟦")
    );
}

#[test]
fn control_text_across_the_end_of_a_message_stays_text() {
    // Two messages that the template joins, with and without trimming.
    let joined = "{% for m in messages %}{{ m.content | trim }}{% endfor %}";
    for (first, second) in [("<|im_", "end|>"), ("<|im_end|", ">"), ("<", "s>"), ("a<|im_  \n", "end|>b")] {
        let rendered = render(joined, &[("user", first), ("user", second)]).unwrap();
        assert_eq!(rendered, [Segment::Text(format!("{}{second}", first.trim()))]);
    }
    // The template's own tokens next to such a message are kept.
    assert_eq!(shown("{{ messages[0].content }}</s>", &[("user", "<")]), "<⟦</s>⟧");
}

#[test]
fn every_character_may_occur_in_a_message() {
    let noncharacters: String = ('\u{FDD0}'..='\u{FDEF}').chain(['\u{FFFE}', '\u{F0000}']).collect();
    let content = format!("<s>{noncharacters}</s>");
    assert!(shown(CHATML, &[("user", &content)]).contains(&format!("user\n{content}⟦")));
    // Also if the template writes them.
    let source = "\u{FDD0}{{ '\\ufdd1' ~ messages[0].content }}";
    assert_eq!(shown(source, &[("user", "<s>")]), "\u{FDD0}\u{FDD1}<s>");
}

#[test]
fn user_defined_tokens_are_left_to_the_tokenizer() {
    let rendered = render("{{ messages[0].content.split('<think>')[1] }}<think>", &[("user", "a<think>b")]);
    assert_eq!(rendered.unwrap(), [Segment::Text("b<think>".into())]);
}

#[test]
fn no_template_is_an_error_only_when_used() {
    let template = ChatTemplate::from_metadata(&Metadata::default(), &tokenizer());
    assert!(!template.is_present());
    assert_eq!(template.render(&[], true).unwrap_err(), Error::NoChatTemplate);
    let template = ChatTemplate::new(Some("{% if %}"), &tokenizer());
    assert_eq!(template.render(&[], true).unwrap_err().code(), "template");
    // A template that is no string is not a missing one.
    let mut metadata = Metadata::default();
    metadata.insert("tokenizer.chat_template", Value::Unsigned(1));
    let error = ChatTemplate::from_metadata(&metadata, &tokenizer()).render(&[], true).unwrap_err();
    assert!(error.to_string().contains("tokenizer.chat_template"), "{error}");
}

#[test]
fn errors_carry_the_templates_message() {
    fails("a\n{{ raise_exception('Roles must alternate!') }}", "Roles must alternate! (line 2)");
    fails("{% for %}", "line 1");
    fails("{{ messages.nope() }}", "nope");
    fails("{{ x.y.z }}", "undefined");
    fails("{% include 'other' %}", "the tag 'include' is not supported");
    fails(&"x".repeat(2 << 20), "it is 2097152 bytes long");
}

#[test]
fn a_hostile_template_is_stopped() {
    let start = Instant::now();
    let loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}";
    fails(loops, "runs too long or uses too much memory");
    fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion limit exceeded");
    // Doubling a string, repeating one, and padding: memory.
    let double = "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}";
    fails(double, "runs too long or uses too much memory");
    fails("{{ 'x' * 999999999999 }}", "too much memory");
    fails("{{ 'x' | indent(999999999, true) }}", "too much memory");
    fails("{{ [1] * 999999999 }}", "too much memory");
    let replace = "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('x', 'xxxxxxxxxx') %}{% endfor %}{{ ns.s }}";
    fails(replace, "too much memory");
    // Output, in small pieces, and as much as memory bears.
    fails("{% set s = 'x' * 9000 %}{% for i in range(99999) %}{{ s }}{% endfor %}", "too much memory");
    fails("{{ 'x' * 5000000 }}", "its output is 5000000 bytes long");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// `tools/template-goldens` made them with jinja2.
#[test]
fn goldens() {
    let path = std::env::var("EMBERGLASS_TEMPLATE_GOLDENS")
        .unwrap_or_else(|_| "tests/data/templates/goldens.json".to_owned());
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let tokenizer = tokenizer();
    let conversation = |name: &str| -> Vec<Message> {
        let turns = golden["conversations"][name].as_array().unwrap();
        turns.iter().map(|t| Message::new(t[0].as_str().unwrap(), t[1].as_str().unwrap())).collect()
    };
    let mut compared = 0;
    let mut wrong = Vec::new();
    for entry in golden["small"].as_array().unwrap() {
        let source = entry[0].as_str().unwrap();
        let rendered = ChatTemplate::new(Some(source), &tokenizer).render(&conversation("system"), true);
        compared += 1;
        match (&rendered, entry[1].as_str()) {
            (Ok(segments), Some(expected)) if plain(segments.clone()) == expected => (),
            (Err(Error::Template { .. }), None) => (),
            _ => wrong.push(format!("{source}\n  gives {rendered:?}\n  jinja2 gives {}", entry[1])),
        }
    }
    for file in golden["files"].as_array().unwrap() {
        let name = file["file"].as_str().or(file["name"].as_str()).unwrap();
        let source = match file["template"].as_str() {
            Some(source) => source.to_owned(),
            None => std::fs::read_to_string(format!("tests/data/templates/{name}")).unwrap(),
        };
        let template = ChatTemplate::new(Some(&source), &tokenizer);
        for result in file["results"].as_array().unwrap() {
            let (turns, prompt) = (result[0].as_str().unwrap(), result[1].as_bool().unwrap());
            let rendered = template.render(&conversation(turns), prompt);
            compared += 1;
            match (&rendered, result[2].as_str()) {
                (Ok(segments), Some(hash)) if fnv(&plain(segments.clone())) == hash => (),
                (Err(Error::Template { .. }), None) => (),
                _ => wrong.push(format!("{name}, {turns}, {prompt}: {rendered:?}")),
            }
        }
    }
    assert!(compared > 1000, "{compared} compared");
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// FNV-1a of 64 bits.
fn fnv(text: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    format!("{:016x}", text.bytes().fold(0xCBF2_9CE4_8422_2325, step))
}

/// What jinja2 can do and this cannot is never a wrong prompt.
#[test]
fn what_is_not_supported_is_an_error_that_names_it() {
    for filter in ["pprint", "forceescape", "xmlattr", "urlencode", "random", "filesizeformat", "wordwrap"] {
        fails(&format!("{{{{ 'x' | {filter} }}}}"), &format!("filter {filter} is unknown"));
        fails(&format!("{{{{ ['x'] | map('{filter}') | list }}}}"), &format!("filter {filter} is unknown"));
    }
    for tag in ["block x", "extends 'x'", "import 'x' as y", "from 'x' import y", "autoescape true", "do x"] {
        let name = tag.split(' ').next().unwrap();
        fails(&format!("{{% {tag} %}}"), &format!("the tag '{name}' is not supported"));
    }
    fails("{{ ['x'] | select('bogus') | list }}", "test bogus is unknown");
    fails("{% macro m() %}{{ varargs }}{% endmacro %}", "'varargs'");
    fails("{{ strftime_now('%j') }}", "%j");
    fails("{{ self }}", "'self'");
    fails("{% for x in [1] %}{% if x %}{% break %}{% endif %}{% else %}e{% endfor %}", "'else'");
    for (open, name) in
        [("with", "with"), ("set y", "set"), ("filter upper", "filter"), ("generation", "with")]
    {
        let end = open.split(' ').next().unwrap();
        let source = format!(
            "{{% for x in [1] %}}{{% {open} %}}{{% if x %}}{{% continue %}}{{% endif %}}{{% end{end} %}}{{% endfor %}}"
        );
        fails(&source, &format!("'break' and 'continue' in a '{name}' block"));
    }
    fails("{{ 'x'.__class__ }}", "'__class__'");
    fails("{{ 'x'.encode() }}", "'encode'");
    fails("{{ [1].append(2) }}", "'append'");
    fails("{{ '\\N{BULLET}' }}", "\\N{…}");
    fails("{{ '\\ud83d\\ude00' }}", "names no character");
    fails("{{ 2 ** 200 }}", "more than 128 bits");
    fails("{{ 99999999999999999999999999999999999999999999999999 }}", "integer");
    // Text that is another in every run of Python.
    fails("{{ messages | map('upper') }}", "a generator cannot be printed");
    fails("{{ 'x'.upper }}", "a method cannot be printed");
    fails("{{ '<b>' | safe + '<' }}", "safe");
    fails("{{ 'x' is sameas 'x' }}", "sameas");
}

/// Every way to make a lot out of a little, and to work a lot on it.
#[test]
fn what_a_template_makes_is_paid_for_before_it_is_made() {
    let memory = "it runs too long or uses too much memory";
    for expression in [
        "1 in ([0] * 10 ** 8)",
        "([0] * 10 ** 8) ~ 1",
        "([0] * 10 ** 8) | string",
        "'a'.join([0] * 10 ** 8)",
        "('a' * 1000000).join(range(5000) | map('string'))",
        "(['a'] * 10000) | join('x' * 1000000)",
        "{'a': [1, 2, 3]} | tojson(indent=1000000000)",
        "([1] * 1000) | tojson(indent='x' * 1000000)",
        "([1] * 1000) | tojson(separators=('x' * 1000000, ':'))",
        "(1,) * 10 ** 30",
        "('x' * 1000000) * 1000000",
        "'x'.ljust(10 ** 18)",
        "'x'.center(10 ** 9)",
        "'x'.zfill(10 ** 9)",
        "'x' | center(10 ** 9)",
        "('\\t' * 1000).expandtabs(10 ** 9)",
        "('a\\n' * 1000) | indent(10 ** 9)",
        "('a\\n' * 10000) | indent('x' * 10000)",
        "('x' * 10000).replace('x', 'y' * 1000000)",
        "('x' * 10000).replace('', 'y' * 1000000)",
        "('x' * 10000) | replace('x', 'y' * 1000000)",
        "[1] | batch(10 ** 9, 0) | list",
        "[1] | slice(10 ** 9) | list",
        "('%(a)1000d' * 100000) % {'a': 1}",
        "('{0:>1000}' * 100000).format(1)",
    ] {
        fails(&format!("{{% if {expression} %}}{{% endif %}}"), memory);
        // Compiling must not evaluate it.
        let dead = format!("{{% if false %}}{{{{ {expression} }}}}{{% endif %}}");
        assert_eq!(shown(&dead, &[("user", "hi")]), "", "{expression}");
    }
    // A literal is refused even where nothing uses it.
    for expression in
        ["1 in ([0] * 100000000)", "([0] * 100000000) ~ 1", "99999999999 * 'x'", "(1,) * 10000001"]
    {
        fails(&format!("{{% if false %}}{{{{ {expression} }}}}{{% endif %}}"), "too much memory");
    }
    for expression in
        ["'%1000000000d' % 1", "'%*d' % (10 ** 9, 1)", "'%.1000000000f' % 1", "'{:1000000000}'.format(1)"]
    {
        fails(&format!("{{{{ {expression} }}}}"), "more than 1000");
    }
    fails("{{ range(10 ** 18) }}", "more than 100000 items");
    // Cheap instructions on a large value.
    for (value, body) in [
        ("'x' * 5000000", "{{ 'y' in v }}"),
        ("'x' * 5000000", "{{ v[0] }}"),
        ("'x' * 5000000", "{{ v[-1:] }}"),
        ("'x' * 5000000", "{{ {v: 1}[v] }}"),
        ("'x' * 5000000", "{{ v == 'x' * 5000000 }}"),
        ("'x' * 5000000", "{{ v is lower }}"),
        ("'x' * 5000000", "{{ v is eq(v) }}"),
        ("'x' * 5000000", "{% for c in v %}{% break %}{% endfor %}"),
        ("'x' * 5000000", "{{ loop.changed(v ~ i) }}"),
        ("'x' * 5000000", "{{ v.zz is defined or v.upper is defined or v | length }}"),
        ("' ' * 5000000", "{{ v.strip() }}"),
        ("'ab' * 2000000", "{{ v.strip('ab') }}"),
        ("range(50000) | list", "{{ dict(a=v, b=v + v) | length }}"),
        ("range(50000) | list", "{{ loop.cycle(*v) }}"),
        ("range(50000) | map('string') | list", "{{ v | unique | list | length }}"),
        ("range(50000) | list", "{{ v | sort | first }}"),
        ("dict(range(50000) | batch(2))", "{% for k in v %}{% break %}{% endfor %}"),
        ("dict(range(20000) | map('string') | list | batch(2))", "{{ dict(**v) | length }}"),
    ] {
        fails(&format!("{{% set v = {value} %}}{{% for i in range(99999) %}}{body}{{% endfor %}}"), memory);
    }
    // What doubles again and again.
    for (first, next) in [
        ("'x'", "ns.v + ns.v"),
        ("'x'", "ns.v ~ ns.v"),
        ("'x'", "[ns.v, ns.v] | join"),
        ("[1]", "ns.v + ns.v"),
        ("[1]", "ns.v * 2"),
        ("(1,)", "ns.v + ns.v"),
        ("[1]", "[ns.v, ns.v]"),
        ("[1]", "{'a': ns.v, 'b': ns.v}"),
    ] {
        let source = format!(
            "{{% set ns = namespace(v={first}) %}}{{% for i in range(60) %}}{{% set ns.v = {next} %}}{{% endfor %}}"
        );
        fails(&source, memory);
    }
}

/// On a stack of one MiB, as WebAssembly has.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(1 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn deep_templates_are_refused_before_they_are_parsed() {
    on_a_small_stack(|| {
        let deep = |open: &str, middle: &str, close: &str, times: usize| {
            open.repeat(times) + middle + &close.repeat(times)
        };
        let (nested, operators, blocks) =
            ("nested deeper than 25", "more than 200 operators", "nested deeper than 50");
        for (start, open, middle, close, end, reason) in [
            ("{{ ", "(", "1", ")", " }}", nested),
            ("{{ ", "[", "x", "]", " }}", nested),
            ("{{ ", "{1: ", "x", "}", " }}", nested),
            ("{{ ", "dict(a=", "1", ")", " }}", nested),
            ("{{ ", "x[", "1", "]", " }}", nested),
            ("{{ ", "-", "1", "", " }}", nested),
            ("{{ ", "not ", "1", "", " }}", nested),
            ("{{ 1", " if 1 else 1", "", "", " }}", nested),
            ("{{ 1", "+1", "", "", " }}", operators),
            ("{{ 1", " and x", "", "", " }}", operators),
            ("{{ x", ".x", "", "", " }}", operators),
            ("{{ x", "[0]", "", "", " }}", operators),
            ("{{ x", "()", "", "", " }}", operators),
            ("{{ x", "|string", "", "", " }}", operators),
            ("{{ x", " is string", "", "", " }}", operators),
            ("{{ x", " if 1", "", "", " }}", operators),
            ("{{ 1", " < 1", "", "", " }}", operators),
            ("", "{% if 1 %}", "", "{% endif %}", "", blocks),
            ("", "{% for x in y %}", "", "{% endfor %}", "", blocks),
            ("", "{% with %}", "", "{% endwith %}", "", blocks),
            ("", "{% macro m() %}", "", "{% endmacro %}", "", blocks),
            ("{% if 1 %}", "{% elif 1 %}", "", "", "{% endif %}", blocks),
        ] {
            let source = |times| format!("{start}{}{end}", deep(open, middle, close, times));
            fails(&source(5000), reason);
            // What is just within the bound has room on the stack; whether it renders does not matter.
            let within = if reason == nested {
                23
            } else if reason == blocks {
                49
            } else {
                98
            };
            drop(render(&source(within), &[("user", "hi")]));
        }
        // Within every bound at once.
        let expression = format!("{{{{ {}1{}{} }}}}", "(".repeat(20), "+1".repeat(170), ")".repeat(20));
        let source = "{% if 1 %}".repeat(50) + &expression + &"{% endif %}".repeat(50);
        assert_eq!(shown(&source, &[("user", "hi")]), "171");
    });
}

#[test]
fn deep_values_are_refused() {
    on_a_small_stack(|| {
        let deep = "nested deeper than 64";
        for next in [
            "[ns.v]",
            "(ns.v,)",
            "{'k': ns.v}",
            "dict(k=ns.v)",
            "namespace(v=ns.v)",
            "[ns.v] | map('list')",
            "[ns.v] | batch(1)",
            "{1: ns.v}.items()",
            "{1: ns.v}.values()",
            "[ns.v] + []",
        ] {
            let source = format!(
                "{{% set ns = namespace(v=[1]) %}}{{% for i in range(20000) %}}{{% set ns.v = {next} %}}{{% endfor %}}"
            );
            fails(&source, deep);
        }
        let chain = "{% set a = [1] %}".to_owned() + &"{% set a = a | batch(1) %}".repeat(200);
        fails(&chain, deep);
        // A cycle would never be freed.
        for cycle in [
            "{% set ns = namespace(a=1) %}{% set ns.a = ns %}",
            "{% set ns = namespace() %}{% set ns.a = [{'b': (ns,)}] %}",
            "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}",
        ] {
            fails(cycle, "a namespace cannot hold itself");
        }
        fails("{% set ns = namespace() %}{% for x in [ns] %}{% set ns.l = loop %}{% endfor %}", "no loop");
        fails("{% macro f(v) %}{{ f([v]) }}{% endmacro %}{{ f(1) }}", "recursion limit exceeded");
        fails("{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}", "recursion limit exceeded");
    });
}

/// Beginnings and ends of tags where none should be.
#[test]
fn broken_templates_are_errors_and_load() {
    for source in [
        "{%}",
        "{%",
        "{%-",
        "{{",
        "{{ ' }}",
        "{#",
        "{#}",
        "{{ } }}",
        "{{ ) }}",
        "{{ (] }}",
        "{%%}",
        "{% %}",
        "{{}}",
        "{% raw %}",
        "{% raw %}{% endraw",
        "{% generation %}",
        "{% generation %}{% endwith %}",
        "{% endfor %}",
        "{% if 1 %}{% endfor %}",
        "{% if 1 %}",
        "{% elif 1 %}",
        "{% else %}",
        "{{ '\\",
        "{{ '\\x",
        "{{ '\\x4' }}",
        "{{ '\\u12' }}",
        "{{ '\\U00110000' }}",
        "{% set %}",
        "{% set 1 = 2 %}",
        "{% set true = 2 %}",
        "{% break %}",
        "{{ x|upper( }}",
        "{{ loop.cycle( }}",
        "{% for x in [1] %}{{ loop.cycle() }}{% endfor %}",
        "{% for x in [1] %}{{ loop.cycle(*[]) }}{% endfor %}",
        "{{ 1_ }}",
        "{{ 0x }}",
    ] {
        let template = ChatTemplate::new(Some(source), &tokenizer());
        let error = template.render(&[Message::new("user", "hi")], true).unwrap_err();
        assert_eq!(error.code(), "template", "{source}");
    }
    // Where they are text, they stay.
    assert_eq!(shown("{{ '{%}' }}{# {%} #}{% raw %}{%}{{ x }}{% endraw %}", &[]), "{%}{%}{{ x }}");
    assert_eq!(shown("{{ '{% generation %}' }}%}}}#}", &[]), "{% generation %}%}}}#}");
}

/// A control token's first letter has a stand-in while a template is rendered.
#[test]
fn control_text_passes_through_python_s_text_forms() {
    let turns = [("user", "é<s>'\\n")];
    assert_eq!(shown("{{ messages[0].content | tojson }}", &turns), r#""é<s>'\\n""#);
    assert_eq!(shown("{{ messages[0].content | tojson(ensure_ascii=true) }}", &turns), r#""\u00e9<s>'\\n""#);
    assert_eq!(shown("{{ [messages[0].content] }}", &turns), r#"["é<s>'\\n"]"#);
    assert_eq!(shown("{{ '%r' % messages[0].content }}", &turns), r#""é<s>'\\n""#);
    assert_eq!(
        shown("{{ messages[0].content[1:] ~ messages[0].content | upper }}", &turns),
        "<s>'\\nÉ<S>'\\N"
    );
}

#[test]
fn long_conversations_render() {
    let text = "All work and no play makes Jack a dull boy. <s> ".repeat(20);
    let turns: Vec<_> = (0..400).map(|i| (["user", "assistant"][i % 2], text.as_str())).collect();
    let start = Instant::now();
    let segments = render(CHATML, &turns).unwrap();
    assert_eq!(segments.len(), 400 * 4 + 6);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
