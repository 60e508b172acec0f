//! Aliases: other names of datasets, swapped in one act (ALI-1).

use crate::cbor::Encode as _;
use crate::ids::{AliasDigest, DatasetId};
use crate::limits;
use crate::messages::shape::{Bool, List, OrNull, Text, closed_map, item};

use super::acts::{Nothing, ROWS, act, listing};

closed_map! {
    /// What an alias names. A dataset keeps its name, so the two never part.
    ///
    /// `alias-target = { 1: id16, 2: name }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AliasTarget {
        /// The dataset.
        1 dataset: DatasetId = item();
        /// Its name.
        2 name: String = Text(1..=limits::NAME);
    }
}

closed_map! {
    /// Gives an alias to a dataset, moves it to another, or takes it away (ALI-1). A record for everyone: who asks
    /// for the alias verifies it (ALI-2).
    ///
    /// `alias-set = { 1: name, 2: alias-target / null, 3: hash }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AliasSet {
        /// The alias.
        1 alias: String = Text(1..=limits::NAME);
        /// What it names from now on; none: nothing.
        2 target: Option<AliasTarget> = OrNull(item());
        /// SHA-256 of the [`AliasSet`] that it replaces; [`AliasSet::FIRST`] where there is none (ADM-5).
        3 follows: AliasDigest = item();
    }
}

impl AliasSet {
    /// What an alias's first record follows.
    pub const FIRST: AliasDigest = AliasDigest([0; 32]);

    /// What the record that replaces this one names.
    #[must_use]
    pub fn digest(&self) -> AliasDigest {
        AliasDigest::of(&self.to_cbor())
    }
}

act!(AliasSet, AliasSet, Nothing);

listing! {
    /// Lists aliases by name.
    AliasList, AliasList, AliasPage
}

closed_map! {
    /// `alias-page = { 1: [*100 alias-row], 2: bool }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AliasPage {
        /// Aliases.
        1 rows: Vec<AliasRow> = List(0..=ROWS, item());
        /// Whether there are more.
        2 more: bool = Bool;
    }
}

closed_map! {
    /// `alias-row = { 1: name, 2: alias-target / null, 3: hash }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AliasRow {
        /// The alias.
        1 alias: String = Text(1..=limits::NAME);
        /// What it names; none: it was taken away.
        2 target: Option<AliasTarget> = OrNull(item());
        /// SHA-256 of its record: what the next one follows.
        3 record: AliasDigest = item();
    }
}
