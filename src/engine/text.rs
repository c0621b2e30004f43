//! The loops: load, prefill, decode → TOKENS. Cancelling, KV prefix reuse, statistics.

use std::borrow::Cow;

use crate::clock::now_ms;
use crate::error::{Error, Result, spelled};
use crate::graph::{Backend, KvType, MAX_VERIFY_ROWS, Step, Traffic};
use crate::model::{self, Facts, LanguageModel, Progress, Sizes};
use crate::sampling::Sampling;
use crate::text::tokenizer::{check_length, texts};
use crate::text::{ChatTemplate, Message, StopFilter, Tokenizer};
use crate::weights::{ByteSource, Directory};
use crate::yield_now::{Pause, at_once};

use super::in_flight::{InFlight, Last, Limits, Work};
use super::meter::Meter;
use super::rehearsal::check_fit;
use super::session::Session;
use super::transcript::Transcript;

/// Most tokens of one prefill submit. Wide GPUs need many to be busy: a matrix or a head is few workgroups for 128.
pub const MAX_BATCH: u32 = 512;
/// The first batch of a prompt, and the smallest.
pub(super) const FIRST_BATCH: u32 = 32;
/// Prefill batches grow and shrink towards this time, far below what makes a browser take the
/// device away.
const BATCH_MS: f64 = 200.0;
/// Context when the caller does not ask for one: KV memory grows with it.
const DEFAULT_CONTEXT: u32 = 2048;

/// Most drafts that [`LoadOptions::draft_tokens`] may ask for: a verification computes the token before them, too.
pub const MAX_DRAFTS: u32 = MAX_VERIFY_ROWS - 1;

/// Options that are fixed when a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Tokens the KV cache holds; [`context_length`] knows a good number.
    pub context_length: u32,
    /// What it holds of them.
    pub kv: KvType,
    /// Speculative decoding: most drafts that are verified in one step, up to [`MAX_DRAFTS`]; a backend may
    /// take fewer. 0 is off. Texts are the same either way.
    pub draft_tokens: u32,
}

/// What to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A conversation, rendered with the file's chat template.
    Messages(Vec<Message>),
    /// Raw text; control tokens in it are control tokens.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
}

/// How to continue it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens to generate; `None` is until the context is full.
    pub max_tokens: Option<usize>,
    /// Strings that end the text, not shown themselves.
    pub stop: Vec<String>,
    /// Go on past end-of-text tokens (for tests and benches).
    pub ignore_end: bool,
}

/// Why a generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its text.
    Stop,
    /// A stop string appeared.
    StopString(String),
    /// `max_tokens` reached.
    Length,
    /// The KV cache is full.
    ContextFull,
    /// The caller cancelled; the text so far stands.
    Aborted,
}

/// The result of a generation. Times in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// All text.
    pub text: String,
    /// The prompt's token ids.
    pub prompt: Vec<u32>,
    /// Generated token ids, without the end token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Prompt tokens that were in the KV cache already.
    pub reused: usize,
    /// From the call to the last prompt token computed and the first token drawn.
    pub prefill_ms: f64,
    /// From the call to the first piece of text.
    pub first_token_ms: f64,
    /// From the first token to the last.
    pub decode_ms: f64,
    /// What decoding cost, all steps together.
    pub decode_traffic: Traffic,
    /// Decode steps run, those that ran ahead included.
    pub decode_steps: u64,
    /// Drafts that were verified, all steps together.
    pub drafted: u64,
    /// Of these, drafts that were right: tokens that cost no step of their own.
    pub accepted: u64,
}

impl Generation {
    /// One that has not begun.
    fn empty(prompt: Vec<u32>, reused: usize, finish: Finish) -> Self {
        Generation {
            text: String::new(),
            prompt,
            tokens: Vec::new(),
            finish,
            reused,
            prefill_ms: 0.0,
            first_token_ms: 0.0,
            decode_ms: 0.0,
            decode_traffic: Traffic::default(),
            decode_steps: 0,
            drafted: 0,
            accepted: 0,
        }
    }
}

