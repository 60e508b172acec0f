//! Shares of a root key: who has them, how they are split, sealed, given and joined (ROOT-3, ROOT-4).

use std::collections::BTreeSet;
use std::fmt;

use chacha20poly1305::aead::Aead as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use ticket_format::cbor::Writer;
use ticket_format::ids::{AttemptId, RootId};
use ticket_format::keys::TlsKey;
use ticket_format::labels;
use ticket_format::limits;
use ticket_format::seal::{Exports, Kem, SealingKey, SealingSecret, XWING_ENC, encapsulate};
use ticket_format::statement::{Attempt, SHARE, ShareGive, ShareHolder, SharePurpose, ShareRow};
use vsss_rs::{Gf256, IdentifierGf256};
use zeroize::Zeroizing;

use crate::locked::{Locked, erasing_stack};

/// Bytes of the secret that is split.
const SECRET: usize = SHARE - 1;
/// Stack that an X-Wing key and a cipher use, in bytes.
pub(super) const STACK: usize = 192 * 1024;

/// The key server that shares are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its realm.
    pub realm: String,
    /// Its TLS key, which it has only when it is open.
    pub server: TlsKey,
}

/// Who gets a share, and how many of them open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    threshold: u64,
    holders: Vec<ShareHolder>,
}

/// Holders that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldersError {
    /// None, or more than 16.
    #[error("a root key has 1 to 16 shares, not {0}")]
    Count(usize),
    /// None needed, or more than there are.
    #[error(
        "{threshold} of {holders} shares cannot be: the threshold is 1 to the number of shares"
    )]
    Threshold {
        /// How many are needed.
        threshold: u64,
        /// How many there are.
        holders: usize,
    },
    /// A name of no or more than 64 bytes.
    #[error("a holder's name has 1 to 64 bytes")]
    Name,
    /// Two of one name.
    #[error("two holders are called {0:?}")]
    SameName(String),
    /// Two of one key: one person would count twice.
    #[error("{0:?} has the same share key as another holder")]
    SameKey(String),
    /// A key of another KEM.
    #[error("the share key of {0:?} is no X-Wing key")]
    Key(String),
}

impl Holders {
    /// Checks them: 1 to 16, all different, and a threshold that they can reach.
    ///
    /// # Errors
    /// [`HoldersError`].
    pub fn new(threshold: u64, holders: Vec<ShareHolder>) -> Result<Self, HoldersError> {
        let count = holders.len();
        if !(1..=limits::ADMINS).contains(&count) {
            return Err(HoldersError::Count(count));
        }
        if !(1..=count as u64).contains(&threshold) {
            return Err(HoldersError::Threshold {
                threshold,
                holders: count,
            });
        }
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for ShareHolder { name, key } in &holders {
            if !(1..=64).contains(&name.len()) {
                return Err(HoldersError::Name);
            }
            if !names.insert(name.as_str()) {
                return Err(HoldersError::SameName(name.clone()));
            }
            if key.kem() != Kem::XWing {
                return Err(HoldersError::Key(name.clone()));
            }
            if !keys.insert(key.as_bytes()) {
                return Err(HoldersError::SameKey(name.clone()));
            }
        }
        Ok(Self { threshold, holders })
    }

    /// So many shares open.
    #[must_use]
    pub fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Who gets one, in the order of the shares' numbers.
    #[must_use]
    pub fn holders(&self) -> &[ShareHolder] {
        &self.holders
    }
}

/// Why a share cannot be had, given or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// It is sealed to another key or for another place, or is damaged.
    #[error("the share does not open: it is another key's, another server's or another root key's")]
    Open,
    /// It says another number inside than outside.
    #[error("the share is not the one of its number")]
    Number,
    /// Another share of the same number is there.
    #[error("another share of this number was given before")]
    Differs,
    /// It is for another attempt.
    #[error("the share was given for another attempt; look again and give it once more")]
    Attempt,
    /// It is for another purpose.
    #[error("the share was given for another purpose")]
    Purpose,
    /// All that are needed are there.
    #[error("this attempt has all the shares that it needs")]
    Enough,
    /// The key is no X-Wing key.
    #[error("shares are sealed to X-Wing keys only")]
    Key,
    /// Fewer shares than the threshold, or two of one number.
    #[error("{have} different shares are there and {need} are needed")]
    TooFew {
        /// Different shares that are there.
        have: u64,
        /// The threshold.
        need: u64,
    },
}

/// One share in the clear: its number and one byte for each of the secret's. In locked pages (MEM-1),
/// erased on drop.
pub struct Share(Locked<SHARE>);

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({}, ..)", self.number())
    }
}

