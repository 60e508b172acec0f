//! Which keys tickets may be signed by: the first one, and those that follow it by statement (KEY-1).

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{Thumbprint, TicketKeyDigest};
use crate::keys::TicketKey;
use crate::limits;
use crate::statement::{
    Act, AdminSet, Audience, ReceivedStatement, StatementRefusal, TicketKeySet,
};
use crate::time::Timestamp;

/// Keys that were replaced and are remembered; the earliest go first. Whoever rotates this often while
/// tickets of the first still count has other worries.
pub const RETIRED: usize = 16;

/// A key, and which tickets under it count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer<'a> {
    /// The key.
    pub key: &'a TicketKey,
    /// Only those that are issued before then.
    pub before: Timestamp,
    /// Only until then.
    pub until: Timestamp,
}

impl Signer<'_> {
    /// Whether a ticket that was issued at `issued` may be signed by it at all.
    pub(super) fn may_have_issued(&self, issued: Timestamp) -> bool {
        // rule: KEY-2 — else who stole the old key could go on to sign with it.
        self.before == Timestamp::LAST || issued < self.before
    }

    /// Whether tickets under it count at `now`.
    pub(super) fn counts(&self, now: Timestamp) -> bool {
        // rule: KEY-2
        counts(self.until, now)
    }
}

pub(super) fn counts(until: Timestamp, now: Timestamp) -> bool {
    until == Timestamp::LAST || now < until
}

/// The keys that a ticket is verified by.
pub trait TicketSigners {
    /// The one with this thumbprint.
    fn signer(&self, kid: &[u8]) -> Option<Signer<'_>>;
}

/// One key, for ever.
impl TicketSigners for TicketKey {
    fn signer(&self, kid: &[u8]) -> Option<Signer<'_>> {
        // rule: TKT-4
        (self.thumbprint().0 == kid).then_some(Signer {
            key: self,
            before: Timestamp::LAST,
            until: Timestamp::LAST,
        })
    }
}

/// A key that was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// The key.
    pub key: TicketKey,
    /// From then on its successor signs.
    pub from: Timestamp,
    /// From then on no ticket under it counts.
    pub until: Timestamp,
}

/// A chain of ticket-signing keys as far as it was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketKeys {
    origin: TicketKey,
    newest: TicketKey,
    since: Timestamp,
    number: u64,
    digest: TicketKeyDigest,
    /// Whether the number is known: a pinned key need not be the first.
    placed: bool,
    retired: Vec<Retired>,
}

/// Why a record is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketKeyRefusal {
    /// Not a statement, or not signed as it should be.
    #[error(transparent)]
    Statement(#[from] StatementRefusal),
    /// Another act, or for one server.
    #[error("it is no ticket-key record for everyone")]
    NoRecord,
    /// It does not follow the one that stands.
    #[error("it does not follow ticket key {0}, the newest")]
    Follows(u64),
    /// Its keys or times contradict each other.
    #[error(
        "its keys or times contradict each other: the new key is no old one, it signs later than the one before began to, and the old one counts until after that"
    )]
    Contradiction,
}

impl TicketKeys {
    /// A key that somebody vouches for: a configuration or a bootstrap.
    #[must_use]
    pub fn of(key: TicketKey) -> Self {
        Self {
            origin: key,
            newest: key,
            since: Timestamp::default(),
            number: 1,
            digest: TicketKeySet::NOTHING,
            placed: false,
            retired: Vec::new(),
        }
    }

    /// A realm's first key: its number is known.
    #[must_use]
    pub fn first(key: TicketKey) -> Self {
        Self {
            placed: true,
            ..Self::of(key)
        }
    }

    /// The key that it was begun with.
    #[must_use]
    pub fn origin(&self) -> &TicketKey {
        &self.origin
    }

    /// The newest key, which need not sign yet.
    #[must_use]
    pub fn newest(&self) -> &TicketKey {
        &self.newest
    }

    /// From when on the newest key signs.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// The newest record's number; 1 before the first.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The newest record's digest.
    #[must_use]
    pub fn digest(&self) -> TicketKeyDigest {
        self.digest
    }

    /// The keys before the newest, in order.
    #[must_use]
    pub fn retired(&self) -> &[Retired] {
        &self.retired
    }

    /// All of them, whatever tickets under them count.
    pub fn all(&self) -> impl Iterator<Item = &TicketKey> {
        let retired = self.retired.iter().map(|retired| &retired.key);
        [&self.origin, &self.newest].into_iter().chain(retired)
    }

    /// Whether it is one of them, whatever tickets under it count.
    #[must_use]
    pub fn knows(&self, key: &TicketKey) -> bool {
        self.all().any(|known| known == key)
    }

    /// The key that signs what is issued at `issued`, and until when tickets under it count.
    #[must_use]
    pub fn at(&self, issued: Timestamp) -> (&TicketKey, Timestamp) {
        // rule: KEY-2
        let mut retired = self.retired.iter();
        match retired.find(|retired| issued < retired.from) {
            Some(retired) => (&retired.key, retired.until),
            None => (&self.newest, Timestamp::LAST),
        }
    }

