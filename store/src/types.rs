//! Keys, entries, transactions and their bounds.

use std::fmt;

use crate::error::Invalid;

/// Longest key, in bytes. Keys are never empty.
pub const MAX_KEY_BYTES: usize = 512;
/// Longest value, in bytes: an audit record waiting in the outbox (under 60 KiB, rule 7.1) must fit.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Most writes in one transaction (also etcd's default for operations of one transaction).
pub const MAX_WRITES: usize = 128;
/// Most compares in one transaction.
pub const MAX_COMPARES: usize = 128;
/// Most bytes of keys and values in one transaction; under etcd's default request limit of 1.5 MiB.
pub const MAX_TRANSACTION_BYTES: usize = 1024 * 1024;
/// Most entries that one [`Store::range`](crate::Store::range) may ask for.
pub const MAX_PAGE_ENTRIES: usize = 10_000;
/// A page ends early, with `more` set, once its keys and values exceed this many bytes.
pub const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Number of a commit: global, 0 for the empty store, one higher for each commit that changes
/// something.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of a store to which nothing was ever committed.
    pub const ZERO: Self = Self(0);

    /// The revision of the commit after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value with the revision of the commit that wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bytes as they were put.
    pub value: Vec<u8>,
    /// The commit that put them; what [`Compare::At`] compares with.
    pub revision: Revision,
}

// Values may hold sealed keys and personal data, so none of the types here prints one.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("value_bytes", &self.value.len())
            .field("revision", &self.revision.0)
            .finish()
    }
}

/// A half-open range of keys, in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self {
            start: Vec::new(),
            end: None,
        }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let start = prefix.into();
        let end = after_prefix(&start);
        Self { start, end }
    }

    /// The keys from `start` (included) to `end` (not included). Empty when `end` is not above `start`.
    pub fn between(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self {
            start: start.into(),
            end: Some(end.into()),
        }
    }

    /// The part of this range after `key`: the next page, given the last key of a page.
    #[must_use]
    pub fn after(&self, key: &[u8]) -> Self {
        let mut next = key.to_vec();
        next.push(0);
        Self {
            start: next.max(self.start.clone()),
            end: self.end.clone(),
        }
    }

    /// The first key that may be in the range (empty: from the beginning).
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The first key after the range; `None` when the range has no upper end.
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }

    /// Whether no key can be in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && self.end.as_deref().is_none_or(|end| key < end)
    }
}

/// The smallest byte string above every string that begins with `prefix`; none for `ff ff ..`.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

/// What [`Store::range`](crate::Store::range) read, from one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The revision of the snapshot; watch after it to see everything that came later.
    pub revision: Revision,
    /// Key and entry, in key order.
    pub entries: Vec<(Vec<u8>, Entry)>,
    /// Whether the range holds more entries after the last one here.
    pub more: bool,
}

/// A condition on the state that a transaction finds. All must hold, else nothing is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent {
        /// The key.
        key: Vec<u8>,
    },
    /// The key exists, whatever its value.
    Present {
        /// The key.
        key: Vec<u8>,
    },
    /// The key exists and was last put by exactly this commit.
    At {
        /// The key.
        key: Vec<u8>,
        /// The revision of its entry.
        revision: Revision,
    },
}

impl Compare {
    /// The key it looks at.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Absent { key } | Self::Present { key } | Self::At { key, .. } => key,
        }
    }

    /// Whether it holds when the key's entry was written by commit `found` (`None`: no entry).
    pub fn holds(&self, found: Option<Revision>) -> bool {
        match self {
            Self::Absent { .. } => found.is_none(),
            Self::Present { .. } => found.is_some(),
            Self::At { revision, .. } => found == Some(*revision),
        }
    }
}

/// One write of a transaction.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets the key's value.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its new value; may be empty.
        value: Vec<u8>,
    },
    /// Removes the key; no change when there is none.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
}

