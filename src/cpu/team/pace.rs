//! The right number of threads, found while running.
//!
//! More threads than free cores are slower than fewer: other tabs, the page that draws and cores of different speed are
//! not known beforehand, and change. So steps that do the same are timed. Now and then one thread more or one fewer is
//! tried for a few steps; it is kept if it is faster by more than chance makes. What fails is tried again after twice as many steps,
//! up to a limit.

use crate::sort::sort_by;

/// Steps of a trial; the median counts, so that one that was interrupted does not.
const TRIAL: usize = 5;
/// A trial ends after so many steps if all of them are slower than usual by [`CLEARLY`], or faster.
const SHORT_TRIAL: usize = 2;
const CLEARLY: f64 = 1.2;
/// A number must be this much faster to be kept: with one thread more, and with one fewer. Fewer leave a core to others, so
/// they may be as fast.
const GAIN_OF_MORE: f64 = 0.97;
const GAIN_OF_FEWER: f64 = 1.0;
/// Steps from one trial to the next, and the most when trials fail.
const PAUSE: usize = 24;
const LONGEST_PAUSE: usize = 384;
/// A step this much slower than those before asks for a trial at once.
const SLOWDOWN: f64 = 1.25;

/// Says with how many threads the next step is to run, and hears how long it took.
#[derive(Debug, Clone)]
pub struct Pace {
    most: usize,
    /// The number that is kept.
    threads: usize,
    /// The number that is tried.
    trial: Option<usize>,
    /// Times of the last steps with the number that runs.
    times: Vec<f64>,
    /// Median time of a step with the number that is kept, when that was last known.
    usual: Option<f64>,
    /// Steps until the next trial.
    wait: usize,
    /// What was waited before this one.
    pause: usize,
    /// Whether the next trial is of one more.
    up: bool,
}

impl Pace {
    /// From `start` threads on, at most `most`.
    #[must_use]
    pub fn new(start: usize, most: usize) -> Self {
        let most = most.max(1);
        Pace {
            most,
            threads: start.clamp(1, most),
            trial: None,
            times: Vec::new(),
            usual: None,
            wait: 0,
            pause: PAUSE,
            up: true,
        }
    }

    /// Threads for the next step.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.trial.unwrap_or(self.threads)
    }

    /// The number that is kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.threads
    }

    /// A step with [`Pace::threads`] took so long.
    pub fn took(&mut self, ms: f64) {
        if self.most == 1 || !ms.is_finite() || ms <= 0.0 {
            return;
        }
        if self.times.len() == TRIAL {
            self.times.remove(0);
        }
        self.times.push(ms);
        self.wait = self.wait.saturating_sub(1);
        if self.times.len() < TRIAL && !self.is_clear() {
            return;
        }
        let median = median(&self.times);
        match self.trial {
            Some(tried) => self.judge(tried, median),
            None => {
                let is_slower = self.usual.is_some_and(|usual| median > usual * SLOWDOWN);
                if is_slower {
                    // Something has changed.
                    self.pause = PAUSE;
                }
                if self.wait == 0 || is_slower {
                    self.usual = Some(median);
                    self.begin_trial(is_slower);
                }
            }
        }
    }

    /// Whether a trial's result is plain before it is over.
    fn is_clear(&self) -> bool {
        let Some(usual) = self.usual.filter(|_| self.trial.is_some()) else { return false };
        let all = |clear: &dyn Fn(f64) -> bool| self.times.iter().all(|ms| clear(*ms));
        self.times.len() >= SHORT_TRIAL
            && (all(&|ms| ms > usual * CLEARLY) || all(&|ms| ms * CLEARLY < usual))
    }

    /// Where it has become slower, fewer are tried first: somebody else may need a core.
    fn begin_trial(&mut self, fewer: bool) {
        let can = |up: bool| if up { self.threads < self.most } else { self.threads > 1 };
        let wanted = self.up && !fewer;
        let up = if can(wanted) { wanted } else { !wanted };
        self.up = up;
        self.trial = Some(if up { self.threads + 1 } else { self.threads - 1 });
        self.times.clear();
    }

    fn judge(&mut self, tried: usize, median: f64) {
        let usual = self.usual.unwrap_or(f64::INFINITY);
        let bar = if self.up { GAIN_OF_MORE } else { GAIN_OF_FEWER };
        if median < usual * bar {
            self.threads = tried;
            self.usual = Some(median);
            self.pause = PAUSE;
            // The same way on, soon.
            self.wait = TRIAL;
        } else {
            self.up = !self.up;
            self.wait = self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self.trial = None;
        self.times.clear();
    }
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sort_by(&mut sorted, f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine: what a step takes with so many threads, at a step.
    fn run(pace: &mut Pace, steps: std::ops::Range<usize>, time: impl Fn(usize, usize) -> f64) -> f64 {
        steps
            .map(|step| {
                // ±4 %, and each seventeenth is interrupted.
                let noise = 1.0 + 0.04 * (((step * 7919) % 201) as f64 / 100.0 - 1.0);
                let ms = time(step, pace.threads()) * noise * if step % 17 == 3 { 3.0 } else { 1.0 };
                pace.took(ms);
                time(step, pace.threads())
            })
            .sum()
    }

    /// `cores` free ones: beyond them each step waits for a core.
    fn cores(cores: usize) -> impl Fn(usize, usize) -> f64 {
        move |_, threads| {
            let of = |threads: usize| 1.0 + 9.0 / threads as f64;
            if threads <= cores { of(threads) } else { 1.4 * of(cores) + (threads - cores) as f64 }
        }
    }

    #[test]
    fn it_finds_the_free_cores() {
        for most in [1, 2, 4, 8] {
            for free in 1..=8 {
                for start in [1, most - most / 4, most] {
                    let mut pace = Pace::new(start, most);
                    run(&mut pace, 0..600, cores(free));
                    assert_eq!(pace.kept(), free.min(most), "{free} free, from {start} of {most}");
                }
            }
        }
    }

    #[test]
    fn looking_costs_little() {
        for (free, most) in [(1, 2), (2, 2), (2, 4), (4, 8)] {
            let mut pace = Pace::new(free.min(most), most);
            let took = run(&mut pace, 0..2000, cores(free));
            let best = 2000.0 * cores(free)(0, free.min(most));
            assert!(took < 1.04 * best, "{free} of {most}: {took} for {best}");
        }
    }

    #[test]
    fn it_follows_a_change_within_an_answer() {
        let mut pace = Pace::new(2, 2);
        run(&mut pace, 0..300, cores(2));
        assert_eq!(pace.kept(), 2);
        // Another program takes a core.
        run(&mut pace, 300..340, cores(1));
        assert_eq!(pace.kept(), 1);
        // And leaves.
        run(&mut pace, 340..900, cores(2));
        assert_eq!(pace.kept(), 2);
    }

    #[test]
    fn as_fast_is_not_more() {
        let mut pace = Pace::new(1, 4);
        run(&mut pace, 0..3000, |_, _| 5.0);
        assert!(pace.kept() <= 2, "{}", pace.kept());
    }

    #[test]
    fn times_that_are_none_change_nothing() {
        let mut pace = Pace::new(2, 4);
        for ms in [f64::NAN, f64::INFINITY, 0.0, -1.0].into_iter().cycle().take(400) {
            pace.took(ms);
            assert_eq!(pace.threads(), 2);
        }
    }
}
