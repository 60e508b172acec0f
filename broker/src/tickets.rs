//! The keys that tickets are signed by: one after the other, by statement (KEY-1, KEY-2).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ticket_format::Refusal;
use ticket_format::ids::Thumbprint;
use ticket_format::keys::TicketKey;
use ticket_format::limits;
use ticket_format::messages::issue::TICKET_KEYS;
use ticket_format::statement::{ReceivedStatement, TicketKeyRow, TicketKeySet};
use ticket_format::ticket::{self, Claims, TicketKeys, TicketSigner};
use ticket_format::time::Timestamp;

use crate::Refused;

/// Most keys that are made and named by no record.
pub const UNNAMED: usize = 4;

/// Where private keys are kept. What it does may wait for a disk.
pub trait KeyKeeper: Send + Sync + fmt::Debug {
    /// Makes a key, keeps it durably and reads it back.
    ///
    /// # Errors
    /// Why it cannot be kept.
    fn make(&self) -> Result<Arc<dyn TicketSigner>, String>;

    /// Erases a key, the realm's first or a later one; one that is not there is erased already.
    ///
    /// # Errors
    /// Why it may be there still.
    fn erase(&self, key: &TicketKey, first: bool) -> Result<(), String>;
}

/// The chain of keys, and the private ones that are held. Shared: keys are replaced while tickets are
/// signed.
#[derive(Debug)]
pub struct TicketRing {
    state: RwLock<State>,
    keeper: Arc<dyn KeyKeeper>,
}

struct State {
    keys: Arc<TicketKeys>,
    signers: BTreeMap<Thumbprint, Arc<dyn TicketSigner>>,
    /// The records by number.
    statements: BTreeMap<u64, Vec<u8>>,
    /// The first key is not held: records say which are the others.
    first_is_gone: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("keys", &self.keys).finish()
    }
}

/// A key that counts no more, and is to be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// Its number.
    pub number: u64,
    /// The key.
    pub key: TicketKey,
}

impl TicketRing {
    /// The first key, where it is not erased yet, and the others that are held.
    ///
    /// # Errors
    /// There is none at all.
    pub fn new(
        first: Option<Arc<dyn TicketSigner>>,
        others: Vec<Arc<dyn TicketSigner>>,
        keeper: Arc<dyn KeyKeeper>,
    ) -> Result<Self, String> {
        let first_is_gone = first.is_none();
        let signers: Vec<_> = first.into_iter().chain(others).collect();
        // Where the first one is gone its name comes with the records.
        let begin = signers.first().map(|signer| signer.public());
        let begin = begin.ok_or_else(|| "there is no ticket key".to_owned())?;
        let by_name = |signer: Arc<dyn TicketSigner>| (signer.public().thumbprint(), signer);
        Ok(Self {
            state: RwLock::new(State {
                keys: Arc::new(TicketKeys::first(begin)),
                signers: signers.into_iter().map(by_name).collect(),
                statements: BTreeMap::new(),
                first_is_gone,
            }),
            keeper,
        })
    }