impl Share {
    /// Its number, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0[0].into()
    }

    /// Opens a holder's own share.
    ///
    /// # Errors
    /// [`ShareError::Open`] or [`ShareError::Number`].
    pub fn open(
        row: &ShareRow,
        secret: &SealingSecret,
        place: &Place,
        root: RootId,
    ) -> Result<Self, ShareError> {
        // rule: ROOT-3
        Self::unseal(
            secret,
            &held(place, root, row.number),
            &row.sealed,
            row.number,
        )
    }

    /// Opens a share that was dealt with this `info` ([`deal_for`]).
    ///
    /// # Errors
    /// [`ShareError::Open`] or [`ShareError::Number`].
    pub fn open_for(
        row: &ShareRow,
        secret: &SealingSecret,
        info: &[u8],
    ) -> Result<Self, ShareError> {
        Self::unseal(secret, info, &row.sealed, row.number)
    }

    /// The share of these bytes, as [`Share::expose`] gave them.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SHARE]) -> Self {
        Self(Locked::copied(bytes))
    }

    /// Its bytes, for the one who hands it over.
    #[must_use]
    pub fn expose(&self) -> &[u8; SHARE] {
        self.0.expose()
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        bytes
            .try_into()
            .ok()
            .map(|bytes| Self(Locked::copied(bytes)))
    }

    /// Seals it for the server that collects shares.
    ///
    /// # Errors
    /// [`ShareError::Key`]: the attempt's key is none.
    pub fn give(
        &self,
        attempt: &Attempt,
        to: &Given,
        rng: &mut impl CryptoRng,
    ) -> Result<ShareGive, ShareError> {
        let info = to.info(attempt.id, self.number());
        Ok(ShareGive {
            attempt: attempt.id,
            purpose: to.purpose,
            number: self.number(),
            sealed: self.seal(&attempt.key, &info, rng)?,
        })
    }

    /// `encapsulation || ciphertext and tag`, [`SEALED_SHARE`](ticket_format::statement::SEALED_SHARE)
    /// bytes. The key is used once, so its nonce may be zeros.
    fn seal(
        &self,
        key: &SealingKey,
        info: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, ShareError> {
        // rule: ROOT-3
        if key.kem() != Kem::XWing {
            return Err(ShareError::Key);
        }
        // rule: MEM-1
        erasing_stack::<STACK, _>(|| {
            let (mut sealed, exports) = encapsulate(key, info, rng).map_err(|_| ShareError::Key)?;
            let ciphertext = cipher(&exports, info).encrypt(&Nonce::default(), self.0.as_slice());
            sealed.extend(ciphertext.map_err(|_| ShareError::Key)?);
            Ok(sealed)
        })
    }

    pub(super) fn unseal(
        secret: &SealingSecret,
        info: &[u8],
        sealed: &[u8],
        number: u64,
    ) -> Result<Self, ShareError> {
        // rule: ROOT-3
        let (enc, ciphertext) = sealed.split_at_checked(XWING_ENC).ok_or(ShareError::Open)?;
        // rule: MEM-1
        let share = erasing_stack::<STACK, _>(|| {
            let exports = secret
                .decapsulate(enc, info)
                .map_err(|_| ShareError::Open)?;
            let opened = cipher(&exports, info)
                .decrypt(&Nonce::default(), ciphertext)
                .map(Zeroizing::new)
                .map_err(|_| ShareError::Open)?;
            Self::of(&opened).ok_or(ShareError::Open)
        })?;
        if number == 0 || share.number() != number {
            return Err(ShareError::Number);
        }
        Ok(share)
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

fn cipher(exports: &Exports, info: &[u8]) -> ChaCha20Poly1305 {
    let key = exports.export::<32>(info);
    ChaCha20Poly1305::new((&*key).into())
}

/// `["postern/1 share", realm, key server's TLS key, root id, number]` (ROOT-3).
fn held(place: &Place, root: RootId, number: u64) -> Vec<u8> {
    // rule: ROOT-3
    let mut writer = Writer::with_capacity(128);
    writer
        .array(5)
        .text(labels::SHARE)
        .text(&place.realm)
        .bytes(&place.server.to_bytes())
        .bytes(&root.0)
        .uint(number);
    writer.into_bytes()
}

/// Where shares are given, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The key server's realm.
    pub realm: String,
    /// The key that it is reached under: the door key of a sealed server, the TLS key of an open one.
    pub server: TlsKey,
    /// The root key that the shares are of.
    pub root: RootId,
    /// What for.
    pub purpose: SharePurpose,
}

impl Given {
    /// `["postern/1 share given", realm, door key or TLS key, root id, attempt, purpose, number]`
    /// (ROOT-4).
    pub(super) fn info(&self, attempt: AttemptId, number: u64) -> Vec<u8> {
        let mut writer = Writer::with_capacity(160);
        writer
            .array(7)
            .text(labels::SHARE_GIVEN)
            .text(&self.realm)
            .bytes(&self.server.to_bytes())
            .bytes(&self.root.0)
            .bytes(&attempt.0)
            .uint(self.purpose.number())
            .uint(number);
        writer.into_bytes()
    }
}

/// Splits a secret for these holders and seals each share to its holder. The shares are put together
/// once more before they are sealed: nobody else ever could find that they do not fit.
pub(super) fn deal(
    secret: &[u8; SECRET],
    holders: &Holders,
    place: &Place,
    root: RootId,
    rng: &mut impl CryptoRng,
) -> Result<Vec<ShareRow>, ShareError> {
    // rule: ROOT-3
    deal_for(secret, holders, |number| held(place, root, number), rng)
}

/// As the shares of a root key, of another secret: `info` says of each number what its share is bound to.
///
/// # Errors
/// A holder's key is none, or the shares do not fit together.
pub fn deal_for(
    secret: &[u8; SECRET],
    holders: &Holders,
    info: impl Fn(u64) -> Vec<u8>,
    rng: &mut impl CryptoRng,
) -> Result<Vec<ShareRow>, ShareError> {
    // rule: ROOT-3, MEM-1
    let shares = erasing_stack::<STACK, _>(|| split(secret, holders, rng))?;
    let need = usize::try_from(holders.threshold).unwrap_or(usize::MAX);
    for some in shares.windows(need) {
        let joined = erasing_stack::<STACK, _>(|| join(some, holders.threshold))?;
        if !bool::from(joined.as_slice().ct_eq(secret)) {
            return Err(ShareError::Open);
        }
    }
    let rows = shares.iter().zip(&holders.holders).map(|(share, holder)| {
        let info = info(share.number());
        Ok(ShareRow {
            name: holder.name.clone(),
            key: holder.key.clone(),
            number: share.number(),
            sealed: share.seal(&holder.key, &info, rng)?,
        })
    });
    rows.collect()
}

fn split(
    secret: &[u8; SECRET],
    holders: &Holders,
    rng: &mut impl CryptoRng,
) -> Result<Vec<Share>, ShareError> {
    // rule: ROOT-3
    let count = holders.holders.len();
    let numbers = (1..=u8::MAX).take(count);
    let need = usize::try_from(holders.threshold).unwrap_or(usize::MAX);
    if need == 1 {
        // A polynomial of degree 0: each share is the secret. The library begins at two.
        let shares = numbers.map(|number| {
            Share(Locked::fill(|share| {
                share[0] = number;
                share[1..].copy_from_slice(secret);
            }))
        });
        return Ok(shares.collect());
    }
    let numbers = numbers.map(|number| IdentifierGf256(Gf256(number)));
    let split = Gf256::split_bytes_with_participant_ids_iter(need, count, secret, rng, numbers);
    let too_few = ShareError::TooFew {
        have: count as u64,
        need: holders.threshold,
    };
    let split = Zeroizing::new(split.map_err(|_| too_few)?);
    let shares = split.iter().map(|bytes| Share::of(bytes).ok_or(too_few));
    shares.collect()
}

/// The secret of the first `threshold` shares, which must be of different numbers. Shares that are of
/// no one secret give bytes that open nothing.
///
/// # Errors
/// [`ShareError::TooFew`].
pub fn join(shares: &[Share], threshold: u64) -> Result<Locked<SECRET>, ShareError> {
    // rule: ROOT-3
    let need = usize::try_from(threshold).unwrap_or(usize::MAX);
    let different: BTreeSet<u64> = shares.iter().map(Share::number).collect();
    let too_few = ShareError::TooFew {
        have: different.len() as u64,
        need: threshold,
    };
    let some = shares.get(..need.max(1)).ok_or(too_few)?;
    if different.len() != shares.len() {
        return Err(too_few);
    }
    let copied = |bytes: &[u8]| bytes.try_into().ok().map(Locked::copied).ok_or(too_few);
    if let [only] = some {
        return copied(&only.0[1..]);
    }
    let bytes: Vec<Vec<u8>> = some.iter().map(|share| share.0.to_vec()).collect();
    let bytes = Zeroizing::new(bytes);
    let joined = Gf256::combine_bytes(&*bytes).map(Zeroizing::new);
    copied(&joined.map_err(|_| too_few)?)
}

#[cfg(test)]
mod tests;
