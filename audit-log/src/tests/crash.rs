//! Two thousand seeded crashes: whatever was acknowledged is there, whatever checkpoint left is kept to.

use std::collections::HashMap;
use std::sync::Arc;

use ticket_format::tlog::{Checkpoint, Proof, merkle};

use super::model::{Model, Random};
use super::{Copy, Texts, open, opened, secret};
use crate::{ActId, AuditLog, ConsistencyError, What};

const ROUNDS: u64 = 2_000;
/// Crashes that one log lives through.
const LIVES: u64 = 25;

/// What somebody outside remembers of a log.
#[derive(Default)]
struct Memory {
    entries: HashMap<u64, Vec<u8>>,
    checkpoints: Vec<Checkpoint>,
    /// Acts that were acknowledged, lately, and those that were asked for when the crash came.
    acts: Vec<(ActId, Vec<u8>, u64)>,
    open_acts: Vec<(ActId, Vec<u8>)>,
    /// Entries seen at least.
    entries_seen: u64,
    /// Why the log stopped.
    stopped: String,
}

/// Counts of what the rounds came across, so that the test does not pass by doing nothing.
#[derive(Default, Debug)]
struct Met {
    opened: u64,
    torn: u64,
    died_opening: u64,
    shards: u64,
    recovered: u64,
    published: u64,
    acknowledged: u64,
    acts_kept: u64,
    acts_lost: u64,
    pruned: u64,
}

// rule: TLOG-3
// rule: TLOG-4
// rule: TLOG-11
#[test]
fn no_crash_loses_what_was_acknowledged_or_contradicts_a_checkpoint() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut met = Met::default();
    let mut random = Random(20_261_123);
    let (mut disk, mut memory) = (Model::new(0), Memory::default());
    for round in 0..ROUNDS {
        if round % LIVES == 0 {
            (disk, memory) = (Model::new(random.next()), Memory::default());
        }
        runtime.block_on(live(&disk, &mut memory, &mut random, &mut met, round));
        disk = disk.next_life(!random.chance(4));
        look(&disk, &memory, round);
    }
    let Met {
        torn,
        died_opening,
        shards,
        recovered,
        published,
        acts_kept,
        acts_lost,
        pruned,
        ..
    } = met;
    let all = [
        torn,
        died_opening,
        shards,
        recovered,
        published,
        acts_kept,
        acts_lost,
        pruned,
    ];
    assert!(all.iter().all(|count| *count >= 20), "{met:?}");
    assert!(met.acknowledged > ROUNDS, "{met:?}");
}

/// Whoever copies the files right after the crash finds a whole log.
fn look(disk: &Arc<Model>, memory: &Memory, round: u64) {
    let key = secret().key().clone();
    let summary = crate::verify(&Copy(disk), &key, &mut Texts).expect("reads");
    for finding in &summary.findings {
        let harmless = match finding.what {
            // The next start goes on with what a crash left between two shards, or before the first.
            What::Truncated => finding.detail.contains("the last shard is closed"),
            What::Missing => memory.entries_seen == 0 || finding.detail.contains("its checkpoint"),
            // Not yet published up to its end, as the journals say, which are not looked at here.
            What::Unlinked => true,
            _ => false,
        };
        assert!(harmless, "round {round}: {finding}");
    }
}

async fn live(
    disk: &Arc<Model>,
    memory: &mut Memory,
    random: &mut Random,
    met: &mut Met,
    round: u64,
) {
    // Some crash while they open, most later.
    let budget = if random.chance(4) { 12 } else { 90 };
    disk.fail_after(Some(random.below(budget)));
    let (log, torn) = match open(disk) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(disk.is_dead(), "round {round}: {error}");
            met.died_opening += 1;
            return;
        }
    };
    met.opened += 1;
    met.torn += u64::from(torn.is_some());
    if check(disk, &log, memory, random, met, round)
        .await
        .is_some()
    {
        while work(&log, memory, random, met).await.is_some() {}
    }
    let why = &memory.stopped;
    assert!(
        disk.is_dead(),
        "round {round}: the log stopped by itself: {why}"
    );
    log.close().await;
}

