//! Watch and wipe (`spec/protocol.md`, section 8): what the holder of a node ticket hears of its
//! denial, and the last thing that it says.

use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::denial::TicketFacts;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, RequestHash, TicketId};
use ticket_format::labels::{WATCH_REQUEST, WIPE_REQUEST};
use ticket_format::limits;
use ticket_format::messages::watch::{WatchAnswer, WatchBody};
use ticket_format::messages::wipe::WipeBody;
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::sign::Proof;
use ticket_format::ticket::{self, Live, NodeClaims, TicketError};
use ticket_format::time::Timestamp;

use crate::Refused;
use crate::realm::{Caller, Realm};

/// Why a held ticket is denied, if it is: the answer's reason.
pub type Denied = Option<String>;

/// A live node ticket whose proof key has signed the request on this connection.
#[derive(Debug)]
pub struct Held {
    ticket: Live<NodeClaims>,
}

impl Held {
    /// Verifies the ticket and the possession of its proof key (WIP-1, WIP-2).
    pub(crate) fn open(
        request: &RequestView<'_>,
        label: &'static str,
        bytes: &[u8],
        realm: &Realm,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Self, Refused> {
        let refused = |error: TicketError| Refused::stranger(error.into(), error);
        let verified = ticket::verify::<NodeClaims>(
            bytes,
            &*realm.tickets.keys(),
            &realm.name,
            realm.audience(),
        );
        // rule: WIP-1
        let ticket = verified
            .and_then(|ticket| ticket.live(now))
            .map_err(refused)?;
        let [proof] = request.proofs.as_slice() else {
            return Err(malformed("one proof is wanted: the ticket's proof key's"));
        };
        possession(&ticket, label, request.body, proof, realm, caller)?;
        Ok(Self { ticket })
    }

    /// The facts that denials may be about.
    #[must_use]
    pub fn facts(&self) -> TicketFacts<'_> {
        let common = &self.ticket.claims().common;
        TicketFacts {
            ticket: Some(common.id),
            parent: None,
            node: common.node(),
            launch: common.launch,
            image: &common.attributes.image,
            dataset: None,
            issued: common.issued,
        }
    }

    /// Which ticket.
    #[must_use]
    pub fn ticket(&self) -> TicketId {
        self.ticket.claims().common.id
    }

    pub(crate) fn refused(&self, refusal: Refusal, why: &str) -> Refused {
        Refused::proven(refusal, why).of(self.ticket.claims().common.node())
    }

    /// Refuses for now.
    #[must_use]
    pub fn busy(&self, why: &str) -> Refused {
        self.refused(Refusal::Busy, why)
    }
}

fn malformed(why: impl ToString) -> Refused {
    Refused::stranger(Refusal::Malformed, why)
}

fn possession(
    ticket: &Live<NodeClaims>,
    label: &'static str,
    body: &[u8],
    proof: &Proof,
    realm: &Realm,
    caller: &Caller,
) -> Result<(), Refused> {
    // rule: WIP-1, WIP-2
    let key = &ticket.claims().common.proof_key;
    let channel = realm.channel(caller);
    channel
        .verify_with(key, label, Some(ticket.hash()), body, proof)
        .map_err(|_| {
            let why = "not signed by the ticket's proof key on this connection";
            Refused::stranger(Refusal::Possession, why)
        })
}

/// A ticket whose holder wants to hear of its denial.
#[derive(Debug)]
pub struct Watched {
    /// The ticket.
    pub held: Held,
    /// How long the request may be held, in milliseconds.
    pub hold_ms: u64,
}

/// Reads a watch request.
///
/// # Errors
/// Refusals 1, 30 to 36.
pub fn watch(
    request: &RequestView<'_>,
    realm: &Realm,
    caller: &Caller,
    now: Timestamp,
) -> Result<Watched, Refused> {
    let body = WatchBody::from_cbor(request.body, limits::SMALL_MESSAGE).map_err(malformed)?;
    let held = Held::open(request, WATCH_REQUEST, &body.ticket, realm, caller, now)?;
    let hold_ms = body.hold_ms.min(limits::FEED_HOLD_MS);
    Ok(Watched { held, hold_ms })
}

/// The answer of what was found at an epoch. It bears no signature: what a node knows of its broker
/// is the TLS key that it connected to (WIP-2).
#[must_use]
pub fn answer(epoch: u64, denied: Denied) -> Answer {
    // rule: WIP-2
    let body = WatchAnswer {
        epoch,
        denied: denied.is_some(),
        reason: denied,
    };
    Answer::done(Verb::Watch, &body)
}

/// A holder who says that it has erased a ticket.
#[derive(Debug)]
pub struct Wiped {
    /// The ticket.
    pub held: Held,
    erased: u64,
    request: RequestHash,
}

/// Reads a wipe.
///
/// # Errors
/// Refusals 1, 30 to 36.
pub fn wipe(
    request: &RequestView<'_>,
    realm: &Realm,
    caller: &Caller,
    now: Timestamp,
) -> Result<Wiped, Refused> {
    let body = WipeBody::from_cbor(request.body, limits::SMALL_MESSAGE).map_err(malformed)?;
    let held = Held::open(request, WIPE_REQUEST, &body.ticket, realm, caller, now)?;
    Ok(Wiped {
        held,
        erased: body.erased,
        request: RequestHash::of(request.body),
    })
}

impl Wiped {
    /// The entry, for a ticket that is denied.
    ///
    /// # Errors
    /// Refusal 77: it is not, so nothing had to be erased.
    pub fn entry(
        &self,
        denied: &Denied,
        act: ActId,
        caller: &Caller,
        now: Timestamp,
        epoch: u64,
    ) -> Result<Entry, Refused> {
        // rule: WIP-2
        if denied.is_none() {
            let why = "this ticket is not denied: a wipe is recorded of denied tickets only";
            return Err(self.held.refused(Refusal::Invalid, why));
        }
        let common = &self.held.ticket.claims().common;
        Ok(Entry::new(act, Kind::Wiped, now)
            .subject(common.node())
            .ticket_hash(self.held.ticket.hash())
            .ticket(common.id)
            .expires(common.expires)
            .launch(common.launch)
            .request(self.request)
            .epoch(epoch)
            .count(self.erased)
            .source(caller.address))
    }
}

/// The answer, with the receipt of the record.
#[must_use]
pub fn wiped(receipt: ticket_format::messages::Receipt) -> Answer {
    let body = ticket_format::messages::wipe::WipeAnswer { receipt };
    Answer::done(Verb::Wipe, &body)
}
