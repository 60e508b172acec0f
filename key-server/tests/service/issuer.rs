//! The broker's log as the test keeps it: a Merkle tree in memory, which can be forked.

use std::sync::Mutex;

use ticket_format::cbor::Encode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, TicketHash};
use ticket_format::keys::TlsKey;
use ticket_format::messages::Receipt;
use ticket_format::messages::consistency::ConsistencyAnswer;
use ticket_format::statement::Role;
use ticket_format::ticket::DatasetClaims;
use ticket_format::time::Timestamp;
use ticket_format::tlog::{
    Checkpoint, Hash, LogSecret, Origin, SignedCheckpoint, WitnessSecret, merkle, proof,
};

use crate::rig::{REALM, START, broker_identity, rng};

pub(crate) struct Issuer {
    pub(crate) secret: LogSecret,
    entries: Mutex<Vec<Vec<u8>>>,
}

fn largest_power_below(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => merkle::empty_root(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(largest_power_below(more.len()));
            merkle::node_hash(&root(left), &root(right))
        }
    }
}

/// RFC 6962, 2.1.1.
fn inclusion(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let middle = largest_power_below(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) = if index < middle {
        (inclusion(index, left), root(right))
    } else {
        (inclusion(index - middle, right), root(left))
    };
    path.push(sibling);
    path
}

/// RFC 6962, 2.1.2.
fn consistency(from: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if from == leaves.len() {
        return if whole {
            Vec::new()
        } else {
            vec![root(leaves)]
        };
    }
    let middle = largest_power_below(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) = if from <= middle {
        (consistency(from, left, whole), root(right))
    } else {
        (consistency(from - middle, right, false), root(left))
    };
    path.push(sibling);
    path
}

impl Issuer {
    pub(crate) fn new() -> Self {
        Self::signed_by(&broker_identity(), 0x62)
    }

    /// A log of this server, with keys of this seed.
    pub(crate) fn signed_by(server: &TlsKey, seed: u8) -> Self {
        let origin = Origin::new(REALM, Role::Broker, server);
        Self {
            secret: LogSecret::from_seeds(origin, &[seed; 32], &[seed; 32]).unwrap(),
            entries: Mutex::default(),
        }
    }

    /// The same log, from here on another one.
    pub(crate) fn fork(&self) -> Self {
        let fork = Self::new();
        fork.entries
            .lock()
            .unwrap()
            .clone_from(&self.entries.lock().unwrap());
        fork
    }

    fn leaves(&self, size: usize) -> Vec<Hash> {
        let entries = self.entries.lock().unwrap();
        entries[..size]
            .iter()
            .map(|entry| merkle::leaf_hash(entry))
            .collect()
    }

    pub(crate) fn size(&self) -> usize {
        self.entries.lock().unwrap().len()
    }

    pub(crate) fn checkpoint(&self, size: usize) -> SignedCheckpoint {
        let checkpoint = Checkpoint {
            shard: self.secret.key().origin.shard(1),
            size: size as u64,
            root: root(&self.leaves(size)),
        };
        self.secret
            .sign(&checkpoint, Timestamp::from_seconds(START))
    }

    /// Records an entry, and gives its receipt.
    pub(crate) fn record(&self, entry: &Entry) -> Receipt {
        self.record_bytes(entry.to_cbor(), None)
    }

    fn record_bytes(&self, entry: Vec<u8>, witness: Option<&WitnessSecret>) -> Receipt {
        self.entries.lock().unwrap().push(entry.clone());
        let size = self.size();
        let mut checkpoint = self.checkpoint(size);
        if let Some(witness) = witness {
            let time = Timestamp::from_seconds(START);
            let lines = witness.cosign(checkpoint.checkpoint(), time);
            checkpoint = checkpoint.with_cosignatures(lines.split_inclusive('\n'));
        }
        let path = inclusion(size - 1, &self.leaves(size));
        Receipt {
            entry,
            proof: proof::text(size as u64 - 1, &path, checkpoint.note()),
        }
    }

    /// The entry of an issue, as the broker writes it.
    pub(crate) fn entry(ticket: &[u8], claims: &DatasetClaims) -> Entry {
        Entry::new(ActId::random(&mut rng()), Kind::Issue, claims.common.issued)
            .subject(claims.common.node())
            .ticket(claims.common.id)
            .ticket_hash(TicketHash::of(ticket))
            .dataset(claims.dataset)
            .expires(claims.common.expires)
    }

    /// Records the issue of a ticket.
    pub(crate) fn issue(&self, ticket: &[u8], claims: &DatasetClaims) -> Receipt {
        self.record(&Self::entry(ticket, claims))
    }

    /// The same, cosigned by a witness.
    pub(crate) fn issue_witnessed(
        &self,
        ticket: &[u8],
        claims: &DatasetClaims,
        witness: &WitnessSecret,
    ) -> Receipt {
        self.record_bytes(Self::entry(ticket, claims).to_cbor(), Some(witness))
    }

    /// What the broker answers to who remembers a checkpoint; none if it does not hold it.
    pub(crate) fn prove(&self, note: &str) -> Option<ConsistencyAnswer> {
        let shown = Checkpoint::of_note_unverified(note).unwrap();
        let from = usize::try_from(shown.size).unwrap();
        let size = self.size();
        (from <= size && root(&self.leaves(from)) == shown.root).then(|| ConsistencyAnswer {
            paths: None,
            path: consistency(from, &self.leaves(size), true),
            checkpoint: self.checkpoint(size).note().to_owned(),
            links: Vec::new(),
        })
    }
}
