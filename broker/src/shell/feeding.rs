//! Feed: one exchange always open for each subscriber.

use std::future::Future;
use std::time::Duration;

use ticket_format::messages::{Answer, RequestView};

use super::service::{Acknowledged, Broker, Failed};
use crate::feed::{self, Chain, Subscription};
use crate::realm::Caller;

impl Broker {
    pub(super) async fn feed(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<Answer, Failed> {
        let subscription = feed::open(request, &self.realm, caller, |key| self.is_subscriber(key))?;
        self.acknowledge(&subscription);
        let mut news = self.denials.news();
        let mut stopping = self.stopping();
        // rule: DEN-3
        if !feed::has_news(&subscription, &self.denials) {
            let hold = Duration::from_millis(subscription.hold_ms());
            let known = subscription.epoch();
            tokio::select! {
                _ = news.wait_for(|epoch| *epoch != known) => {}
                () = tokio::time::sleep(hold) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = gone => {}
            }
        }
        let now = self.time.now()?;
        Ok(feed::answer(
            &subscription,
            &self.denials,
            &self.realm,
            caller,
            now,
        ))
    }

    /// Remembers what a subscriber has applied: its signature over the request says so (DEN-3).
    fn acknowledge(&self, subscription: &Subscription) {
        let head = self.denials.head();
        let epoch = subscription.epoch();
        let ours = match epoch {
            _ if epoch == head.epoch => head.chain == subscription.chain(),
            _ if epoch > head.epoch => false,
            _ => self
                .denials
                .after(epoch, 1)
                .first()
                .is_some_and(|next| next.before == subscription.chain()),
        };
        if ours {
            let subscriber = subscription.subscriber();
            self.acknowledged
                .insert(subscriber.to_bytes(), Acknowledged { epoch });
            self.metrics.acknowledged(subscriber.to_string(), epoch);
        } else {
            tracing::info!(subscriber = %subscription.subscriber(), epoch, "a subscriber is off our chain; it gets a snapshot");
        }
    }

    /// What each subscriber has applied: its signing key and the epoch.
    #[must_use]
    pub fn acknowledgements(&self) -> Vec<([u8; 32], u64)> {
        self.acknowledged
            .iter()
            .map(|entry| (*entry.key(), entry.value().epoch))
            .collect()
    }
}
