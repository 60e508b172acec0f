//! Where data keys come from: the door between objects and the key server.

use std::future::Future;

use ticket_format::ids::{DatasetId, ItemDigest};
use ticket_format::recovery::Recovery;
use zeroize::Zeroizing;

use super::metadata::Context;
use super::{BodyError, BodyHeader, ObjectContext};

/// A wrapped data key and the whole encryption context that it must have been wrapped with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrapItem {
    /// The wrapped data key.
    pub wrapped: Vec<u8>,
    /// The whole encryption context, name included.
    pub context: Context,
    /// What recovery recipients open instead (RCP-2).
    pub recoveries: Vec<Recovery>,
}

/// A data key that the key server released.
pub struct OpenedKey {
    /// The data key.
    pub dek: Zeroizing<[u8; 32]>,
    /// What the body is bound to.
    pub context: ObjectContext,
    /// The body commitment that a producer signed, if one did (`WRAP-4`).
    pub signed_commitment: Option<[u8; 32]>,
}

impl OpenedKey {
    /// Compares what a producer signed with the body at hand.
    ///
    /// # Errors
    /// [`BodyError::WrongCommitment`] if the producer signed another body.
    // rule: OBJ-5
    pub fn check_signed(&self, header: &BodyHeader) -> Result<(), BodyError> {
        match &self.signed_commitment {
            Some(signed) if *signed != header.commitment => Err(BodyError::WrongCommitment),
            _ => Ok(()),
        }
    }
}

/// What a new data key is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewItem {
    /// The whole encryption context, name included.
    pub context: Context,
    /// Salt of the body: with it a producer can sign the commitment before the body exists.
    pub salt: [u8; 24],
}

/// A new data key and its wrap.
pub struct NewKey {
    /// The data key.
    pub dek: Zeroizing<[u8; 32]>,
    /// The wrapped data key to store.
    pub wrapped: Vec<u8>,
    /// Version of the KEK that wraps it.
    pub kek_version: u64,
    /// What the body is bound to.
    pub context: ObjectContext,
    /// The same data key for the dataset's recovery recipients (RCP-1).
    pub recoveries: Vec<Recovery>,
}

/// Opens and makes data keys, as many per exchange as the protocol allows.
///
/// An implementation keeps the rules of the exchange: it refuses origins that the user does not
/// accept (`ORG-1`) and answers whose receipt is not its own (`RED-5`).
pub trait KeySource: Sync {
    /// One refusal or failure.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Whether it opens wraps of this dataset; what it does not may still be recovered (RCP-2).
    fn opens(&self, dataset: DatasetId) -> bool;

    /// Opens at most [`BATCH`] wrapped data keys; one verdict each, in the order of `items`.
    fn unwrap(
        &self,
        items: Vec<WrapItem>,
    ) -> impl Future<Output = Verdicts<OpenedKey, Self::Error>> + Send;

    /// Makes at most [`BATCH`] data keys; one verdict each, in the order of `items`.
    fn generate(
        &self,
        items: Vec<NewItem>,
    ) -> impl Future<Output = Verdicts<NewKey, Self::Error>> + Send;
}

/// A wrap of the same data key under the current KEK version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWrap {
    /// The wrapped data key to store.
    pub wrapped: Vec<u8>,
    /// Version of the KEK that wraps it.
    pub kek_version: u64,
}

/// Wraps data keys anew, without anybody seeing them.
pub trait WrapSource: KeySource {
    /// Wraps at most [`BATCH`] data keys anew, with the same contexts; one verdict each, in the order
    /// of `items`.
    fn wrap_anew(
        &self,
        items: Vec<WrapItem>,
    ) -> impl Future<Output = Verdicts<NewWrap, Self::Error>> + Send;

    /// Tells that new wraps stand with their objects, each named by the SHA-256 of wrap and context: what
    /// they replaced counts no more (REW-2).
    fn confirm(
        &self,
        placed: Vec<ItemDigest>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// One verdict per item, or the failure of the whole exchange.
pub type Verdicts<T, E> = Result<Vec<Result<T, E>>, E>;

/// Most items of one exchange.
pub const BATCH: usize = 1000;

impl std::fmt::Debug for OpenedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedKey")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey")
            .field("kek_version", &self.kek_version)
            .finish_non_exhaustive()
    }
}
