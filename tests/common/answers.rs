//! A model's answers beside llama.cpp's, which computed them with every tensor read as F32.

use emberglass::graph::Backend;
use emberglass::{Finish, GenerateOptions, Prompt, Sampling, TextEngine};
use serde_json::Value;

/// Activations of 16 bits on the CPU are off by some 1e-4 of a logit. llama.cpp looks GELU up in a table of f16, which
/// moves its logits by up to 5e-3. To leave a feature out moves one by 0.05 at least (`features_off_max_diff`).
const LOGIT: f64 = 0.02;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The token ids of each prompt, the greedy tokens behind it, and the largest logits, computed in batches of these sizes.
pub async fn check<B: Backend + 'static>(
    engine: &mut TextEngine<B>,
    name: &str,
    case: &Value,
    batches: &[u32],
) {
    for prompt in case["prompts"].as_array().unwrap() {
        let tokens = ids(&prompt["token_ids"]);
        let what = format!("{name}, {} tokens", tokens.len());
        let text = Prompt::Text(prompt["text"].as_str().unwrap().to_owned());
        assert_eq!(engine.encode(&text).unwrap(), tokens, "{what}: the prompt");
        let wanted = ids(&prompt["greedy_ids"]);
        // From a step on where two tokens are nearly as likely, texts may part.
        let sure = ids(&prompt["low_margins"]).first().map_or(wanted.len(), |step| *step as usize);
        let options = GenerateOptions {
            sampling: Sampling { temperature: 0.0, ..Default::default() },
            max_tokens: Some(wanted.len()),
            ignore_end: true,
            ..Default::default()
        };
        let done = engine.generate(&Prompt::Tokens(tokens.clone()), &options, &mut |_| (), &|| false).await;
        let done = done.unwrap();
        assert_eq!(done.finish, Finish::Length);
        assert_eq!(done.tokens[..sure], wanted[..sure], "{what}");
        for batch in batches {
            let logits = engine.logits(&tokens, *batch, false).await.unwrap();
            let last = logits.last().unwrap();
            for pair in prompt["logits_first"].as_array().unwrap() {
                let (id, wanted) = (pair[0].as_u64().unwrap() as usize, pair[1].as_f64().unwrap());
                let ours = f64::from(last[id]);
                assert!(
                    (ours - wanted).abs() <= LOGIT,
                    "{what} by {batch}: logit {id} is {ours}, not {wanted}"
                );
            }
        }
    }
}
