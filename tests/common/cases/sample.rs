//! Sampling.

use emberglass::graph::{Batch, MAX_VERIFY_ROWS, Op, Step};
use emberglass::sampling::{NO_TOKEN, SampleParams};

use super::{Setup, step};
use crate::common::rig::Rig;
use crate::reference::sample as oracle;

fn params() -> SampleParams {
    SampleParams {
        top_k: 1,
        top_p: 1.0,
        min_p: 0.0,
        temperature: 0.0,
        seed: 0,
        repetition: 1.0,
        presence: 0.0,
        frequency: 0.0,
        window: 0,
    }
}

struct Sampling<R: Rig> {
    setup: Setup<R>,
    logits: R::Tensor,
    plans: [R::Plan; 2],
}

impl<R: Rig> Sampling<R> {
    async fn new(vocab: usize, seed: u64) -> Self {
        let mut setup = Setup::<R>::new(seed).await;
        let logits = setup.backend.tensor("logits", 1, vocab as u32).unwrap();
        let plans = [false, true].map(|adjust| {
            setup.backend.compile(&[Op::Sample { logits: &logits, adjust }], Batch::Decode).unwrap()
        });
        setup.backend.compiled("test").await.unwrap();
        Sampling { setup, logits, plans }
    }

    async fn draw(&mut self, values: &[f32], adjust: bool, counter: u32) -> u32 {
        let mut raw = values.to_vec();
        raw.resize(self.setup.backend.stride(&self.logits), f32::MAX); // padding must never win
        self.setup.backend.write_raw(&self.logits, &raw);
        let step = Step { counter, ..step(0, 1, 0) };
        let ticket = self.setup.backend.run_and_fetch(&[&self.plans[usize::from(adjust)]], step, 1).unwrap();
        self.setup.backend.drawn(ticket).await.unwrap()[0]
    }
}

/// Greedy: the highest logit, the lowest id among equals, wherever it lies; NaN never.
pub async fn sample_greedy<R: Rig>() {
    for vocab in [1, 2, 63, 65, 1000, 49_152, 262_145] {
        let mut s = Sampling::<R>::new(vocab, vocab as u64).await;
        s.setup.backend.set_sampling(&params(), &[], &[]).unwrap();
        for place in [0, vocab / 2, vocab - 1] {
            let mut logits = s.setup.random.floats(vocab);
            logits[place] = 50.0;
            logits[vocab - 1] = 50.0;
            if place > 0 {
                logits[place - 1] = f32::NAN;
            }
            assert_eq!(s.draw(&logits, false, 0).await, place as u32, "vocabulary {vocab}");
        }
        let negative = vec![-3e30; vocab];
        assert_eq!(s.draw(&negative, false, 0).await, 0, "all equal");
    }
}

/// A few rows at once: each as if it were alone, greedy and drawn.
pub async fn sample_few<R: Rig>() {
    for vocab in [65, 49_152] {
        for (top_k, temperature) in [(1, 0.0), (40, 1.5)] {
            let mut alone = Sampling::<R>::new(vocab, 5).await;
            let mut few = Setup::<R>::new(5).await;
            let params = SampleParams { top_k, temperature, seed: 7, ..params() };
            let rows: Vec<Vec<f32>> = (0..MAX_VERIFY_ROWS).map(|_| few.random.floats(vocab)).collect();
            let logits = few.tensor(&rows);
            let draw = |adjust| [Op::Sample { logits: &logits, adjust }];
            let plan = few.backend.compile(&draw(false), Batch::Verify).unwrap();
            few.backend.compiled("test").await.unwrap();
            for s in [&mut alone.setup.backend, &mut few.backend] {
                s.set_sampling(&params, &[], &[]).unwrap();
            }
            for count in [1, 3, MAX_VERIFY_ROWS] {
                let step = Step { counter: 11, ..step(0, count as usize, 0) };
                let ticket = few.backend.run_and_fetch(&[&plan], step, count).unwrap();
                let drawn = few.backend.drawn(ticket).await.unwrap();
                assert_eq!(drawn.len(), count as usize);
                for ((counter, token), row) in (11..).zip(drawn).zip(&rows) {
                    assert_eq!(token, alone.draw(row, false, counter).await, "{vocab} {top_k} {counter}");
                }
            }
            assert!(few.backend.compile(&draw(true), Batch::Verify).is_err(), "penalties go one by one");
        }
    }
}

