//! What redeem, generate and rewrap have in common (spec/protocol.md, section 7).
//!
//! prove possession ([`prove`]) -> check, decide, reserve ([`decide`]) -> the record becomes durable
//! -> check again and seal ([`Decided::release`]).

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rand_core::CryptoRng;
use store::locked::on_scratch;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, DekId, ItemDigest, KekId, RequestHash};
use ticket_format::messages::batch::{
    GenerateBody, RawContext, RedeemBody, RewrapBody, named_ticket,
};
use ticket_format::messages::{Answer, BatchAnswer, Clear, Receipt, RequestView, Verb};
use ticket_format::seal::AnswerId;
use ticket_format::side::SideRecord;
use ticket_format::statement::Canary;
use ticket_format::ticket::{Action, Actions};
use ticket_format::tlog::WitnessPolicy;
use zeroize::Zeroizing;

use crate::dataset::Dataset;
use crate::gate::Permit;
use crate::issued::Witnesses;
use crate::items::{DEK, Done, Items};
use crate::present::{self, Presented};
use crate::refused::Refused;
use crate::state::{Connection, Moment, State};
use crate::{generate, redeem, rewrap};

/// A body, borrowed from the request.
#[derive(Debug)]
enum Body<'a> {
    Redeem(RedeemBody<'a>),
    Generate(GenerateBody<'a>),
    Rewrap(RewrapBody<'a>),
}

impl<'a> Body<'a> {
    fn parse(verb: Verb, body: &'a [u8]) -> Result<Self, Refused> {
        Ok(match verb {
            Verb::Redeem => Self::Redeem(RedeemBody::parse(body)?),
            Verb::Generate => Self::Generate(GenerateBody::parse(body)?),
            Verb::Rewrap => Self::Rewrap(RewrapBody::parse(body)?),
            _ => return Err(Refused::Verb),
        })
    }

    fn action(&self) -> Action {
        match self {
            Self::Redeem(_) => Action::Decrypt,
            Self::Generate(_) => Action::Encrypt,
            Self::Rewrap(_) => Action::Rewrap,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Redeem(_) => Kind::Redeem,
            Self::Generate(_) => Kind::Generate,
            Self::Rewrap(_) => Kind::Rewrap,
        }
    }

    /// The context of an item.
    fn context(&self, place: usize) -> Option<RawContext<'a>> {
        match self {
            Self::Redeem(body) => body.items.get(place).map(|item| item.context),
            Self::Generate(body) => body.contexts.get(place).copied(),
            Self::Rewrap(body) => body.items.get(place).map(|item| item.context),
        }
    }

    /// The context of an item's new wrap, of a rewrap.
    fn new_context(&self, place: usize) -> Option<RawContext<'a>> {
        let Self::Rewrap(body) = self else {
            return None;
        };
        let item = body.items.get(place)?;
        Some(item.new_context.unwrap_or(item.context))
    }

    /// Whether it needs the current KEK version to wrap with.
    fn wraps(&self) -> bool {
        !matches!(self, Self::Redeem(_))
    }
}

/// A request whose sender holds the sealing key of a ticket presented on this connection: from here on
/// the caller is known, and each refusal leaves a record.
#[derive(Debug)]
pub struct Identified<'a> {
    presented: Arc<Presented>,
    verb: Verb,
    body: Body<'a>,
    request: RequestHash,
}

/// Stack that the items of a request use, in bytes, as far as secrets stand on it.
pub const STACK: usize = 32 * 1024;

/// Proof that a request's MAC was checked.
#[derive(Debug)]
pub struct Proven {
    presented: Arc<Presented>,
    request: RequestHash,
}

/// Finds the presented ticket and checks the request's MAC.
///
/// # Errors
/// [`Refused`]; the caller is a stranger still.
pub fn prove(connection: &Connection, request: &RequestView<'_>) -> Result<Proven, Refused> {
    let label = request.verb.request_label().ok_or(Refused::Verb)?;
    let (handle, ticket) = named_ticket(request.body)?;
    let presented = connection.presented(handle, ticket)?;
    // rule: RED-1, SEAL-3
    let [proof] = request.proofs.as_slice() else {
        return Err(Refused::Possession);
    };
    let mac = presented.session.mac();
    mac.verify(&connection.channel, label, ticket, request.body, proof)
        .map_err(|_| Refused::Possession)?;
    Ok(Proven {
        presented,
        request: RequestHash::of(request.body),
    })
}

