//! What threads compute together is what one computes, whatever happens to them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

/// Sizes that leave a last piece of another size.
const SIZES: [(usize, usize); 9] = [
    (1000, 3),
    (STRIP + 5, 1 << 14),
    (0, 3),
    (1, 3),
    (3, 3),
    (10, 3),
    (64, 1),
    (1000, 17),
    (1 << 16, 1 << 11),
];

fn value(round: usize, i: usize) -> f32 {
    ((round * 7919 + i * 31) % 1009) as f32
}

/// Lets a team fill `len` floats by pieces and in place, and checks both.
fn fill(team: &mut Team, round: usize, len: usize, piece: usize) {
    let expected: Vec<f32> = (0..len).map(|i| value(round, i)).collect();
    let mut out = vec![-1.0; len];
    // SAFETY: the job brings numbers only.
    unsafe {
        team.pieces(&mut out, piece, move |chunk, out, scratch| {
            scratch[0] = round as f32;
            for (i, out) in out.iter_mut().enumerate() {
                *out = value(scratch[0] as usize, chunk * piece + i);
            }
        });
    }
    assert_eq!(out, expected);
    let mut out = vec![-1.0; len];
    let spread = Spread::new(&mut out);
    team.each(len.div_ceil(piece), move |chunk, _| {
        // SAFETY: chunks have pieces of their own.
        let out = unsafe { spread.part(chunk * piece..len.min((chunk + 1) * piece)) };
        for (i, out) in out.iter_mut().enumerate() {
            *out = value(round, chunk * piece + i);
        }
    });
    assert_eq!(out, expected);
}

/// Makes helper `index` do something between taking a chunk and computing it.
fn delay(team: &Team, index: usize, what: impl FnMut() + Send + 'static) {
    let post = &team.helpers.as_ref().unwrap().control.posts()[index];
    *post.delay.lock().unwrap() = Some(Box::new(what));
}

#[test]
fn all_sizes_and_teams() {
    for threads in [1, 2, 3, 8] {
        let mut team = Team::threads(threads).unwrap();
        assert_eq!(team.size(), threads);
        for (round, (len, piece)) in SIZES.into_iter().enumerate() {
            fill(&mut team, round, len, piece);
        }
    }
}

#[test]
fn more_chunks_than_a_ticket_counts() {
    let mut team = Team::threads(3).unwrap();
    let runs: Vec<AtomicUsize> = (0..10_000).map(|_| AtomicUsize::new(0)).collect();
    let counted = runs.as_slice();
    team.each(counted.len(), move |chunk, _| {
        counted[chunk].fetch_add(1, Ordering::Relaxed);
    });
    assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
}

#[test]
fn many_small_jobs() {
    let mut team = Team::threads(4).unwrap();
    for round in 0..20_000 {
        fill(&mut team, round, 8, 1);
    }
}

#[test]
fn helpers_sleep_and_wake() {
    let mut team = Team::threads(3).unwrap();
    for round in 0..20 {
        std::thread::sleep(Duration::from_millis(5));
        // Long enough for sleepers to come.
        let seen = AtomicUsize::new(0);
        let main = std::thread::current().id();
        let count = &seen;
        team.each(50, move |_, _| {
            if std::thread::current().id() != main {
                count.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_micros(200));
        });
        assert!(seen.load(Ordering::Relaxed) > 0, "round {round}: nobody came");
    }
}

#[test]
fn a_thousand_teams_come_and_go() {
    for round in 0..1000 {
        let mut team = Team::threads(3).unwrap();
        if round % 2 == 0 {
            fill(&mut team, round, 30, 4);
        }
    }
}

/// Pauses from 0 to 100 µs, each time another one.
fn uneven_pauses() -> impl FnMut() + Send {
    let mut state = 1u32;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        std::thread::sleep(Duration::from_nanos(u64::from(state % 100_000)));
    }
}

#[test]
fn delayed_helpers() {
    for patience in [None, Some(0.0), Some(0.05)] {
        let mut team = Team::threads(3).unwrap();
        team.patience = patience;
        (0..2).for_each(|index| delay(&team, index, uneven_pauses()));
        for round in 0..300 {
            fill(&mut team, round, 100, 9);
        }
    }
}

