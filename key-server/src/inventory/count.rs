//! What one entry changes (INV-1).

use sha2::{Digest as _, Sha256};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ItemDigest, KekId};
use ticket_format::time::Timestamp;

/// One change of the inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A wrap stands under a version: it was opened.
    Opened {
        kek: KekId,
        digest: ItemDigest,
        seen: Timestamp,
    },
    /// A wrap stands under a version: it was made.
    Made {
        kek: KekId,
        digest: ItemDigest,
        seen: Timestamp,
    },
    /// A wrap was made that may replace another one.
    Replaces {
        new: ItemDigest,
        by: Maker,
        kek: KekId,
        old: ItemDigest,
    },
    /// A wrap stands where it was made for: what it replaced is gone.
    InPlace { digest: ItemDigest, by: Maker },
    /// A version was destroyed.
    Destroyed { kek: KekId },
}

/// For whom a wrap was made: names dataset and node. Only the same may say where it stands (REW-2).
pub(super) type Maker = [u8; 16];

fn maker(entry: &Entry) -> Option<Maker> {
    let mut named = Sha256::new();
    named.update(entry.dataset?.0);
    named.update(entry.subject.as_deref().unwrap_or_default());
    named.finalize()[..16].try_into().ok()
}

/// The changes of an entry, in order.
pub(super) fn steps(entry: &Entry, mut step: impl FnMut(Step)) {
    let seen = entry.time;
    if entry.kind == Kind::Kek && entry.kek.is_none() {
        for kek in entry.keks.iter().flatten() {
            step(Step::Destroyed { kek: *kek });
        }
        return;
    }
    let Some(by) = maker(entry) else { return };
    // rule: REW-2
    if entry.kind == Kind::Rewrap {
        for digest in entry.confirmed.iter().flatten() {
            step(Step::InPlace {
                digest: *digest,
                by,
            });
        }
    }
    let mut moved = entry.moved.iter().flatten();
    for (place, (digest, outcome)) in entry.items.iter().flatten().enumerate() {
        if outcome.is_err() {
            continue;
        }
        let digest = *digest;
        match entry.kind {
            Kind::Generate => {
                if let Some(kek) = entry.kek {
                    step(Step::Made { kek, digest, seen });
                }
            }
            Kind::Redeem | Kind::Rewrap => {
                let new = moved.next().copied();
                let Some(kek) = under(entry, place) else {
                    continue;
                };
                step(Step::Opened { kek, digest, seen });
                if let (Some(new), Some(current)) = (new, entry.kek) {
                    step(Step::Made {
                        kek: current,
                        digest: new,
                        seen,
                    });
                    step(Step::Replaces {
                        new,
                        by,
                        kek,
                        old: digest,
                    });
                }
            }
            _ => {}
        }
    }
}

/// Under which version the wrap of an item is.
fn under(entry: &Entry, place: usize) -> Option<KekId> {
    let at = *entry.kek_of.as_ref()?.get(place)?;
    entry.keks.as_ref()?.get(usize::from(at)).copied()
}