impl Proven {
    /// Reads the body of the request that this proof is of.
    ///
    /// # Errors
    /// [`Refused`]: it is none of its verb.
    pub fn identify<'a>(self, request: &RequestView<'a>) -> Result<Identified<'a>, Refused> {
        Ok(Identified {
            presented: self.presented,
            verb: request.verb,
            body: Body::parse(request.verb, request.body)?,
            request: self.request,
        })
    }
}

impl Identified<'_> {
    /// The entry that this act leaves, as far as it is known yet.
    #[must_use]
    pub fn entry(
        &self,
        state: &State,
        connection: &Connection,
        act: ActId,
        moment: Moment,
        permit: &Permit,
    ) -> Entry {
        let entry = Entry::new(act, self.body.kind(), moment.now);
        let ticket = &self.presented.ticket;
        let entry = present::describe(entry, ticket.claims(), ticket.hash(), state, connection);
        let entry = match Actions::new(&[self.body.action()]) {
            Some(actions) => entry.actions(actions),
            None => entry,
        };
        entry.request(self.request).epoch(permit.epoch().number())
    }
}

/// A batch that was decided and whose budget is reserved; nothing of it may leave before its record
/// is durable (RED-6).
#[derive(Debug)]
pub struct Decided {
    presented: Arc<Presented>,
    dataset: Arc<Dataset>,
    verb: Verb,
    request: RequestHash,
    done: Done,
    keks: Vec<KekId>,
    /// The version that new wraps are under.
    current: Option<KekId>,
    confirms: Vec<ItemDigest>,
    awaiting: Vec<KekId>,
    wraps: bool,
    policies: BTreeSet<String>,
    canary: Canary,
    over_budget: bool,
}

/// Checks what RED-2 and RED-3 demand and reserves the budget.
///
/// # Errors
/// [`Refused`]: the whole request. An item's refusal is its verdict.
pub fn decide(
    state: &State,
    connection: &Connection,
    identified: &Identified<'_>,
    moment: Moment,
    permit: &Permit,
    rng: &mut impl CryptoRng,
) -> Result<Decided, Refused> {
    let Identified {
        presented,
        verb,
        body,
        request,
    } = identified;
    let dataset = check(state, presented, moment, permit)?;
    let action = body.action();
    // rule: RED-2
    if !presented.ticket.claims().actions.contains(action) {
        return Err(Refused::Action(action));
    }
    let mut items = Items::new(state, presented, &dataset, action, connection, moment)?;
    // rule: MEM-1 — once for all items: it costs as much as opening one.
    let worked = on_scratch::<STACK, _>(|scratch| match body {
        Body::Redeem(body) => Ok((redeem::run(scratch, body, &mut items), None, Vec::new())),
        Body::Generate(body) => {
            let wrapping = state.vault.wrapping(dataset.id)?;
            let done = generate::run(scratch, body, &mut items, &wrapping, rng);
            Ok((done, Some(wrapping.kek()), Vec::new()))
        }
        Body::Rewrap(body) => {
            let wrapping = state.vault.wrapping(dataset.id)?;
            let done = rewrap::run(scratch, body, &mut items, &wrapping, rng);
            Ok::<_, Refused>((done, Some(wrapping.kek()), body.confirms.clone()))
        }
    });
    let (mut done, current, confirms) = worked?;
    let (keks, awaiting, policies) = items.into_parts();
    let over_budget = reserve(&mut done, presented, &dataset);
    if let (Body::Generate(body), true) = (body, over_budget) {
        generate::name_refused(body, &mut done);
    }
    let canary = canary(&done, &dataset, *verb);
    let presented = Arc::clone(presented);
    Ok(Decided {
        presented,
        dataset,
        verb: *verb,
        request: *request,
        done,
        keks,
        current,
        confirms,
        awaiting,
        wraps: body.wraps(),
        policies,
        canary,
        over_budget,
    })
}

/// What comes of the canaries among what is to be released: the strictest of them.
fn canary(done: &Done, dataset: &Dataset, verb: Verb) -> Canary {
    // rule: EXP-2 — who makes keys learns none that was there.
    if verb == Verb::Generate || dataset.has_no_canary() {
        return Canary::No;
    }
    done.done()
        .map(|(_, _, dek)| dataset.canary(dek))
        .max_by_key(|canary| canary.number())
        .unwrap_or(Canary::No)
}

