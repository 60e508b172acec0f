//! A sealed key server (`spec/vault.md`, section 3): it has no root key, and collects the shares that open
//! one. Two acts are all that it does.
//!
//! A function of message, time and random numbers; [`serve`] is its socket.

#[cfg(feature = "net")]
pub mod serve;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand_core::CryptoRng;
use store::root::{Collection, Given, Progress, ShareError, Ways};
use store::sealed::RootKey;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::keys::TlsKey;
use ticket_format::messages::administer::SealedAnswer;
use ticket_format::messages::{Answer, RefusalNotice, RequestView, Verb};
use ticket_format::statement::{
    Act, AdminSet, Attempt, ReceivedStatement, RootShow, RootView, ShareGive, SharePurpose,
    StatementRefusal, VerifiedStatement,
};
use ticket_format::time::Timestamp;

/// How long shares are kept for the others to come.
pub const KEPT: Duration = Duration::from_secs(3_600);
/// Longest reason that is shown, in bytes.
const WRONG: usize = 256;

/// How the root key was opened, which the log gets to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Opened {
    /// By the automatic way.
    #[default]
    Automatic,
    /// By shares.
    Shares {
        /// Who gave them.
        givers: Vec<String>,
        /// Who gave shares that opened nothing, one name for each attempt that was spoilt; the first so many.
        bad: Vec<String>,
    },
}

/// Most spoilt attempts that are remembered by who spoilt them.
const BAD: usize = 64;

/// A sealed key server, but for its socket.
pub struct Sealed {
    realm: String,
    door: TlsKey,
    admins: Arc<AdminSet>,
    ways: Ways,
    wrong: String,
    inner: Mutex<Inner>,
}

struct Inner {
    collection: Collection,
    begun: Duration,
    givers: Vec<String>,
    bad: Vec<String>,
    opened: Option<RootKey>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").finish_non_exhaustive()
    }
}

/// Why something is not done: a stranger gets the number only.
enum Refused {
    Stranger(Refusal),
    Admin(Refusal, String),
}

impl Refused {
    fn notice(self) -> RefusalNotice {
        match self {
            // rule: REF-2
            Self::Stranger(refusal) => RefusalNotice::bare(refusal),
            Self::Admin(refusal, detail) => RefusalNotice::detailed(refusal, detail),
        }
    }
}

impl From<StatementRefusal> for Refused {
    fn from(refused: StatementRefusal) -> Self {
        Self::Stranger(refused.refusal())
    }
}

impl Sealed {
    /// A server that is sealed for this reason, known by its door key to the admins that it remembers.
    pub fn new(
        realm: &str,
        door: TlsKey,
        admins: Arc<AdminSet>,
        ways: Ways,
        wrong: &str,
        begun: Duration,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let mut wrong = wrong.to_owned();
        wrong.truncate(wrong.floor_char_boundary(WRONG));
        let collection = Collection::new(given(realm, door, &ways), ways.threshold(), rng);
        Self {
            realm: realm.to_owned(),
            door,
            admins,
            ways,
            wrong,
            inner: Mutex::new(Inner {
                collection,
                begun,
                givers: Vec::new(),
                bad: Vec::new(),
                opened: None,
            }),
        }
    }

    /// Answers one request, whatever its bytes (REF-1).
    pub fn exchange(
        &self,
        message: &[u8],
        now: Timestamp,
        monotonic: Duration,
        rng: &mut impl CryptoRng,
    ) -> Vec<u8> {
        let answer = match self.administer(message, now, monotonic, rng) {
            Ok(view) => Answer::done(
                Verb::Administer,
                &SealedAnswer {
                    result: view.to_cbor(),
                },
            ),
            Err(refused) => Answer::from(refused.notice()),
        };
        answer.to_bytes()
    }

    /// Erases shares that have waited for too long.
    pub fn expire(&self, monotonic: Duration, rng: &mut impl CryptoRng) {
        let mut inner = self.inner();
        // rule: ROOT-4
        if inner.opened.is_none() && monotonic.saturating_sub(inner.begun) >= KEPT {
            self.begin(&mut inner, monotonic, rng);
        }
    }

    /// The root key, once shares opened it; it is given away once.
    #[must_use]
    pub fn opened(&self) -> Option<(RootKey, Opened)> {
        let mut inner = self.inner();
        let root = inner.opened.take()?;
        let (givers, bad) = (
            std::mem::take(&mut inner.givers),
            std::mem::take(&mut inner.bad),
        );
        Some((root, Opened::Shares { givers, bad }))
    }

