//! Watch and wipe (spec/protocol.md, section 8): what the holder of a dataset ticket hears of its
//! denial, and the last thing that it says.

use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::Hit;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, RequestHash, TicketId};
use ticket_format::messages::watch::{WatchAnswer, WatchBody};
use ticket_format::messages::wipe::{WipeAnswer, WipeBody};
use ticket_format::messages::{Answer, Receipt, RequestView, Verb};
use ticket_format::ticket::{self, Audience, DatasetClaims, Live};
use ticket_format::{labels, limits};

use crate::gate::Permit;
use crate::present::{describe, facts, unknown_yet};
use crate::refused::Refused;
use crate::state::{Connection, Moment, State};

/// A live dataset ticket for this server, whose proof key has signed the request on this connection.
#[derive(Debug)]
pub struct Held {
    ticket: Live<DatasetClaims>,
}

impl Held {
    fn open(
        state: &State,
        connection: &Connection,
        request: &RequestView<'_>,
        label: &'static str,
        bytes: &[u8],
        moment: Moment,
    ) -> Result<Self, Refused> {
        let audience = Audience::KeyServer(state.tls_key);
        let verified = ticket::verify::<DatasetClaims>(
            bytes,
            &*state.ticket_keys.get(),
            &state.realm,
            audience,
        );
        let ticket = verified.map_err(|error| unknown_yet(state, error, moment))?;
        // rule: WIP-1
        let ticket = ticket.live(moment.now)?;
        let [proof] = request.proofs.as_slice() else {
            return Err(Refused::Possession);
        };
        let key = ticket.claims().common.proof_key;
        // rule: WIP-1, WIP-2
        let proven =
            connection
                .channel
                .verify_with(&key, label, Some(ticket.hash()), request.body, proof);
        proven.map_err(|_| Refused::Possession)?;
        Ok(Self { ticket })
    }

    /// Which ticket.
    #[must_use]
    pub fn ticket(&self) -> TicketId {
        self.ticket.claims().common.id
    }

    /// The denial that it meets, if any.
    #[must_use]
    pub fn denied(&self, permit: &Permit) -> Option<Hit> {
        permit.check(&facts(self.ticket.claims()))
    }
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
/// [`Refused`]; the caller is a stranger still.
pub fn watch(
    state: &State,
    connection: &Connection,
    request: &RequestView<'_>,
    moment: Moment,
) -> Result<Watched, Refused> {
    let body = WatchBody::from_cbor(request.body, limits::SMALL_MESSAGE)?;
    let label = labels::WATCH_REQUEST;
    let held = Held::open(state, connection, request, label, &body.ticket, moment)?;
    let hold_ms = body.hold_ms.min(limits::FEED_HOLD_MS);
    Ok(Watched { held, hold_ms })
}

impl Watched {
    /// The signed answer: what was found at an epoch, with the denial's reason where that is known.
    #[must_use]
    pub fn answer(
        &self,
        state: &State,
        connection: &Connection,
        epoch: u64,
        denied: Option<Hit>,
        reason: Option<String>,
    ) -> Answer {
        let body = WatchAnswer {
            epoch,
            denied: denied.is_some(),
            reason,
        }
        .to_cbor();
        // rule: WIP-2
        let proof = connection.channel.sign_with(
            &state.signing,
            labels::WATCH_ANSWER,
            Some(self.held.ticket.hash()),
            &body,
        );
        Answer::Done {
            verb: Verb::Watch,
            body,
            proof: Some(proof),
        }
    }
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
/// [`Refused`]; the caller is a stranger still.
pub fn wipe(
    state: &State,
    connection: &Connection,
    request: &RequestView<'_>,
    moment: Moment,
) -> Result<Wiped, Refused> {
    let body = WipeBody::from_cbor(request.body, limits::SMALL_MESSAGE)?;
    let label = labels::WIPE_REQUEST;
    let held = Held::open(state, connection, request, label, &body.ticket, moment)?;
    Ok(Wiped {
        held,
        erased: body.erased,
        request: RequestHash::of(request.body),
    })
}

impl Wiped {
    /// The entry of this act.
    #[must_use]
    pub fn entry(
        &self,
        state: &State,
        connection: &Connection,
        act: ActId,
        moment: Moment,
        permit: &Permit,
    ) -> Entry {
        let ticket = &self.held.ticket;
        let entry = Entry::new(act, Kind::Wiped, moment.now);
        describe(entry, ticket.claims(), ticket.hash(), state, connection)
            .request(self.request)
            .epoch(permit.epoch().number())
            .count(self.erased)
    }

    /// Whether it may be recorded.
    ///
    /// # Errors
    /// [`Refused::Invalid`]: the ticket is not denied, so nothing had to be erased.
    pub fn decide(&self, permit: &Permit) -> Result<(), Refused> {
        // rule: WIP-2
        match self.held.denied(permit) {
            Some(_) => Ok(()),
            None => Err(Refused::Invalid(
                "this ticket is not denied: a wipe is recorded of denied tickets only".to_owned(),
            )),
        }
    }
}

/// The answer, with the receipt of the record.
#[must_use]
pub fn wiped(receipt: Receipt) -> Answer {
    Answer::done(Verb::Wipe, &WipeAnswer { receipt })
}
