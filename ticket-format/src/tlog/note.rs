//! Signed notes (c2sp.org/signed-note) and verifier keys.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ML_DSA_44, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use super::names::decimal;
use super::{Checkpoint, Hash};

/// Bytes of an ML-DSA-44 public key (FIPS 204, table 2).
pub const ML_DSA_KEY: usize = 1_312;
/// Bytes of an ML-DSA-44 signature.
pub const ML_DSA_SIGNATURE: usize = 2_420;
/// Most signature lines that are looked at.
const LINES: usize = 64;
/// What a signature line begins with.
const DASH: &str = "\u{2014} ";

/// What a note's key signs, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VkeyKind {
    /// Ed25519 over the note's text (c2sp.org/signed-note).
    Ed25519 = 1,
    /// A witness's timestamped Ed25519 cosignature (c2sp.org/tlog-cosignature).
    CosignatureEd25519 = 4,
    /// A timestamped ML-DSA-44 cosignature (c2sp.org/tlog-cosignature).
    CosignatureMlDsa44 = 6,
}

/// A verifier key: `<name>+<key id>+<base64 of kind and key>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vkey {
    name: String,
    kind: VkeyKind,
    key: Vec<u8>,
}

/// Text that is no verifier key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAVkey {
    /// Not `<name>+<8 hexadecimal digits>+<base64>`.
    #[error("a verifier key reads <name>+<8 hexadecimal digits>+<base64>")]
    Shape,
    /// A kind other than 1, 4 and 6.
    #[error(
        "the verifier key's kind is none of Ed25519, Ed25519 cosignature, ML-DSA-44 cosignature"
    )]
    Kind,
    /// Of another length, or no point of the curve.
    #[error("the verifier key's bytes are no key of its kind")]
    Key,
    /// The id in the text is another one.
    #[error("the verifier key's id does not belong to its name and key: it was mistyped")]
    Id,
}

/// A signature that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl Vkey {
    /// A key under a name.
    ///
    /// # Errors
    /// [`NotAVkey`].
    pub fn new(name: &str, kind: VkeyKind, key: &[u8]) -> Result<Self, NotAVkey> {
        if !is_key_name(name) {
            return Err(NotAVkey::Shape);
        }
        let fits = match kind {
            VkeyKind::Ed25519 | VkeyKind::CosignatureEd25519 => ed25519(key).is_some(),
            VkeyKind::CosignatureMlDsa44 => key.len() == ML_DSA_KEY,
        };
        if !fits {
            return Err(NotAVkey::Key);
        }
        Ok(Self {
            name: name.to_owned(),
            kind,
            key: key.to_vec(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs, and how.
    #[must_use]
    pub fn kind(&self) -> VkeyKind {
        self.kind
    }

    /// The public key's bytes.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The first 4 bytes of SHA-256 of name, line end, kind and key.
    #[must_use]
    pub fn key_id(&self) -> [u8; 4] {
        key_id(&self.name, self.kind, &self.key)
    }

    /// Verifies a signature over a note's text; only an Ed25519 note key makes such.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify_text(&self, text: &str, signature: &[u8]) -> Result<(), BadSignature> {
        // rule: SIG-2
        match self.kind {
            VkeyKind::Ed25519 => verify_ed25519(&self.key, text.as_bytes(), signature),
            VkeyKind::CosignatureEd25519 | VkeyKind::CosignatureMlDsa44 => Err(BadSignature),
        }
    }

    /// Verifies what stands in a signature line of this key over a checkpoint; gives the time of a
    /// cosignature.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(
        &self,
        checkpoint: &Checkpoint,
        signature: &[u8],
    ) -> Result<Option<u64>, BadSignature> {
        // rule: SIG-2
        match self.kind {
            VkeyKind::Ed25519 => self
                .verify_text(&checkpoint.text(), signature)
                .map(|()| None),
            VkeyKind::CosignatureEd25519 => {
                let (time, signature) = timed(signature)?;
                let message = cosignature_v1(time, &checkpoint.text());
                verify_ed25519(&self.key, message.as_bytes(), signature).map(|()| Some(time))
            }
            VkeyKind::CosignatureMlDsa44 => {
                let (time, signature) = timed(signature)?;
                if signature.len() != ML_DSA_SIGNATURE {
                    return Err(BadSignature);
                }
                let shard = checkpoint.shard.to_string();
                let message =
                    cosigned_message(&self.name, time, &shard, checkpoint.size, &checkpoint.root);
                let key = UnparsedPublicKey::new(&ML_DSA_44, &self.key);
                key.verify(&message, signature).map_err(|_| BadSignature)?;
                Ok(Some(time))
            }
        }
    }
}

impl FromStr for Vkey {
    type Err = NotAVkey;

    fn from_str(text: &str) -> Result<Self, NotAVkey> {
        if text.len() > 4_096 {
            return Err(NotAVkey::Shape);
        }
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NotAVkey::Shape);
        };
        let bytes = BASE64.decode(key).map_err(|_| NotAVkey::Shape)?;
        let (kind, key) = bytes.split_first().ok_or(NotAVkey::Shape)?;
        let kind = match kind {
            1 => VkeyKind::Ed25519,
            4 => VkeyKind::CosignatureEd25519,
            6 => VkeyKind::CosignatureMlDsa44,
            _ => return Err(NotAVkey::Kind),
        };
        let vkey = Self::new(name, kind, key)?;
        if hex_id(vkey.key_id()) == id {
            Ok(vkey)
        } else {
            Err(NotAVkey::Id)
        }
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.kind as u8];
        bytes.extend_from_slice(&self.key);
        write!(
            f,
            "{}+{}+{}",
            self.name,
            hex_id(self.key_id()),
            BASE64.encode(bytes)
        )
    }
}

