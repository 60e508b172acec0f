//! A new wrap for every object under a prefix whose wrap is not of the current KEK version.
//!
//! Objects go by in windows: their metadata is read, those of older versions are wrapped anew in one
//! exchange, what came of it is kept, and then put beside the bodies, while the metadata of the next
//! window is being read. What is kept lets a later run put the very wraps there that this one asked for.
//! Of what stands in its place the key server is told (REW-2), so that old versions come to no wraps left.

mod look;
mod run;
mod tally;

use std::collections::BTreeSet;

use futures::stream::StreamExt as _;
use ticket_format::ids::{DatasetId, ItemDigest, KekId};

use crate::object::keys::{NewWrap, WrapItem};
use crate::s3::{StoreError, Stores};

use look::windows;
use run::Run;
pub use tally::{Count, Tally};

/// More failed objects than this are not remembered: then something is wrong with all.
pub const FAILED: usize = 10_000;

/// Which objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// The bucket.
    pub bucket: String,
    /// What their keys begin with.
    pub prefix: String,
    /// The dataset whose wraps are meant.
    pub dataset: DatasetId,
    /// Objects that get their wraps at one time.
    pub parallel: usize,
}

/// How far a run is: with it another goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// The KEK version that was current.
    pub kek: Option<KekId>,
    /// Every key up to this one is done, or left.
    pub after: Option<String>,
    /// Keys that are to be looked at again.
    pub left: BTreeSet<String>,
    /// Wraps that were made and are perhaps not with their objects yet.
    pub made: Vec<Made>,
}

/// A wrap that was made for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The object's key.
    pub key: String,
    /// The wrap and context that it takes the place of.
    pub old: ItemDigest,
    /// The new wrap.
    pub wrapped: Vec<u8>,
}

/// Where wraps come from, and where the position is kept.
pub trait Rewrapper {
    /// Why one object has no new wrap.
    type Error: std::error::Error + Send + Sync + 'static;
    /// Why it cannot go on.
    type Stop;

    /// Has at most 500 data keys wrapped anew: one verdict each, in order.
    fn wrap_anew(
        &mut self,
        items: Vec<WrapItem>,
    ) -> impl Future<Output = Result<Vec<Result<NewWrap, Self::Error>>, Self::Stop>>;

    /// Tells that at most 500 wraps stand with their objects (REW-2).
    fn confirm(&mut self, placed: Vec<ItemDigest>) -> impl Future<Output = Result<(), Self::Stop>>;

    /// Keeps the position, durably: only then the wraps in it are put beside their objects.
    ///
    /// # Errors
    /// It cannot.
    fn keep(&mut self, position: &Position) -> Result<(), Self::Stop>;

    /// Is told how it goes on, after each window.
    fn tell(&mut self, tally: &Tally<Self::Error>) {
        let _ = tally;
    }
}

/// Why a run ended early. What it had kept stands.
#[derive(Debug)]
pub enum Stopped<S> {
    /// The prefix cannot be listed.
    List(StoreError),
    /// The [`Rewrapper`] cannot go on.
    Rewrapper(S),
    /// More than [`FAILED`] objects failed.
    TooManyFailed,
}

/// Looks at each object under a prefix, and counts.
///
/// # Errors
/// The prefix cannot be listed.
pub async fn survey<E: std::error::Error + Send + Sync + 'static>(
    stores: &Stores,
    prefix: &Prefix,
    mut tell: impl FnMut(&Tally<E>),
) -> Result<Tally<E>, StoreError> {
    let mut tally = Tally::default();
    let mut windows = std::pin::pin!(windows::<E>(stores, prefix, None));
    while let Some(window) = windows.next().await {
        for looked in window?.0 {
            if let Some(found) = tally.count(looked) {
                tally.versions(&found);
            }
        }
        tell(&tally);
    }
    Ok(tally)
}

/// Gives a new wrap to every object under a prefix whose wrap is not of the current KEK version, from a
/// position on. Which version is current the answers tell: the first wrap is asked for by itself.
/// One refused object does not stop the others.
pub async fn rewrap_prefix<R: Rewrapper>(
    stores: &Stores,
    prefix: &Prefix,
    position: Position,
    rewrapper: &mut R,
) -> (Tally<R::Error>, Result<(), Stopped<R::Stop>>) {
    let mut run = Run {
        stores,
        prefix,
        rewrapper,
        position,
        changed: false,
        ordered: true,
        spare: None,
        placed: Vec::new(),
        tally: Tally::default(),
    };
    let ended = run.run().await;
    (run.tally, ended)
}