    /// Takes a record that follows the newest, or tells where the pinned key stands. Each of `sets` may
    /// have authorised it: the records of a chain outlive the admin set that was in force when they were
    /// made. Whether it told anything new.
    ///
    /// # Errors
    /// [`TicketKeyRefusal`]; nothing has changed.
    pub fn follow<'a>(
        &mut self,
        statement: &[u8],
        sets: impl IntoIterator<Item = &'a AdminSet>,
        realm: &str,
        now: Timestamp,
    ) -> Result<bool, TicketKeyRefusal> {
        // rule: KEY-1
        let received = ReceivedStatement::parse(statement)?;
        let payload = received.payload();
        if payload.act != Act::TicketKeySet || payload.audience != Audience::Everyone {
            return Err(TicketKeyRefusal::NoRecord);
        }
        let body: TicketKeySet = payload.body_of()?;
        let digest = TicketKeyDigest::of(&payload.body);
        let mut verified = Err(StatementRefusal::UnknownSigner);
        for set in sets {
            // One that begins within the skew was in force at the broker already.
            let received = ReceivedStatement::parse(statement)?;
            verified = received.verify(set, realm, None, now.plus(limits::SKEW));
            if verified.is_ok() {
                break;
            }
        }
        if !self.placed && body.key == self.newest {
            // Where the pinned key stands; and of the key before, what is signed. Else its number is a
            // hint of what to ask for, and nothing more.
            if verified.is_ok() && body.old != body.key && body.from < body.until {
                self.retire(&body);
                self.place(&body, digest);
            } else {
                self.number = body.number;
            }
            return Ok(true);
        }
        if self.is_behind(&body) {
            return Ok(false);
        }
        self.succeeds(&body)?;
        verified?;
        self.retire(&body);
        self.place(&body, digest);
        Ok(true)
    }

    /// As [`follow`](Self::follow), of a body that was verified when it was taken.
    ///
    /// # Errors
    /// [`TicketKeyRefusal`]; nothing has changed.
    pub fn take(&mut self, body: &TicketKeySet) -> Result<(), TicketKeyRefusal> {
        self.succeeds(body)?;
        self.retire(body);
        self.place(body, TicketKeyDigest::of(&body.to_cbor()));
        Ok(())
    }

    fn is_behind(&self, body: &TicketKeySet) -> bool {
        match self.placed {
            true => body.number <= self.number,
            false => body.old != self.newest,
        }
    }

    /// Whether a record may follow the newest key.
    ///
    /// # Errors
    /// [`TicketKeyRefusal::Follows`] and [`TicketKeyRefusal::Contradiction`].
    pub fn succeeds(&self, body: &TicketKeySet) -> Result<(), TicketKeyRefusal> {
        // rule: KEY-1
        let next = match self.placed {
            true => body.number == self.number.saturating_add(1) && body.follows == self.digest,
            // Of a pinned key that is not the first the number is not known before its own successor: what
            // a record that nobody could verify said of it is no reason to refuse a good one.
            false => body.number != 2 || body.follows == TicketKeySet::NOTHING,
        };
        if body.old != self.newest || !next {
            return Err(TicketKeyRefusal::Follows(self.number));
        }
        // The keys end in their order.
        let ended = self.retired.last().map(|last| last.until);
        let order = self.since < body.from
            && body.from < body.until
            && ended.is_none_or(|ended| ended <= body.until);
        if !order || self.knows(&body.key) || body.until == Timestamp::LAST {
            return Err(TicketKeyRefusal::Contradiction);
        }
        Ok(())
    }

    fn retire(&mut self, body: &TicketKeySet) {
        if self.retired.len() == RETIRED {
            self.retired.remove(0);
        }
        self.retired.push(Retired {
            key: body.old,
            from: body.from,
            until: body.until,
        });
    }

    fn place(&mut self, body: &TicketKeySet, digest: TicketKeyDigest) {
        self.newest = body.key;
        self.since = body.from;
        self.number = body.number;
        self.digest = digest;
        self.placed = true;
    }
}

impl TicketSigners for TicketKeys {
    fn signer(&self, kid: &[u8]) -> Option<Signer<'_>> {
        if let Some(newest) = self.newest.signer(kid) {
            return Some(newest);
        }
        let mut retired = self.retired.iter().rev();
        let found = retired.find(|retired| retired.key.thumbprint() == thumbprint(kid))?;
        Some(Signer {
            key: &found.key,
            before: found.from,
            until: found.until,
        })
    }
}

/// Another length is nobody's.
fn thumbprint(kid: &[u8]) -> Thumbprint {
    Thumbprint(kid.try_into().unwrap_or_default())
}

impl Encode for Retired {
    fn encode(&self, writer: &mut Writer) {
        self.key.encode(writer.array(3));
        self.from.encode(writer);
        self.until.encode(writer);
    }
}

impl Decode for Retired {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(3..=3)?;
        Ok(Self {
            key: TicketKey::decode(reader)?,
            from: Timestamp::decode(reader)?,
            until: Timestamp::decode(reader)?,
        })
    }
}

/// As a node or a key server keeps it: `[origin, newest, since, number, digest, placed, [*16 [key, from,
/// until]]]`.
impl Encode for TicketKeys {
    fn encode(&self, writer: &mut Writer) {
        self.origin.encode(writer.array(7));
        self.newest.encode(writer);
        self.since.encode(writer);
        // What is only a hint is not kept.
        let number = if self.placed { self.number } else { 1 };
        self.digest.encode(writer.uint(number));
        writer.bool(self.placed).array(self.retired.len());
        for retired in &self.retired {
            retired.encode(writer);
        }
    }
}

impl Decode for TicketKeys {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(7..=7)?;
        Ok(Self {
            origin: TicketKey::decode(reader)?,
            newest: TicketKey::decode(reader)?,
            since: Timestamp::decode(reader)?,
            number: reader.uint()?,
            digest: TicketKeyDigest::decode(reader)?,
            placed: reader.bool()?,
            retired: reader.list(0..=RETIRED, Retired::decode)?,
        })
    }
}

#[cfg(test)]
mod tests;