/// A language model ready to generate.
pub struct TextEngine<B: Backend> {
    backend: B,
    model: LanguageModel<B>,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    session: Session,
    batch: u32,
    draft_tokens: u32,
    /// Whether the first logits of this model have been looked at.
    logits_checked: bool,
}

/// The context a load will use. A wish may be any number: JavaScript knows no other kind.
///
/// # Errors
/// [`Error::InvalidOption`] for what is no whole number from 1 to what the model was trained with.
pub fn context_length(directory: &Directory, wish: Option<f64>) -> Result<u32> {
    let trained = model::trained_context_length(directory)?;
    match wish {
        None => Ok(DEFAULT_CONTEXT.min(trained)),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole, and from 1 to a u32
        Some(n) if n.fract() == 0.0 && (1.0..=f64::from(trained)).contains(&n) => Ok(n as u32),
        Some(n) => Err(Error::InvalidOption {
            option: "contextLength",
            value: spelled(n),
            range: format!(
                "a whole number from 1 to {trained}, the context that this model was trained with"
            )
            .into(),
        }),
    }
}

/// What a header says of its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Architecture, name, sizes.
    pub facts: Facts,
    /// Whether the file has a chat template.
    pub has_chat_template: bool,
}

/// Checks a file's header as a load does, without a device and without reading weights.
///
/// # Errors
/// Whatever is wrong with the header, or not supported.
pub fn inspect(directory: &Directory, context_length: u32, kv: KvType) -> Result<Header> {
    let (_, template) = text_of(directory)?;
    let facts = model::inspect(directory, sizes(LoadOptions { context_length, kv, draft_tokens: 0 }))?;
    Ok(Header { facts, has_chat_template: template.is_present() })
}

pub(super) fn sizes(LoadOptions { context_length, kv, draft_tokens }: LoadOptions) -> Sizes {
    Sizes { context_length, kv, max_batch: MAX_BATCH.min(context_length), draft_tokens }
}

fn text_of(directory: &Directory) -> Result<(Tokenizer, ChatTemplate)> {
    model::check(directory)?;
    let tokenizer = Tokenizer::from_metadata(&directory.metadata)?;
    check_rows(directory, tokenizer.vocab_size())?;
    let template = ChatTemplate::from_metadata(&directory.metadata, &tokenizer);
    Ok((tokenizer, template))
}

