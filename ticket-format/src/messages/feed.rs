//! Feed (`spec/protocol.md`, section 8): how denials reach the key servers.

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::entry::Alarm;
use crate::ids::{ActId, ChainDigest, DatasetId, DenialDigest, NodeId};
use crate::keys::ServerKey;
use crate::limits;
use crate::time::Timestamp;

use super::shape::{Bool, Fixed, List, Shape, UINT, Uint, closed_map, item};

closed_map! {
    /// What a key server says; its signature acknowledges epoch and chain (DEN-3).
    ///
    /// `feed-body = { 1: ed-key, 2: bstr .size 32, 3: uint, 4: hash, 5: 0..30000, 6: [*16 report] }`
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
        /// What the subscriber has to tell (DEN-11).
        6 reports: Vec<Report> = List(0..=limits::REPORTS, item());
    }
}

closed_map! {
    /// An alarm of a subscriber's that the broker is to know of (DEN-11).
    ///
    /// `report = { 1: id16, 2: 8 / 9 / 12 / 17, 3: node, 4: id16, 5: unix-time, 6: bool }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Report {
        /// The act that raised the alarm, at the subscriber. Each is taken once.
        1 act: ActId = item();
        /// Canary, burst or evidence.
        2 alarm: Alarm = Reported;
        /// The node.
        3 node: NodeId = item();
        /// The dataset.
        4 dataset: DatasetId = item();
        /// When, by the subscriber's clock.
        5 time: Timestamp = item();
        /// Whether the node is to be denied.
        6 deny: bool = Bool;
    }
}

/// The alarms that a subscriber may report; the others are the broker's own.
struct Reported;

impl Shape for Reported {
    type Value = Alarm;

    fn write(&self, alarm: &Alarm, writer: &mut Writer) {
        alarm.encode(writer);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Alarm, DecodeError> {
        match Alarm::decode(reader)? {
            alarm @ (Alarm::Canary | Alarm::Burst | Alarm::Evidence | Alarm::KekUse) => Ok(alarm),
            _ => Err(DecodeError::OutOfRange("alarm")),
        }
    }
}

closed_map! {
    /// News, signed by the broker's feed key (DEN-4).
    ///
    /// ```cddl
    /// feed-answer = { 1: bstr .size 32, 2: uint, 3: hash, 4: unix-time, 5: [*1000 epoch], 6: uint }
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
        /// What follows the epoch that the request names, ascending, without a gap.
        5 epochs: Vec<Epoch> = ByEpoch;
        /// Version of the admin set in force at the broker.
        6 admin_set: u64 = UINT;
    }
}

/// One epoch: its number, and what happened in it.
///
/// ```cddl
/// epoch = [uint, 1, bstr .size (1..2048)] / [uint, 2, bstr .size (1..16384)]
///       / [uint, 3, [unix-time, hash]] / [uint, 4, bstr .size (1..16384)]
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// 1, 2, 3, …
    pub number: u64,
    /// What happened.
    pub event: Event,
}

/// What happened in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A denial's bytes, for [`crate::denial::Denial`].
    Denial(Vec<u8>),
    /// A lifting: the statement of act `undeny` (DEN-9).
    Lifting(Vec<u8>),
    /// A denial that can hit no ticket any more.
    Gone {
        /// From when on it could be forgotten.
        forget: Timestamp,
        /// SHA-256 of its bytes.
        denial: DenialDigest,
    },
    /// The next ticket-signing key: the statement of act `ticket-key` (KEY-2).
    TicketKey(Vec<u8>),
}

impl Encode for Epoch {
    fn encode(&self, writer: &mut Writer) {
        writer.array(3).uint(self.number);
        match &self.event {
            Event::Denial(denial) => {
                writer.uint(1).bytes(denial);
            }
            Event::Lifting(statement) => {
                writer.uint(2).bytes(statement);
            }
            Event::Gone { forget, denial } => {
                forget.encode(writer.uint(3).array(2));
                denial.encode(writer);
            }
            Event::TicketKey(statement) => {
                writer.uint(4).bytes(statement);
            }
        }
    }
}

impl Decode for Epoch {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(3..=3)?;
        let number = reader.uint()?;
        let event = match reader.uint()? {
            1 => Event::Denial(reader.bytes(1..=DENIAL)?.to_vec()),
            2 => Event::Lifting(reader.bytes(1..=limits::RECORD)?.to_vec()),
            3 => {
                reader.array(2..=2)?;
                Event::Gone {
                    forget: Timestamp::decode(reader)?,
                    denial: DenialDigest::decode(reader)?,
                }
            }
            4 => Event::TicketKey(reader.bytes(1..=limits::RECORD)?.to_vec()),
            _ => return Err(DecodeError::OutOfRange("event")),
        };
        Ok(Self { number, event })
    }
}

/// A denial with its epoch, in a list: `[uint, bstr .size (1..2048)]`.
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

/// At most 1,000 epochs, each one more than the one before.
struct ByEpoch;

impl Shape for ByEpoch {
    type Value = Vec<Epoch>;

    fn write(&self, value: &Vec<Epoch>, writer: &mut Writer) {
        writer.array(value.len());
        value.iter().for_each(|epoch| epoch.encode(writer));
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Vec<Epoch>, DecodeError> {
        // rule: DEN-4
        let epochs = reader.list(0..=limits::EPOCHS, Epoch::decode)?;
        let whole =
            epochs.is_sorted_by(|before, after| before.number.checked_add(1) == Some(after.number));
        if whole {
            Ok(epochs)
        } else {
            Err(DecodeError::OutOfRange("epoch"))
        }
    }
}
