//! What is stored beside a body of the S3 Encryption Client.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ticket_format::ids::DatasetId;
use ticket_format::wrapped::Wrapped;

use super::context::{ALGORITHM, DATA_KEY, from_json, of_wrap, to_json, to_write};
use super::gcm::NONCE_LEN;
use crate::door::blob::Blob;
use crate::object::metadata::{
    Context, MAX_USER_METADATA, MetadataError, NAME, NameMismatch, is_ours,
};

/// Bytes of a message id.
pub const MESSAGE_ID_LEN: usize = 28;
/// Bytes of a commitment.
pub const COMMITMENT_LEN: usize = 28;

const V3: [&str; 7] = [
    "x-amz-c", "x-amz-w", "x-amz-3", "x-amz-t", "x-amz-d", "x-amz-i", "x-amz-m",
];
const V2: [&str; 6] = [
    "x-amz-cek-alg",
    "x-amz-wrap-alg",
    "x-amz-key-v2",
    "x-amz-matdesc",
    "x-amz-iv",
    "x-amz-tag-len",
];
/// The data key of version 1, and the mark of an instruction file.
const REFUSED: [&str; 2] = ["x-amz-key", "x-amz-crypto-instr-file"];
const ALGORITHM_V3: &str = "115";
const ALGORITHM_V2: &str = "AES/GCM/NoPadding";
const WRAP_V3: &str = "12";
const WRAP_V2: &str = "kms+context";
const TAG_BITS: &str = "128";

/// How a body is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// With a key of its own, to whose DEK it is committed.
    V3 {
        /// Salt of the derivation.
        message_id: [u8; MESSAGE_ID_LEN],
        /// What the DEK must derive to.
        commitment: [u8; COMMITMENT_LEN],
    },
    /// With the DEK itself, without a commitment.
    V2 {
        /// The nonce.
        nonce: [u8; NONCE_LEN],
    },
}

/// The metadata of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3ecMetadata {
    /// How the body is encrypted.
    pub version: Version,
    /// The dataset, as the blob says.
    pub dataset: DatasetId,
    /// The wrapped DEK.
    pub wrapped: Vec<u8>,
    /// The encryption context that is stored: the wrap's own but for the door's pair.
    pub stored: Context,
}

/// Why metadata of the S3 Encryption Client could not be written or was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum S3ecError {
    /// Names of several formats or versions.
    #[error("names of several formats stand in the object's metadata; only one can be meant")]
    Mixed,
    /// A name twice.
    #[error("{0} stands twice in the object's metadata")]
    Doubled(&'static str),
    /// A name is missing.
    #[error("{0} is missing in the object's metadata")]
    Missing(&'static str),
    /// A value is not of its form.
    #[error("{0} in the object's metadata is damaged")]
    Malformed(&'static str),
    /// Version 1, an old algorithm, or a wrap of another kind.
    #[error("{0} in the object's metadata names an algorithm that is never accepted")]
    Algorithm(&'static str),
    /// The wrapped DEK stands elsewhere.
    #[error(
        "the object has no data key of its own; one in an instruction file is not read, because anybody who can \
         write to the bucket can exchange it"
    )]
    InstructionFile,
    /// The DEK was made for another algorithm.
    #[error("the object's data key was not made for the algorithm that its metadata name")]
    OtherAlgorithm,
    /// Another KMS wrapped the DEK.
    #[error("the object's data key was not wrapped by postern, but by another key service")]
    NotOurs,
    /// No data key of 32 bytes.
    #[error("the object's data key was made for something else than objects")]
    Form,
    /// A producer made the DEK.
    #[error(
        "the object's data key was made by a producer, whose signature is over another kind of object"
    )]
    Producer,
    /// No commitment, and the reader does not say that this will do.
    #[error(
        "the object is of the S3 Encryption Client's version 2, which is not committed to its data key"
    )]
    Uncommitted,
    /// The reader names the object, and nothing binds the object to a name.
    #[error("the object is not bound to any name, so nobody can say whether it is {0:?}")]
    Unnamed(String),
    /// A pair that cannot be in a context.
    #[error(
        "the pair {0:?} cannot be in the context of such an object: kms, key-pair, kms_cmk_id and aws:x-amz-cek-alg \
         are taken, and what is written must be ASCII"
    )]
    Pair(String),
    /// The context passes a bound.
    #[error(
        "the encryption context is over a limit: with the two pairs that are added at most 16 pairs, keys of 1 to 64 \
         bytes, values of at most 1024"
    )]
    ContextLimit,
    /// The metadata do not fit S3's limit.
    #[error(
        "the object's metadata are {0} bytes over the 2048 that S3 allows: use a shorter context"
    )]
    TooLarge(usize),
}

