//! Why one object was not copied.

use crate::object::BodyError;
use crate::object::metadata::{MetadataError, NameMismatch};
use crate::s3::{Fault, StoreError};

/// Why one object was not copied. `E` is the key source's error.
#[derive(Debug, thiserror::Error)]
pub enum CopyError<E> {
    /// A place could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The body was refused.
    #[error("{place}: {source}")]
    Body {
        /// The encrypted object.
        place: String,
        /// Why.
        source: BodyError,
    },
    /// The object says that it is another one (`OBJ-11`).
    #[error("{place}: {source}; if that is meant, ask for it by that name (--name)")]
    Name {
        /// The encrypted object.
        place: String,
        /// Which one.
        source: NameMismatch,
    },
    /// The encryption context passes a bound.
    #[error("{place}: {source}")]
    Context {
        /// The encrypted object.
        place: String,
        /// Which bound.
        source: MetadataError,
    },
    /// What stands in the metadata for a wrapped data key is none.
    #[error("{place}: not a wrapped data key: {source}")]
    Wrap {
        /// The encrypted object.
        place: String,
        /// Why.
        source: ticket_format::cbor::DecodeError,
    },
    /// Standard input or output has no name.
    #[error("{0} has no name of its own: say which object it is (--name)")]
    NoName(String),
    /// The key server did not release or make the data key.
    #[error("{place}: {source}")]
    Key {
        /// The encrypted object.
        place: String,
        /// Why.
        source: E,
    },
    /// The key source gave another number of answers than it had questions.
    #[error("{0}: the key server answered for another number of objects than it was asked for")]
    Answers(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl<E> CopyError<E> {
    /// Which kind of failure this is; `None` for one of the key source, which knows itself.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Store(error) => Some(error.fault()),
            Self::Body { source, .. } if !source.is_integrity() => Some(Fault::Usage),
            Self::Body { .. } | Self::Name { .. } | Self::Wrap { .. } | Self::Answers(_) => {
                Some(Fault::Integrity)
            }
            Self::Context { .. } | Self::NoName(_) => Some(Fault::Usage),
            Self::Key { .. } => None,
            Self::Random(_) => Some(Fault::Local),
        }
    }
}
