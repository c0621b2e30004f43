//! What a generation took: times, and what its decode steps cost.

use crate::clock::now_ms;
use crate::graph::Traffic;

use super::text::Generation;

/// Times in milliseconds.
pub(super) struct Meter {
    started: f64,
    /// When the first token came, and what had been run by then.
    first: Option<(f64, Traffic)>,
    last: f64,
    first_text: Option<f64>,
}

impl Meter {
    pub(super) fn started_at(started: f64) -> Self {
        Meter { started, first: None, last: started, first_text: None }
    }

    /// Tokens have come; `traffic` is what was run so far.
    pub(super) fn drew(&mut self, traffic: Traffic) {
        self.last = now_ms();
        self.first.get_or_insert((self.last, traffic));
    }

    /// There is text.
    pub(super) fn wrote(&mut self) {
        self.first_text.get_or_insert_with(now_ms);
    }

    /// Writes down what it took; `traffic` is what was run in all.
    pub(super) fn report(&self, traffic: Traffic, generation: &mut Generation) {
        let Some((first, before)) = self.first else { return };
        generation.prefill_ms = first - self.started;
        generation.first_token_ms = self.first_text.map_or(0.0, |at| at - self.started);
        generation.decode_ms = self.last - first;
        generation.decode_traffic = Traffic {
            dispatches: traffic.dispatches - before.dispatches,
            submits: traffic.submits - before.submits,
            readbacks: traffic.readbacks - before.readbacks,
            weight_bytes: traffic.weight_bytes - before.weight_bytes,
        };
    }
}
