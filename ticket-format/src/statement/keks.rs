//! Acts on a dataset's KEK versions, at its key server (`spec/vault.md`).

use crate::Context;
use crate::ids::{DekId, ItemDigest, KekId};
use crate::limits;
use crate::messages::shape::{
    Bool, Fixed, List, OrNull, Text, UINT, Uint, XWING_KEY, closed_map, item, numbered,
};
use crate::seal::SealingKey;
use crate::time::Timestamp;

use super::acts::act;
use super::datasets::DatasetCreated;
use super::imports::Provenance;

/// Shortest rotation age, in seconds (KEK-3).
pub const SHORTEST_AGE: u64 = 86_400;
/// Fewest wraps after which a KEK version is followed by the next (KEK-3).
pub const FEWEST_WRAPS: u64 = 1_000;
/// Days that a destruction waits (KEK-4).
pub const WAIT_DAYS: std::ops::RangeInclusive<u64> = 7..=90;
/// Most rows in one page of wraps.
pub const WRAP_ROWS: u64 = 200;

numbered! {
    /// What a KEK version may be used for (KEK-1).
    pub enum KekState("KEK state") {
        /// Wraps and opens: at most one version of a dataset.
        Enabled = 1, "enabled";
        /// Opens only: a newer version wraps.
        DecryptOnly = 2, "decrypt-only";
        /// Neither, until an owner says otherwise.
        Disabled = 3, "disabled";
        /// Neither; at its time it is destroyed.
        PendingDestruction = 4, "pending-destruction";
        /// Its key material is gone.
        Destroyed = 5, "destroyed";
    }
}

numbered! {
    /// Where a KEK version's key material comes from.
    pub enum KekOrigin("KEK origin") {
        /// Made by the key server.
        Generated = 1, "generated";
        /// Derived of material that an owner brought (IMP-2).
        Imported = 2, "imported";
    }
}

closed_map! {
    /// When the key server makes the next KEK version by itself (KEK-3). Empty: never.
    ///
    /// `rotation = { ? 1: uint, ? 2: uint, 3: bool }`
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Rotation {
        /// So many seconds after the version was made.
        1 age: Option<u64> = crate::messages::shape::Maybe(Uint(SHORTEST_AGE..=u64::MAX));
        /// After so many wraps under it.
        2 wraps: Option<u64> = crate::messages::shape::Maybe(Uint(FEWEST_WRAPS..=u64::MAX));
        /// When a denial is applied that can hit a ticket for the dataset; once a day at most.
        3 on_denial: bool = Bool;
    }
}

closed_map! {
    /// Makes a dataset's next KEK version: it wraps from now on, and the one before opens only (KEK-2).
    ///
    /// `kek-rotate = { 1: name, 2: id16 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KekRotate {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// The version that it follows (ADM-5).
        2 replaces: KekId = item();
    }
}
act!(KekRotate, KekRotate, DatasetCreated);

closed_map! {
    /// Takes a KEK version out of use, or back into it (KEK-1).
    ///
    /// `kek-set = { 1: name, 2: id16, 3: bool }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KekSet {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// Which version.
        2 kek: KekId = item();
        /// Whether it may be used: the newest version to wrap and open, an older one to open.
        3 usable: bool = Bool;
    }
}
act!(KekSet, KekSet, KekRow);

closed_map! {
    /// Lists a dataset's KEK versions, the newest first; all of them.
    ///
    /// `kek-list = { 1: name }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KekList {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
    }
}
act!(KekList, KekList, KekRows);

closed_map! {
    /// `kek-rows = { 1: [*255 kek-row] }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KekRows {
        /// The versions.
        1 rows: Vec<KekRow> = List(0..=limits::KEKS, item());
    }
}