/// The context of a new object: its stored pairs and what its DEK is wrapped with.
///
/// # Errors
/// [`S3ecError::Pair`], [`S3ecError::ContextLimit`].
// rule: AMZ-7
pub fn new_context(pairs: Context, name: Option<String>) -> Result<(Context, Context), S3ecError> {
    let mut pairs = pairs;
    if let Some(name) = name {
        pairs.insert(NAME.to_owned(), name);
    }
    let stored = to_write(pairs, ALGORITHM_V3)?;
    let whole = of_wrap(&stored)?;
    Ok((stored, whole))
}

impl S3ecMetadata {
    /// The user metadata to store, of version 3: names (without `x-amz-meta-`) and values.
    ///
    /// # Errors
    /// [`S3ecError::TooLarge`]; [`S3ecError::Uncommitted`] for version 2, which is not written.
    // rule: AMZ-4
    pub fn encode(&self) -> Result<Vec<(&'static str, String)>, S3ecError> {
        let Version::V3 {
            message_id,
            commitment,
        } = &self.version
        else {
            return Err(S3ecError::Uncommitted);
        };
        let blob = Blob {
            dataset: self.dataset,
            wrapped: self.wrapped.clone(),
            form: DATA_KEY.to_owned(),
            sealed: None,
        };
        let [c, w, key, t, d, i, _] = V3;
        let pairs = vec![
            (c, ALGORITHM_V3.to_owned()),
            (w, WRAP_V3.to_owned()),
            (key, STANDARD.encode(blob.to_bytes())),
            (t, to_json(&self.stored)),
            (d, STANDARD.encode(commitment)),
            (i, STANDARD.encode(message_id)),
        ];
        let len: usize = pairs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        match len.checked_sub(MAX_USER_METADATA) {
            None | Some(0) => Ok(pairs),
            Some(over) => Err(S3ecError::TooLarge(over)),
        }
    }

    /// Reads user metadata; none where no name is of this format.
    ///
    /// # Errors
    /// All but [`S3ecError::Unnamed`] and [`S3ecError::TooLarge`].
    // rule: AMZ-4
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Option<Self>, S3ecError> {
        let mut found = Found::default();
        let mut ours = false;
        for (name, value) in pairs {
            ours |= is_ours(name);
            if let Some(known) = known(name) {
                if value.len() > MAX_USER_METADATA {
                    return Err(S3ecError::Malformed(known));
                }
                found.add(known, value)?;
            }
        }
        if found.0.is_empty() {
            return Ok(None);
        }
        let v3 = found.has(&V3);
        if ours || v3 && found.has(&V2) {
            return Err(S3ecError::Mixed);
        }
        // rule: AMZ-6
        if found.0.iter().any(|(name, _)| *name == REFUSED[1]) {
            return Err(S3ecError::InstructionFile);
        }
        // rule: AMZ-3
        if found.0.iter().any(|(name, _)| *name == REFUSED[0]) {
            return Err(S3ecError::Algorithm(REFUSED[0]));
        }
        if v3 {
            found.version_3()
        } else {
            found.version_2()
        }
        .map(Some)
    }

    /// The whole encryption context of the wrap, of an object that was asked for as `named` or else lies at `place`.
    ///
    /// # Errors
    /// The object is bound to another name, or to none and the caller gave one; a pair that cannot be.
    // rule: AMZ-5
    // rule: AMZ-7
    pub fn context_for(
        &self,
        place: Option<&str>,
        named: Option<&str>,
    ) -> Result<Context, NotThisOne> {
        let whole = of_wrap(&self.stored).map_err(NotThisOne::Refused)?;
        match (self.stored.get(NAME), named.or(place)) {
            (None, _) => match named {
                Some(named) => Err(NotThisOne::Refused(S3ecError::Unnamed(named.to_owned()))),
                None => Ok(whole),
            },
            (Some(stored), Some(asked)) if stored == asked => Ok(whole),
            (Some(stored), asked) => Err(NotThisOne::Name(NameMismatch {
                stored: stored.clone(),
                asked: asked.unwrap_or_default().to_owned(),
            })),
        }
    }
}