/// What the outside remembers, against the log. `None` when the power failed meanwhile.
async fn check(
    disk: &Arc<Model>,
    log: &AuditLog,
    memory: &mut Memory,
    random: &mut Random,
    met: &mut Met,
    round: u64,
) -> Option<()> {
    let entries = log.head().entries;
    assert!(
        entries >= memory.entries_seen,
        "round {round}: entries are lost"
    );
    let kept = first_kept(log);
    met.pruned += u64::from(kept > 0);
    // Some of the old, all of the new.
    let start = if random.chance(8) {
        kept
    } else {
        kept.max(entries.saturating_sub(40))
    };
    let mut found = Vec::new();
    for record in log.read(start) {
        match record {
            Ok(record) => found.push(record),
            Err(error) => {
                assert!(disk.is_dead(), "round {round}: {error}");
                return None;
            }
        }
    }
    for (index, entry) in memory.entries.iter().filter(|(index, _)| **index >= start) {
        let record = &found[(*index - start) as usize];
        assert_eq!(&record.entry, entry, "round {round}: entry {index} changed");
    }
    let newest = memory.checkpoints.len();
    for at in (0..3)
        .map(|_| random.below(newest as u64) as usize)
        .chain(newest.saturating_sub(4)..newest)
    {
        if let Some(old) = memory.checkpoints.get(at) {
            consistent(disk, log, old, round)?;
        }
    }
    for (act_id, entry, index) in memory.acts.iter().rev().take(2) {
        // Known as long as its shard's journal is kept; a shard may be closed while this goes on.
        let newest = log.head().checkpoint.checkpoint().shard.number;
        let known = log.place(*index).is_some_and(|(shard, _)| shard == newest);
        if known {
            let again = log.append_once(*act_id, entry.clone()).await;
            let again = match again {
                Ok(again) => again,
                Err(error) => {
                    memory.stopped = error.to_string();
                    return None;
                }
            };
            assert_eq!(
                (again.index, again.repeated),
                (*index, true),
                "round {round}"
            );
            proven(entry, &again.proof());
        }
    }
    for (act_id, entry) in std::mem::take(&mut memory.open_acts) {
        let first = log.append_once(act_id, entry.clone()).await;
        let first = match first {
            Ok(first) => first,
            Err(error) => {
                memory.stopped = error.to_string();
                memory.open_acts.push((act_id, entry));
                return None;
            }
        };
        if first.repeated {
            met.acts_kept += 1;
        } else {
            met.acts_lost += 1;
        }
        let count = log
            .read(first_kept(log))
            .filter(|record| record.as_ref().is_ok_and(|record| record.entry == entry))
            .count();
        assert!(count == 1 || disk.is_dead(), "round {round}: {count} times");
        memory.remember(first.index, entry.clone());
        memory.acts.push((act_id, entry, first.index));
    }
    Some(())
}

fn first_kept(log: &AuditLog) -> u64 {
    let shards = log.shared.shards();
    let kept = shards.iter().find(|shard| !shard.live().pruned);
    kept.map_or(0, |shard| shard.before)
}

fn proven(entry: &[u8], proof: &str) -> Checkpoint {
    let proof: Proof = proof.parse().expect("is a proof");
    let checkpoint = Checkpoint::of_note_unverified(&proof.checkpoint).expect("is a checkpoint");
    let leaf = merkle::leaf_hash(entry);
    merkle::verify_inclusion(
        &leaf,
        proof.index,
        checkpoint.size,
        &proof.path,
        &checkpoint.root,
    )
    .expect("is included");
    checkpoint
}

