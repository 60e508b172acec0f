//! Checkpoints (c2sp.org/tlog-checkpoint) and a log's keys (TLOG-2).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{KeyPair as _, ML_DSA_44_SIGNING, PqdsaKeyPair};
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use super::note::{
    self, BadSignature, ML_DSA_KEY, ML_DSA_SIGNATURE, NotANote, NotAVkey, Vkey, VkeyKind,
};
use super::{Hash, Origin, ShardName};
use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::time::Timestamp;

/// A shard's size and root.
///
/// `checkpoint = [tstr .size (1..221), uint, hash]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which shard.
    pub shard: ShardName,
    /// How many entries it has.
    pub size: u64,
    /// Root of their tree.
    pub root: Hash,
}

impl Checkpoint {
    /// The note's text: origin, size, root, each on a line.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.shard,
            self.size,
            note::base64(&self.root)
        )
    }

    /// Reads a note's text.
    ///
    /// # Errors
    /// [`NotANote`].
    pub fn from_text(text: &str) -> Result<Self, NotANote> {
        note::checkpoint(text)
    }

    /// Reads the checkpoint of a note without looking at its signatures.
    ///
    /// # Errors
    /// [`NotANote`].
    pub fn of_note_unverified(text: &str) -> Result<Self, NotANote> {
        note::split(text).and_then(|(text, _)| note::checkpoint(text))
    }
}

impl Encode for Checkpoint {
    fn encode(&self, writer: &mut Writer) {
        writer
            .array(3)
            .text(&self.shard.to_string())
            .uint(self.size)
            .bytes(&self.root);
    }
}

impl Decode for Checkpoint {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(3..=3)?;
        let shard = reader.text(1..=221)?;
        Ok(Self {
            shard: shard
                .parse()
                .map_err(|_| DecodeError::OutOfRange("shard"))?,
            size: reader.uint()?,
            root: reader.array_of()?,
        })
    }
}

/// A checkpoint whose log's signatures were verified, or made here. Clones are cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Arc<Checkpoint>,
    time: Timestamp,
    note: Arc<str>,
}

impl SignedCheckpoint {
    /// Shard, size, root.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// When the log signed it.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The whole note.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// With cosignature lines added, each with its line end. A line that is there already stays once; text
    /// that is no signature line is left out, for it would make the note unreadable.
    #[must_use]
    pub fn with_cosignatures<'a>(&self, lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut note = self.note.to_string();
        for line in lines {
            let there = note.split_inclusive('\n').any(|other| other == line);
            if !there && note::signature_line(line).is_some() {
                note.push_str(line);
            }
        }
        Self {
            note: note.into(),
            ..self.clone()
        }
    }
}

impl fmt::Debug for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checkpoint { shard, size, .. } = self.checkpoint();
        write!(f, "SignedCheckpoint({shard}, {size})")
    }
}

