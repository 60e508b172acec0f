//! Logs: trees, checkpoints, cosignatures and receipts, made by another path than the code's own. The
//! code's ML-DSA-44 signs with fresh randomness each time; here it is signed without any, by a second
//! implementation, so that vectors stand still.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ml_dsa::{ExpandedSigningKey, MlDsa44};
use serde_json::json;
use sha2::{Digest, Sha256};
use ticket_format::cbor::Encode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::keys::TlsKey;
use ticket_format::messages::Receipt;
use ticket_format::statement::{Role, WitnessMode, Witnessing};
use ticket_format::ticket;
use ticket_format::tlog::{
    Checkpoint, Hash, LogKey, LogSecret, Origin, Verifier, Vkey, VkeyKind, WitnessPolicy,
    WitnessSecret, merkle,
};

use super::case::hex;
use super::world::{NOW, REALM, World, at, ed25519};

/// What leaf hashes and node hashes begin with (RFC 6962, 2.1).
const LEAF: u8 = 0;
const NODE: u8 = 1;

/// Signs notes: a log or a witness.
pub(super) struct Signer {
    /// Name of its keys; of a log, without a shard.
    pub(super) name: String,
    ed25519: [u8; 32],
    ml_dsa: [u8; 32],
    /// What the seeds make, once: it is slow where nothing is optimized.
    expanded: ExpandedSigningKey<MlDsa44>,
    public: (Vec<u8>, Vec<u8>),
}

impl Signer {
    /// Ed25519 by this seed, ML-DSA-44 by the next.
    fn new(name: String, seed: u8) -> Self {
        let (ed25519, ml_dsa) = ([seed; 32], [seed + 1; 32]);
        let first = ed25519_dalek::SigningKey::from_bytes(&ed25519).verifying_key();
        let expanded = ExpandedSigningKey::from_seed(&ml_dsa.into());
        let second = expanded.verifying_key().encode();
        Self {
            name,
            ed25519,
            ml_dsa,
            expanded,
            public: (first.to_bytes().to_vec(), second.to_vec()),
        }
    }

    fn public(&self) -> (&[u8], &[u8]) {
        (&self.public.0, &self.public.1)
    }

    /// ML-DSA-44 without randomness (FIPS 204, algorithm 2 with `rnd` = 0).
    fn sign_ml_dsa(&self, message: &[u8]) -> Vec<u8> {
        // A context of at most 255 bytes is all that it asks for.
        #[allow(clippy::expect_used)]
        let signature = self
            .expanded
            .sign_deterministic(message, b"")
            .expect("no context");
        signature.encode().to_vec()
    }

    fn json(&self) -> serde_json::Value {
        json!({ "name": self.name, "ed25519_seed": hex(self.ed25519), "ml_dsa_44_seed": hex(self.ml_dsa) })
    }
}

/// A line of a note: what the key says, behind its id.
fn line(name: &str, kind: u8, key: &[u8], signature: &[u8]) -> String {
    let id = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', kind])
        .chain_update(key)
        .finalize();
    let bytes = [id.get(..4).unwrap_or_default(), signature].concat();
    format!("\u{2014} {name} {}\n", BASE64.encode(bytes))
}

/// The text of a checkpoint (c2sp.org/tlog-checkpoint).
pub(super) fn text(checkpoint: &Checkpoint) -> String {
    let Checkpoint { shard, size, root } = checkpoint;
    format!("{shard}\n{size}\n{}\n", BASE64.encode(root))
}

/// What an ML-DSA-44 cosignature is over (c2sp.org/tlog-cosignature).
pub(super) fn cosigned(signer: &str, time: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    let short = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [
        b"subtree/v1\n\0".as_slice(),
        &short(signer),
        &time.to_be_bytes(),
        &short(&checkpoint.shard.to_string()),
        &[0; 8],
        &checkpoint.size.to_be_bytes(),
        &checkpoint.root,
    ]
    .concat()
}

