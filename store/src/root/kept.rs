//! What a backup keeps of a root key (BAK-1): its two wraps. What is sealed under it stands beside them.

use ticket_format::cbor::{Decode, Encode};
use ticket_format::ids::RootId;
use ticket_format::statement::ShareRow;

use super::auto::{AUTO_LIMIT, AutoWrap};
use super::generation::{AUTO, REPLACED, Replaced, RootDir, SEALED, SHARES, Ways, damaged};
use super::rekey::point;
use super::shares_file::{self, SharesWrap};
use super::{RootError, generation};
use crate::files;

/// Most bytes of each wrap.
pub const WRAP: usize = if AUTO_LIMIT > shares_file::LIMIT {
    AUTO_LIMIT
} else {
    shares_file::LIMIT
};

/// A root key's wraps, as their files hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The automatic one.
    pub auto: Vec<u8>,
    /// The shares.
    pub shares: Vec<u8>,
}

impl Ways {
    /// What a backup keeps of it.
    #[must_use]
    pub fn kept(&self) -> Kept {
        // rule: BAK-1
        let (auto, shares) = self.wraps();
        Kept {
            auto: auto.to_cbor(),
            shares: shares.to_cbor(),
        }
    }
}

impl Kept {
    /// Which root key it is of.
    ///
    /// # Errors
    /// It is damaged, or of two root keys.
    pub fn root(&self) -> Result<RootId, RootError> {
        Ok(self.read()?.root)
    }

    /// Who has a share, and the share as only its holder opens it.
    ///
    /// # Errors
    /// As [`Self::root`].
    pub fn rows(&self) -> Result<Vec<ShareRow>, RootError> {
        Ok(self.read()?.rows)
    }

    fn read(&self) -> Result<SharesWrap, RootError> {
        let at = |name: &str| std::path::PathBuf::from(format!("the backup's {name}"));
        let auto = AutoWrap::from_cbor(&self.auto, AUTO_LIMIT);
        let auto = auto.map_err(|error| damaged(&at("automatic wrap"), error))?;
        let shares = SharesWrap::from_cbor(&self.shares, shares_file::LIMIT);
        let shares = shares.map_err(|error| damaged(&at("shares"), error))?;
        // rule: ROOT-1
        if auto.root != shares.root {
            return Err(damaged(&at("wraps"), "they are of two root keys"));
        }
        Ok(shares)
    }
}

impl RootDir {
    /// Lays the wraps of a backup down where no root key is, as the first generation, durably.
    ///
    /// # Errors
    /// [`RootError::Exists`], the wraps are damaged, or the system refused.
    pub fn lay(&self, kept: &Kept) -> Result<Ways, RootError> {
        // rule: BAK-4
        if self.exists() {
            return Err(RootError::Exists(self.path().join(generation::CURRENT)));
        }
        kept.root()?;
        let to = self.generation(1);
        files::private_dir(self.path())?;
        files::private_dir(&to)?;
        files::private_dir(&to.join(SEALED))?;
        files::create_private(&to.join(REPLACED), &Replaced::default().to_cbor())?;
        files::create_private(&to.join(SHARES), &kept.shares)?;
        files::create_private(&to.join(AUTO), &kept.auto)?;
        files::sync_dir(&to)?;
        files::sync_dir(self.path())?;
        point(self, 1)?;
        self.look()
    }
}