/// What is checked of the whole request before it is decided and again before it is released.
fn check(
    state: &State,
    presented: &Presented,
    moment: Moment,
    permit: &Permit,
) -> Result<Arc<Dataset>, Refused> {
    // rule: RED-2
    state.latest.see(moment.now)?;
    presented.ticket.still_live(moment.now)?;
    let dataset = present::usable(state, &presented.ticket, moment, permit)?;
    // What was presented before the dataset wanted evidence or these witnesses, or by an admin set that has
    // been replaced since, is presented again.
    if !present::borne_out(state, &dataset, presented.proven) {
        return Err(Refused::Handle);
    }
    Ok(dataset)
}

/// Takes the items that are done from the ticket's budget; those beyond it are refused. Says whether
/// there were such.
fn reserve(done: &mut Done, presented: &Presented, dataset: &Dataset) -> bool {
    // rule: RED-4
    let most = presented
        .ticket
        .claims()
        .budget
        .min(dataset.state.max_budget);
    let mut taking = presented.budget.take();
    let mut over = false;
    done.refuse(|digest| {
        let beyond = !taking.item(digest, most);
        over |= beyond;
        beyond.then_some(Refusal::Budget)
    });
    over
}

/// The entry of a batch whose own record could not be written: no item of it was done.
#[must_use]
pub fn nothing_done(mut entry: Entry) -> Entry {
    // rule: AUD-4, RED-4 — or budgets that are rebuilt from the log would count what nobody had.
    for (_, outcome) in entry.items.iter_mut().flatten() {
        *outcome = outcome.and(Err(Refusal::AuditUnavailable));
    }
    (entry.kek, entry.keks, entry.kek_of) = (None, None, None);
    (entry.moved, entry.confirmed) = (None, None);
    entry
}

impl Decided {
    /// Completes the entry: each item and what becomes of it, and by which policy.
    #[must_use]
    pub fn complete(&self, entry: Entry) -> Entry {
        // rule: AUD-3
        let outcomes = self
            .done
            .verdicts
            .iter()
            .map(|verdict| verdict.refusal().map_or(Ok(()), Err));
        let mut entry = entry.items(self.done.digests.iter().copied().zip(outcomes).collect());
        // rule: INV-1, REW-2
        entry.kek = self.current;
        let (keks, of) = self.done.versions();
        let mut entry = entry.keks(keks, of);
        if self.verb == Verb::Rewrap {
            entry.moved = Some(self.done.moved().map(|(_, digest)| digest).collect());
            entry.confirmed = Some(self.confirms.clone()).filter(|named| !named.is_empty());
        }
        entry
            .policy(self.dataset.digest)
            .policies(self.policies.iter().cloned())
    }

    /// How many DEKs are released, or made, or wrapped anew.
    #[must_use]
    pub fn count(&self) -> usize {
        self.done
            .verdicts
            .iter()
            .filter(|verdict| verdict.refusal().is_none())
            .count()
    }

    /// What stands behind the items that are done and of which the side file has no record yet (AUD-5):
    /// DEK id and context; of a rewrap both of the old wrap and of the new one. `missing` says which of these
    /// digests have none.
    #[must_use]
    pub fn contexts(
        &self,
        identified: &Identified<'_>,
        missing: impl FnOnce(&[[u8; 32]]) -> Vec<[u8; 32]>,
    ) -> Vec<([u8; 32], Vec<u8>)> {
        // rule: AUD-5
        let body = &identified.body;
        let old = self
            .done
            .done()
            .filter_map(|(place, item, dek)| Some((item, dek, body.context(place)?)));
        let new = self.done.moved().filter_map(|(place, item)| {
            let dek = *self.done.ids.get(place)?;
            Some((item, dek?, body.new_context(place)?))
        });
        let all: Vec<_> = old.chain(new).collect();
        let digests: Vec<_> = all.iter().map(|(item, ..)| item.0).collect();
        let missing: HashSet<_> = missing(&digests).into_iter().collect();
        let wanted = all
            .into_iter()
            .filter(|(item, ..)| missing.contains(&item.0));
        let record = |(item, dek, context): (ItemDigest, DekId, RawContext<'_>)| {
            (item.0, SideRecord::of_item(item, dek, context.bytes()))
        };
        wanted.map(record).collect()
    }

    /// Who must have cosigned before anything of it leaves.
    #[must_use]
    pub fn witnesses(&self) -> Option<&WitnessPolicy> {
        // rule: TLOG-8
        self.dataset.witnesses.as_ref().map(Witnesses::policy)
    }