impl Write {
    /// The key it writes.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Self::Put { value, .. } => value.len(),
            Self::Delete { .. } => 0,
        }
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value } => f
                .debug_struct("Put")
                .field("key", key)
                .field("value_bytes", &value.len())
                .finish(),
            Self::Delete { key } => f.debug_struct("Delete").field("key", key).finish(),
        }
    }
}

/// Conditions and writes that take effect together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All must hold. Judged in this order; the first that fails is the one reported.
    pub compare: Vec<Compare>,
    /// At least one; each key at most once.
    pub write: Vec<Write>,
}

impl Transaction {
    /// A transaction without conditions and writes, to be filled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands that `key` does not exist.
    #[must_use]
    pub fn absent(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.compare.push(Compare::Absent { key: key.into() });
        self
    }

    /// Demands that `key` exists.
    #[must_use]
    pub fn present(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.compare.push(Compare::Present { key: key.into() });
        self
    }

    /// Demands that `key` was last put by the commit `revision`.
    #[must_use]
    pub fn at(mut self, key: impl Into<Vec<u8>>, revision: Revision) -> Self {
        self.compare.push(Compare::At {
            key: key.into(),
            revision,
        });
        self
    }

    /// Sets `key` to `value`.
    #[must_use]
    pub fn put(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.write.push(Write::Put {
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// Removes `key`.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.write.push(Write::Delete { key: key.into() });
        self
    }

    /// Checks every bound; engines call this before anything else.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.write.is_empty() {
            return Err(Invalid::NoWrite);
        }
        if self.write.len() > MAX_WRITES {
            return Err(Invalid::TooManyWrites {
                found: self.write.len(),
            });
        }
        if self.compare.len() > MAX_COMPARES {
            return Err(Invalid::TooManyCompares {
                found: self.compare.len(),
            });
        }
        let mut bytes = 0;
        for compare in &self.compare {
            check_key(compare.key())?;
            bytes += compare.key().len();
        }
        let mut keys = std::collections::BTreeSet::new();
        for write in &self.write {
            check_key(write.key())?;
            if write.value_bytes() > MAX_VALUE_BYTES {
                return Err(Invalid::ValueTooLong {
                    found: write.value_bytes(),
                });
            }
            // Two writes of one key have no order that all engines share.
            if !keys.insert(write.key()) {
                return Err(Invalid::KeyWrittenTwice {
                    key: write.key().to_vec(),
                });
            }
            bytes += write.key().len() + write.value_bytes();
        }
        if bytes > MAX_TRANSACTION_BYTES {
            return Err(Invalid::TransactionTooLong { found: bytes });
        }
        Ok(())
    }
}

/// Checks a key's bounds.
pub(crate) fn check_key(key: &[u8]) -> Result<(), Invalid> {
    match key.len() {
        0 => Err(Invalid::EmptyKey),
        1..=MAX_KEY_BYTES => Ok(()),
        found => Err(Invalid::KeyTooLong { found }),
    }
}

/// Checks a range read's bounds. A bound may be one byte longer than a key, see [`KeyRange::after`].
pub(crate) fn check_range(range: &KeyRange, limit: usize) -> Result<(), Invalid> {
    let longest = range
        .start
        .len()
        .max(range.end.as_ref().map_or(0, Vec::len));
    if longest > MAX_KEY_BYTES + 1 {
        return Err(Invalid::KeyTooLong { found: longest });
    }
    if limit == 0 || limit > MAX_PAGE_ENTRIES {
        return Err(Invalid::Limit { found: limit });
    }
    Ok(())
}

/// How a transaction ended that was valid and was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable. The revision of the commit; when the writes changed nothing (deletes of absent keys
    /// only), the revision as it stood.
    Committed(Revision),
    /// A compare did not hold; nothing was written.
    Conflict {
        /// The key of the first compare that did not hold.
        key: Vec<u8>,
    },
}
