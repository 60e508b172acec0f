//! A recovery on its way: committed with the statement that asks for it, done when the new shard stands.

use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::time::Timestamp;
use ticket_format::tlog::Checkpoint;

use crate::witness::Compared;
use crate::{AppendError, Appended, AuditLog};

/// Why a log does not go on where a statement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecovered {
    /// Nobody has seen anything else of it.
    #[error("nothing is known against the log: there is nothing to recover")]
    Good,
    /// Not where it stands.
    #[error("the log does not stand there: see `log show` and sign anew")]
    Elsewhere,
}

/// Begins the next shard of a log that was rolled back (TLOG-10), once, whenever it is tried.
///
/// In a store: `[act: id16, at least: uint, time, statement: hash, seen: checkpoint / null]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The act of the entry *opened*.
    pub act: ActId,
    /// Least number of the new shard.
    pub at_least: u64,
    /// When it was decided.
    pub time: Timestamp,
    /// The statement's digest.
    pub statement: [u8; 32],
    /// What a witness has seen of the log beyond.
    pub seen: Option<Checkpoint>,
}

impl Recovery {
    /// Begins the shard, or finds it begun.
    ///
    /// # Errors
    /// [`AppendError`]: to be tried again.
    pub async fn finish(&self, log: &AuditLog) -> Result<Appended, AppendError> {
        let recovery = self.clone();
        let opened = move |previous: &Checkpoint, before| recovery.opened(previous, before);
        log.recover(self.act.0, self.at_least, opened).await
    }

    /// The same, where witnesses show what was seen of the log beyond: for a log that was put back, of which
    /// nobody could ask before. The new shard's number is beyond what they show.
    #[must_use]
    pub fn knowing<'a>(mut self, compared: impl IntoIterator<Item = &'a Compared>) -> Self {
        // rule: BAK-4
        for compared in compared {
            let (Compared::Ahead { proof, .. } | Compared::OtherRoot { proof }) = compared else {
                continue;
            };
            let Some(proof) = proof.as_ref().map(|proof| proof.checkpoint()) else {
                continue;
            };
            self.at_least = self.at_least.max(proof.shard.number.saturating_add(1));
            let further = |seen: &Checkpoint| {
                (seen.shard.number, seen.size) < (proof.shard.number, proof.size)
            };
            if self.seen.as_ref().is_none_or(further) {
                self.seen = Some(proof.clone());
            }
        }
        self
    }

    fn opened(&self, previous: &Checkpoint, before: u64) -> Vec<u8> {
        // rule: TLOG-10
        let entry = Entry::new(self.act, Kind::ShardOpened, self.time);
        let mut entry = entry
            .log(previous.clone())
            .count(before)
            .proof(self.statement);
        entry.seen.clone_from(&self.seen);
        entry.to_cbor()
    }
}

impl Encode for Recovery {
    fn encode(&self, writer: &mut Writer) {
        writer.array(5);
        self.act.encode(writer);
        writer.uint(self.at_least);
        self.time.encode(writer);
        writer.bytes(&self.statement);
        match &self.seen {
            Some(seen) => seen.encode(writer),
            None => {
                writer.null();
            }
        }
    }
}

impl Decode for Recovery {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(5..=5)?;
        Ok(Self {
            act: ActId::decode(reader)?,
            at_least: reader.uint()?,
            time: Timestamp::decode(reader)?,
            statement: reader.array_of()?,
            seen: reader.optional(Checkpoint::decode)?,
        })
    }
}