/// The id of a key under a name.
pub(super) fn key_id(name: &str, kind: VkeyKind, key: &[u8]) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', kind as u8])
        .chain_update(key)
        .finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

fn hex_id(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

/// Whether a text may be a key name: not empty, no white space, no plus sign.
pub(super) fn is_key_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !name.is_empty() && name.len() <= 255 && !name.contains(bad)
}

fn ed25519(key: &[u8]) -> Option<VerifyingKey> {
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    (!key.is_weak()).then_some(key)
}

fn verify_ed25519(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    // rule: SIG-2
    let key = ed25519(key).ok_or(BadSignature)?;
    let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
    key.verify_strict(message, &signature)
        .map_err(|_| BadSignature)
}

/// Splits a timestamped signature. Times are at most 2^63 - 1.
fn timed(bytes: &[u8]) -> Result<(u64, &[u8]), BadSignature> {
    let (time, signature) = bytes.split_first_chunk::<8>().ok_or(BadSignature)?;
    let time = u64::from_be_bytes(*time);
    if time > i64::MAX.unsigned_abs() {
        return Err(BadSignature);
    }
    Ok((time, signature))
}

/// What an Ed25519 cosignature is over.
pub(super) fn cosignature_v1(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// What an ML-DSA-44 cosignature is over: `cosigned_message` of the whole tree.
pub(super) fn cosigned_message(
    cosigner: &str,
    time: u64,
    origin: &str,
    size: u64,
    root: &Hash,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + 2 + cosigner.len() + origin.len() + 24 + 32);
    out.extend_from_slice(b"subtree/v1\n\0");
    // Names have at most 255 bytes.
    out.push(u8::try_from(cosigner.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(cosigner.as_bytes());
    out.extend_from_slice(&time.to_be_bytes());
    out.push(u8::try_from(origin.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(origin.as_bytes());
    out.extend_from_slice(&0_u64.to_be_bytes());
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(root);
    out
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine<'a> {
    /// The key's name.
    pub name: &'a str,
    /// The key's id.
    pub id: [u8; 4],
    /// What the key made.
    pub signature: Vec<u8>,
    /// The whole line, with its end.
    pub line: &'a str,
}

impl SignatureLine<'_> {
    /// Whether it claims to be of this key.
    #[must_use]
    pub fn is_of(&self, key: &Vkey) -> bool {
        self.name == key.name && self.id == key.key_id()
    }
}

/// A signature line of a key.
pub(super) fn line(name: &str, id: [u8; 4], signature: &[u8]) -> String {
    let mut bytes = id.to_vec();
    bytes.extend_from_slice(signature);
    format!("{DASH}{name} {}\n", BASE64.encode(bytes))
}

/// Text that is no signed note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANote {
    /// Longer than 32 KiB.
    #[error("the note is too long")]
    TooLong,
    /// A control character.
    #[error("the note has a control character")]
    Control,
    /// No empty line before signatures.
    #[error("the note has no signatures")]
    Unsigned,
    /// A signature line of another form.
    #[error("a signature line of the note is malformed")]
    Line,
    /// More lines than are looked at.
    #[error("the note has too many signatures")]
    TooMany,
    /// The text is no checkpoint.
    #[error("the note's text is no checkpoint: {0}")]
    Checkpoint(&'static str),
}

/// Splits a note into its text, with the last line end, and its signature lines.
///
/// # Errors
/// [`NotANote`].
pub fn split(note: &str) -> Result<(&str, Vec<SignatureLine<'_>>), NotANote> {
    if note.len() > crate::limits::NOTE {
        return Err(NotANote::TooLong);
    }
    if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NotANote::Control);
    }
    // From the end, but over whole bytes: the text is short, and what stands behind it long.
    let pairs = note.as_bytes().windows(2);
    let at = pairs.rev().position(|pair| pair == b"\n\n");
    let at = at.ok_or(NotANote::Unsigned)?;
    let at = note.len() - 2 - at;
    let (text, lines) = (&note[..=at], &note[at + 2..]);
    let lines = signature_lines(lines)?;
    if lines.is_empty() {
        return Err(NotANote::Unsigned);
    }
    Ok((text, lines))
}

/// Reads signature lines, as they stand below a note or come from a witness.
///
/// # Errors
/// [`NotANote`].
pub fn signature_lines(text: &str) -> Result<Vec<SignatureLine<'_>>, NotANote> {
    let mut lines = Vec::new();
    for line in text.split_inclusive('\n') {
        if lines.len() == LINES {
            return Err(NotANote::TooMany);
        }
        lines.push(signature_line(line).ok_or(NotANote::Line)?);
    }
    Ok(lines)
}

