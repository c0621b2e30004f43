//! Decode steps under way. The device draws a token and takes it as the next input by itself, so that steps run ahead of
//! what the CPU has read; drafts of what may follow are verified in one step.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::graph::{Backend, Step};
use crate::model::LanguageModel;
use crate::sampling::{Drafter, NO_TOKEN, Sampling};

/// What runs a text: the backend, and the model's plans.
pub(super) struct Work<'a, B: Backend> {
    pub backend: &'a mut B,
    pub model: &'a LanguageModel<B>,
}

/// The last batch of a prompt, or a decode step.
pub(super) struct Last {
    pub prefill: bool,
    /// Whether its logits are computed already.
    pub computed: bool,
    pub step: Step,
}

/// Tokens being drawn.
enum Draw<B: Backend> {
    Device(B::Ticket),
    Verify { ticket: B::Ticket, drafts: Vec<u32> },
    Cpu { counter: u32 },
}

/// How much of a text there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Tokens of it.
    pub tokens: usize,
    /// Positions of the context.
    pub context: u32,
}

/// The steps of one text.
pub(super) struct InFlight<'a, B: Backend> {
    sampling: &'a Sampling,
    /// Whether the CPU draws, from all logits.
    on_cpu: bool,
    /// Who proposes drafts.
    drafter: Option<Drafter>,
    limits: Limits,
    draws: VecDeque<Draw<B>>,
    /// Tokens drawn or being drawn. Token 0 is drawn at the end of the prompt's last batch; whatever draws token n after
    /// it also puts token n - 1 into the memory.
    issued: usize,
    /// Position of the token that the next step puts there.
    pos: u32,
    /// Decode steps run, those that ran ahead included.
    pub steps: u64,
    /// Drafts that were verified.
    pub drafted: u64,
    /// Of these, drafts that were right.
    pub accepted: u64,
}

impl<'a, B: Backend> InFlight<'a, B> {
    /// Behind a prompt of `prompt` tokens, with at most `drafts` drafts at once.
    pub(super) fn new(prompt: &[u32], sampling: &'a Sampling, drafts: u32, limits: Limits) -> Self {
        let on_cpu = sampling.needs_all_logits();
        // Penalties make each draw wait for the token before, and so does a draw on the CPU.
        let drafter =
            (drafts > 0 && !sampling.adjusts() && !on_cpu).then(|| Drafter::new(prompt, drafts as usize));
        InFlight {
            sampling,
            on_cpu,
            drafter,
            limits,
            draws: VecDeque::new(),
            issued: 0,
            #[allow(clippy::cast_possible_truncation)] // a prompt fits the context, whose length has 32 bits
            pos: prompt.len() as u32,
            steps: 0,
            drafted: 0,
            accepted: 0,
        }
    }

    /// Submits the end of the prompt, which draws the first token.
    pub(super) fn begin(&mut self, work: &mut Work<'_, B>, last: Last) -> Result<()> {
        let draw = self.draw(work, &last)?;
        self.draws.push_back(draw);
        self.issued = 1;
        Ok(())
    }

    /// Positions that have been or are being stored.
    pub(super) fn end(&self) -> usize {
        self.pos as usize
    }

    /// Of the tokens so far, those that are in the memory.
    pub(super) fn stored(&self, tokens: usize) -> usize {
        (self.issued - 1).min(tokens)
    }

    /// Waits for the oldest step: the tokens that it drew, or none if nothing is under way. `prompt` and `tokens` are the
    /// text so far.
    pub(super) async fn next(
        &mut self,
        work: &mut Work<'_, B>,
        prompt: &[u32],
        tokens: &[u32],
    ) -> Result<Option<Vec<u32>>> {
        let Some(draw) = self.draws.pop_front() else { return Ok(None) };
        Ok(Some(match draw {
            Draw::Device(ticket) => work.backend.drawn(ticket).await?,
            Draw::Verify { ticket, drafts } => {
                let mut drawn = work.backend.drawn(ticket).await?;
                // A row draws what a step of its own would have drawn, if all drafts before it were right.
                let accepted = drawn.iter().zip(&drafts).take_while(|(a, b)| a == b).count();
                drawn.truncate(accepted + 1);
                work.backend.set_tokens(&drawn[accepted..])?;
                self.issued += accepted;
                self.pos += accepted as u32;
                self.drafted += drafts.len() as u64;
                self.accepted += accepted as u64;
                if let Some(drafter) = &mut self.drafter {
                    drafter.judge(drafts.len(), accepted);
                }
                drawn
            }
            Draw::Cpu { counter } => {
                let mut logits = work.backend.read(&work.model.logits, 0).await?;
                let recent = [prompt, tokens].concat();
                let token = self.sampling.draw(&mut logits, &recent, counter);
                if token != NO_TOKEN {
                    work.backend.set_tokens(&[token])?;
                }
                vec![token]
            }
        }))
    }