fn timed(time: u64, signature: &[u8]) -> Vec<u8> {
    [&time.to_be_bytes(), signature].concat()
}

/// The root over leaf hashes (RFC 6962, 2.1).
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        _ => {
            let (left, right) = halves(leaves);
            node(&root(left), &root(right))
        }
    }
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let hash = Sha256::new().chain_update([NODE]);
    hash.chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

fn leaf(entry: &[u8]) -> Hash {
    let hash = Sha256::new().chain_update([LEAF]);
    hash.chain_update(entry).finalize().into()
}

/// Split at the largest power of two that is smaller than their number.
fn halves(leaves: &[Hash]) -> (&[Hash], &[Hash]) {
    leaves.split_at(leaves.len().next_power_of_two() / 2)
}

/// PATH of RFC 6962, 2.1.1.
fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = halves(leaves);
    let (mut all, sibling) = if index < left.len() {
        (path(index, left), root(right))
    } else {
        (path(index - left.len(), right), root(left))
    };
    all.push(sibling);
    all
}

/// SUBPROOF of RFC 6962, 2.1.2.
fn subproof(old: usize, leaves: &[Hash], known: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if known {
            Vec::new()
        } else {
            vec![root(leaves)]
        };
    }
    let (left, right) = halves(leaves);
    let (mut all, other) = if old <= left.len() {
        (subproof(old, left, known), root(right))
    } else {
        (subproof(old - left.len(), right, false), root(left))
    };
    all.push(other);
    all
}

/// A server's log.
pub(super) struct Log {
    pub(super) signer: Signer,
    pub(super) key: LogKey,
}

/// A log's shard: its entries.
pub(super) struct Shard<'a> {
    pub(super) log: &'a Log,
    pub(super) number: u64,
    pub(super) entries: Vec<Vec<u8>>,
}

impl Log {
    /// Of a server, by two seeds.
    pub(super) fn new(role: Role, server: &TlsKey, seed: u8) -> Self {
        let origin = Origin::new(REALM, role, server);
        let signer = Signer::new(origin.to_string(), seed);
        // Constants of ours; and the code makes the same keys of them.
        #[allow(clippy::expect_used)]
        let secret = LogSecret::from_seeds(origin, &signer.ed25519, &signer.ml_dsa).expect("seeds");
        let key = secret.key().clone();
        let (ed25519, ml_dsa) = signer.public();
        assert!(key.ed25519()[..] == *ed25519 && key.ml_dsa()[..] == *ml_dsa);
        Self { signer, key }
    }

    /// The two signature lines of the log: Ed25519, ML-DSA-44.
    pub(super) fn lines(&self, checkpoint: &Checkpoint, name: &str, time: u64) -> [String; 2] {
        let (ed, ml_dsa) = self.signer.public();
        let signature = ed25519(&self.signer.ed25519, text(checkpoint).as_bytes());
        let second = self.signer.sign_ml_dsa(&cosigned(name, time, checkpoint));
        [
            line(name, VkeyKind::Ed25519 as u8, ed, &signature),
            line(
                name,
                VkeyKind::CosignatureMlDsa44 as u8,
                ml_dsa,
                &timed(time, &second),
            ),
        ]
    }

    /// A checkpoint, signed twice; the code takes it.
    pub(super) fn note(&self, checkpoint: &Checkpoint, time: u64) -> String {
        let [first, second] = self.lines(checkpoint, &checkpoint.shard.to_string(), time);
        let note = format!("{}\n{first}{second}", text(checkpoint));
        assert_eq!(
            self.key
                .verify(&note)
                .as_ref()
                .map(|made| made.checkpoint()),
            Ok(checkpoint)
        );
        note
    }

    pub(super) fn verifier(&self, witnesses: Option<WitnessPolicy>) -> Verifier {
        Verifier::new(self.key.clone(), witnesses)
    }

