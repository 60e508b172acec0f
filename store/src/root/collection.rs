//! One attempt to collect shares: pure, in memory only (ROOT-4, ROOT-6).

use rand_core::CryptoRng;
use ticket_format::ids::AttemptId;
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::statement::{Attempt, ShareGive, SharePurpose};

use super::shares::{Given, Share, ShareError};

/// One attempt: its key, and the shares that were given so far. What it holds is erased on drop; who
/// keeps it drops it after an hour at the latest.
#[derive(Debug)]
pub struct Collection {
    to: Given,
    id: AttemptId,
    secret: SealingSecret,
    threshold: u64,
    shares: Vec<Share>,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More shares are needed.
    Waiting {
        /// So many are there.
        have: u64,
        /// So many are needed.
        need: u64,
    },
    /// As many as needed are there.
    Complete,
}

impl Collection {
    /// A new attempt with a fresh id and key.
    #[must_use]
    pub fn new(to: Given, threshold: u64, rng: &mut impl CryptoRng) -> Self {
        Self {
            to,
            id: AttemptId::random(rng),
            secret: SealingSecret::generate(Kem::XWing, rng),
            threshold,
            shares: Vec::new(),
        }
    }

    /// What holders seal their shares to.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        Attempt {
            id: self.id,
            key: self.secret.public(),
            shares: self.shares.len() as u64,
        }
    }

    /// What the shares are for.
    #[must_use]
    pub fn purpose(&self) -> SharePurpose {
        self.to.purpose
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let have = self.shares.len() as u64;
        if have < self.threshold {
            Progress::Waiting {
                have,
                need: self.threshold,
            }
        } else {
            Progress::Complete
        }
    }

    /// Opens a share and keeps it. The same one again changes nothing.
    ///
    /// # Errors
    /// [`ShareError::Attempt`], [`ShareError::Purpose`] and [`ShareError::Enough`] leave the attempt as
    /// it was. [`ShareError::Open`], [`ShareError::Number`] and [`ShareError::Differs`] say that a share
    /// does not fit: the attempt is spoilt, and its caller begins another (ROOT-4).
    pub fn take(&mut self, give: &ShareGive) -> Result<Progress, ShareError> {
        // rule: ROOT-4
        if give.attempt != self.id {
            return Err(ShareError::Attempt);
        }
        if give.purpose != self.to.purpose {
            return Err(ShareError::Purpose);
        }
        let info = self.to.info(self.id, give.number);
        let share = Share::unseal(&self.secret, &info, &give.sealed, give.number)?;
        match self.shares.iter().find(|s| s.number() == share.number()) {
            Some(known) if known.same(&share) => {}
            Some(_) => return Err(ShareError::Differs),
            None if self.progress() == Progress::Complete => return Err(ShareError::Enough),
            None => self.shares.push(share),
        }
        Ok(self.progress())
    }

    /// The shares that are there, each of another number.
    #[must_use]
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }
}
