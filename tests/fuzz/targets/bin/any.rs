//! All targets, one of them at a time: `FUZZ_TARGET` says which. Where `FUZZ_CORPUS` names a directory, the inputs
//! to begin with are put there.

#![no_main]

use std::sync::LazyLock;

use fuzz::counting::Counting;
use fuzz::mutate;
use fuzz::rng::Chance;
use fuzz::targets::{self, Target};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

#[global_allocator]
static MEMORY: Counting = Counting;

static TARGET: LazyLock<(&'static Target, Vec<Vec<u8>>)> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let target = targets::named(&name).expect("FUZZ_TARGET names a target");
    let seeds = target.begin();
    if let Ok(directory) = std::env::var("FUZZ_CORPUS") {
        for (number, seed) in seeds.iter().enumerate() {
            let file = std::path::Path::new(&directory).join(format!("vector-{number:04}"));
            std::fs::write(file, seed).expect("the corpus can be written");
        }
    }
    (target, seeds)
});

fuzz_target!(
    init: {
        LazyLock::force(&TARGET);
    },
    |data: &[u8]| TARGET.0.give(data)
);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut chance = Chance::new(u64::from(seed));
    // libFuzzer's own way knows what the code compares with; ours knows what a message is.
    if chance.one_in(3) {
        return fuzzer_mutate(data, size, max_size);
    }
    let (target, seeds) = &*TARGET;
    let most = max_size.min(data.len());
    let bent = mutate::mutate(&data[..size], seeds, target.form, most, &mut chance);
    data[..bent.len()].copy_from_slice(&bent);
    bent.len()
});