    /// The log's first shard with thirteen entries, of which this one has the index 7.
    pub(super) fn with(&self, entry: &Entry) -> Shard<'_> {
        let other = |n: u8| {
            let start = Entry::new(ActId([0x70 + n; 16]), Kind::Start, at(0));
            start.to_cbor()
        };
        let mut entries: Vec<Vec<u8>> = (0..12).map(other).collect();
        entries.insert(7, entry.to_cbor());
        Shard {
            log: self,
            number: 1,
            entries,
        }
    }

    /// The receipt of an entry; the code takes it.
    pub(super) fn receipt(&self, entry: &Entry) -> Receipt {
        let receipt = self.with(entry).receipt(7);
        let logged = self.verifier(None).verify(&receipt);
        assert_eq!(
            logged.as_ref().map(|logged| (&logged.entry, logged.index)),
            Ok((entry, 7))
        );
        receipt
    }
}

impl Log {
    /// The receipt of an entry that both witnesses have cosigned; the code takes it by their policy.
    pub(super) fn witnessed(&self, entry: &Entry) -> Receipt {
        let shard = self.with(entry);
        let receipt = shard.receipt_under(7, &cosigned_note(self, &shard.head()));
        let logged = self.verifier(Some(read_policy())).verify(&receipt);
        assert_eq!(logged.as_ref().map(|logged| &logged.entry), Ok(entry));
        receipt
    }
}

impl Shard<'_> {
    pub(super) fn leaves(&self) -> Vec<Hash> {
        self.entries.iter().map(|entry| leaf(entry)).collect()
    }

    /// The checkpoint of its first entries.
    pub(super) fn at(&self, size: usize) -> Checkpoint {
        let leaves = self.leaves();
        Checkpoint {
            shard: self.log.key.origin.shard(self.number),
            size: size as u64,
            root: root(leaves.get(..size).unwrap_or_default()),
        }
    }

    pub(super) fn head(&self) -> Checkpoint {
        self.at(self.entries.len())
    }

    pub(super) fn path(&self, index: usize) -> Vec<Hash> {
        path(index, &self.leaves())
    }

    /// The consistency proof from an earlier size.
    pub(super) fn since(&self, old: usize) -> Vec<Hash> {
        let leaves = self.leaves();
        let path = subproof(old, &leaves, true);
        let (before, head) = (self.at(old), self.head());
        let proven =
            merkle::verify_consistency(before.size, &before.root, head.size, &head.root, &path);
        assert_eq!(proven, Ok(()));
        path
    }

    /// The receipt of an entry under this note.
    pub(super) fn receipt_under(&self, index: usize, note: &str) -> Receipt {
        Receipt {
            entry: self.entries.get(index).cloned().unwrap_or_default(),
            proof: proof(index as u64, &self.path(index), note),
        }
    }

    pub(super) fn receipt(&self, index: usize) -> Receipt {
        self.receipt_under(index, &self.log.note(&self.head(), NOW))
    }
}

/// A proof as c2sp.org/tlog-proof writes it.
pub(super) fn proof(index: u64, path: &[Hash], note: &str) -> String {
    let hashes: String = path
        .iter()
        .map(|hash| format!("{}\n", BASE64.encode(hash)))
        .collect();
    format!("c2sp.org/tlog-proof@v1\nindex {index}\n{hashes}\n{note}")
}

/// A witness.
pub(super) struct Witness {
    pub(super) signer: Signer,
    vkeys: [Vkey; 2],
}

impl Witness {
    pub(super) fn new(name: &str, seed: u8) -> Self {
        let signer = Signer::new(name.to_owned(), seed);
        // Constants of ours.
        #[allow(clippy::expect_used)]
        let secret = WitnessSecret::from_seeds(name, &signer.ed25519, &signer.ml_dsa)
            .expect("a name and seeds");
        let (ed25519, ml_dsa) = signer.public();
        let vkeys = secret.vkeys().clone();
        assert!(vkeys[0].key() == ed25519 && vkeys[1].key() == ml_dsa);
        Self { signer, vkeys }
    }

