//! `denial/<epoch>`, `lasting/<epoch>` and `feed/head`.

use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::denial::{CHAIN_START, Denial, chain_next};
use ticket_format::ids::ChainDigest;
use ticket_format::messages::feed::DENIAL;

use super::{Changes, keys};

/// Where the chain of denials stands (DEN-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedHead {
    /// The newest denial's epoch; 0 before the first.
    pub epoch: u64,
    /// The chain digest at that epoch.
    pub chain: ChainDigest,
}

impl FeedHead {
    /// Before the first denial.
    pub const START: Self = Self {
        epoch: 0,
        chain: CHAIN_START,
    };
}

impl Encode for FeedHead {
    fn encode(&self, writer: &mut Writer) {
        self.chain
            .encode(writer.map(2).uint(1).uint(self.epoch).uint(2));
    }
}

impl Decode for FeedHead {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(2)?;
        let head = Self {
            epoch: map.required(1, Reader::uint)?,
            chain: map.required(2, ChainDigest::decode)?,
        };
        map.end()?;
        Ok(head)
    }
}

/// A denial with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDenial {
    /// Its epoch.
    pub epoch: u64,
    /// The chain digest before it.
    pub before: ChainDigest,
    /// The chain digest with it.
    pub chain: ChainDigest,
    /// The denial.
    pub denial: Denial,
    /// Its bytes, over which the chain runs.
    pub bytes: Vec<u8>,
}

impl StoredDenial {
    /// The denial that follows `head`.
    #[must_use]
    pub fn after(head: FeedHead, denial: Denial) -> Self {
        // rule: DEN-1
        let bytes = denial.to_cbor();
        let chain = chain_next(head.chain, &bytes);
        Self {
            epoch: head.epoch.saturating_add(1),
            before: head.chain,
            chain,
            denial,
            bytes,
        }
    }

    /// The head once this denial stands.
    #[must_use]
    pub fn head(&self) -> FeedHead {
        FeedHead {
            epoch: self.epoch,
            chain: self.chain,
        }
    }

    /// Whether it hits also tickets that are not issued yet: of a node, a launch, an account, an image,
    /// a dataset. Such a denial stops login, renew or issue, and is kept for good: forgotten, it would
    /// let in again what it shut out (DEN-7).
    #[must_use]
    pub fn lasts(&self) -> bool {
        // rule: DEN-7
        let members = self.denial.selector.members();
        members.ticket.is_none() && members.issued_before.is_none()
    }

    /// Adds it to what a decision changes.
    pub fn make(self, changes: &mut Changes) {
        changes.put(keys::FEED_HEAD.to_owned(), &self.head());
        changes.put(keys::denial(self.epoch), &self);
        if self.lasts() {
            changes.put(keys::lasting(self.epoch), &self);
        }
        changes.denials.push(self);
    }
}

impl Encode for StoredDenial {
    fn encode(&self, writer: &mut Writer) {
        writer.map(4).uint(1).uint(self.epoch);
        self.before.encode(writer.uint(2));
        self.chain.encode(writer.uint(3));
        writer.uint(4).bytes(&self.bytes);
    }
}

impl Decode for StoredDenial {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(4)?;
        let epoch = map.required(1, Reader::uint)?;
        let before = map.required(2, ChainDigest::decode)?;
        let chain = map.required(3, ChainDigest::decode)?;
        let bytes = map.required(4, |r| r.bytes(1..=DENIAL))?.to_vec();
        map.end()?;
        let denial = Denial::from_cbor(&bytes, DENIAL)?;
        if chain_next(before, &bytes) != chain {
            return Err(DecodeError::OutOfRange("chain"));
        }
        Ok(Self {
            epoch,
            before,
            chain,
            denial,
            bytes,
        })
    }
}
