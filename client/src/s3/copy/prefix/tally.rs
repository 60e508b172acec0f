//! What was found and done, counted.

use std::collections::BTreeMap;

use ticket_format::ids::KekId;

use super::look::{Found, Looked};
use crate::s3::copy::{CopyError, Job};

/// KEK versions that are told apart; a dataset has fewer.
const VERSIONS: usize = 1_024;

/// Objects, and the bytes of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub objects: u64,
    /// Together.
    pub bytes: u64,
}

impl Count {
    pub(super) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What was found and done.
#[derive(Debug)]
pub struct Tally<E> {
    /// Objects that were looked at.
    pub looked: u64,
    /// Objects with a new wrap.
    pub done: Count,
    /// Objects that had a wrap of the current version.
    pub current: u64,
    /// Objects that are not encrypted by postern.
    pub plain: u64,
    /// Recoveries beside their objects, which no rewrap changes.
    pub recoveries: u64,
    /// Objects of other datasets.
    pub others: u64,
    /// Objects that went away meanwhile.
    pub gone: u64,
    /// The dataset's objects by the version that they were found under: number and id.
    pub versions: BTreeMap<(u64, KekId), Count>,
    /// The current version, as the key server's answers showed it.
    pub kek: Option<(u64, KekId)>,
    /// Objects that failed.
    pub failed: Vec<(Job, CopyError<E>)>,
    /// The current version kept changing: there may be more to do.
    pub unsteady: bool,
}

impl<E> Default for Tally<E> {
    fn default() -> Self {
        Self {
            looked: 0,
            done: Count::default(),
            current: 0,
            plain: 0,
            recoveries: 0,
            others: 0,
            gone: 0,
            versions: BTreeMap::new(),
            kek: None,
            failed: Vec::new(),
            unsteady: false,
        }
    }
}

impl<E> Tally<E> {
    /// Counts what an object was found to be; gives back one of the dataset.
    pub(super) fn count(&mut self, looked: Looked<E>) -> Option<Found> {
        self.looked += 1;
        match looked {
            Looked::Ours(found) => return Some(*found),
            Looked::Plain => self.plain += 1,
            Looked::Recoveries => self.recoveries += 1,
            Looked::Other => self.others += 1,
            Looked::Gone => self.gone += 1,
            Looked::Failed(_, failed) => self.failed.push(*failed),
        }
        None
    }

    pub(super) fn versions(&mut self, found: &Found) {
        let version = (found.header.kek_version, found.header.kek);
        if self.versions.len() < VERSIONS || self.versions.contains_key(&version) {
            let bytes = found.source.body_len().unwrap_or_default();
            self.versions.entry(version).or_default().add(bytes);
        }
    }

    /// Forgets what is found out anew.
    pub(super) fn again(&mut self) {
        let before = std::mem::take(self);
        self.done = before.done;
        self.kek = before.kek;
    }
}