closed_map! {
    /// One KEK version and what is known to be wrapped under it.
    ///
    /// ```cddl
    /// kek-row = { 1: id16, 2: uint, 3: 1..5, 4: 1..2, 5: unix-time, 6: xwing-key / null, 7: uint, 8: hash,
    ///             9: unix-time / null, 10: unix-time / null, 11: unix-time / null, 12: provenance / null,
    ///             13: unix-time / null }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KekRow {
        /// Its id.
        1 kek: KekId = item();
        /// Its number, for people.
        2 version: u64 = UINT;
        /// What it may be used for.
        3 state: KekState = item();
        /// Where its key material comes from.
        4 origin: KekOrigin = item();
        /// When it was made.
        5 created: Timestamp = item();
        /// To this key producers wrap; none once it is destroyed.
        6 public_key: Option<SealingKey> = OrNull(XWING_KEY);
        /// How many distinct wraps under it are known and not replaced (INV-1).
        7 wraps: u64 = UINT;
        /// Names those wraps: SHA-256 of their digests, ascending; zeros of the newest version, which cannot be
        /// destroyed.
        8 dependants: [u8; 32] = Fixed::<32>;
        /// When a wrap under it was last made or opened.
        9 last_used: Option<Timestamp> = OrNull(item());
        /// When it is destroyed, or was.
        10 destroyed: Option<Timestamp> = OrNull(item());
        /// From when on its wraps are counted, where that is later than it was made: the log from before is
        /// gone, and wraps may be left that nobody knows of (INV-2).
        11 since: Option<Timestamp> = OrNull(item());
        /// How it came, where it was imported (IMP-2).
        12 provenance: Option<Provenance> = OrNull(item());
        /// When it is disabled by itself, or was (IMP-3).
        13 expiry: Option<Timestamp> = OrNull(item());
    }
}

closed_map! {
    /// Has a KEK version destroyed after a wait, by security's quorum (KEK-4).
    ///
    /// `kek-destroy = { 1: name, 2: id16, 3: 7..90, 4: uint, 5: hash }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KekDestroy {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// Which version; not the newest.
        2 kek: KekId = item();
        /// How long it waits, in days.
        3 days: u64 = Uint(WAIT_DAYS);
        /// How many known wraps would never open again: as the signers saw it (ADM-5).
        4 wraps: u64 = UINT;
        /// Which: [`KekRow::dependants`].
        5 dependants: [u8; 32] = Fixed::<32>;
    }
}
act!(KekDestroy, KekDestroy, KekRow);

closed_map! {
    /// Takes a destruction back before its time: the version is disabled from then on (KEK-4).
    ///
    /// `kek-keep = { 1: name, 2: id16 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KekKeep {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// Which version.
        2 kek: KekId = item();
    }
}
act!(KekKeep, KekKeep, KekRow);

closed_map! {
    /// Lists the wraps under a KEK version that are known and not replaced, by digest (INV-1).
    ///
    /// `wrap-list = { 1: name, 2: id16, 3: hash / null, 4: 1..200 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct WrapList {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// Which version.
        2 kek: KekId = item();
        /// The last digest of the page before.
        3 after: Option<ItemDigest> = OrNull(item());
        /// Most rows wanted.
        4 rows: u64 = Uint(1..=WRAP_ROWS);
    }
}
act!(WrapList, WrapList, WrapPage);

closed_map! {
    /// `wrap-page = { 1: [*200 wrap-row], 2: bool }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct WrapPage {
        /// Wraps.
        1 rows: Vec<WrapRow> = List(0..=WRAP_ROWS as usize, item());
        /// Whether there are more.
        2 more: bool = Bool;
    }
}

closed_map! {
    /// `wrap-row = { 1: hash, 2: unix-time, 3: id16 / null, 4: pairs / null }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct WrapRow {
        /// SHA-256 of wrap and context.
        1 digest: ItemDigest = item();
        /// When it was last made or opened.
        2 seen: Timestamp = item();
        /// The DEK, through all its wraps; none where the side file has no record (AUD-5).
        3 dek: Option<DekId> = OrNull(item());
        /// Its context.
        4 context: Option<Context> = OrNull(item());
    }
}
