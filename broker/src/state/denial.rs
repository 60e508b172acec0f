//! `epoch/<number>` and `feed/head`: the chain of denials and liftings, walked by every subscriber.

use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::denial::{CHAIN_START, Denial, Link};
use ticket_format::ids::{ChainDigest, DenialDigest};
use ticket_format::limits;
use ticket_format::messages::feed::{DENIAL, Epoch, Event};
use ticket_format::statement::{ReceivedStatement, Undeny};
use ticket_format::time::Timestamp;

use super::{Changes, keys};

/// Where the chain stands (DEN-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedHead {
    /// The newest epoch; 0 before the first.
    pub epoch: u64,
    /// The chain digest at that epoch.
    pub chain: ChainDigest,
}

impl FeedHead {
    /// Before the first epoch.
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

/// What happened in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A denial.
    Denied {
        /// What it says.
        denial: Box<Denial>,
        /// Its bytes, over which the chain runs.
        bytes: Vec<u8>,
        /// The epoch that lifted it.
        lifted: Option<u64>,
    },
    /// A lifting.
    Lifted {
        /// The epochs of the denials that it lifts.
        epochs: Vec<u64>,
        /// The admins' statement.
        statement: Vec<u8>,
    },
    /// The broker's next ticket-signing key: the admins' statement (KEY-2). Kept for good.
    TicketKey(Vec<u8>),
    /// A denial that can hit no ticket any more. Only what the chain binds is left of it.
    Gone(Link),
}

/// One epoch, with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEpoch {
    /// Its number.
    pub number: u64,
    /// The chain digest with it.
    pub chain: ChainDigest,
    /// What happened.
    pub happened: Happened,
}

impl StoredEpoch {
    /// The denial that follows `head`.
    #[must_use]
    pub fn denial(head: FeedHead, denial: Denial) -> Self {
        let bytes = denial.to_cbor();
        let happened = Happened::Denied {
            denial: Box::new(denial),
            bytes,
            lifted: None,
        };
        Self::after(head, happened)
    }

    /// The lifting that follows `head`: of these epochs, by this statement.
    #[must_use]
    pub fn lifting(head: FeedHead, epochs: Vec<u64>, statement: Vec<u8>) -> Self {
        Self::after(head, Happened::Lifted { epochs, statement })
    }

    /// The ticket-key record that follows `head`.
    #[must_use]
    pub fn ticket_key(head: FeedHead, statement: Vec<u8>) -> Self {
        Self::after(head, Happened::TicketKey(statement))
    }

    fn after(head: FeedHead, happened: Happened) -> Self {
        // rule: DEN-1
        Self {
            number: head.epoch.saturating_add(1),
            chain: link(&happened).after(head.chain),
            happened,
        }
    }

    /// The head once this epoch stands.
    #[must_use]
    pub fn head(&self) -> FeedHead {
        FeedHead {
            epoch: self.number,
            chain: self.chain,
        }
    }

    /// What the chain binds of it.
    #[must_use]
    pub fn link(&self) -> Link {
        link(&self.happened)
    }

    /// Whether it follows `head` in the chain.
    #[must_use]
    pub fn follows(&self, head: FeedHead) -> bool {
        // rule: DEN-1
        head.epoch.checked_add(1) == Some(self.number)
            && self.link().after(head.chain) == self.chain
    }

    /// The denial, while it is kept and nobody has lifted it.
    #[must_use]
    pub fn in_force(&self) -> Option<(&Denial, &[u8])> {
        match &self.happened {
            Happened::Denied {
                denial,
                bytes,
                lifted: None,
            } => Some((denial, bytes)),
            _ => None,
        }
    }

    /// What is left of it when the denial can hit no ticket any more; none for what is kept for good.
    #[must_use]
    pub fn forgotten(&self) -> Option<Self> {
        // rule: DEN-7
        match &self.happened {
            Happened::Denied { denial, .. } if denial.forget < Timestamp::LAST => Some(Self {
                happened: Happened::Gone(self.link()),
                ..self.clone()
            }),
            _ => None,
        }
    }

    /// As the feed brings it.
    #[must_use]
    pub fn told(&self) -> Epoch {
        let event = match &self.happened {
            Happened::Denied { bytes, .. } => Event::Denial(bytes.clone()),
            Happened::Lifted { statement, .. } => Event::Lifting(statement.clone()),
            Happened::TicketKey(statement) => Event::TicketKey(statement.clone()),
            Happened::Gone(link) => Event::Gone {
                forget: link.forget,
                denial: link.record,
            },
        };
        Epoch {
            number: self.number,
            event,
        }
    }

    /// Most bytes that [`Self::told`] takes on the wire.
    #[must_use]
    pub fn weight(&self) -> usize {
        const HEADS: usize = 16;
        HEADS
            + match &self.happened {
                Happened::Denied { bytes, .. } => bytes.len(),
                Happened::Lifted { statement, .. } | Happened::TicketKey(statement) => {
                    statement.len()
                }
                Happened::Gone(_) => 48,
            }
    }