pub(super) fn signature_line(line: &str) -> Option<SignatureLine<'_>> {
    let rest = line.strip_prefix(DASH)?.strip_suffix('\n')?;
    let (name, signature) = rest.split_once(' ')?;
    let bytes = BASE64.decode(signature).ok()?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    let fits = is_key_name(name) && !signature.is_empty();
    fits.then(|| SignatureLine {
        name,
        id: *id,
        signature: signature.to_vec(),
        line,
    })
}

/// Reads a hash in base64.
pub(super) fn hash(text: &str) -> Option<Hash> {
    let bytes = BASE64.decode(text).ok()?;
    bytes.try_into().ok()
}

pub(super) fn base64(hash: &Hash) -> String {
    BASE64.encode(hash)
}

/// Reads the text of a checkpoint: three lines, and no more (TLOG-2).
pub(super) fn checkpoint(text: &str) -> Result<Checkpoint, NotANote> {
    // rule: TLOG-2
    let wrong = NotANote::Checkpoint;
    let text = text
        .strip_suffix('\n')
        .ok_or(wrong("its last line has no end"))?;
    let mut lines = text.split('\n');
    let (Some(shard), Some(size), Some(root), None) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return Err(wrong("it has not three lines"));
    };
    Ok(Checkpoint {
        shard: shard
            .parse()
            .map_err(|_| wrong("its origin is none of a shard"))?,
        size: decimal(size).ok_or(wrong("its size is no decimal number"))?,
        root: hash(root).ok_or(wrong("its root is not 32 bytes in base64"))?,
    })
}