fn consistent(disk: &Arc<Model>, log: &AuditLog, old: &Checkpoint, round: u64) -> Option<()> {
    let proof = match log.consistency(old) {
        Ok(proof) => proof,
        Err(ConsistencyError::Pruned { .. }) => return Some(()),
        Err(error) => {
            assert!(disk.is_dead(), "round {round}: {error}");
            return None;
        }
    };
    let new = proof.checkpoint.checkpoint();
    merkle::verify_consistency(old.size, &old.root, new.size, &new.root, &proof.path)
        .unwrap_or_else(|error| panic!("round {round}: {error}"));
    let mut last = new.clone();
    for (entry, text) in &proof.links {
        let link = crate::Entries::opened(&mut Texts, entry).expect("opens a shard");
        assert_eq!(
            (link.previous, link.size, link.root),
            (last.shard, last.size, last.root)
        );
        last = proven(entry, text);
    }
    Some(())
}

impl Memory {
    fn done<T, E: ToString>(&mut self, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| self.stopped = error.to_string())
            .ok()
    }

    fn remember(&mut self, index: u64, entry: Vec<u8>) {
        let before = self.entries.insert(index, entry.clone());
        assert!(
            before.is_none_or(|before| before == entry),
            "two entries at {index}"
        );
        self.entries_seen = self.entries_seen.max(index + 1);
    }
}

/// One thing that a server does. `None` when the power failed.
async fn work(
    log: &AuditLog,
    memory: &mut Memory,
    random: &mut Random,
    met: &mut Met,
) -> Option<()> {
    let shard = log.head().checkpoint.checkpoint().shard.number;
    match random.below(12) {
        0..=6 => {
            // Several wait together: one batch, or two.
            let count = 1 + random.below(4);
            let mut waiting = Vec::new();
            for _ in 0..count {
                let length = 1 + random.below(900) as usize;
                let mut entry = random.next().to_be_bytes().to_vec();
                entry.resize(entry.len() + length, 7);
                let mut act = [0; 16];
                act[..8].copy_from_slice(&entry[..8]);
                let act = random.chance(2).then_some(act);
                let log = log.clone();
                let asked = entry.clone();
                let answer = tokio::spawn(async move {
                    match act {
                        Some(act) => log.append_once(act, asked).await,
                        None => log.append(asked).await,
                    }
                });
                waiting.push((act, entry, answer));
            }
            let mut failed = false;
            for (act, entry, answer) in waiting {
                match (answer.await.expect("ends"), act) {
                    (Ok(appended), act) => {
                        met.acknowledged += 1;
                        memory.checkpoints.push(proven(&entry, &appended.proof()));
                        memory.remember(appended.index, entry.clone());
                        if let Some(act) = act {
                            memory.acts.push((act, entry, appended.index));
                        }
                    }
                    (Err(error), act) => {
                        memory.stopped = error.to_string();
                        memory.open_acts.extend(act.map(|act| (act, entry)));
                        failed = true;
                    }
                }
            }
            if failed {
                return None;
            }
        }
        7..=9 => {
            let published = log.publish_now().await;
            memory.done(published)?;
            met.published += 1;
            memory
                .checkpoints
                .push(log.head().checkpoint.checkpoint().clone());
        }
        10 => {
            // A checkpoint that a witness or a client was shown.
            memory
                .checkpoints
                .push(log.checkpoints().borrow().checkpoint().clone());
        }
        _ => {
            if random.chance(3) {
                let mut act = [1; 16];
                act[..8].copy_from_slice(&random.next().to_be_bytes());
                let gap = shard + 1 + random.below(3);
                let begun = log
                    .recover(act, gap, |last, before| opened("recovered", last, before))
                    .await;
                let begun = memory.done(begun)?;
                met.recovered += 1;
                memory
                    .checkpoints
                    .push(begun.checkpoint().checkpoint().clone());
            }
        }
    }
    met.shards += u64::from(log.head().checkpoint.checkpoint().shard.number > shard);
    Some(())
}