    /// What comes of the canaries in it.
    #[must_use]
    pub fn canary(&self) -> Canary {
        self.canary
    }

    /// The KEK versions that wait for their destruction and were needed (KEK-4).
    #[must_use]
    pub fn awaiting(&self) -> &[KekId] {
        &self.awaiting
    }

    /// Whether the ticket's budget was passed, for the first time (EXP-3).
    #[must_use]
    pub fn first_over_budget(&self) -> bool {
        self.over_budget && self.presented.budget.first_passed()
    }

    /// The record could not be written, so nothing leaves. DEKs that were made for this answer alone
    /// go back into the budget; those that a retry may ask for stay reserved for it.
    pub fn undo(self) {
        if self.verb == Verb::Generate {
            let mut taking = self.presented.budget.take();
            self.done
                .digests
                .iter()
                .for_each(|digest| taking.give_back(digest));
        }
    }

    /// The record is durable: checks again what may have changed meanwhile, and seals the answer
    /// under a key of its own.
    ///
    /// # Errors
    /// [`Refused`]: the keys are withheld, and erased with what is dropped here.
    pub fn release(
        self,
        state: &State,
        moment: Moment,
        permit: &Permit,
        receipt: Receipt,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Refused> {
        let Self {
            presented,
            dataset,
            verb,
            request,
            done,
            keks,
            current,
            confirms: _,
            awaiting: _,
            wraps,
            policies: _,
            canary: _,
            over_budget: _,
        } = self;
        // rule: RED-2
        let now = check(state, &presented, moment, permit)?;
        present::unchanged(&dataset, &now)?;
        keks.iter()
            .try_for_each(|kek| state.vault.may_open(dataset.id, *kek))?;
        if wraps {
            state.vault.may_wrap(dataset.id)?;
        }
        // A version that was replaced meanwhile still opens what it wrapped; one that was taken out of use does
        // not.
        if let Some(current) = current {
            state.vault.may_open(dataset.id, current)?;
        }
        // rule: RED-5, SEAL-4
        let mut salt = [0; 32];
        rng.fill_bytes(&mut salt);
        let ticket = presented.ticket.hash();
        let clear = Clear {
            verdicts: done.verdicts,
            ticket,
            request,
            salt,
            receipt,
            wraps: done.wraps,
            publics: done.publics,
        }
        .to_cbor();
        let sealed = seal(
            &presented,
            &AnswerId {
                verb,
                request,
                salt,
            },
            &clear,
            &done.deks,
        )?;
        Ok(Answer::done(verb, &BatchAnswer { clear, sealed }).to_bytes())
    }
}

fn seal(
    presented: &Presented,
    id: &AnswerId,
    clear: &[u8],
    deks: &Zeroizing<Vec<u8>>,
) -> Result<Vec<u8>, Refused> {
    debug_assert!(deks.len().is_multiple_of(DEK));
    if deks.is_empty() {
        return Ok(Vec::new());
    }
    presented
        .session
        .seal(id, clear, deks)
        .map_err(|_| Refused::Internal("an answer could not be sealed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_format::time::Timestamp;

    #[test]
    fn the_entry_of_a_batch_that_was_not_recorded_has_no_item_done() {
        // rule: AUD-4, RED-4
        let items = vec![
            (ItemDigest([1; 32]), Ok(())),
            (ItemDigest([2; 32]), Err(Refusal::Context)),
        ];
        let kek = KekId([3; 16]);
        let entry = Entry::new(ActId([0; 16]), Kind::Rewrap, Timestamp::default())
            .items(items)
            .kek(kek)
            .keks(vec![kek], vec![0, u8::MAX])
            .moved(vec![ItemDigest([4; 32])])
            .confirmed(vec![ItemDigest([5; 32])]);
        let nothing = nothing_done(entry);
        // rule: INV-1 — nor is any of it counted.
        assert_eq!(
            (nothing.kek, nothing.keks, nothing.kek_of),
            (None, None, None)
        );
        assert_eq!((nothing.moved, nothing.confirmed), (None, None));
        let outcomes: Vec<_> = nothing.items.into_iter().flatten().collect();
        let expected = [
            (ItemDigest([1; 32]), Err(Refusal::AuditUnavailable)),
            (ItemDigest([2; 32]), Err(Refusal::Context)),
        ];
        assert_eq!(outcomes, expected);
    }
}
