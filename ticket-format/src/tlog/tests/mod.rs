//! The log's bytes on trees, notes, policies and receipts of every kind, right and bent.

mod checkpoints;
mod notes;
mod policies;
mod receipts;
mod second;
mod trees;

use super::*;
use crate::messages::samples::{at, checkpoint, log_secret};

fn witness(seed: u8) -> WitnessSecret {
    let name = format!("witness.example/w{seed}");
    WitnessSecret::from_seeds(&name, &[seed; 32], &[seed + 100; 32]).unwrap()
}

/// All keys of these witnesses in one group.
fn policy_of(witnesses: &[&WitnessSecret], needed: &str) -> WitnessPolicy {
    let (mut text, mut names) = (String::new(), String::new());
    for (number, vkey) in witnesses
        .iter()
        .flat_map(|witness| witness.vkeys())
        .enumerate()
    {
        text.push_str(&format!("witness k{number} {vkey}\n"));
        names.push_str(&format!(" k{number}"));
    }
    format!("{text}group g {needed}{names}\nquorum g\n")
        .parse()
        .unwrap()
}
