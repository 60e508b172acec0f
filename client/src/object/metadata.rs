//! What is stored beside a body: the wrapped data key and how to name it.
//!
//! On S3 it is user metadata (`x-amz-meta-postern-...`); in a file it is the header of a
//! [`container`](super::container).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ticket_format::cbor::{DecodeError, Reader, Writer};
use ticket_format::recovery::Recovery;

use super::s3ec::S3ecError;

/// What S3 allows for all user metadata of one object: the bytes of names and values together.
pub const MAX_USER_METADATA: usize = 2048;
/// The longest wrapped data key.
pub const MAX_WRAPPED_LEN: usize = 1400;
/// Most pairs in an encryption context.
pub const MAX_CONTEXT_PAIRS: usize = 16;
/// Longest key of an encryption context, in bytes; the shortest has one.
pub const MAX_CONTEXT_KEY: usize = 64;
/// Longest value of an encryption context, in bytes.
pub const MAX_CONTEXT_VALUE: usize = 1024;
/// The pair of the encryption context that holds the object's canonical logical name.
pub const NAME: &str = "name";

const FORMAT: &str = "postern-format";
const DEK: &str = "postern-dek";
const KEK: &str = "postern-kek";
const CONTEXT: &str = "postern-context";
/// What every name of ours begins with.
const OURS: &str = "postern-";
/// The only format so far.
const FORMAT_1: &str = "1";

/// An encryption context: ordered pairs of text that the wrap binds.
pub type Context = BTreeMap<String, String>;

/// The metadata of one encrypted object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMetadata {
    /// The wrapped data key; opaque here.
    pub wrapped: Vec<u8>,
    /// Version of the KEK that wraps it: for people only, the wrap itself says which KEK.
    pub kek_version: u64,
    /// The pairs of the encryption context that are stored. Without a [`NAME`] among them the
    /// name is that of the place where the object lies (`OBJ-11`).
    pub stored_context: Context,
    /// The data key for recovery recipients (RCP-1). In a file they stand in its header; in S3, whose metadata
    /// they do not fit, in an object beside it ([`recovery`](super::recovery)).
    pub recoveries: Vec<Recovery>,
}

/// Why metadata could not be written or was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// There is no `postern-format`.
    #[error("the object was not encrypted by postern: it has no {FORMAT} in its metadata")]
    NotEncrypted,
    /// Another `postern-format` than 1.
    #[error("the object has an unknown format; a newer postern may read it")]
    UnknownFormat,
    /// A name beginning with `postern-` that format 1 does not have.
    #[error("the object's metadata has a name that its format does not know")]
    UnknownName,
    /// The same name twice.
    #[error("{0} stands twice in the object's metadata")]
    Doubled(&'static str),
    /// A name is missing.
    #[error("{0} is missing in the object's metadata")]
    Missing(&'static str),
    /// A value is not of its form.
    #[error("{0} in the object's metadata is damaged")]
    Malformed(&'static str),
    /// The wrapped data key is empty or longer than any is.
    #[error("the wrapped data key has {0} bytes, it must have 1 to {MAX_WRAPPED_LEN}")]
    WrappedLength(usize),
    /// The encryption context passes a bound.
    #[error(
        "the encryption context is over a limit: at most {MAX_CONTEXT_PAIRS} pairs, keys of 1 to \
         {MAX_CONTEXT_KEY} bytes, values of at most {MAX_CONTEXT_VALUE} bytes"
    )]
    ContextLimit,
    /// The encoded context is not the one deterministic encoding of a text map within bounds.
    #[error("the object's encryption context is damaged: {0}")]
    Context(DecodeError),
    /// It is an object of the S3 Encryption Client that is refused.
    #[error(transparent)]
    S3ec(S3ecError),
    /// The metadata does not fit S3's limit.
    #[error(
        "the object's metadata is {over} bytes over the {MAX_USER_METADATA} that S3 allows: \
         use a shorter encryption context or name"
    )]
    TooLarge {
        /// Bytes over the limit.
        over: usize,
    },
}

impl ObjectMetadata {
    /// The user metadata to store: names (without `x-amz-meta-`) and values.
    ///
    /// # Errors
    /// [`MetadataError::TooLarge`], [`MetadataError::ContextLimit`],
    /// [`MetadataError::WrappedLength`].
    // rule: OBJ-10
    pub fn encode(&self) -> Result<Vec<(&'static str, String)>, MetadataError> {
        check_wrapped(&self.wrapped)?;
        check_context(&self.stored_context)?;
        let mut pairs = vec![
            (FORMAT, FORMAT_1.to_owned()),
            (DEK, URL_SAFE_NO_PAD.encode(&self.wrapped)),
            (KEK, self.kek_version.to_string()),
        ];
        if !self.stored_context.is_empty() {
            let mut writer = Writer::new();
            writer.text_map(&self.stored_context);
            pairs.push((CONTEXT, URL_SAFE_NO_PAD.encode(writer.into_bytes())));
        }
        let len: usize = pairs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        match len.checked_sub(MAX_USER_METADATA) {
            None | Some(0) => Ok(pairs),
            Some(over) => Err(MetadataError::TooLarge { over }),
        }
    }

