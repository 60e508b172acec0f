//! Administer (`spec/protocol.md`, section 9): every act is a statement, and there is one path.

pub mod datasets;
pub mod denials;
pub mod launches;
pub mod nodes;
pub mod policies;

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{ActId, RequestHash};
use ticket_format::messages::RequestView;
use ticket_format::statement::{Act, ActBody, ReceivedStatement, VerifiedStatement};
use ticket_format::time::Timestamp;

use crate::Refused;
use crate::realm::{Caller, Realm};
use crate::state::{Changes, UsedStatement, keys};

/// A statement by registered admins, for this broker or for everyone, within its time.
#[derive(Debug)]
pub struct Opened {
    statement: VerifiedStatement,
    bytes: Vec<u8>,
    request: RequestHash,
}

/// Reads and verifies a statement.
///
/// # Errors
/// Refusals 1 and 70 to 74.
pub fn open(request: &RequestView<'_>, realm: &Realm, now: Timestamp) -> Result<Opened, Refused> {
    if !request.proofs.is_empty() {
        return Err(Refused::stranger(
            Refusal::Malformed,
            "a statement is signed itself and has no proofs beside it",
        ));
    }
    // rule: ADM-1, ADM-2
    let verified = ReceivedStatement::parse(request.body)
        .and_then(|received| received.verify(&realm.admins, &realm.name, Some(&realm.tls), now));
    // A statement for another server or over by now proves nothing of who sends it: whoever saw it can.
    let statement = verified.map_err(|error| Refused::stranger(error.refusal(), error))?;
    Ok(Opened {
        statement,
        bytes: request.body.to_vec(),
        request: RequestHash::of(request.body),
    })
}

impl Opened {
    /// What it does.
    #[must_use]
    pub fn act(&self) -> Act {
        self.statement.act()
    }

    /// The statement.
    #[must_use]
    pub fn statement(&self) -> &VerifiedStatement {
        &self.statement
    }

    /// Its bytes, as received.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The admin who signed first.
    #[must_use]
    pub fn admin(&self) -> String {
        self.statement
            .signers()
            .first()
            .map_or_else(String::new, ToString::to_string)
    }

    /// The act's body.
    ///
    /// # Errors
    /// Refusal 70.
    pub fn body<B: ActBody>(&self) -> Result<B, Refused> {
        self.statement
            .body()
            .map_err(|error| Refused::proven(error.refusal(), error).of(self.admin()))
    }

    /// Refuses this act.
    #[must_use]
    pub fn refuse(&self, refusal: Refusal, why: impl ToString) -> Refused {
        Refused::proven(refusal, why).of(self.admin())
    }

    /// The entry of this act.
    #[must_use]
    pub fn entry(&self, act: ActId, caller: &Caller, now: Timestamp) -> Entry {
        Entry::new(act, Kind::Statement, now)
            .subject(self.admin())
            .request(self.request)
            .proof(self.statement.digest().0)
            .source(caller.address)
    }

    /// The alarm of its replay. It says whose statement it was, which is not who sent it.
    #[must_use]
    pub fn replayed(&self, caller: &Caller, now: Timestamp, rng: &mut impl CryptoRng) -> Entry {
        Entry::alarm(ActId::random(rng), Alarm::StatementReplayed, now)
            .subject(self.admin())
            .request(self.request)
            .proof(self.statement.digest().0)
            .source(caller.address)
    }

    /// Uses the statement's id up, with whatever else changes (ADM-2).
    ///
    /// # Errors
    /// Refusal 73.
    pub fn begin(&self, used: Option<&UsedStatement>) -> Result<Changes, Refused> {
        // rule: ADM-2
        if let Some(used) = used {
            let same = if used.digest == self.statement.digest() {
                "this statement"
            } else {
                "another statement with this id"
            };
            // Not its admin's refusal: whoever holds the bytes can send them.
            return Err(Refused::stranger(
                Refusal::StatementReplayed,
                format!("{same} was used before"),
            ));
        }
        let mut changes = Changes::new();
        let key = keys::statement(self.statement.id());
        changes.put(
            key,
            &UsedStatement {
                digest: self.statement.digest(),
                expires: self.statement.expires(),
            },
        );
        Ok(changes)
    }
}

/// What an act came to.
#[derive(Debug)]
pub struct Done {
    /// What changes.
    pub changes: Changes,
    /// The act's result, encoded.
    pub result: Vec<u8>,
}

impl Done {
    /// Checks at compile time that the result is the act's own.
    #[must_use]
    pub fn new<B: ActBody>(changes: Changes, result: &B::Result) -> Self {
        Self {
            changes,
            result: result.to_cbor(),
        }
    }
}