    /// Whether shares opened it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner().opened.is_some()
    }

    fn administer(
        &self,
        message: &[u8],
        now: Timestamp,
        monotonic: Duration,
        rng: &mut impl CryptoRng,
    ) -> Result<RootView, Refused> {
        let request =
            RequestView::parse(message).map_err(|error| Refused::Stranger(error.refusal()))?;
        // rule: ROOT-4
        if request.verb != Verb::Administer {
            return Err(Refused::Stranger(Refusal::Sealed));
        }
        if !request.proofs.is_empty() {
            return Err(Refused::Stranger(Refusal::Malformed));
        }
        let received = ReceivedStatement::parse(request.body)?;
        // rule: ROOT-4
        if !matches!(received.payload().act, Act::RootShow | Act::ShareGive) {
            return Err(Refused::Stranger(Refusal::Sealed));
        }
        // rule: ROOT-4 — it names the door key: what is signed for the open server is none of this one's.
        let statement = received.verify(&self.admins, &self.realm, Some(&self.door), now)?;
        self.expire(monotonic, rng);
        match statement.act() {
            Act::RootShow => {
                let RootShow {} = statement.body()?;
                Ok(self.view(&self.inner()))
            }
            _ => self.take(&statement, monotonic, rng),
        }
    }

    /// Takes a share; the one that is enough opens the root key, or spoils the attempt.
    fn take(
        &self,
        statement: &VerifiedStatement,
        monotonic: Duration,
        rng: &mut impl CryptoRng,
    ) -> Result<RootView, Refused> {
        let give: ShareGive = statement.body()?;
        let giver = statement
            .signers()
            .first()
            .map(|admin| admin.name.clone())
            .unwrap_or_default();
        let mut inner = self.inner();
        if inner.opened.is_some() {
            return Err(Refused::Admin(
                Refusal::Stale,
                "it is open: no share is needed".to_owned(),
            ));
        }
        let before = inner.collection.attempt().shares;
        // rule: ROOT-4
        let complete = match inner.collection.take(&give) {
            Ok(progress) => progress == Progress::Complete,
            Err(error @ (ShareError::Attempt | ShareError::Purpose | ShareError::Enough)) => {
                return Err(Refused::Admin(Refusal::Stale, error.to_string()));
            }
            Err(error) => return Err(self.spoilt(&mut inner, giver, &error, monotonic, rng)),
        };
        if inner.collection.attempt().shares > before {
            tracing::warn!(admin = giver, number = give.number, "a share was given");
            inner.givers.push(giver.clone());
        }
        if complete {
            match self.ways.open_shares(inner.collection.shares()) {
                Ok(root) => {
                    inner.opened = Some(root);
                    // The shares have done what they are for.
                    inner.collection = self.collection(rng);
                }
                Err(error) => return Err(self.spoilt(&mut inner, giver, &error, monotonic, rng)),
            }
        }
        Ok(self.view(&inner))
    }

    /// Ends an attempt that a share spoilt.
    fn spoilt(
        &self,
        inner: &mut Inner,
        giver: String,
        error: &dyn std::fmt::Display,
        monotonic: Duration,
        rng: &mut impl CryptoRng,
    ) -> Refused {
        tracing::error!(admin = giver, %error, "shares that do not fit were given");
        // rule: ROOT-4
        if inner.bad.len() < BAD {
            inner.bad.push(giver);
        }
        self.begin(inner, monotonic, rng);
        let detail = format!("{error}; what was given is forgotten: give the shares anew");
        Refused::Admin(Refusal::Invalid, detail)
    }

    fn begin(&self, inner: &mut Inner, monotonic: Duration, rng: &mut impl CryptoRng) {
        inner.collection = self.collection(rng);
        inner.begun = monotonic;
        inner.givers.clear();
    }

    fn collection(&self, rng: &mut impl CryptoRng) -> Collection {
        let to = given(&self.realm, self.door, &self.ways);
        Collection::new(to, self.ways.threshold(), rng)
    }

    fn view(&self, inner: &Inner) -> RootView {
        let sealed = inner.opened.is_none();
        let unseal = sealed.then(|| inner.collection.attempt());
        view(&self.ways, sealed.then_some(&self.wrong), unseal, None)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn given(realm: &str, door: TlsKey, ways: &Ways) -> Given {
    Given {
        realm: realm.to_owned(),
        server: door,
        root: ways.root(),
        purpose: SharePurpose::Unseal,
    }
}

/// What is shown of a root key; sealed, with the reason, or open.
pub(crate) fn view(
    ways: &Ways,
    wrong: Option<&String>,
    unseal: Option<Attempt>,
    drill: Option<Attempt>,
) -> RootView {
    RootView {
        sealed: wrong.is_some(),
        root: ways.root(),
        auto: ways.kind(),
        wrong: wrong.cloned().unwrap_or_default(),
        threshold: ways.threshold(),
        shares: ways.rows().to_vec(),
        unseal,
        drill,
    }
}