/// Why an object is not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotThisOne {
    /// It is bound to another name.
    Name(NameMismatch),
    /// Its context cannot be compared.
    Refused(S3ecError),
}

impl From<S3ecError> for MetadataError {
    fn from(error: S3ecError) -> Self {
        match error {
            S3ecError::ContextLimit => Self::ContextLimit,
            S3ecError::TooLarge(over) => Self::TooLarge { over },
            other => Self::S3ec(other),
        }
    }
}

fn known(name: &str) -> Option<&'static str> {
    let mut all = V3.iter().chain(&V2).chain(&REFUSED);
    all.find(|known| known.eq_ignore_ascii_case(name)).copied()
}

#[derive(Default)]
struct Found<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Found<'a> {
    fn add(&mut self, name: &'static str, value: &'a str) -> Result<(), S3ecError> {
        if self.0.iter().any(|(other, _)| *other == name) {
            return Err(S3ecError::Doubled(name));
        }
        self.0.push((name, value));
        Ok(())
    }

    fn has(&self, names: &[&str]) -> bool {
        self.0.iter().any(|(name, _)| names.contains(name))
    }

    fn get(&self, name: &'static str) -> Result<&'a str, S3ecError> {
        let found = self.0.iter().find(|(other, _)| *other == name);
        found
            .map(|(_, value)| *value)
            .ok_or(S3ecError::Missing(name))
    }

    fn bytes<const N: usize>(&self, name: &'static str) -> Result<[u8; N], S3ecError> {
        let bytes = STANDARD.decode(self.get(name)?).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(S3ecError::Malformed(name))
    }

    /// Demands the one value that is accepted.
    fn is(&self, name: &'static str, value: &str) -> Result<(), S3ecError> {
        if self.get(name)? == value {
            Ok(())
        } else {
            Err(S3ecError::Algorithm(name))
        }
    }

    fn version_3(&self) -> Result<S3ecMetadata, S3ecError> {
        let [c, w, key, t, d, i, _] = V3;
        self.is(c, ALGORITHM_V3)?;
        self.data_key_is_here(key)?;
        self.is(w, WRAP_V3)?;
        let version = Version::V3 {
            message_id: self.bytes(i)?,
            commitment: self.bytes(d)?,
        };
        self.finish(version, key, t, ALGORITHM_V3)
    }

    fn version_2(&self) -> Result<S3ecMetadata, S3ecError> {
        let [c, w, key, t, i, tag] = V2;
        self.is(c, ALGORITHM_V2)?;
        self.data_key_is_here(key)?;
        self.is(w, WRAP_V2)?;
        self.is(tag, TAG_BITS)?;
        let nonce = self.bytes(i)?;
        self.finish(Version::V2 { nonce }, key, t, ALGORITHM_V2)
    }

    // rule: AMZ-6
    fn data_key_is_here(&self, key: &'static str) -> Result<(), S3ecError> {
        self.get(key)
            .map(drop)
            .map_err(|_| S3ecError::InstructionFile)
    }

    fn finish(
        &self,
        version: Version,
        key: &'static str,
        context: &'static str,
        algorithm: &str,
    ) -> Result<S3ecMetadata, S3ecError> {
        let stored = from_json(self.get(context)?).ok_or(S3ecError::Malformed(context))?;
        // rule: AMZ-5
        if stored.get(ALGORITHM).map(String::as_str) != Some(algorithm) {
            return Err(S3ecError::OtherAlgorithm);
        }
        of_wrap(&stored)?;
        let blob = STANDARD.decode(self.get(key)?);
        let blob = blob.map_err(|_| S3ecError::Malformed(key))?;
        let blob = Blob::parse(&blob).map_err(|_| S3ecError::NotOurs)?;
        if blob.form != DATA_KEY || blob.sealed.is_some() {
            return Err(S3ecError::Form);
        }
        match Wrapped::parse(&blob.wrapped) {
            Ok(Wrapped::Local { header, .. }) if header.dataset == blob.dataset => {}
            // rule: AMZ-10
            Ok(Wrapped::Public { .. }) => return Err(S3ecError::Producer),
            _ => return Err(S3ecError::Malformed(key)),
        }
        Ok(S3ecMetadata {
            version,
            dataset: blob.dataset,
            wrapped: blob.wrapped,
            stored,
        })
    }
}
