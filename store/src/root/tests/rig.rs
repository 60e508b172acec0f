//! A data directory, three holders, a credential.

use std::fs;
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tempfile::TempDir;
use ticket_format::keys::TlsSecret;
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::secret::SealingSeed;
use ticket_format::statement::ShareHolder;

use crate::files;
use crate::root::{Holders, Means, Place, RootDir, RootError, Share, Ways};
use crate::sealed::RootKey;

pub(super) type Rng = UnwrapErr<SysRng>;

pub(super) fn rng() -> Rng {
    UnwrapErr(SysRng)
}

pub(super) struct Rig {
    pub(super) dir: TempDir,
}

impl Rig {
    pub(super) fn new() -> Self {
        let rig = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        files::write_private(&rig.at("credential"), &[7; 32]).unwrap();
        rig
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn root(&self) -> RootDir {
        RootDir::at(self.dir.path())
    }

    pub(super) fn credential(&self) -> Means {
        Means::Credential(self.at("credential"))
    }

    pub(super) fn create(&self, means: &Means) -> Result<(Ways, RootKey), RootError> {
        self.root()
            .create(&place(), means, &holders(2, 3), &mut rng())
    }

    pub(super) fn rekey(
        &self,
        ways: &Ways,
        old: &RootKey,
        means: &Means,
    ) -> Result<(Ways, RootKey), RootError> {
        let place = place();
        let prepared = ways.prepare(old, &place, means, &holders(3, 4), &mut rng());
        prepared?.switch()
    }

    /// Names of what lies in the root key's directory.
    pub(super) fn names(&self) -> Vec<String> {
        names(&self.at("root"))
    }
}

pub(super) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(super) fn place() -> Place {
    Place {
        realm: "realm".to_owned(),
        server: TlsSecret::from_seed(&[1; 32]).public(),
    }
}

fn secret(seed: u8) -> SealingSecret {
    SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([seed; 32]))
}

pub(super) fn holders(threshold: u64, count: u8) -> Holders {
    let holder = |seed| ShareHolder {
        name: format!("holder-{seed}"),
        key: secret(seed).public(),
    };
    Holders::new(threshold, (1..=count).map(holder).collect()).unwrap()
}

/// The shares of these numbers, each opened by its holder.
pub(super) fn shares(ways: &Ways, numbers: &[u8]) -> Vec<Share> {
    let open = |number: &u8| {
        let row = &ways.rows()[usize::from(*number) - 1];
        Share::open(row, &secret(*number), &place(), ways.root()).unwrap()
    };
    numbers.iter().map(open).collect()
}

/// That both ways open this key.
pub(super) fn both_open(ways: &Ways, means: &Means, numbers: &[u8], key: &RootKey) {
    assert!(ways.open_auto(means).unwrap().same(key));
    assert!(ways.open_shares(&shares(ways, numbers)).unwrap().same(key));
}
