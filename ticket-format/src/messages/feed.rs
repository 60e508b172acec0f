//! Feed (`spec/protocol.md`, section 8): how denials reach the key servers.

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::ChainDigest;
use crate::keys::ServerKey;
use crate::limits;
use crate::time::Timestamp;

use super::shape::{Bool, Fixed, Shape, UINT, Uint, closed_map, item};

closed_map! {
    /// What a key server says; its signature acknowledges epoch and chain (DEN-3).
    ///
    /// `feed-body = { 1: ed-key, 2: bstr .size 32, 3: uint, 4: hash, 5: uint }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FeedBody {
        /// The subscriber's signing key.
        1 subscriber: ServerKey = item();
        /// Fresh; the answer echoes it.
        2 nonce: [u8; 32] = Fixed::<32>;
        /// The epoch applied.
        3 epoch: u64 = UINT;
        /// The chain digest at that epoch.
        4 chain: ChainDigest = item();
        /// How long the broker may wait for news, in milliseconds.
        5 hold_ms: u64 = Uint(0..=limits::FEED_HOLD_MS);
    }
}

closed_map! {
    /// News, signed by the broker's feed key (DEN-4).
    ///
    /// ```cddl
    /// feed-answer = { 1: bstr .size 32, 2: uint, 3: hash, 4: unix-time, 5: bool,
    ///                 6: [*1000 [epoch: uint, bstr .size (1..2048)]] }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FeedAnswer {
        /// The request's nonce.
        1 nonce: [u8; 32] = Fixed::<32>;
        /// The epoch after applying this answer.
        2 epoch: u64 = UINT;
        /// The chain digest at that epoch.
        3 chain: ChainDigest = item();
        /// The broker's clock.
        4 now: Timestamp = item();
        /// Whether `denials` replace the set instead of adding to it.
        5 snapshot: bool = Bool;
        /// Denials by ascending epoch.
        6 denials: Vec<Numbered> = ByEpoch;
    }
}

/// A denial with its epoch: `[epoch: uint, bstr .size (1..2048)]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its epoch.
    pub epoch: u64,
    /// The denial's bytes, over which the chain runs; for [`crate::denial::Denial`].
    pub denial: Vec<u8>,
}

/// Most bytes of one denial.
pub const DENIAL: usize = 2_048;

impl Encode for Numbered {
    fn encode(&self, writer: &mut Writer) {
        writer.array(2).uint(self.epoch).bytes(&self.denial);
    }
}

impl Decode for Numbered {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(2..=2)?;
        Ok(Self {
            epoch: reader.uint()?,
            denial: reader.bytes(1..=DENIAL)?.to_vec(),
        })
    }
}

/// At most 1,000 denials, epochs ascending: a gap is for the receiver to judge, a doubled epoch never fits.
struct ByEpoch;

impl Shape for ByEpoch {
    type Value = Vec<Numbered>;

    fn write(&self, value: &Vec<Numbered>, writer: &mut Writer) {
        writer.array(value.len());
        value.iter().for_each(|denial| denial.encode(writer));
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Vec<Numbered>, DecodeError> {
        let denials = reader.list(0..=limits::DENIALS, Numbered::decode)?;
        let ascending = denials.is_sorted_by(|a, b| a.epoch < b.epoch);
        if ascending {
            Ok(denials)
        } else {
            Err(DecodeError::OutOfRange("epoch"))
        }
    }
}
