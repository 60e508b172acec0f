//! One state of a store, read while others go on committing.

use crate::error::Error;
use crate::types::{Entry, KeyRange, MAX_PAGE_ENTRIES, Page, Revision, check_range};

/// What an engine keeps of one state.
pub trait SnapshotSource: Send {
    /// The first `limit` entries of `range` in this state; `limit` and range are within their bounds.
    ///
    /// # Errors
    /// [`Error`].
    fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, Error>;
}

/// The store as it was at one revision, whole, for as long as this lives: pages of it fit together, whatever
/// is committed meanwhile. It holds up no commit; the engine keeps what was replaced until it is dropped.
/// Its reads block.
pub struct Snapshot {
    source: Box<dyn SnapshotSource>,
    revision: Revision,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.revision)
    }
}

impl Snapshot {
    /// The state of this source.
    ///
    /// # Errors
    /// [`Error`]: it cannot be read.
    pub fn new(source: Box<dyn SnapshotSource>) -> Result<Self, Error> {
        let revision = source.range(&KeyRange::all(), 1)?.revision;
        Ok(Self { source, revision })
    }

    /// The last commit that it holds.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// As [`Store::range`](crate::Store::range), of this state. Blocks.
    ///
    /// # Errors
    /// [`Error`].
    pub fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, Error> {
        check_range(range, limit)?;
        self.source.range(range, limit)
    }

    /// The entry of a key in this state. Blocks.
    ///
    /// # Errors
    /// [`Error`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        let page = self.range(&KeyRange::prefix(key), 1)?;
        let found = page.entries.into_iter().next();
        Ok(found.and_then(|(found, entry)| (found == key).then_some(entry)))
    }

    /// Gives every entry of `range`, in key order, to `each`. Blocks.
    ///
    /// # Errors
    /// [`Error`], or what `each` says, which ends it.
    pub fn each<E: From<Error>>(
        &self,
        range: KeyRange,
        mut each: impl FnMut(Vec<u8>, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut range = range;
        loop {
            let page = self.range(&range, MAX_PAGE_ENTRIES)?;
            let last = page.entries.last().map(|(key, _)| key.clone());
            for (key, entry) in page.entries {
                each(key, entry)?;
            }
            match last {
                Some(last) if page.more => range = range.after(&last),
                _ => return Ok(()),
            }
        }
    }
}