    fn read<T>(&self, of: impl FnOnce(&State) -> T) -> T {
        of(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, of: impl FnOnce(&mut State) -> T) -> T {
        of(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where private keys are kept.
    #[must_use]
    pub fn keeper(&self) -> Arc<dyn KeyKeeper> {
        Arc::clone(&self.keeper)
    }

    /// The keys that tickets are verified by.
    #[must_use]
    pub fn keys(&self) -> Arc<TicketKeys> {
        self.read(|state| Arc::clone(&state.keys))
    }

    /// What all keys that are held are registered under.
    #[must_use]
    pub fn thumbprints(&self) -> Vec<Thumbprint> {
        self.read(|state| state.signers.keys().copied().collect())
    }

    /// Takes the records, ascending from number 2, as they were verified when they were taken.
    ///
    /// # Errors
    /// One does not follow.
    pub fn load(&self, statements: Vec<Vec<u8>>) -> Result<(), String> {
        let mut keys: Option<TicketKeys> = None;
        let mut by_number = BTreeMap::new();
        for statement in statements {
            let received =
                ReceivedStatement::parse(&statement).map_err(|error| error.to_string())?;
            let body: TicketKeySet = received.body().map_err(|error| error.to_string())?;
            let chain = keys.get_or_insert_with(|| TicketKeys::first(body.old));
            let followed = chain.take(&body);
            followed.map_err(|error| format!("ticket key {}: {error}", body.number))?;
            by_number.insert(body.number, statement);
        }
        if let Some(keys) = keys {
            self.write(|state| {
                state.keys = Arc::new(keys);
                state.statements = by_number;
            });
        }
        Ok(())
    }

    /// Whether the key that signs at `now`, and the one that follows it, are held.
    ///
    /// # Errors
    /// Which one is not.
    pub fn check(&self, now: Timestamp) -> Result<(), String> {
        self.read(|state| {
            if state.first_is_gone && state.statements.is_empty() {
                return Err("the first ticket key is not here, and no record names another".to_owned());
            }
            for key in [state.keys.at(now).0, state.keys.newest()] {
                if !state.signers.contains_key(&key.thumbprint()) {
                    return Err(format!(
                        "the private key of ticket key {key}, by which the records say that tickets are signed, is not here"
                    ));
                }
            }
            Ok(())
        })
    }

    /// Signs a ticket with the key that signs when it is issued.
    ///
    /// # Errors
    /// Refusal 5: that key is not held, or what holds it gives no good signature.
    pub fn sign<C: Claims>(&self, claims: &C) -> Result<Vec<u8>, Refused> {
        // rule: KEY-2
        let signer = self.read(|state| {
            let (key, _) = state.keys.at(claims.common().issued);
            state.signers.get(&key.thumbprint()).map(Arc::clone)
        });
        let signer = signer.ok_or_else(|| {
            Refused::stranger(Refusal::Internal, "the key that signs now is not held")
        })?;
        // rule: KEY-4
        let signed = ticket::sign_by(claims, &*signer);
        signed.map_err(|error| Refused::stranger(Refusal::Internal, error))
    }

    /// When a ticket that is issued at `issued` has to be over: no ticket outlives the time until which
    /// its key counts.
    #[must_use]
    pub fn end(&self, issued: Timestamp) -> Timestamp {
        // rule: KEY-2
        self.read(|state| state.keys.at(issued).1)
    }

    /// The records after a number, ascending: the first of them.
    #[must_use]
    pub fn after(&self, number: u64) -> Vec<Vec<u8>> {
        // rule: KEY-3
        self.read(|state| {
            let later = state.statements.range(number.saturating_add(1)..);
            let first = later.take(TICKET_KEYS);
            first.map(|(_, statement)| statement.clone()).collect()
        })
    }

    /// The newest records, ascending.
    #[must_use]
    pub fn newest(&self) -> Vec<Vec<u8>> {
        // rule: KEY-3
        self.read(|state| {
            let skip = state.statements.len().saturating_sub(TICKET_KEYS);
            state.statements.values().skip(skip).cloned().collect()
        })
    }

    /// Takes a key that is kept now.
    pub fn add(&self, signer: Arc<dyn TicketSigner>) {
        let name = signer.public().thumbprint();
        self.write(|state| state.signers.insert(name, signer));
    }

    /// The keys that are held and that no record names.
    #[must_use]
    pub fn unnamed(&self) -> Vec<TicketKey> {
        self.read(|state| {
            let keys = state.signers.values().map(|signer| signer.public());
            keys.filter(|key| !state.keys.knows(key)).collect()
        })
    }

    /// Whether the private key is held.
    #[must_use]
    pub fn holds(&self, key: &TicketKey) -> bool {
        self.read(|state| state.signers.contains_key(&key.thumbprint()))
    }

    /// The keys after this number that count no more at `now`, in order.
    #[must_use]
    pub fn over(&self, after: u64, now: Timestamp) -> Vec<Over> {
        // rule: KEY-2
        let keys = self.keys();
        let first = keys.number().saturating_sub(keys.retired().len() as u64);
        let numbered = (first..).zip(keys.retired());
        let over = numbered.take_while(|(_, retired)| retired.until <= now);
        let over = over.filter(|(number, _)| *number > after);
        over.map(|(number, retired)| Over {
            number,
            key: retired.key,
        })
        .collect()
    }

    /// Forgets a private key.
    pub fn forget(&self, key: &TicketKey) {
        self.write(|state| state.signers.remove(&key.thumbprint()));
    }

    /// The number of the key that signs at `now`.
    #[must_use]
    pub fn signing(&self, now: Timestamp) -> (u64, TicketKey) {
        let keys = self.keys();
        let later = keys.retired().iter().filter(|retired| now < retired.from);
        (
            keys.number().saturating_sub(later.count() as u64),
            *keys.at(now).0,
        )
    }

    /// The keys, for people.
    #[must_use]
    pub fn rows(&self, now: Timestamp) -> Vec<TicketKeyRow> {
        let keys = self.keys();
        let (signing, _) = self.signing(now);
        let first = keys.number().saturating_sub(keys.retired().len() as u64);
        let mut from = None;
        let mut rows = Vec::new();
        for (number, retired) in (first..).zip(keys.retired()) {
            rows.push(TicketKeyRow {
                number,
                key: retired.key,
                from: from.replace(retired.from),
                to: Some(retired.from),
                until: Some(retired.until),
                signs: number == signing,
                held: self.holds(&retired.key),
            });
        }
        rows.push(TicketKeyRow {
            number: keys.number(),
            key: *keys.newest(),
            from,
            to: None,
            until: None,
            signs: keys.number() == signing,
            held: self.holds(keys.newest()),
        });
        rows.extend(self.unnamed().into_iter().map(|key| TicketKeyRow {
            number: 0,
            key,
            from: None,
            to: None,
            until: None,
            signs: false,
            held: true,
        }));
        rows
    }
}

/// What a record is held to beside the chain.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest lease of a subscriber, in seconds: by then each knows of the record, or takes no ticket.
    pub lease: u64,
    /// The longest life of a ticket, in seconds.
    pub life: u64,
}

/// What `until` may be later than it must, in seconds.
pub const SPARE: u64 = 86_400;

impl Bounds {
    /// Checks a record's times.
    ///
    /// # Errors
    /// What is wrong with them, for the signers.
    pub fn check(&self, body: &TicketKeySet, now: Timestamp) -> Result<(), String> {
        // rule: KEY-1
        let earliest = now.plus(self.lease.max(1));
        if body.from < earliest {
            return Err(format!(
                "the new key cannot sign before {earliest}: key servers must know of it first"
            ));
        }
        let least = body.from.plus(self.life);
        if body.until < least {
            return Err(format!(
                "tickets under the old key may live until {least}: let them count until then"
            ));
        }
        let most = least.plus(SPARE);
        if body.until > most {
            return Err(format!(
                "the old key need not count longer than until {most}: a day more than its last ticket"
            ));
        }
        Ok(())
    }

    /// Of these leases and lives.
    #[must_use]
    pub fn of(records: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut bounds = Self {
            lease: 5,
            life: limits::NODE_TICKET_LIFE,
        };
        for (lease, life) in records {
            bounds.lease = bounds.lease.max(lease);
            bounds.life = bounds.life.max(life.min(limits::LONGEST_TICKET_LIFE));
        }
        bounds
    }
}

#[cfg(test)]
mod tests;
