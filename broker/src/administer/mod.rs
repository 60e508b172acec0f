//! Administer (`spec/protocol.md`, section 9): every act is a statement, and there is one path.

pub mod admin_sets;
pub mod aliases;
pub mod datasets;
pub mod denials;
pub mod launches;
pub mod nodes;
pub mod policies;
pub mod proposals;
pub mod ticket_keys;
pub mod undeny;
pub mod what_if;

use std::sync::Arc;

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{ActId, RequestHash, StatementDigest};
use ticket_format::keys::AdminKey;
use ticket_format::messages::RequestView;
use ticket_format::statement::{
    Act, ActBody, Admin, AdminSet, ReceivedStatement, StatementRefusal, VerifiedStatement,
};
use ticket_format::time::Timestamp;

use crate::Refused;
use crate::realm::{Caller, Realm};
use crate::state::{Changes, UsedStatement, keys};

/// A statement by as many admins as the set in force demands, for this broker or for everyone, within
/// its time.
#[derive(Debug)]
pub struct Opened {
    statement: VerifiedStatement,
    set: Arc<AdminSet>,
    bytes: Vec<u8>,
    request: RequestHash,
}

/// Reads and verifies a statement by the admin set in force.
///
/// # Errors
/// Refusals 1, 70 to 72, 74 and 78.
pub fn open(
    request: &RequestView<'_>,
    realm: &Realm,
    set: Arc<AdminSet>,
    now: Timestamp,
) -> Result<Opened, Refused> {
    if !request.proofs.is_empty() {
        return Err(Refused::stranger(
            Refusal::Malformed,
            "a statement is signed itself and has no proofs beside it",
        ));
    }
    // rule: ADM-1, ADM-2, SET-2
    let verified = ReceivedStatement::parse(request.body)
        .and_then(|received| received.verify(&set, &realm.name, Some(&realm.tls), now));
    let statement = verified.map_err(|error| too_few(request.body, &set, error))?;
    Ok(Opened {
        statement,
        set,
        bytes: request.body.to_vec(),
        request: RequestHash::of(request.body),
    })
}

/// Too few signatures are a known admin's refusal: somebody tries alone what takes several. Any other
/// statement that does not hold proves nothing of who sends it: whoever saw it can.
fn too_few(bytes: &[u8], set: &AdminSet, error: StatementRefusal) -> Refused {
    if error.refusal() != Refusal::Quorum {
        return Refused::stranger(error.refusal(), error);
    }
    let signers = ReceivedStatement::parse(bytes).and_then(|received| received.signed_by(set));
    match signers.as_deref() {
        Ok([first, ..]) => Refused::proven(Refusal::Quorum, error).of(&first.name),
        _ => Refused::stranger(Refusal::Quorum, error),
    }
}

/// The entry of a statement that a known admin signed, and too few others.
#[must_use]
pub fn unopened(
    request: &RequestView<'_>,
    refused: &Refused,
    set: &AdminSet,
    act: ActId,
    caller: &Caller,
    now: Timestamp,
) -> Entry {
    let entry = Entry::new(act, Kind::Statement, now)
        .request(RequestHash::of(request.body))
        .proof(StatementDigest::of(request.body).0)
        .source(caller.address);
    let Some(subject) = &refused.subject else {
        return entry;
    };
    // Somebody of the set signed it, or it would be a stranger's: the others are named with him.
    let signers = ReceivedStatement::parse(request.body)
        .and_then(|received| received.signed_by(set))
        .unwrap_or_default();
    entry
        .subject(subject)
        .signers(signers.into_iter().map(|admin| admin.name))
}

/// Whether an act is taken while the log is rolled back: what an admin needs to recover it, and nothing
/// else (TLOG-10).
#[must_use]
pub fn may_rolled_back(act: Act) -> bool {
    // rule: TLOG-10
    matches!(
        act,
        Act::AdminSet | Act::LogRecover | Act::LogShow | Act::Status
    )
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

    /// The admin set that it was verified by.
    #[must_use]
    pub fn set(&self) -> &AdminSet {
        &self.set
    }

    /// The name of the admin who signed first.
    #[must_use]
    pub fn admin(&self) -> String {
        self.first()
            .map_or_else(String::new, |admin| admin.name.clone())
    }

    /// The key of the admin who signed first.
    ///
    /// # Errors
    /// Refusal 71; a verified statement has at least one.
    pub fn signer(&self) -> Result<AdminKey, Refused> {
        let first = self.first().map(|admin| admin.key);
        first.ok_or_else(|| Refused::stranger(Refusal::StatementSignature, "nobody signed"))
    }

    fn first(&self) -> Option<&Admin> {
        self.statement.signers().first()
    }

    /// The names of all who signed.
    #[must_use]
    pub fn signers(&self) -> Vec<String> {
        let signers = self.statement.signers().iter();
        signers.map(|admin| admin.name.clone()).collect()
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
            .signers(self.signers())
            .request(self.request)
            .proof(self.statement.digest().0)
            .source(caller.address)
    }

    /// The alarm of its replay. It says whose statement it was, which is not who sent it.
    #[must_use]
    pub fn replayed(&self, caller: &Caller, now: Timestamp, rng: &mut impl CryptoRng) -> Entry {
        Entry::alarm(ActId::random(rng), Alarm::StatementReplayed, now)
            .subject(self.admin())
            .signers(self.signers())
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
