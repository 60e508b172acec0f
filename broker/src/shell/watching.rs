//! Watch and wipe: a request that is held until its ticket is denied, and the record of what was
//! erased.

use std::future::Future;
use std::time::Duration;

use ticket_format::ids::ActId;
use ticket_format::messages::{Answer, RequestView};
use ticket_format::wiped::{Turn, Wipes};
use tokio::sync::Semaphore;

use super::service::{Broker, Failed, Proven, Tell};
use crate::feed::Chain;
use crate::realm::Caller;
use crate::{alias, watch};

/// Requests that are held at one time: half of the exchanges that the transport allows, so that
/// those who watch never keep out those who ask.
const HELD: usize = 2_048;

/// Who watches, and what was wiped lately.
pub(crate) struct Watching {
    places: Semaphore,
    wipes: Wipes,
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            places: Semaphore::new(HELD),
            wipes: Wipes::default(),
        }
    }
}

impl Broker {
    pub(super) async fn watch(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
        gone: impl Future<Output = ()> + Send,
        tell: Tell<'_>,
    ) -> Result<Answer, Failed> {
        let watched = watch::watch(request, &self.realm, caller, self.time.now()?)?;
        let Ok(_place) = self.watching.places.try_acquire() else {
            return Err(watched.held.busy("too many tickets are watched").into());
        };
        tell(Proven::Caller);
        // Listening begins before the first look, so that no epoch falls between.
        let (mut news, mut stopping) = (self.denials.news(), self.stopping());
        let facts = watched.held.facts();
        let mut over = std::pin::pin!(async {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(watched.hold_ms)) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = gone => {}
            }
        });
        loop {
            news.mark_unchanged();
            let epoch = self.denials.head().epoch;
            let denied = self.denials.check(&facts);
            // rule: WIP-1
            if denied.is_some() {
                return Ok(watch::answer(epoch, denied));
            }
            let told = tokio::select! {
                changed = news.changed() => changed.is_ok(),
                () = &mut over => false,
            };
            if !told {
                return Ok(watch::answer(epoch, None));
            }
        }
    }

    pub(super) fn alias(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
    ) -> Result<Answer, Failed> {
        let asked = alias::ask(request, &self.realm, caller, self.time.now()?)?;
        let facts = asked.held.facts();
        self.rates.issue(facts.node)?;
        let entry = self.named_alias(&asked.alias);
        Ok(asked.answer(entry.as_deref(), &self.denials.check(&facts))?)
    }

    pub(super) async fn wipe(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
    ) -> Result<Answer, Failed> {
        let now = self.time.now()?;
        let wiped = watch::wipe(request, &self.realm, caller, now)?;
        let epoch = self.denials.head().epoch;
        let denied = self.denials.check(&wiped.held.facts());
        let act = ActId::random(&mut self.rng());
        let entry = wiped.entry(&denied, act, caller, now, epoch)?;
        // rule: WIP-2
        let turn = self
            .watching
            .wipes
            .turn(wiped.held.ticket(), self.time.monotonic());
        let receipt = match turn {
            Turn::Recorded(receipt) => receipt,
            Turn::Busy => {
                let why = "this wipe is being recorded, or too many are";
                return Err(wiped.held.busy(why).into());
            }
            Turn::Record(recording) => {
                let receipt = self.audit.append(&entry).await?.receipt();
                let node = entry.subject.as_deref().unwrap_or_default();
                tracing::info!(%act, exchange = "wipe", node, ticket = %wiped.held.ticket(), "recorded");
                recording.done(receipt.clone(), self.time.monotonic());
                receipt
            }
        };
        Ok(watch::wiped(receipt))
    }
}
