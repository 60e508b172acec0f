//! Encryption context: an ordered map of text to text, bound to a wrapped DEK as associated data.

use std::collections::BTreeMap;

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::limits::{PAIR_KEY, PAIR_VALUE, PAIRS};

/// Pairs of text. At most 16; keys of 1 to 64 bytes, values of at most 1,024. CDDL `pairs`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Context(BTreeMap<String, String>);

/// Pairs past a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a context has at most 16 pairs, keys of 1 to 64 bytes and values of at most 1024 bytes")]
pub struct NotPairs;

impl Context {
    /// The key that holds an object's canonical logical name (WRAP-5).
    pub const NAME: &'static str = "name";
    /// The key that says that the DEK is the private part of a key pair, and of which kind (GEN-2).
    pub const KEY_PAIR: &'static str = "key-pair";

    /// Checks the limits.
    ///
    /// # Errors
    /// [`NotPairs`].
    pub fn new(pairs: BTreeMap<String, String>) -> Result<Self, NotPairs> {
        let fits = |(key, value): (&String, &String)| {
            (1..=PAIR_KEY).contains(&key.len()) && value.len() <= PAIR_VALUE
        };
        if pairs.len() <= PAIRS && pairs.iter().all(fits) {
            Ok(Self(pairs))
        } else {
            Err(NotPairs)
        }
    }

    /// The context of an object that has a name and nothing else.
    ///
    /// # Errors
    /// The name is too long.
    pub fn named(name: &str) -> Result<Self, NotPairs> {
        Self::new(BTreeMap::from([(Self::NAME.to_owned(), name.to_owned())]))
    }

    /// The pairs.
    #[must_use]
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every pair of `required` is one of these (RED-3).
    #[must_use]
    pub fn contains_all(&self, required: &Self) -> bool {
        required
            .0
            .iter()
            .all(|(key, value)| self.0.get(key) == Some(value))
    }
}

impl Encode for Context {
    fn encode(&self, writer: &mut Writer) {
        writer.text_map(&self.0);
    }
}

impl Decode for Context {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.text_map(PAIRS, PAIR_KEY, PAIR_VALUE).map(Self)
    }
}