    /// Adds it to what a decision changes. Several in one decision follow each other.
    pub fn make(self, changes: &mut Changes) {
        changes.puts.retain(|(key, _)| key != keys::FEED_HEAD);
        changes.put(keys::FEED_HEAD.to_owned(), &self.head());
        changes.put(keys::epoch(self.number), &self);
        changes.epochs.push(self);
    }
}

fn link(happened: &Happened) -> Link {
    match happened {
        Happened::Denied { denial, bytes, .. } => Link {
            forget: denial.forget,
            record: DenialDigest::of(bytes),
        },
        Happened::Lifted { statement, .. } | Happened::TicketKey(statement) => Link {
            forget: Timestamp::LAST,
            record: DenialDigest::of(statement),
        },
        Happened::Gone(link) => *link,
    }
}

/// `[number, chain, 1, denial, lifted / null]`, `[number, chain, 2, statement]`,
/// `[number, chain, 3, forget, hash]`, `[number, chain, 4, statement]`.
impl Encode for StoredEpoch {
    fn encode(&self, writer: &mut Writer) {
        let items = match self.happened {
            Happened::Lifted { .. } | Happened::TicketKey(_) => 4,
            Happened::Denied { .. } | Happened::Gone(_) => 5,
        };
        self.chain.encode(writer.array(items).uint(self.number));
        match &self.happened {
            Happened::Denied { bytes, lifted, .. } => {
                writer.uint(1).bytes(bytes);
                match lifted {
                    Some(epoch) => writer.uint(*epoch),
                    None => writer.null(),
                };
            }
            Happened::Lifted { statement, .. } => {
                writer.uint(2).bytes(statement);
            }
            Happened::TicketKey(statement) => {
                writer.uint(4).bytes(statement);
            }
            Happened::Gone(link) => {
                link.forget.encode(writer.uint(3));
                link.record.encode(writer);
            }
        }
    }
}

impl Decode for StoredEpoch {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let items = reader.array(4..=5)?;
        let number = reader.uint()?;
        let chain = ChainDigest::decode(reader)?;
        let happened = match (reader.uint()?, items) {
            (1, 5) => {
                let bytes = reader.bytes(1..=DENIAL)?.to_vec();
                Happened::Denied {
                    denial: Box::new(Denial::from_cbor(&bytes, DENIAL)?),
                    bytes,
                    lifted: reader.optional(Reader::uint)?,
                }
            }
            (2, 4) => {
                let statement = reader.bytes(1..=limits::RECORD)?.to_vec();
                Happened::Lifted {
                    epochs: lifted(&statement)?,
                    statement,
                }
            }
            (4, 4) => Happened::TicketKey(reader.bytes(1..=limits::RECORD)?.to_vec()),
            (3, 5) => Happened::Gone(Link {
                forget: Timestamp::decode(reader)?,
                record: DenialDigest::decode(reader)?,
            }),
            _ => return Err(DecodeError::OutOfRange("epoch")),
        };
        Ok(Self {
            number,
            chain,
            happened,
        })
    }
}

/// The epochs that a statement lifts which this broker verified when it took it.
fn lifted(statement: &[u8]) -> Result<Vec<u64>, DecodeError> {
    let no_lifting = |_| DecodeError::OutOfRange("lifting");
    let received = ReceivedStatement::parse(statement).map_err(no_lifting)?;
    let body = Undeny::from_cbor(&received.payload().body, limits::RECORD)?;
    Ok(body.denials.into_iter().map(|(epoch, _)| epoch).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_format::denial::Selector;
    use ticket_format::ids::{LaunchId, StatementDigest, TicketId};

    fn denied(selector: Selector) -> StoredEpoch {
        let (none, made) = (StatementDigest([0; 32]), Timestamp::from_seconds(1));
        let denial = Denial::new(selector, "why".to_owned(), none, made, "ann".to_owned());
        StoredEpoch::denial(FeedHead::START, denial)
    }

    #[test]
    fn what_is_forgotten_keeps_its_place_in_the_chain() {
        // rule: DEN-1, DEN-7
        let whole = denied(Selector::ticket(TicketId([1; 16])));
        let gone = whole.forgotten().unwrap();
        assert!(whole.follows(FeedHead::START) && gone.follows(FeedHead::START));
        assert_eq!(gone.head(), whole.head());
        assert!(gone.in_force().is_none() && gone.forgotten().is_none());
        for epoch in [whole, gone.clone()] {
            let bytes = epoch.to_cbor();
            assert_eq!(StoredEpoch::from_cbor(&bytes, 4_096), Ok(epoch.clone()));
            assert!(epoch.told().to_cbor().len() <= epoch.weight());
        }
        // Its number, the chain, and the forty bytes that the feed tells.
        assert!(gone.to_cbor().len() <= 80);
    }

    #[test]
    fn what_hits_tickets_to_come_is_never_forgotten() {
        // rule: DEN-7
        assert!(
            denied(Selector::launch(LaunchId([1; 16])))
                .forgotten()
                .is_none()
        );
    }
}