/// Why a note is no checkpoint of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not of the form.
    #[error(transparent)]
    Note(#[from] NotANote),
    /// Another log's.
    #[error("the checkpoint is of another log")]
    OtherLog,
    /// One of the two is not there (TLOG-2).
    #[error("the checkpoint lacks the log's {0} signature")]
    Missing(&'static str),
    /// One of the two does not verify.
    #[error("the checkpoint's {0} signature does not verify")]
    Bad(&'static str),
}

/// The public keys of a log.
///
/// `log-key = [tstr .size (1..200), ed-key, bstr .size 1312]`
#[derive(Clone, PartialEq, Eq)]
pub struct LogKey {
    /// The log.
    pub origin: Origin,
    ed25519: [u8; 32],
    ml_dsa: Arc<[u8; ML_DSA_KEY]>,
}

impl LogKey {
    /// The keys of a log.
    ///
    /// # Errors
    /// The Ed25519 key is no point of the curve, or of small order.
    pub fn new(
        origin: Origin,
        ed25519: [u8; 32],
        ml_dsa: [u8; ML_DSA_KEY],
    ) -> Result<Self, NotAVkey> {
        Vkey::new(origin.as_str(), VkeyKind::Ed25519, &ed25519)?;
        Ok(Self {
            origin,
            ed25519,
            ml_dsa: Arc::new(ml_dsa),
        })
    }

    /// From two verifier keys that name the log (not one of its shards), Ed25519 first.
    ///
    /// # Errors
    /// [`NotAVkey`].
    pub fn from_vkeys(ed25519: &str, ml_dsa: &str) -> Result<Self, NotAVkey> {
        let (ed25519, ml_dsa): (Vkey, Vkey) = (ed25519.parse()?, ml_dsa.parse()?);
        let kinds = (VkeyKind::Ed25519, VkeyKind::CosignatureMlDsa44);
        if (ed25519.kind(), ml_dsa.kind()) != kinds {
            return Err(NotAVkey::Kind);
        }
        if ed25519.name() != ml_dsa.name() {
            return Err(NotAVkey::Shape);
        }
        let origin = ed25519.name().parse().map_err(|_| NotAVkey::Shape)?;
        let key = |bytes: &[u8]| bytes.try_into().map_err(|_| NotAVkey::Key);
        let first = ed25519.key().try_into().map_err(|_| NotAVkey::Key)?;
        Self::new(origin, first, key(ml_dsa.key())?)
    }

    /// The two keys as they stand in files, named after the log.
    #[must_use]
    pub fn vkeys(&self) -> [Vkey; 2] {
        self.vkeys_named(self.origin.as_str())
    }

    /// The two keys that sign a shard's checkpoints, named after the shard.
    #[must_use]
    pub fn shard_vkeys(&self, shard: u64) -> [Vkey; 2] {
        self.vkeys_named(&self.origin.shard(shard).to_string())
    }

    fn vkeys_named(&self, name: &str) -> [Vkey; 2] {
        let key = |kind, key: &[u8]| {
            Vkey::new(name, kind, key)
                .unwrap_or_else(|_| unreachable!("it was checked when it was made"))
        };
        [
            key(VkeyKind::Ed25519, &self.ed25519),
            key(VkeyKind::CosignatureMlDsa44, &self.ml_dsa[..]),
        ]
    }

    /// Its Ed25519 key.
    #[must_use]
    pub fn ed25519(&self) -> &[u8; 32] {
        &self.ed25519
    }

    /// Its ML-DSA-44 key.
    #[must_use]
    pub fn ml_dsa(&self) -> &[u8; ML_DSA_KEY] {
        &self.ml_dsa
    }

    /// Verifies both of the log's signatures on a checkpoint. Other lines are not looked at.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn verify(&self, text: &str) -> Result<SignedCheckpoint, CheckpointError> {
        // rule: TLOG-2
        let (body, lines) = note::split(text)?;
        let checkpoint = note::checkpoint(body)?;
        if checkpoint.shard.origin != self.origin {
            return Err(CheckpointError::OtherLog);
        }
        let [ed25519, ml_dsa] = self.shard_vkeys(checkpoint.shard.number);
        let verify = |key: &Vkey, word| {
            let mut time = Err(CheckpointError::Missing(word));
            // Of a known key every line must hold.
            for line in lines.iter().filter(|line| line.is_of(key)) {
                let verified = key.verify(&checkpoint, &line.signature);
                time = Ok(verified.map_err(|BadSignature| CheckpointError::Bad(word))?);
            }
            time
        };
        verify(&ed25519, "Ed25519")?;
        let time = verify(&ml_dsa, "ML-DSA-44")?.unwrap_or_default();
        Ok(SignedCheckpoint {
            checkpoint: Arc::new(checkpoint),
            time: Timestamp::from_seconds(time),
            note: text.into(),
        })
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKey({})", self.origin)
    }
}

impl Encode for LogKey {
    fn encode(&self, writer: &mut Writer) {
        writer
            .array(3)
            .text(self.origin.as_str())
            .bytes(&self.ed25519)
            .bytes(&self.ml_dsa[..]);
    }
}

impl Decode for LogKey {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(3..=3)?;
        let origin = reader.text(1..=super::names::ORIGIN)?;
        let origin = origin
            .parse()
            .map_err(|_| DecodeError::OutOfRange("origin"))?;
        let (ed25519, ml_dsa) = (reader.array_of()?, reader.array_of()?);
        Self::new(origin, ed25519, ml_dsa).map_err(|_| DecodeError::OutOfRange("log key"))
    }
}

/// The secret keys of a log.
pub struct LogSecret {
    key: LogKey,
    ed25519: SigningKey,
    ml_dsa: PqdsaKeyPair,
}

/// Seeds that make no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seed makes no ML-DSA-44 key")]
pub struct BadSeed;

