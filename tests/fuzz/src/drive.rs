//! The driver of `cargo test`: a seed, a number of inputs, and what to do when one of them is found.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::mutate;
use crate::rng::Chance;
use crate::targets::Target;
use crate::vectors;

/// The seed of a run, which `FUZZ_SEED` sets.
const SEED: u64 = 0x706f_7374_6572_6e31;

/// Longest input, in bytes; what is longer is no message of ours.
pub const LONGEST: usize = 160 * 1024;

fn number(name: &str, usual: u64) -> u64 {
    let Ok(text) = std::env::var(name) else {
        return usual;
    };
    text.parse()
        .unwrap_or_else(|_| panic!("{name} is to be a whole number, and is {text:?}"))
}

/// The seed in force.
#[must_use]
pub fn seed() -> u64 {
    number("FUZZ_SEED", SEED)
}

/// Gives a target all that it begins with, and so many bent inputs: [`Target::runs`] hundredths of `FUZZ_PERCENT`.
pub fn run(target: &Target) {
    let seed = seed();
    let seeds = target.begin();
    for data in &seeds {
        give(target, data, seed);
    }
    let name = target.name.bytes().fold(seed, |all, byte| {
        all.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut chance = Chance::new(name);
    let runs = u64::from(target.runs) * number("FUZZ_PERCENT", 100) / 100;
    // Inputs that were bent are bent again, so that changes add up.
    let mut bent: Vec<Vec<u8>> = Vec::new();
    for _ in 0..runs {
        let again = !bent.is_empty() && chance.one_in(3);
        let from = if again {
            chance.pick(&bent)
        } else {
            chance.pick(&seeds)
        };
        let data = mutate::mutate(
            from.map_or(&[], Vec::as_slice),
            &seeds,
            target.form,
            LONGEST,
            &mut chance,
        );
        give(target, &data, seed);
        if bent.len() < 64 {
            bent.push(data);
        } else {
            let place = chance.below(bent.len());
            bent[place] = data;
        }
    }
}

/// Gives one input. What is found is kept in a file, and its name is in the message.
pub fn give(target: &Target, data: &[u8], seed: u64) {
    let Err(cause) = catch_unwind(AssertUnwindSafe(|| target.give(data))) else {
        return;
    };
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied());
    let file = keep(target, data);
    panic!(
        "{}: {}\nfound with FUZZ_SEED={seed}; the input of {} bytes is in {}\ngive it again with: tools/fuzz {} --give {}",
        target.name,
        text.unwrap_or("a panic without words"),
        data.len(),
        file.display(),
        target.name,
        file.display(),
    );
}

fn keep(target: &Target, data: &[u8]) -> PathBuf {
    let hash = data.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let directory = vectors::project()
        .join("target/fuzz/found")
        .join(target.name);
    let file = directory.join(format!("{hash:016x}"));
    // The message above tells the place; where it cannot be written, the seed finds it again.
    let _ = fs::create_dir_all(&directory).and_then(|()| fs::write(&file, data));
    file
}
