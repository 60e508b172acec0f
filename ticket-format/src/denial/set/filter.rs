//! What is certainly not in the set: a blocked Bloom filter, one word for each question.
//!
//! Nearly every question is a miss, and the tree would answer it with several reads of memory that
//! no cache holds. Two to four bytes for each denial answer all but a few in a hundred of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Denials for each word of 64 bits; each sets four of them.
const PER_WORD: usize = 4;
const SMALLEST: usize = 64;

#[derive(Debug)]
struct Bits {
    words: Box<[AtomicU64]>,
    added: AtomicUsize,
}

/// Keys that may be there. Clones share it, each with what the others add: too many bits cost a look
/// into the tree, and bits are only taken away by making another. Whoever is handed a set sees all
/// bits of its denials, because being handed it comes after.
#[derive(Clone, Debug)]
pub(super) struct Filter(Arc<Bits>);

impl Default for Filter {
    fn default() -> Self {
        Self::of(0, std::iter::empty())
    }
}

/// The word, by the low half of the key, and its bits; the tree goes by the high half.
fn place(words: usize, key: u128) -> (usize, u64) {
    // Cut to what is meant: 32 bits for the word, and four times six.
    let low = key as u64;
    let index = low as u32 as usize & (words - 1);
    let bit = |at: u32| 1_u64 << (low >> at & 63);
    (index, bit(32) | bit(38) | bit(44) | bit(50))
}

impl Filter {
    /// Room for twice as many, and these in it.
    pub(super) fn of(count: usize, keys: impl Iterator<Item = u128>) -> Self {
        let words = (count * 2 / PER_WORD).max(SMALLEST).next_power_of_two();
        let words = (0..words).map(|_| AtomicU64::new(0)).collect();
        let filter = Self(Arc::new(Bits {
            words,
            added: 0.into(),
        }));
        keys.for_each(|key| filter.add(key));
        filter
    }

    pub(super) fn add(&self, key: u128) {
        let Bits { words, added } = &*self.0;
        let (index, bits) = place(words.len(), key);
        words[index].fetch_or(bits, Ordering::Relaxed);
        added.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether so much was added that it should be made anew from what is still there.
    pub(super) fn is_full(&self) -> bool {
        self.0.added.load(Ordering::Relaxed) >= self.0.words.len() * PER_WORD
    }

    pub(super) fn may_have(&self, key: u128) -> bool {
        let (index, bits) = place(self.0.words.len(), key);
        self.0.words[index].load(Ordering::Relaxed) & bits == bits
    }
}
