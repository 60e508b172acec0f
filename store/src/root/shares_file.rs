//! The file of the shares: who has one, and the root key under the secret that they are of.
//!
//! ```cddl
//! shares = { 1: 1, 2: id16, 3: 1..16, 4: [1*16 share-row], 5: sealed-root }
//! ```

use rand_core::CryptoRng;
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::RootId;
use ticket_format::limits;
use ticket_format::statement::ShareRow;

use super::RootError;
use super::shares::{Holders, Place, STACK, Share, deal, join};
use crate::locked::erasing_stack;
use crate::sealed::RootKey;

/// Format of the file.
const FORMAT: u64 = 1;
/// Most bytes of the file; 16 rows have about 39,000.
pub(super) const LIMIT: usize = 64 * 1024;
/// Bytes of a root key sealed as REST-1 says.
const SEALED: usize = 1 + 24 + 32 + 16;

/// A root key's shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SharesWrap {
    pub(super) root: RootId,
    pub(super) threshold: u64,
    pub(super) rows: Vec<ShareRow>,
    sealed: Vec<u8>,
}

/// What the root key is sealed for, as a path of REST-1.
fn place_of(root: RootId) -> String {
    format!("root/{root}/shares")
}

impl SharesWrap {
    /// Wraps a root key under a fresh secret and splits that among the holders.
    pub(super) fn new(
        root: RootId,
        key: &RootKey,
        place: &Place,
        holders: &Holders,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, RootError> {
        // rule: ROOT-3
        let secret = RootKey::random(rng);
        let sealed = secret.seal(&place_of(root), key.expose(), rng);
        Ok(Self {
            root,
            threshold: holders.threshold(),
            rows: deal(secret.expose(), holders, place, root, rng)?,
            sealed,
        })
    }

    /// The root key, by as many shares as it takes.
    pub(super) fn open(&self, shares: &[Share]) -> Result<RootKey, RootError> {
        // rule: ROOT-3, MEM-1
        let joined = erasing_stack::<STACK, _>(|| join(shares, self.threshold))?;
        let secret = RootKey::copied(&joined);
        let opened = secret.open(&place_of(self.root), &self.sealed);
        let opened = opened.map_err(|_| RootError::SharesNotThis)?;
        let key: &[u8; 32] = opened
            .as_slice()
            .try_into()
            .map_err(|_| RootError::SharesNotThis)?;
        Ok(RootKey::copied(key))
    }
}

impl Encode for SharesWrap {
    fn encode(&self, writer: &mut Writer) {
        writer.map(5).uint(1).uint(FORMAT).uint(2);
        self.root.encode(writer);
        writer.uint(3).uint(self.threshold).uint(4);
        writer.array(self.rows.len());
        for row in &self.rows {
            row.encode(writer);
        }
        writer.uint(5).bytes(&self.sealed);
    }
}

impl Decode for SharesWrap {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(5)?;
        if map.required(1, |reader| reader.uint())? != FORMAT {
            return Err(DecodeError::OutOfRange("format"));
        }
        let wrap = Self {
            root: map.required(2, RootId::decode)?,
            threshold: map.required(3, |reader| reader.uint())?,
            rows: map.required(4, |reader| {
                reader.list(1..=limits::ADMINS, ShareRow::decode)
            })?,
            sealed: map.required(5, |reader| {
                reader.bytes(SEALED..=SEALED).map(<[u8]>::to_vec)
            })?,
        };
        map.end()?;
        if !(1..=wrap.rows.len() as u64).contains(&wrap.threshold) {
            return Err(DecodeError::OutOfRange("threshold"));
        }
        Ok(wrap)
    }
}