/// The whole chain against its definition: same random number, same token.
pub async fn sample_chain<R: Rig>() {
    let vocab = 1000;
    let bias = [(3, 2.5f32), (999, f32::NEG_INFINITY), (500, -1.0)];
    let mut compared = 0;
    for (top_k, top_p, min_p, temperature) in [
        (40, 0.95, 0.05, 0.8),
        (128, 1.0, 0.0, 1.5),
        (2, 1.0, 0.0, 1.0),
        (40, 0.5, 0.0, 1.0),
        (100, 1.0, 0.3, 2.0),
        (64, 0.0, 1.0, 0.1),
    ] {
        for adjust in [false, true] {
            let mut s = Sampling::<R>::new(vocab, top_k as u64).await;
            let seed = 0x1234_5678_9abc_def0 + top_k as u64;
            let mut recent: Vec<u32> = (0..11).map(|_| s.setup.random.below(40) as u32).collect();
            let params = SampleParams {
                top_k: top_k as u32,
                top_p: top_p as f32,
                min_p: min_p as f32,
                temperature: temperature as f32,
                seed,
                repetition: 1.3,
                presence: 0.25,
                frequency: 0.5,
                window: 8,
            };
            s.setup.backend.set_sampling(&params, &bias, &recent).unwrap();
            for counter in 0..24 {
                // Close logits, so that the cuts and the draw matter.
                let logits: Vec<f32> = s.setup.random.floats(vocab).iter().map(|v| v * 0.3).collect();
                let drawn = s.draw(&logits, adjust, counter).await;
                let chain = oracle::Chain {
                    bias: if adjust { &bias } else { &[] },
                    repetition: 1.3f32.into(),
                    presence: 0.25,
                    frequency: 0.5,
                    recent: if adjust { &recent[recent.len() - 8..] } else { &[] },
                    top_k,
                    top_p: f64::from(top_p as f32),
                    min_p: f64::from(min_p as f32),
                    temperature: f64::from(temperature as f32),
                };
                let candidates = oracle::candidates(&logits, &chain);
                let (wanted, margin) = oracle::draw(&candidates, oracle::uniform(seed, counter));
                // Within the rounding of up to 128 additions in f32 either neighbour is right.
                if margin > 1e-4 {
                    assert_eq!(drawn, wanted, "top_k {top_k}, adjust {adjust}, draw {counter}");
                    compared += 1;
                } else {
                    assert!(candidates.iter().any(|(id, _)| *id == drawn));
                }
                if adjust {
                    recent.push(drawn);
                }
            }
        }
    }
    assert!(compared > 250, "only {compared} draws were far enough from a border");
}

/// Logits and biases that are no finite numbers: infinity is the largest, minus infinity and NaN are never
/// drawn, and no token is drawn where there is no candidate.
pub async fn sample_infinite<R: Rig>() {
    const INFINITY: f32 = f32::INFINITY;
    let vocab = 1000;
    let forbid_all: Vec<(u32, f32)> = (0..vocab as u32).map(|id| (id, -INFINITY)).collect();
    let forbid_most = [&forbid_all[..77], &forbid_all[78..]].concat();
    let biases: [&[(u32, f32)]; 5] =
        [&[], &[(7, -INFINITY)], &[(600, 5e37), (600, 5e37)], &forbid_all, &forbid_most];
    /// What all logits are at first, and then some of them.
    type Row = (Option<f32>, &'static [(usize, f32)]);
    let rows: [Row; 9] = [
        (None, &[(7, INFINITY)]),
        (None, &[(7, INFINITY), (8, INFINITY), (900, INFINITY), (12, f32::NAN), (77, f32::MAX)]),
        (None, &[(7, -INFINITY), (77, f32::NAN)]),
        (None, &[(7, f32::MAX), (77, f32::MIN)]),
        (Some(f32::MIN), &[(7, f32::NAN)]),
        (Some(-INFINITY), &[(77, 1.0), (7, 0.5)]),
        (Some(-INFINITY), &[]),
        (Some(f32::NAN), &[]),
        (Some(-0.0), &[(999, 0.0), (0, -INFINITY)]),
    ];
    let (mut compared, mut empty) = (0, 0);
    for (top_k, top_p, min_p, temperature) in
        [(1, 1.0, 0.0, 0.0), (40, 0.95, 0.05, 0.8), (128, 1.0, 0.0, 1.5), (3, 0.0, 1.0, 1e-30f32)]
    {
        for bias in biases {
            let mut s = Sampling::<R>::new(vocab, top_k as u64).await;
            let recent = [7, 7, 8, 600];
            let params = SampleParams {
                top_k,
                top_p,
                min_p,
                temperature,
                seed: 5,
                repetition: 1.5,
                presence: 0.5,
                frequency: 0.25,
                window: 4,
            };
            for (usual, some) in rows {
                let adjust = !bias.is_empty();
                let mut logits = match usual {
                    Some(value) => vec![value; vocab],
                    None => s.setup.random.floats(vocab),
                };
                for &(id, logit) in some {
                    logits[id] = logit;
                }
                for counter in 0..4 {
                    s.setup.backend.set_sampling(&params, bias, &recent).unwrap();
                    let drawn = s.draw(&logits, adjust, counter).await;
                    let chain = oracle::Chain {
                        bias,
                        repetition: 1.5,
                        presence: 0.5,
                        frequency: 0.25,
                        recent: if adjust { &recent } else { &[] },
                        top_k: top_k as usize,
                        top_p: f64::from(top_p),
                        min_p: f64::from(min_p),
                        // The oracle divides by it; so small a one leaves only the best.
                        temperature: f64::from(temperature).max(1e-30),
                    };
                    let candidates = oracle::candidates(&logits, &chain);
                    let what = format!("{usual:?} {some:?}, top_k {top_k}, draw {counter}: {drawn}");
                    if candidates.is_empty() {
                        assert_eq!(drawn, NO_TOKEN, "{what}");
                        empty += 1;
                        continue;
                    }
                    let (wanted, margin) = oracle::draw(&candidates, oracle::uniform(5, counter));
                    // The rounding of up to 128 additions in f32, as in the test of finite logits.
                    if margin > 1e-4 {
                        assert_eq!(drawn, wanted, "{what}");
                        compared += 1;
                    } else {
                        assert!(candidates.iter().any(|(id, _)| *id == drawn), "{what}");
                    }
                }
            }
        }
    }
    assert!(compared > 400 && empty > 100, "{compared} compared, {empty} without a candidate");
}