    /// What its Ed25519 key signs of a checkpoint (c2sp.org/tlog-cosignature).
    pub(super) fn cosignature_v1(checkpoint: &Checkpoint, time: u64) -> String {
        format!("cosignature/v1\ntime {time}\n{}", text(checkpoint))
    }

    /// Its two lines.
    pub(super) fn lines(&self, checkpoint: &Checkpoint, time: u64) -> [String; 2] {
        let (ed, ml_dsa) = self.signer.public();
        let name = &self.signer.name;
        let message = Self::cosignature_v1(checkpoint, time);
        let first = timed(time, &ed25519(&self.signer.ed25519, message.as_bytes()));
        let message = cosigned(name, time, checkpoint);
        let second = timed(time, &self.signer.sign_ml_dsa(&message));
        [
            line(name, VkeyKind::CosignatureEd25519 as u8, ed, &first),
            line(name, VkeyKind::CosignatureMlDsa44 as u8, ml_dsa, &second),
        ]
    }
}

/// The two witnesses of the vectors.
pub(super) fn witnesses() -> &'static [Witness; 2] {
    static WITNESSES: LazyLock<[Witness; 2]> = LazyLock::new(|| {
        [
            Witness::new("witness.example/w1", 26),
            Witness::new("witness.example/w2", 28),
        ]
    });
    &WITNESSES
}

/// Both must cosign, each by either of its keys.
pub(super) fn policy() -> String {
    let mut text = String::new();
    for (number, witness) in (1..).zip(witnesses()) {
        let [ed25519, ml_dsa] = &witness.vkeys;
        text.push_str(&format!(
            "witness w{number}-ed25519 {ed25519}\nwitness w{number}-ml-dsa {ml_dsa}\ngroup w{number} any w{number}-ed25519 w{number}-ml-dsa\n"
        ));
    }
    text.push_str("group both all w1 w2\nquorum both\n");
    text
}

/// Keys wait for both witnesses.
pub(super) fn witnessing() -> Witnessing {
    let witnessing = Witnessing {
        mode: WitnessMode::Require,
        policy: policy(),
    };
    assert!(matches!(witnessing.required(), Ok(Some(_))));
    witnessing
}

/// The policy, read.
#[allow(clippy::expect_used)]
pub(super) fn read_policy() -> WitnessPolicy {
    policy().parse().expect("a policy of constants")
}

/// How `world.json` shows a log.
pub(super) fn log_json(log: &Log) -> serde_json::Value {
    let mut shown = log.signer.json();
    let [ed25519, ml_dsa] = log.key.vkeys();
    shown["vkeys"] = json!([ed25519.to_string(), ml_dsa.to_string()]);
    shown["log_key"] = hex(log.key.to_cbor()).into();
    shown
}

/// How `world.json` shows the witnesses.
pub(super) fn witnesses_json() -> serde_json::Value {
    witnesses()
        .iter()
        .map(|witness| {
            let mut shown = witness.signer.json();
            shown["vkeys"] = json!(witness.vkeys.each_ref().map(Vkey::to_string));
            shown
        })
        .collect()
}

/// The entry that the vectors of the log are about: the issue of the ticket in `ticket/dataset.json`.
pub(super) fn issue_entry(world: &World) -> Entry {
    let claims = world.dataset_claims(super::tickets::EVIDENCE, &world.job_sealing);
    world.issued(&ticket::sign(&claims, &world.ticket))
}

/// The note of a checkpoint with all witnesses' lines.
pub(super) fn cosigned_note(log: &Log, checkpoint: &Checkpoint) -> String {
    let mut note = log.note(checkpoint, NOW);
    for witness in witnesses() {
        note.extend(witness.lines(checkpoint, NOW + 1));
    }
    note
}

/// The entry that begins a shard after this one.
pub(super) fn opened(before: &Checkpoint, entries: u64) -> Entry {
    Entry::new(ActId([0x7f; 16]), Kind::ShardOpened, at(0))
        .log(before.clone())
        .count(entries)
}