impl<B: Backend + 'static> TextEngine<B> {
    /// Loads the model that `directory` describes. `progress` may return [`Error::Aborted`].
    ///
    /// # Errors
    /// Whatever is wrong with the file, the source or the device.
    pub async fn load(
        mut backend: B,
        directory: Directory,
        sources: &mut [Box<dyn ByteSource>],
        LoadOptions { context_length, kv, draft_tokens }: LoadOptions,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Self> {
        if draft_tokens > MAX_DRAFTS {
            return Err(Error::InvalidOption {
                option: "draftTokens",
                value: draft_tokens.to_string(),
                range: format!("a whole number from 0 to {MAX_DRAFTS}").into(),
            });
        }
        let draft_tokens = draft_tokens.min(B::MAX_DRAFTS);
        // Before the weights: a file whose text cannot be handled should not be downloaded first.
        let (tokenizer, template) = text_of(&directory)?;
        let load = LoadOptions { context_length, kv, draft_tokens };
        check_fit(&backend, &directory, load)?;
        let sizes = sizes(load);
        let model = model::load(&mut backend, &directory, sources, sizes, progress).await?;
        let session = Session::new(model.memories.clone());
        let mut engine = TextEngine {
            backend,
            model,
            tokenizer,
            template,
            session,
            batch: FIRST_BATCH,
            draft_tokens,
            logits_checked: false,
        };
        if draft_tokens > 0 && !engine.verifies_exactly().await? {
            engine.draft_tokens = 0;
        }
        Ok(engine)
    }

    /// Whether a verification gives the very bits that single steps do. The sums are the same, but a shader
    /// compiler may fuse multiplications with additions in one kernel and not in another.
    async fn verifies_exactly(&mut self) -> Result<bool> {
        let Some(verify) = &self.model.verify else { return Ok(false) };
        let Facts { context_length, vocab_size, .. } = self.model.facts;
        let tokens: Vec<u32> = (0..=self.draft_tokens).map(|t| t % vocab_size).collect();
        let tokens = &tokens[..tokens.len().min(context_length as usize)];
        self.backend.compiled("verifying drafts").await?;
        self.backend.set_sampling(&Sampling::default().params(0), &[], &[])?;
        for (pos, token) in (0..).zip(tokens) {
            self.backend.set_tokens(&[*token])?;
            self.backend.run(&[&self.model.decode], Step { pos, count: 1, row: 0, counter: 0 })?;
        }
        self.backend.run(&[&self.model.head], Step { pos: 0, count: 1, row: 0, counter: 0 })?;
        let alone = self.backend.read(&self.model.logits, 0).await?;
        self.backend.set_tokens(tokens)?;
        self.backend.run(&[verify], Step { pos: 0, count: tokens.len() as u32, row: 0, counter: 0 })?;
        // The last row sees what all others left in the cache.
        let together = self.backend.read(&self.model.logits, tokens.len() as u32 - 1).await?;
        let bits = |logits: &[f32]| logits.iter().map(|l| l.to_bits()).collect::<Vec<_>>();
        Ok(bits(&alone) == bits(&together))
    }

    /// Waits until all kernels are compiled and runs every one once, so that nothing of that is left to do while the
    /// user waits for the first token.
    ///
    /// # Errors
    /// A kernel that does not compile or run.
    pub async fn warm_up(&mut self) -> Result<()> {
        self.session.clear();
        self.backend.compiled("warming up").await?;
        self.backend.set_tokens(&[0])?;
        self.backend.set_sampling(&Sampling::default().params(0), &[], &[])?;
        let step = Step { pos: 0, count: 1, row: 0, counter: 0 };
        let LanguageModel { prefill, decode, head, sample, sample_adjusted, verify, .. } = &self.model;
        let plans = [prefill, decode, head, sample_adjusted, sample].into_iter().chain(verify);
        self.backend.run(&plans.collect::<Vec<_>>(), step)?;
        // Reading waits. An overflow of the token taken here says nothing about a text, and is forgotten.
        match self.backend.read(&self.model.logits, 0).await {
            Ok(_) | Err(Error::KvOverflow { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What the model is.
    pub fn facts(&self) -> &Facts {
        &self.model.facts
    }

    /// Kernel launches of one decode step.
    pub fn dispatches_per_token(&self) -> u64 {
        let LanguageModel { decode, head, sample, .. } = &self.model;
        [decode, head, sample].iter().map(|plan| B::dispatches(plan)).sum()
    }

    /// Most drafts that are verified at once; 0 is without speculation, because it was not asked for or
    /// because this device would not compute the same texts.
    pub fn draft_tokens(&self) -> u32 {
        self.draft_tokens
    }

    /// Threads that compute a token at present; 1 on a GPU.
    pub fn threads(&self) -> usize {
        self.backend.threads()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Token ids of a prompt, as [`TextEngine::generate`] would compute them.
    ///
    /// # Errors
    /// Template and tokenizer errors; [`Error::PromptTooLong`] and [`Error::TextTooLong`];
    /// [`Error::EmptyPrompt`].
    pub fn encode(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        at_once(self.encode_slowly(prompt, &mut Pause::never()))
    }

    async fn encode_slowly(&self, prompt: &Prompt, pause: &mut Pause<'_>) -> Result<Vec<u32>> {
        let tokens = match prompt {
            Prompt::Messages(messages) => {
                if messages.iter().all(|message| message.content.is_empty()) {
                    return Err(Error::EmptyPrompt);
                }
                let all = messages.iter().flat_map(|m| [m.role.as_str(), m.content.as_str()]);
                let bytes = all.clone().map(str::len).sum();
                // A template may leave some of the text out, so only what it writes is sure to count.
                if check_length(bytes).is_err() {
                    self.check_fits(bytes, all)?;
                    check_length(bytes)?;
                }
                let segments = self.template.render(messages, true)?;
                self.check_fits(texts(&segments).map(str::len).sum(), texts(&segments))?;
                self.tokenizer.encode_rendered(&segments, pause).await?
            }
            // A token that every text begins with does not make one.
            Prompt::Text(text) if text.is_empty() => return Err(Error::EmptyPrompt),
            Prompt::Text(text) => {
                self.check_fits(text.len(), [text.as_str()].into_iter())?;
                self.tokenizer.encode_prompt(text, pause).await?
            }
            Prompt::Tokens(tokens) => {
                self.check_ids(tokens)?;
                tokens.clone()
            }
        };
        if tokens.is_empty() { Err(Error::EmptyPrompt) } else { Ok(tokens) }
    }

    /// # Errors
    /// [`Error::InvalidOption`] for an id that is not in the vocabulary.
    pub fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab = self.model.facts.vocab_size;
        match ids.iter().position(|&id| id >= vocab) {
            Some(at) => Err(Error::InvalidOption {
                option: "ids",
                value: format!("{} at {at}", ids[at]),
                range: format!("token ids from 0 to {}", vocab - 1).into(),
            }),
            None => Ok(()),
        }
    }

    /// Refuses texts, of so many bytes together, that cannot fit the context even if all of their tokens
    /// are the longest of the vocabulary.
    fn check_fits<'t>(&self, bytes: usize, texts: impl Iterator<Item = &'t str>) -> Result<()> {
        let context_length = self.model.facts.context_length as usize;
        let least_tokens = self.tokenizer.fewest_tokens(texts);
        match least_tokens >= context_length {
            true => {
                let trained = self.model.facts.trained_context_length as usize;
                Err(Error::PromptTooLong { bytes, least_tokens, context_length, trained })
            }
            false => Ok(()),
        }
    }

    fn overflow(&self, prompt_tokens: usize) -> Error {
        let Facts { context_length, trained_context_length, .. } = self.model.facts;
        let (context_length, trained) = (context_length as usize, trained_context_length as usize);
        Error::ContextOverflow { prompt_tokens, context_length, trained }
    }

    /// Continues a prompt. `piece` gets every piece of text as soon as it is whole; `cancelled` is
    /// asked between steps.
    ///
    /// # Errors
    /// Bad options, a prompt that does not fit, a lost device. What was generated before and the
    /// loaded model stay usable, except after [`Error::DeviceLost`].
    pub async fn generate(
        &mut self,
        prompt: &Prompt,
        options: &GenerateOptions,
        piece: &mut dyn FnMut(&str),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Generation> {
        let started = now_ms();
        options.sampling.validate()?;
        options.sampling.check_vocabulary(self.tokenizer.vocab_size())?;
        StopFilter::new(&options.stop)?;
        let prompt = match self.encode_slowly(prompt, &mut Pause::new(cancelled)).await {
            Err(Error::Aborted) => return Ok(Generation::empty(Vec::new(), 0, Finish::Aborted)),
            encoded => encoded?,
        };
        let context = self.model.facts.context_length as usize;
        if prompt.len() >= context {
            return Err(self.overflow(prompt.len()));
        }
        let options = &self.with_suppressed(options);
        let result = self.run(&prompt, options, piece, cancelled, started).await;
        if result.is_err() {
            self.session.clear();
        }
        result
    }

    /// The options, with the tokens that the file suppresses forbidden.
    fn with_suppressed<'o>(&self, options: &'o GenerateOptions) -> Cow<'o, GenerateOptions> {
        let suppressed = self.tokenizer.suppressed();
        let mut options = Cow::Borrowed(options);
        if !suppressed.is_empty() {
            let forbidden = suppressed.iter().map(|&id| (id, f32::NEG_INFINITY));
            options.to_mut().sampling.logit_bias.extend(forbidden);
        }
        options
    }

    async fn run(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        piece: &mut dyn FnMut(&str),
        cancelled: &dyn Fn() -> bool,
        started: f64,
    ) -> Result<Generation> {
        let sampling = &options.sampling;
        let limits = Limits {
            tokens: options.max_tokens.unwrap_or(usize::MAX),
            context: self.model.facts.context_length,
        };
        self.backend.set_sampling(&sampling.params(limits.context), &sampling.logit_bias, prompt)?;
        let mut generation = Generation::empty(prompt.to_vec(), self.session.reuse(prompt), Finish::Length);
        if limits.tokens == 0 {
            return Ok(generation);
        }
        let Some(mut last) = self.prefill(prompt, cancelled).await? else {
            generation.finish = Finish::Aborted;
            return Ok(generation);
        };
        if !self.logits_checked {
            self.check_logits(&last).await?;
            last.computed = true;
        }
        let work = &mut Work { backend: &mut self.backend, model: &self.model };
        let mut meter = Meter::started_at(started);
        let mut transcript = Transcript::new(&self.tokenizer, options)?;
        let mut steps = InFlight::new(prompt, sampling, self.draft_tokens, limits);
        steps.begin(work, last)?;
        let finish = 'text: {
            while let Some(drawn) = steps.next(work, prompt, &transcript.tokens).await? {
                meter.drew(work.backend.traffic());
                for token in drawn {
                    let finish = transcript.push(token, piece);
                    if !transcript.text.is_empty() {
                        meter.wrote();
                    }
                    match finish {
                        Ok(None) => steps.push(token),
                        Ok(Some(finish)) => break 'text Ok(finish),
                        Err(error) => break 'text Err(error),
                    }
                    if cancelled() {
                        break 'text Ok(Finish::Aborted);
                    }
                }
                steps.fill(work, transcript.tokens.last().copied())?;
            }
            Ok(Finish::ContextFull)
        };
        steps.drain(work).await?;
        generation.finish = finish?;
        meter.report(work.backend.traffic(), &mut generation);
        self.session.push(&transcript.tokens[..steps.stored(transcript.tokens.len())]);
        self.session.wrote(steps.end());
        if !matches!(generation.finish, Finish::StopString(_)) {
            transcript.finish(piece);
        }
        generation.decode_steps = steps.steps;
        generation.drafted = steps.drafted;
        generation.accepted = steps.accepted;
        generation.text = transcript.text;
        generation.tokens = transcript.tokens;
        Ok(generation)
    }

    /// Computes all of `prompt` that is not cached, up to its last batch, which is returned
    /// unsubmitted. `None` if cancelled.
    async fn prefill(&mut self, prompt: &[u32], cancelled: &dyn Fn() -> bool) -> Result<Option<Last>> {
        loop {
            if cancelled() {
                return Ok(None);
            }
            let pos = self.session.len();
            let count = (prompt.len() - pos).min(self.batch.min(MAX_BATCH) as usize);
            let tokens = &prompt[pos..pos + count];
            self.backend.set_tokens(tokens)?;
            let step = Step { pos: pos as u32, count: count as u32, row: count as u32 - 1, counter: 0 };
            self.session.push(tokens);
            if pos + count == prompt.len() {
                // Also for a single token: how the pace cut the prompt must not change a bit of its logits.
                return Ok(Some(Last { prefill: true, computed: false, step }));
            }
            let begun = now_ms();
            self.backend.run(&[&self.model.prefill], step)?;
            self.backend.settle("prefill").await?;
            self.pace(count, now_ms() - begun);
        }
    }

    /// Sets the size of the next batches from the time this one took.
    fn pace(&mut self, tokens: usize, ms: f64) {
        self.batch = next_batch(tokens, ms, self.model.facts.context_length);
    }

    /// Computes the logits after the prompt and looks at them, once for a model. Its weights are numbers
    /// ([`Error::NotFinite`] of the load), but may be so large that sums are not.
    async fn check_logits(&mut self, last: &Last) -> Result<()> {
        self.backend.run(&[&self.model.prefill, &self.model.head], last.step)?;
        let logits = self.backend.read(&self.model.logits, 0).await?;
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(Error::NotFinite { place: "the first logits".to_owned() });
        }
        self.logits_checked = true;
        Ok(())
    }

    /// Logits after every token of `tokens`, (T, V), from position 0. `batch` tokens are computed at
    /// a time; 1 takes the decode path. For tests and perplexity.
    ///
    /// # Errors
    /// As [`TextEngine::generate`].
    pub async fn logits(&mut self, tokens: &[u32], batch: u32, reuse: bool) -> Result<Vec<Vec<f32>>> {
        let tokens = self.encode(&Prompt::Tokens(tokens.to_vec()))?;
        let context = self.model.facts.context_length as usize;
        if tokens.len() > context {
            return Err(self.overflow(tokens.len()));
        }
        let skip = if reuse { self.session.reuse(&tokens) } else { 0 };
        self.session.back_to(skip);
        let mut rows = Vec::new();
        for chunk in tokens[skip..].chunks(batch.clamp(1, MAX_BATCH) as usize) {
            self.backend.set_tokens(chunk)?;
            let mut step =
                Step { pos: self.session.len() as u32, count: chunk.len() as u32, row: 0, counter: 0 };
            let body = if batch > 1 { &self.model.prefill } else { &self.model.decode };
            self.backend.run(&[body], step)?;
            for row in 0..chunk.len() as u32 {
                step.row = row;
                self.backend.run(&[&self.model.head], step)?;
                rows.push(self.backend.read(&self.model.logits, 0).await?);
            }
            self.session.push(chunk);
        }
        Ok(rows)
    }
}

