//! A server's log in memory: a real tree under real keys, which can be forked and rolled back.

use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::keys::TlsKey;
use ticket_format::messages::consistency::{ConsistencyAnswer, ConsistencyBody};
use ticket_format::messages::{Answer, Receipt, RefusalNotice, Verb};
use ticket_format::statement::Role;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{
    Checkpoint, Hash, LogKey, LogSecret, Origin, SignedCheckpoint, WitnessSecret, merkle, proof,
};
use ticket_format::{Refusal, limits};

/// When everything in these logs is signed.
const AT: u64 = 1_800_000_000;

/// A log.
#[derive(Clone)]
pub struct TestLog {
    origin: Origin,
    seed: u8,
    shards: Vec<Shard>,
    /// Receipts bear their cosignatures.
    pub witnesses: Vec<u8>,
    /// Other sizes are proven beside a checkpoint.
    pub together: bool,
}

#[derive(Clone)]
struct Shard {
    number: u64,
    entries: Vec<Vec<u8>>,
}

impl Shard {
    fn leaves(&self) -> Vec<Hash> {
        let leaf = |entry: &Vec<u8>| merkle::leaf_hash(entry);
        self.entries.iter().map(leaf).collect()
    }
}

/// The largest power of two below a size.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => merkle::empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            merkle::node_hash(&root(left), &root(right))
        }
    }
}

fn inclusion(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, sibling) = if index < left.len() {
        (inclusion(index, left), root(right))
    } else {
        (inclusion(index - left.len(), right), root(left))
    };
    path.push(sibling);
    path
}

/// RFC 6962, 2.1.2.
fn consistency(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole {
            Vec::new()
        } else {
            vec![root(leaves)]
        };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, sibling) = if old <= left.len() {
        (consistency(old, left, whole), root(right))
    } else {
        (consistency(old - left.len(), right, false), root(left))
    };
    path.push(sibling);
    path
}

/// An entry of this kind that nothing else has.
pub fn entry(number: u8, kind: Kind) -> Entry {
    Entry::new(ActId([number; 16]), kind, Timestamp::from_seconds(AT))
}

/// A witness by its seed.
pub fn witness(seed: u8) -> WitnessSecret {
    WitnessSecret::from_seeds(&format!("witness-{seed}"), &[seed; 32], &[seed; 32]).unwrap()
}

/// A policy that wants this witness.
pub fn policy(seed: u8) -> String {
    let [key, _] = witness(seed).vkeys().clone();
    format!("witness one {key}\nquorum one\n")
}

impl TestLog {
    /// A server's log, empty, with keys of this seed.
    pub fn new(realm: &str, role: Role, server: &TlsKey, seed: u8) -> Self {
        Self {
            origin: Origin::new(realm, role, server),
            seed,
            shards: vec![Shard {
                number: 1,
                entries: Vec::new(),
            }],
            witnesses: Vec::new(),
            together: true,
        }
    }

    /// The same history under other keys.
    pub fn signed_by(&self, seed: u8) -> Self {
        Self {
            seed,
            ..self.clone()
        }
    }

    fn secret(&self) -> LogSecret {
        LogSecret::from_seeds(self.origin.clone(), &[self.seed; 32], &[self.seed; 32]).unwrap()
    }

    pub fn key(&self) -> LogKey {
        self.secret().key().clone()
    }

    fn open(&mut self) -> &mut Shard {
        self.shards.last_mut().unwrap()
    }

    /// Appends an entry; its receipt under the checkpoint that covers it.
    pub fn append(&mut self, entry: &Entry) -> Receipt {
        let entry = entry.to_cbor();
        self.open().entries.push(entry);
        let index = self.open().entries.len() - 1;
        self.receipt(index)
    }

    /// So many entries that are of no interest.
    pub fn grow(&mut self, count: u8) {
        let from = u8::try_from(self.open().entries.len() % 200).unwrap();
        for number in 0..count {
            let entry = entry(from.wrapping_add(number), Kind::Start);
            self.open().entries.push(entry.to_cbor());
        }
    }

    /// The receipt of an entry of the open shard, under the newest checkpoint.
    pub fn receipt(&self, index: usize) -> Receipt {
        self.receipt_in(self.shards.last().unwrap(), index)
    }

