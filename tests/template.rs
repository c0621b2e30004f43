//! Chat templates: what they render, what text of a message can never become, and bounds on what
//! an untrusted template may do. Expected texts are those of Jinja 3.1 with Hugging Face's settings.

#![allow(clippy::unwrap_used, clippy::panic)]

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
    assert!(template.is_available());
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
    let source = "\u{FDD0}{{ messages[0].content }}";
    assert_eq!(shown(source, &[("user", "<s>")]), "\u{FDD0}<s>");
}

#[test]
fn user_defined_tokens_are_left_to_the_tokenizer() {
    let rendered = render("{{ messages[0].content.split('<think>')[1] }}<think>", &[("user", "a<think>b")]);
    assert_eq!(rendered.unwrap(), [Segment::Text("b<think>".into())]);
}

#[test]
fn no_template_is_an_error_only_when_used() {
    let template = ChatTemplate::from_metadata(&Metadata::default(), &tokenizer());
    assert!(!template.is_available());
    assert_eq!(template.render(&[], true).unwrap_err(), Error::NoChatTemplate);
    let template = ChatTemplate::new(Some("{% if %}"), &tokenizer());
    assert_eq!(template.render(&[], true).unwrap_err().code(), "template");
}

#[test]
fn errors_carry_the_templates_message() {
    fails("a\n{{ raise_exception('Roles must alternate!') }}", "Roles must alternate! (line 2)");
    fails("{% for %}", "line 1");
    fails("{{ messages.nope() }}", "nope");
    fails("{{ x.y.z }}", "undefined");
    fails("{% include 'other' %}", "template failed");
    fails(&"x".repeat(2 << 20), "it is 2097152 bytes long");
}

#[test]
fn a_hostile_template_is_stopped() {
    let start = Instant::now();
    let loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}";
    fails(loops, "runs too long or uses too much memory");
    fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion");
    // Doubling a string, repeating one, and padding: memory.
    let double = "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}";
    fails(double, "runs too long or uses too much memory");
    fails("{{ 'x' * 999999999999 }}", "");
    fails("{{ 'x' | indent(999999999, true) }}", "");
    fails("{{ [1] * 999999999 }}", "");
    let replace = "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('x', 'xxxxxxxxxx') %}{% endfor %}{{ ns.s }}";
    fails(replace, "");
    // Output, in small pieces.
    fails("{% set s = 'x' * 9000 %}{% for i in range(99999) %}{{ s }}{% endfor %}", "");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
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