    /// Reads user metadata. Names that do not begin with `postern-` are others' business.
    ///
    /// # Errors
    /// All but [`MetadataError::TooLarge`].
    // rule: OBJ-10
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, MetadataError> {
        let [mut format, mut dek, mut kek, mut context] = [None; 4];
        for (name, value) in pairs {
            let name = name.to_ascii_lowercase();
            let (known, slot) = match name.as_str() {
                FORMAT => (FORMAT, &mut format),
                DEK => (DEK, &mut dek),
                KEK => (KEK, &mut kek),
                CONTEXT => (CONTEXT, &mut context),
                other if is_ours(other) => return Err(MetadataError::UnknownName),
                _ => continue,
            };
            if value.len() > MAX_USER_METADATA {
                return Err(MetadataError::Malformed(known));
            }
            if slot.replace(value).is_some() {
                return Err(MetadataError::Doubled(known));
            }
        }
        match format {
            None => return Err(MetadataError::NotEncrypted),
            Some(FORMAT_1) => {}
            Some(_) => return Err(MetadataError::UnknownFormat),
        }
        let wrapped = decode(DEK, dek.ok_or(MetadataError::Missing(DEK))?)?;
        check_wrapped(&wrapped)?;
        let kek_version = decimal(kek.ok_or(MetadataError::Missing(KEK))?)?;
        let stored_context = match context {
            None => Context::new(),
            Some(text) => {
                let encoded = decode(CONTEXT, text)?;
                let mut reader = Reader::new(&encoded);
                let pairs = read_context(&mut reader).map_err(MetadataError::Context)?;
                reader.finish().map_err(MetadataError::Context)?;
                if pairs.is_empty() {
                    return Err(MetadataError::Malformed(CONTEXT));
                }
                pairs
            }
        };
        Ok(Self {
            wrapped,
            kek_version,
            stored_context,
            recoveries: Vec::new(),
        })
    }

    /// The whole encryption context of an object that was asked for as `asked`.
    ///
    /// # Errors
    /// [`NameMismatch`] if the object says that it is another one.
    // rule: OBJ-11
    pub fn context_for(&self, asked: &str) -> Result<Context, NameMismatch> {
        let mut context = self.stored_context.clone();
        let name = context
            .entry(NAME.to_owned())
            .or_insert_with(|| asked.to_owned());
        if name == asked {
            Ok(context)
        } else {
            Err(NameMismatch {
                stored: name.clone(),
                asked: asked.to_owned(),
            })
        }
    }
}

/// The object says that it is another one than was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the object was encrypted as {stored:?}, but was asked for as {asked:?}")]
pub struct NameMismatch {
    /// The name in the object's metadata.
    pub stored: String,
    /// The name that the caller expects.
    pub asked: String,
}

/// Whether a name of user metadata is this format's, whether it knows it or not.
// rule: OBJ-10
#[must_use]
pub fn is_ours(name: &str) -> bool {
    let prefix = name.get(..OURS.len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(OURS))
}

pub(super) fn check_wrapped(wrapped: &[u8]) -> Result<(), MetadataError> {
    match wrapped.len() {
        1..=MAX_WRAPPED_LEN => Ok(()),
        len => Err(MetadataError::WrappedLength(len)),
    }
}

/// Checks the bounds of an encryption context.
///
/// # Errors
/// [`MetadataError::ContextLimit`].
pub fn check_context(context: &Context) -> Result<(), MetadataError> {
    let fits = |(key, value): (&String, &String)| {
        (1..=MAX_CONTEXT_KEY).contains(&key.len()) && value.len() <= MAX_CONTEXT_VALUE
    };
    if context.len() <= MAX_CONTEXT_PAIRS && context.iter().all(fits) {
        Ok(())
    } else {
        Err(MetadataError::ContextLimit)
    }
}

pub(super) fn read_context(reader: &mut Reader<'_>) -> Result<Context, DecodeError> {
    reader.text_map(MAX_CONTEXT_PAIRS, MAX_CONTEXT_KEY, MAX_CONTEXT_VALUE)
}

fn decode(name: &'static str, text: &str) -> Result<Vec<u8>, MetadataError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| MetadataError::Malformed(name))
}

/// Decimal digits without sign or leading zero.
fn decimal(text: &str) -> Result<u64, MetadataError> {
    let number: u64 = text.parse().map_err(|_| MetadataError::Malformed(KEK))?;
    if number.to_string() == text {
        Ok(number)
    } else {
        Err(MetadataError::Malformed(KEK))
    }
}