    fn receipt_in(&self, shard: &Shard, index: usize) -> Receipt {
        let path = inclusion(index, &shard.leaves());
        let note = self.checkpoint_of(shard);
        Receipt {
            entry: shard.entries[index].clone(),
            proof: proof::text(index as u64, &path, note.note()),
        }
    }

    fn checkpoint_of(&self, shard: &Shard) -> SignedCheckpoint {
        let checkpoint = Checkpoint {
            shard: self.origin.shard(shard.number),
            size: shard.entries.len() as u64,
            root: root(&shard.leaves()),
        };
        let at = Timestamp::from_seconds(AT);
        let signed = self.secret().sign(&checkpoint, at);
        let lines: Vec<String> = self
            .witnesses
            .iter()
            .map(|seed| witness(*seed).cosign(&checkpoint, at))
            .collect();
        let lines = lines.iter().flat_map(|lines| lines.split_inclusive('\n'));
        signed.with_cosignatures(lines)
    }

    /// The newest checkpoint.
    pub fn checkpoint(&self) -> SignedCheckpoint {
        self.checkpoint_of(self.shards.last().unwrap())
    }

    /// The open shard's size.
    pub fn size(&self) -> u64 {
        self.checkpoint().checkpoint().size
    }

    /// Begins the next shard, as its first entry says after this checkpoint.
    pub fn begin_shard_after(&mut self, before: &Checkpoint) {
        let opened = entry(0xee, Kind::ShardOpened).log(before.clone());
        let number = self.open().number + 1;
        self.shards.push(Shard {
            number,
            entries: vec![opened.to_cbor()],
        });
    }

    /// Begins the next shard.
    pub fn begin_shard(&mut self) {
        let before = self.checkpoint();
        self.begin_shard_after(before.checkpoint());
    }

    /// Takes back the newest entries of the open shard.
    pub fn roll_back(&mut self, count: usize) {
        let left = self.open().entries.len() - count;
        self.open().entries.truncate(left);
    }

    /// What a server says that holds this log, whatever the caller shows: the best proof there is, or for
    /// a checkpoint that it cannot have, as if it were the newest.
    pub fn proof_from(&self, shown: &Checkpoint) -> ConsistencyAnswer {
        let number = shown.shard.number;
        let at = self.shards.iter().position(|shard| shard.number == number);
        let shard = &self.shards[at.unwrap_or(0)];
        let leaves = shard.leaves();
        let old = usize::try_from(shown.size).unwrap();
        let path = match old {
            0 => Vec::new(),
            _ if old >= leaves.len() => Vec::new(),
            _ => consistency(old, &leaves, true),
        };
        let later = self.shards.iter().filter(|later| later.number > number);
        ConsistencyAnswer {
            paths: None,
            path,
            checkpoint: self.checkpoint_of(shard).note().to_owned(),
            links: later
                .take(limits::SHARD_LINKS)
                .map(|shard| self.receipt_in(shard, 0))
                .collect(),
        }
    }

    /// As an honest server answers: refuses what it does not hold.
    pub fn answer(&self, body: &[u8]) -> Answer {
        let (shown, others) = (shown(body), asked(body).others);
        let number = shown.shard.number;
        let shard = self.shards.iter().find(|shard| shard.number == number);
        let holds = shard.is_some_and(|shard| {
            let size = usize::try_from(shown.size).unwrap();
            size <= shard.entries.len() && root(&shard.leaves()[..size]) == shown.root
        });
        if holds {
            let mut answer = self.proof_from(&shown);
            if let Some(others) = others.filter(|_| self.together) {
                let at = |size| Checkpoint {
                    size,
                    ..shown.clone()
                };
                let paths = others.iter().map(|size| self.proof_from(&at(*size)).path);
                answer.paths = Some(paths.collect());
            }
            Answer::done(Verb::Consistency, &answer)
        } else {
            RefusalNotice::bare(Refusal::Rollback).into()
        }
    }
}

/// What a consistency request shows.
pub fn shown(body: &[u8]) -> Checkpoint {
    Checkpoint::of_note_unverified(&asked(body).checkpoint).unwrap()
}

fn asked(body: &[u8]) -> ConsistencyBody {
    ConsistencyBody::from_cbor(body, limits::NOTE + 1024).unwrap()
}
