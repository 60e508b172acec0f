//! What the tests of witnesses share: logs with keys of fixed seeds, and a tree that is computed from all
//! its leaves each time.

mod judge;
mod raw;
mod submit;

use ticket_format::time::Timestamp;
use ticket_format::tlog::{
    Checkpoint, Hash, LogSecret, Origin, SignedCheckpoint, WitnessSecret, merkle,
};

use super::request::AddCheckpoint;
use super::{Answer, Witness};

pub(super) fn now() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000)
}

pub(super) fn log_secret(name: &str) -> LogSecret {
    let origin: Origin = format!("realm/broker/{name}").parse().unwrap();
    let seed = std::array::from_fn(|at| name.as_bytes()[at % name.len()]);
    LogSecret::from_seeds(origin, &seed, &seed).unwrap()
}

pub(super) fn witness_secret(name: &str) -> WitnessSecret {
    let seed = std::array::from_fn(|at| name.as_bytes()[at % name.len()].wrapping_add(1));
    WitnessSecret::from_seeds(name, &seed, &seed).unwrap()
}

/// A log of numbered entries; another branch has other entries from `fork` on.
pub(super) struct Tree {
    pub(super) secret: LogSecret,
    pub(super) shard: u64,
    pub(super) fork: Option<(u64, &'static str)>,
}

impl Tree {
    pub(super) fn new(name: &str) -> Self {
        Self {
            secret: log_secret(name),
            shard: 1,
            fork: None,
        }
    }

    pub(super) fn forked(name: &str, at: u64, branch: &'static str) -> Self {
        Self {
            fork: Some((at, branch)),
            ..Self::new(name)
        }
    }

    fn leaf(&self, index: u64) -> Hash {
        let branch = self.fork.filter(|(at, _)| index >= *at);
        merkle::leaf_hash(format!("{index} {}", branch.map_or("", |(_, name)| name)).as_bytes())
    }

    /// MTH of RFC 6962, 2.1.
    fn range(&self, from: u64, to: u64) -> Hash {
        match to - from {
            0 => merkle::empty_root(),
            1 => self.leaf(from),
            count => {
                let middle = from + left(count);
                merkle::node_hash(&self.range(from, middle), &self.range(middle, to))
            }
        }
    }

    pub(super) fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint {
            shard: self.secret.key().origin.shard(self.shard),
            size,
            root: self.range(0, size),
        }
    }

    pub(super) fn signed(&self, size: u64) -> SignedCheckpoint {
        self.secret.sign(&self.checkpoint(size), now())
    }

    /// PROOF of RFC 6962, 2.1.2.
    pub(super) fn proof(&self, old: u64, new: u64) -> Vec<Hash> {
        if old == 0 || old == new {
            return Vec::new();
        }
        self.subproof(old, 0, new, true)
    }

    fn subproof(&self, old: u64, from: u64, to: u64, whole: bool) -> Vec<Hash> {
        let count = to - from;
        if old == count {
            return if whole {
                Vec::new()
            } else {
                vec![self.range(from, to)]
            };
        }
        let middle = left(count);
        if old <= middle {
            let mut proof = self.subproof(old, from, from + middle, whole);
            proof.push(self.range(from + middle, to));
            proof
        } else {
            let mut proof = self.subproof(old - middle, from + middle, to, false);
            proof.push(self.range(from, from + middle));
            proof
        }
    }

    pub(super) fn request(&self, old: u64, new: u64) -> Vec<u8> {
        let proof = if old <= new {
            self.proof(old, new)
        } else {
            Vec::new()
        };
        self.request_with(old, proof, new)
    }

    pub(super) fn request_with(&self, old: u64, proof: Vec<Hash>, new: u64) -> Vec<u8> {
        let signed = self.signed(new);
        let note = signed.note();
        AddCheckpoint { old, proof, note }.to_body().into_bytes()
    }
}

fn left(count: u64) -> u64 {
    let power = count.next_power_of_two();
    if power == count { count / 2 } else { power / 2 }
}

/// A new witness of the logs in a new directory.
pub(super) fn witness(logs: &[&Tree]) -> (tempfile::TempDir, Witness) {
    let dir = tempfile::tempdir().unwrap();
    Witness::create(&dir.path().join("state")).unwrap();
    let witness = open(&dir, logs);
    (dir, witness)
}

pub(super) fn open(dir: &tempfile::TempDir, logs: &[&Tree]) -> Witness {
    let keys = logs.iter().map(|log| log.secret.key().clone());
    Witness::open(
        &dir.path().join("state"),
        witness_secret("witness.example/w1"),
        keys,
    )
    .unwrap()
}

/// That the answer holds two cosignatures on this checkpoint, by the witness's keys.
pub(super) fn assert_cosigned(answer: &Answer, checkpoint: &Checkpoint) {
    assert_eq!(answer.status(), 200, "{answer:?}");
    let keys = witness_secret("witness.example/w1").vkeys().to_vec();
    let lines = super::endpoint::cosignatures(&answer.body(), &keys, checkpoint).unwrap();
    assert_eq!(lines.len(), 2);
}
