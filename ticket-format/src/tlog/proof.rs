//! Proofs of inclusion as text (c2sp.org/tlog-proof).

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::names::decimal;
use super::{Hash, note};
use crate::limits;

/// The first line of a proof.
const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
/// Most hashes of an inclusion proof: a tree of 2^63 entries.
const PATH: usize = 63;

/// That an entry stands in a log: to be verified by a [`super::Verifier`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The entry's index in its shard.
    pub index: u64,
    /// Hashes from the leaf's sibling up.
    pub path: Vec<Hash>,
    /// The checkpoint, a signed note.
    pub checkpoint: String,
}

/// Text that is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAProof {
    /// Longer than 32 KiB.
    #[error("the proof is too long")]
    TooLong,
    /// Another version, or something else.
    #[error("the text does not begin with c2sp.org/tlog-proof@v1")]
    Header,
    /// Extra data, which nothing here makes.
    #[error("the proof has extra data")]
    Extra,
    /// The index.
    #[error("the proof's index is no decimal number")]
    Index,
    /// A hash.
    #[error("a hash of the proof is not 32 bytes in base64")]
    Hash,
    /// Too many hashes.
    #[error("the proof has more than 63 hashes")]
    TooManyHashes,
    /// No checkpoint follows.
    #[error("the proof has no checkpoint")]
    NoCheckpoint,
}

impl FromStr for Proof {
    type Err = NotAProof;

    fn from_str(text: &str) -> Result<Self, NotAProof> {
        let (index, path, checkpoint) = parts(text)?;
        Ok(Self {
            index,
            path,
            checkpoint: checkpoint.to_owned(),
        })
    }
}

/// Reads a proof: index, path and checkpoint, which is most of the text and stays where it is.
///
/// # Errors
/// [`NotAProof`].
pub fn parts(text: &str) -> Result<(u64, Vec<Hash>, &str), NotAProof> {
    if text.len() > limits::NOTE {
        return Err(NotAProof::TooLong);
    }
    let rest = text.strip_prefix(HEADER).ok_or(NotAProof::Header)?;
    if rest.starts_with("extra ") {
        return Err(NotAProof::Extra);
    }
    let (head, checkpoint) = rest.split_once("\n\n").ok_or(NotAProof::NoCheckpoint)?;
    let mut lines = head.split('\n');
    let index = lines
        .next()
        .and_then(|line| decimal(line.strip_prefix("index ")?));
    let index = index.ok_or(NotAProof::Index)?;
    let mut path = Vec::new();
    for line in lines {
        if path.len() == PATH {
            return Err(NotAProof::TooManyHashes);
        }
        path.push(note::hash(line).ok_or(NotAProof::Hash)?);
    }
    Ok((index, path, checkpoint))
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(self.index, &self.path, &self.checkpoint))
    }
}

/// The text of a proof, without copies of its parts.
#[must_use]
pub fn text(index: u64, path: &[Hash], checkpoint: &str) -> String {
    let mut out = String::with_capacity(64 + 45 * path.len() + checkpoint.len());
    out.push_str(HEADER);
    // Writing to a string does not fail.
    let _ = writeln!(out, "index {index}");
    for hash in path {
        out.push_str(&note::base64(hash));
        out.push('\n');
    }
    out.push('\n');
    out.push_str(checkpoint);
    out
}
