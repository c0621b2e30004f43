//! The draw on the CPU: any logits, any options that pass the check.

use arbitrary::{Arbitrary, Result, Unstructured};
use emberglass::Sampling;

use super::{Target, allowed};

pub const TARGET: Target =
    Target { name: "sampling", about: "logits and options of the draw", run, seeds, words: &[] };

fn float(u: &mut Unstructured) -> Result<f32> {
    Ok(match u.int_in_range(0..=3)? {
        0 => f32::from_bits(u.arbitrary()?),
        1 => *u.choose(&[
            0.0,
            -0.0,
            1.0,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MIN_POSITIVE,
            f32::MAX,
        ])?,
        _ => f32::from(i16::arbitrary(u)?) / 256.0,
    })
}

fn case(u: &mut Unstructured) -> Result<(Vec<f32>, Sampling, Vec<u32>)> {
    let count = u.int_in_range(1..=24)?;
    let mut logits = Vec::new();
    for _ in 0..count {
        logits.push(float(u)?);
    }
    let mut sampling = Sampling {
        temperature: float(u)?,
        top_k: u.int_in_range(0..=30)?,
        top_p: float(u)?,
        min_p: float(u)?,
        ..Sampling::default()
    };
    if u.arbitrary()? {
        sampling.repetition_penalty = float(u)?;
        sampling.presence_penalty = float(u)?;
        sampling.frequency_penalty = float(u)?;
        sampling.penalty_window = u.arbitrary()?;
    }
    for _ in 0..u.int_in_range(0..=3)? {
        sampling.logit_bias.push((u.int_in_range(0..=30)?, float(u)?));
    }
    let recent = Vec::from_iter((0..u.int_in_range(0..=8)?).map_while(|_| u.int_in_range(0..=30).ok()));
    Ok((logits, sampling, recent))
}

fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok((logits, sampling, recent)) = case(&mut u) else { return };
    if let Err(error) = sampling.validate() {
        return allowed(&error);
    }
    let id = sampling.draw(&mut logits.clone(), &recent, 3) as usize;
    assert!(id < logits.len(), "token {id} of {}", logits.len());
}

fn seeds() -> Vec<Vec<u8>> {
    (0..32u8).map(|i| (0..120u8).map(|j| i.wrapping_mul(29) ^ j.wrapping_mul(77)).collect()).collect()
}
