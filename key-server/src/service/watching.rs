//! Watch and wipe: a request that is held until its ticket is denied, and the record of what was
//! erased.

use std::future::Future;
use std::time::Duration;

use ticket_format::cbor::Decode;
use ticket_format::denial::Denial;
use ticket_format::messages::feed::DENIAL;
use ticket_format::messages::{Answer, RequestView};
use ticket_format::wiped::{Turn, Wipes};
use tokio::sync::{Semaphore, watch as channel};

use super::record::receipt;
use super::{Failed, Service};
use crate::refused::Refused;
use crate::state::Connection;
use crate::{records, watch};

/// Requests that are held at one time: half of the exchanges that the transport allows by default, so
/// that those who watch never keep out those who redeem.
const HELD: usize = 2_048;

/// Who watches, and what was wiped lately.
pub(super) struct Watching {
    places: Semaphore,
    wipes: Wipes,
    stopping: channel::Sender<bool>,
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            places: Semaphore::new(HELD),
            wipes: Wipes::default(),
            stopping: channel::Sender::new(false),
        }
    }
}

impl Service {
    /// Holds no more requests than this at one time. To be called once, before serving.
    pub fn hold_at_most(&self, held: usize) {
        // rule: WIP-1
        let places = &self.watching.places;
        places.forget_permits(HELD.saturating_sub(held));
    }

    /// Tells held requests to end, so that a shutdown need not wait for them.
    pub fn stop(&self) {
        self.watching.stopping.send_replace(true);
    }

    pub(super) async fn watch(
        &self,
        connection: &Connection,
        request: &RequestView<'_>,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<Answer, Failed> {
        let watched = watch::watch(&self.state, connection, request, self.moment())
            .map_err(Failed::stranger)?;
        let Ok(_place) = self.watching.places.try_acquire() else {
            return Err(Failed::stranger(Refused::Busy(
                "too many tickets are watched",
            )));
        };
        // Listening begins before the first look, so that no denial falls between.
        let mut news = self.state.gate.news();
        let mut stopping = self.watching.stopping.subscribe();
        let mut over = std::pin::pin!(async {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(watched.hold_ms)) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = gone => {}
            }
        });
        loop {
            news.mark_unchanged();
            let (epoch, denied) = {
                let permit = self.state.gate.permit();
                (permit.epoch().number(), watched.held.denied(&permit))
            };
            // rule: WIP-1
            if let Some(hit) = denied {
                let reason = self.reason(hit.epoch).await;
                return Ok(watched.answer(&self.state, connection, epoch, denied, reason));
            }
            let told = tokio::select! {
                changed = news.changed() => changed.is_ok(),
                () = &mut over => false,
            };
            if !told {
                return Ok(watched.answer(&self.state, connection, epoch, None, None));
            }
        }
    }

    /// The reason of a denial, for people; none when its record has none or cannot be read.
    async fn reason(&self, epoch: u64) -> Option<String> {
        let key = records::denial(epoch);
        let stored = self.store.get(key.as_bytes()).await.ok()??;
        let denial = Denial::from_cbor(&stored.value, DENIAL).ok()?;
        Some(denial.reason)
    }

    pub(super) async fn wipe(
        &self,
        connection: &Connection,
        request: &RequestView<'_>,
    ) -> Result<Answer, Failed> {
        let (act, moment) = (self.act(), self.moment());
        let wiped =
            watch::wipe(&self.state, connection, request, moment).map_err(Failed::stranger)?;
        let (entry, decided) = {
            let permit = self.state.gate.permit();
            let entry = wiped.entry(&self.state, connection, act, moment, &permit);
            (entry, wiped.decide(&permit))
        };
        if let Err(refused) = decided {
            return Err(Failed::known(refused, entry));
        }
        let ticket = wiped.held.ticket();
        // rule: WIP-2
        let receipt = match self.watching.wipes.turn(ticket, moment.monotonic) {
            Turn::Recorded(receipt) => receipt,
            Turn::Busy => {
                let why = "this wipe is being recorded, or too many are";
                return Err(Failed::known(Refused::Busy(why), entry));
            }
            Turn::Record(recording) => {
                let (appended, bytes) = match self.append(&entry).await {
                    Ok(appended) => appended,
                    Err(error) => return Err(Failed::known(error, entry)),
                };
                let node = entry.subject.as_deref().unwrap_or_default();
                tracing::info!(%act, exchange = "wipe", node, %ticket, "recorded");
                let receipt = receipt(&appended, bytes);
                recording.done(receipt.clone(), self.clock.monotonic());
                receipt
            }
        };
        Ok(watch::wiped(receipt))
    }
}
