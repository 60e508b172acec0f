//! Why an identity proof was refused.

use thiserror::Error;

/// Why [`verify`](super::verify) refused a proof. The list is closed; each entry has a stable name.
///
/// Texts hold no byte of the proof but a region name that has passed its format check, so they may
/// be logged as they are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IidRefusal {
    /// The base64 text or the CMS structure in it is over its bound.
    #[error(
        "identity proof too large: {what} is over {limit} bytes; send the /rsa2048 proof as the metadata service serves it"
    )]
    TooLarge {
        /// Which of the two was over.
        what: &'static str,
        /// The bound in bytes.
        limit: usize,
    },
    /// Not canonical padded base64 after white space was dropped.
    #[error(
        "identity proof is not base64; send the /rsa2048 proof as the metadata service serves it, without PEM lines"
    )]
    NotBase64,
    /// Bytes are left over behind the structure or inside one of its parts.
    #[error("identity proof has trailing bytes behind its CMS structure or inside a part of it")]
    TrailingBytes,
    /// Not a CMS SignedData at all, for example the bare value of /signature.
    #[error(
        "identity proof is not a CMS SignedData structure; only the /rsa2048 proof is accepted"
    )]
    NotCms,
    /// CMS, but not the one shape that is accepted (see `iid/shape.rs`).
    #[error("identity proof has a CMS shape that is not accepted: {0}")]
    Shape(&'static str),
    /// The document names a region for which no key is pinned.
    #[error("no key is pinned for region {0}; add its rsa2048 certificate to the region key table")]
    UnknownRegion(String),
    /// The RSA signature does not fit the signed attributes under the region's key.
    #[error("the signature is not one by the key pinned for region {0}")]
    BadSignature(String),
    /// The signed message digest is not the SHA-256 of the content.
    #[error("the signed digest does not fit the document: the document was changed")]
    DigestMismatch,
    /// The content is not a well-formed identity document.
    #[error("the identity document is not well formed: {0}")]
    BadDocument(#[from] DocumentFault),
}

impl IidRefusal {
    /// The stable kebab-case name, for tools, records and tests.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "iid-too-large",
            Self::NotBase64 => "iid-not-base64",
            Self::TrailingBytes => "iid-trailing-bytes",
            Self::NotCms => "iid-not-cms",
            Self::Shape(_) => "iid-shape",
            Self::UnknownRegion(_) => "iid-unknown-region",
            Self::BadSignature(_) => "iid-bad-signature",
            Self::DigestMismatch => "iid-digest-mismatch",
            Self::BadDocument(_) => "iid-bad-document",
        }
    }
}

/// What is wrong with the JSON text of an identity document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DocumentFault {
    /// Not UTF-8, or not one JSON object and nothing else.
    #[error("it is not one JSON object in UTF-8")]
    NotAnObject,
    /// A member name occurs twice in one object, at any level.
    #[error("a member name occurs twice")]
    DuplicateMember,
    /// Nested deeper than 4 levels.
    #[error("it is nested too deeply")]
    TooDeep,
    /// An object or array holds more than 64 items.
    #[error("an object or array in it has too many items")]
    TooManyItems,
    /// A required member is absent.
    #[error("member {0} is missing")]
    Missing(&'static str),
    /// A member has the wrong type or format.
    #[error("member {0} has the wrong type or format")]
    Malformed(&'static str),
}