/// Tokens of a batch that follows one of so many, which took `ms` milliseconds.
pub(super) fn next_batch(tokens: usize, ms: f64, context_length: u32) -> u32 {
    let most = context_length.min(MAX_BATCH);
    let fits = BATCH_MS / ms.max(1e-3) * tokens as f64;
    // Whole tiles of the matmul.
    ((fits / 32.0) as u32 * 32).clamp(FIRST_BATCH.min(most), most)
}

/// Refuses a file whose embeddings are not those of its vocabulary: a row of each token is read, and each
/// row's logit is a token.
fn check_rows(directory: &Directory, tokens: usize) -> Result<()> {
    for name in ["token_embd.weight", "output.weight"] {
        let Some(tensor) = directory.find(name) else { continue };
        let rows = tensor.dims.get(1).copied().unwrap_or(1);
        if rows != tokens as u64 {
            let what = format!("{name} has {rows} rows, but the vocabulary has {tokens} tokens");
            return Err(Error::Malformed { what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{SliceSource, read_directory};

    /// A header with one matrix of so many rows.
    fn directory(name: &str, rows: u64) -> Directory {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        for number in [1, 0, name.len() as u64] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(name.as_bytes());
        bytes.extend(2u32.to_le_bytes());
        bytes.extend([32, rows].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend([0; 12]); // F32, at the beginning of the data
        bytes.resize(bytes.len().next_multiple_of(32) + 128 * rows as usize, 0);
        let source: Box<dyn ByteSource> = Box::new(SliceSource::new("test.gguf", bytes));
        pollster::block_on(read_directory(&mut [source])).unwrap()
    }

    #[test]
    fn rows_are_as_many_as_tokens() {
        for name in ["token_embd.weight", "output.weight"] {
            assert_eq!(check_rows(&directory(name, 262), 262), Ok(()));
            for rows in [250, 320] {
                let error = check_rows(&directory(name, rows), 262).unwrap_err();
                assert_eq!(error.code(), "malformed");
                let message = error.to_string();
                let said = format!("{name} has {rows} rows, but the vocabulary has 262 tokens");
                assert!(message.contains(&said), "{message}");
            }
        }
    }
}
