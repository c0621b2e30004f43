//! Chat templates: the bytes are the template.

use emberglass::Message;
use emberglass::text::{ChatTemplate, Segment, Tokenizer};

use super::{Target, allowed, tokenizer};

pub const TARGET: Target = Target {
    name: "template",
    about: "chat templates: compile and render",
    run,
    seeds,
    words: &[
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-%}",
        "{%-",
        "{% for m in messages %}",
        "{% endfor %}",
        "{% if ",
        "{% endif %}",
        "{% set x = ",
        "{% macro f(x) %}",
        "{% endmacro %}",
        "{% generation %}",
        "{% raw %}",
        "{% call ",
        "namespace(a=1)",
        "messages",
        "m.content",
        "m['role']",
        "loop.previtem",
        "loop.index0",
        " * 1000000",
        " ~ ",
        "range(",
        "|tojson",
        "|join(",
        "|replace(",
        ".split(",
        ".join(",
        ".format(",
        "[::-1]",
        "[1:]",
        "|sort",
        "|list",
        "|length",
        "|indent(",
        "|batch(",
        "none",
        "true",
        "- ",
        "not ",
        "(((",
        "[[[",
        "\\\n",
        "\\u003c",
        "bos_token",
        "raise_exception(",
        "strftime_now(",
        "is defined",
        "|string",
        " ** ",
        " // ",
        "\r\n",
    ],
};

thread_local! {
    static TOKENIZER: Option<Tokenizer> = Tokenizer::from_metadata(&tokenizer::small()).ok();
}

fn run(data: &[u8]) {
    let source = String::from_utf8_lossy(data);
    TOKENIZER.with(|tokenizer| {
        let Some(tokenizer) = tokenizer else { return };
        let template = ChatTemplate::new(Some(&source), tokenizer);
        let messages = [
            Message::new("system", "Be <s> nice."),
            Message::new("user", "1 é </s"),
            Message::new("assistant", "\u{FDD0}> ok"),
            Message::new("user", ""),
        ];
        match template.render(&messages, true) {
            Err(error) => allowed(&error),
            Ok(segments) => {
                for segment in segments {
                    if let Segment::Control(id) = segment {
                        assert!(tokenizer.is_control(id), "{id} is no control token");
                    }
                }
            }
        }
    });
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "{% for m in messages %}{{ '<s>' + m['role'] + '\\n' + m['content'] | trim + '</s>' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '<s>assistant' }}{% endif %}",
        "{%- set ns = namespace(found=false) -%}{%- for m in messages[1:] if m.role != 'system' -%}\
         {%- if loop.first %}{% set ns.found = true %}{% endif -%}{{ m | tojson(indent=2) }}{{ loop.index0 ~ ns.found }}\
         {%- else -%}none{%- endfor -%}",
        "{% macro f(x, y=1) %}[{{ x.upper().split(' ')[0] }}|{{ y }}]{% endmacro %}{{ f(messages[1].content) }}\
         {% generation %}{{ messages | map(attribute='role') | join(', ') }}{% endgeneration %}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