    /// Notes a token of the text.
    pub(super) fn push(&mut self, token: u32) {
        if let Some(drafter) = &mut self.drafter {
            drafter.push(token);
        }
    }

    /// Submits steps until as many are under way as are worth it. `last` is the last token of the text.
    pub(super) fn fill(&mut self, work: &mut Work<'_, B>, last: Option<u32>) -> Result<()> {
        let ahead = if self.on_cpu { 1 } else { B::STEPS_AHEAD };
        let Limits { tokens: limit, context } = self.limits;
        while self.draws.len() < ahead && self.issued < limit && self.pos < context {
            let room = (limit - self.issued).min((context - self.pos) as usize) - 1;
            let drafts = self.drafter.as_ref().map_or(Vec::new(), |drafter| drafter.draft(room));
            let draw = if drafts.is_empty() {
                let step = Step { pos: self.pos, count: 1, row: 0, counter: self.issued as u32 };
                self.draw(work, &Last { prefill: false, computed: false, step })?
            } else {
                // Behind steps that still run the last token is not known; they end first.
                let (true, Some(last)) = (self.draws.is_empty(), last) else { break };
                self.verify(work, last, drafts)?
            };
            let drafted = matches!(draw, Draw::Verify { .. });
            self.draws.push_back(draw);
            self.issued += 1;
            self.pos += 1;
            self.steps += 1;
            if drafted {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the steps that ran ahead, and forgets them: what they stored lies past the session's tokens, as that of
    /// rejected drafts does.
    pub(super) async fn drain(&mut self, work: &mut Work<'_, B>) -> Result<()> {
        while let Some(draw) = self.draws.pop_front() {
            if let Draw::Device(ticket) | Draw::Verify { ticket, .. } = draw {
                // What these could not store is no loss.
                match work.backend.drawn(ticket).await {
                    Ok(_) | Err(Error::KvOverflow { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Submits a batch with head and draw, or the draw alone where the logits are computed.
    fn draw(&self, work: &mut Work<'_, B>, last: &Last) -> Result<Draw<B>> {
        let model = work.model;
        let body = if last.prefill { &model.prefill } else { &model.decode };
        let sample = if self.sampling.adjusts() { &model.sample_adjusted } else { &model.sample };
        match (self.on_cpu, last.computed) {
            (true, true) => {}
            (true, false) => work.backend.run(&[body, &model.head], last.step)?,
            (false, computed) => {
                let plans = [body, &model.head, sample];
                let plans = if computed { &plans[2..] } else { &plans };
                return Ok(Draw::Device(work.backend.run_and_fetch(plans, last.step, 1)?));
            }
        }
        Ok(Draw::Cpu { counter: last.step.counter })
    }

    /// Submits the last token with its drafts: each row draws the token after it.
    fn verify(&self, work: &mut Work<'_, B>, last: u32, drafts: Vec<u32>) -> Result<Draw<B>> {
        let Some(plan) = &work.model.verify else {
            return Err(Error::Internal { what: "drafts without a plan to verify them".to_owned() });
        };
        let rows = 1 + drafts.len() as u32;
        work.backend.set_tokens(&[&[last], drafts.as_slice()].concat())?;
        let step = Step { pos: self.pos, count: rows, row: 0, counter: self.issued as u32 };
        let ticket = work.backend.run_and_fetch(&[plan], step, rows)?;
        Ok(Draw::Verify { ticket, drafts })
    }
}