impl LogSecret {
    /// From two seeds of 32 bytes; the caller's copies are the caller's to erase.
    ///
    /// # Errors
    /// [`BadSeed`].
    pub fn from_seeds(
        origin: Origin,
        ed25519: &[u8; 32],
        ml_dsa: &[u8; 32],
    ) -> Result<Self, BadSeed> {
        let ed25519 = SigningKey::from_bytes(ed25519);
        let ml_dsa = ml_dsa_pair(ml_dsa)?;
        let public = ml_dsa
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| BadSeed)?;
        let key =
            LogKey::new(origin, ed25519.verifying_key().to_bytes(), public).map_err(|_| BadSeed)?;
        Ok(Self {
            key,
            ed25519,
            ml_dsa,
        })
    }

    /// The public keys.
    #[must_use]
    pub fn key(&self) -> &LogKey {
        &self.key
    }

    /// Signs a checkpoint of this log, with both keys.
    ///
    /// # Panics
    /// When the checkpoint is of another log.
    #[must_use]
    pub fn sign(&self, checkpoint: &Checkpoint, time: Timestamp) -> SignedCheckpoint {
        // rule: TLOG-2
        assert_eq!(
            checkpoint.shard.origin, self.key.origin,
            "a log signs its own checkpoints"
        );
        let (name, text) = (checkpoint.shard.to_string(), checkpoint.text());
        let signature = self.ed25519.sign(text.as_bytes()).to_bytes();
        let id = note::key_id(&name, VkeyKind::Ed25519, &self.key.ed25519);
        let first = note::line(&name, id, &signature);
        let message = whole_tree(&name, time, checkpoint);
        let id = note::key_id(&name, VkeyKind::CosignatureMlDsa44, &self.key.ml_dsa[..]);
        let second = note::line(&name, id, &timed_ml_dsa(&self.ml_dsa, time, &message));
        SignedCheckpoint {
            checkpoint: Arc::new(checkpoint.clone()),
            time,
            note: format!("{text}\n{first}{second}").into(),
        }
    }
}

impl fmt::Debug for LogSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogSecret({}, ..)", self.key.origin)
    }
}

/// The two keys of a witness, under its name.
pub struct WitnessSecret {
    name: String,
    ed25519: SigningKey,
    ml_dsa: PqdsaKeyPair,
    vkeys: [Vkey; 2],
}

impl WitnessSecret {
    /// From two seeds of 32 bytes.
    ///
    /// # Errors
    /// [`NotAVkey`]: the name is none, or a seed makes no key.
    pub fn from_seeds(name: &str, ed25519: &[u8; 32], ml_dsa: &[u8; 32]) -> Result<Self, NotAVkey> {
        let ed25519 = SigningKey::from_bytes(ed25519);
        let ml_dsa = ml_dsa_pair(ml_dsa).map_err(|BadSeed| NotAVkey::Key)?;
        let vkeys = [
            Vkey::new(
                name,
                VkeyKind::CosignatureEd25519,
                &ed25519.verifying_key().to_bytes(),
            )?,
            Vkey::new(
                name,
                VkeyKind::CosignatureMlDsa44,
                ml_dsa.public_key().as_ref(),
            )?,
        ];
        Ok(Self {
            name: name.to_owned(),
            ed25519,
            ml_dsa,
            vkeys,
        })
    }

    /// Its verifier keys: Ed25519, ML-DSA-44.
    #[must_use]
    pub fn vkeys(&self) -> &[Vkey; 2] {
        &self.vkeys
    }

    /// Its two signature lines on a checkpoint (TLOG-9). What it says thereby, the caller answers for.
    #[must_use]
    pub fn cosign(&self, checkpoint: &Checkpoint, time: Timestamp) -> String {
        // rule: TLOG-9
        let message = note::cosignature_v1(time.seconds(), &checkpoint.text());
        let mut first = time.seconds().to_be_bytes().to_vec();
        first.extend_from_slice(&self.ed25519.sign(message.as_bytes()).to_bytes());
        let message = whole_tree(&self.name, time, checkpoint);
        let second = timed_ml_dsa(&self.ml_dsa, time, &message);
        let [ed25519, ml_dsa] = &self.vkeys;
        let mut lines = note::line(&self.name, ed25519.key_id(), &first);
        lines.push_str(&note::line(&self.name, ml_dsa.key_id(), &second));
        lines
    }
}

impl fmt::Debug for WitnessSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessSecret({}, ..)", self.name)
    }
}

fn ml_dsa_pair(seed: &[u8; 32]) -> Result<PqdsaKeyPair, BadSeed> {
    let seed = Zeroizing::new(*seed);
    PqdsaKeyPair::from_seed(&ML_DSA_44_SIGNING, &seed[..]).map_err(|_| BadSeed)
}

/// What a cosigner's ML-DSA-44 key signs of a checkpoint.
fn whole_tree(cosigner: &str, time: Timestamp, checkpoint: &Checkpoint) -> Vec<u8> {
    let shard = checkpoint.shard.to_string();
    let Checkpoint { size, root, .. } = checkpoint;
    note::cosigned_message(cosigner, time.seconds(), &shard, *size, root)
}

/// `timestamped_signature` of c2sp.org/tlog-cosignature.
fn timed_ml_dsa(key: &PqdsaKeyPair, time: Timestamp, message: &[u8]) -> Vec<u8> {
    let mut out = time.seconds().to_be_bytes().to_vec();
    out.resize(8 + ML_DSA_SIGNATURE, 0);
    // It fails only where the buffer is too small.
    let signed = key.sign(message, &mut out[8..]);
    assert!(signed.is_ok(), "ML-DSA-44 signs any message");
    out
}