/// A helper that does not go on until it is told.
#[test]
fn a_chunk_is_taken_back() {
    let (go, stop) = std::sync::mpsc::channel::<()>();
    let (here, has_one) = std::sync::mpsc::channel::<()>();
    let mut team = Team::threads(2).unwrap();
    team.patience = Some(0.0);
    delay(&team, 0, move || {
        let _ = here.send(());
        let _ = stop.recv();
    });
    let len = 40;
    let mut out = vec![-1.0; len];
    let engine = std::thread::current().id();
    let has_one = std::sync::Mutex::new(has_one);
    let (waits, has_waited) = (&has_one, &AtomicUsize::new(0));
    // The engine's first chunk waits until the helper holds one, which it then does not compute before the end.
    // SAFETY: the helper is late, and what it reads lives until the team is dropped.
    unsafe {
        team.pieces(&mut out, 1, move |chunk, out, _| {
            if std::thread::current().id() == engine && has_waited.swap(1, Ordering::Relaxed) == 0 {
                waits.lock().unwrap().recv_timeout(Duration::from_secs(10)).unwrap();
            }
            out[0] = value(1, chunk);
        });
    }
    assert_eq!(out, (0..len).map(|i| value(1, i)).collect::<Vec<_>>());
    assert!(team.helpers.as_ref().unwrap().control.is_somebody_busy(), "the helper is still at it");
    // Its result comes during another job, which it must not spoil.
    drop(go);
    (0..50).for_each(|round| fill(&mut team, round, 100, 9));
    drop(team);
}

/// Jobs that take so long that all helpers come, of both kinds.
fn long_jobs(team: &mut Team) {
    let mut out = vec![-1.0; 60];
    // SAFETY: the job brings nothing.
    unsafe {
        team.pieces(&mut out, 2, |chunk, out, _| {
            std::thread::sleep(Duration::from_micros(50));
            out.fill(chunk as f32);
        });
    }
    assert!(out.iter().enumerate().all(|(i, out)| *out == (i / 2) as f32));
    out.fill(-1.0);
    let spread = Spread::new(&mut out);
    team.each(30, move |chunk, _| {
        std::thread::sleep(Duration::from_micros(50));
        // SAFETY: chunks have pieces of their own.
        unsafe { spread.part(2 * chunk..2 * chunk + 2) }.fill(chunk as f32);
    });
    assert!(out.iter().enumerate().all(|(i, out)| *out == (i / 2) as f32));
}

#[test]
fn a_helper_dies() {
    // With the first chunks of a job in pieces, and later in one or the other.
    for (lives, patience) in [(0, None), (1, None), (40, None), (41, Some(0.0)), (60, None)] {
        let mut team = Team::threads(3).unwrap();
        team.patience = patience;
        for index in [0, 1] {
            let mut left = lives;
            delay(&team, index, move || {
                // Not a panic, which would be printed: the thread unwinds all the same.
                if left == 0 {
                    std::panic::resume_unwind(Box::new("dies"));
                }
                left -= 1;
            });
        }
        let mut rounds = 0;
        while team.size() > 1 && rounds < 10_000 {
            long_jobs(&mut team);
            rounds += 1;
        }
        assert_eq!(team.size(), 1, "after {rounds} rounds");
        (0..100).for_each(|round| fill(&mut team, round, 100, 9));
    }
}

#[test]
fn only_who_is_invited_comes() {
    let mut team = Team::threads(4).unwrap();
    for invited in [1, 3, 0, 2] {
        team.helpers.as_ref().unwrap().control.invite(invited);
        let seen = std::sync::Mutex::new(std::collections::HashSet::new());
        let noted = &seen;
        for _ in 0..20 {
            team.each(40, move |_, _| {
                noted.lock().unwrap().insert(std::thread::current().id());
                std::thread::sleep(Duration::from_micros(50));
            });
        }
        let seen = seen.lock().unwrap().len();
        assert!(seen <= 1 + invited, "{seen} threads for {invited} invitations");
    }
}
