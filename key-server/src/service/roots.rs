//! The root key of a server that is open: what is shown of it, drills, and its end (ROOT-5, ROOT-6).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::root::{Collection, Given, Means, Progress, ShareError, Ways};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::keys::TlsKey;
use ticket_format::statement::{RootView, SealServer, ShareGive, SharePurpose};
use tokio::sync::watch;

use super::Service;
use super::administer::{Asked, Change, Plan};
use super::start::StartError;
use crate::refused::Refused;
use crate::sealed::{self, KEPT, Opened};

/// The ways to the root key, and the drill that is under way.
pub(super) struct Roots {
    ways: Arc<Ways>,
    means: Means,
    to: Given,
    drill: Mutex<Drill>,
    /// Whether an admin sealed the server.
    sealing: watch::Sender<bool>,
}

struct Drill {
    collection: Collection,
    begun: Duration,
    givers: Vec<String>,
}

impl Drill {
    fn begin(to: &Given, ways: &Ways, begun: Duration) -> Self {
        Self {
            collection: Collection::new(to.clone(), ways.threshold(), &mut super::rng()),
            begun,
            givers: Vec::new(),
        }
    }
}

impl Roots {
    pub(super) fn new(
        ways: Ways,
        means: Means,
        realm: &str,
        server: TlsKey,
        monotonic: Duration,
    ) -> Self {
        let to = Given {
            realm: realm.to_owned(),
            server,
            root: ways.root(),
            purpose: SharePurpose::Drill,
        };
        Self {
            drill: Mutex::new(Drill::begin(&to, &ways, monotonic)),
            ways: Arc::new(ways),
            means,
            to,
            sealing: watch::Sender::new(false),
        }
    }

    /// The drill that is under way; shares that have waited for too long are erased.
    fn drill(&self, monotonic: Duration) -> MutexGuard<'_, Drill> {
        let mut drill = self.drill.lock().unwrap_or_else(PoisonError::into_inner);
        // rule: ROOT-4
        if monotonic.saturating_sub(drill.begun) >= KEPT {
            *drill = self.anew(monotonic);
        }
        drill
    }

    fn anew(&self, monotonic: Duration) -> Drill {
        Drill::begin(&self.to, &self.ways, monotonic)
    }
}

impl Service {
    /// Completes once an admin has sealed the server: then nothing of it may be used any more.
    pub async fn sealed(&self) {
        let mut sealing = self.roots.sealing.subscribe();
        // The sender lives as long as this.
        let _ = sealing.wait_for(|sealing| *sealing).await;
    }

    /// Says that the server ends, since an admin sealed it.
    pub(super) fn end_sealed(&self) {
        // rule: ROOT-5
        self.roots.sealing.send_replace(true);
    }

    /// Erases shares of a drill that nobody finished.
    pub(super) fn expire_drill(&self) {
        drop(self.roots.drill(self.clock.monotonic()));
    }

    pub(super) fn show_root(&self) -> RootView {
        let drill = self.roots.drill(self.clock.monotonic());
        let attempt = drill.collection.attempt();
        sealed::view(&self.roots.ways, None, None, Some(attempt))
    }

    /// Plans the server's end.
    pub(super) fn seal(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let wanted: SealServer = asked.statement.body()?;
        // rule: ROOT-5
        if wanted.root != self.roots.ways.root() {
            return Err(Refused::StaleRoot);
        }
        let mut plan = Plan::reading(&ticket_format::statement::Nothing {});
        plan.change = Change::Sealed;
        Ok(plan)
    }

    /// Takes a share of a drill; the one that is enough proves both ways, or that one of them fails.
    pub(super) async fn drill(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let give: ShareGive = asked.statement.body()?;
        let giver = asked.statement.signers().first();
        let giver = giver.map(|admin| admin.name.clone()).unwrap_or_default();
        let (monotonic, roots) = (self.clock.monotonic(), &self.roots);
        let taken = {
            let mut drill = roots.drill(monotonic);
            let before = drill.collection.attempt().shares;
            match drill.collection.take(&give) {
                Ok(progress) => {
                    if drill.collection.attempt().shares > before {
                        drill.givers.push(giver.clone());
                    }
                    let complete = progress == Progress::Complete;
                    Ok(complete.then(|| std::mem::replace(&mut *drill, roots.anew(monotonic))))
                }
                Err(error @ (ShareError::Attempt | ShareError::Purpose | ShareError::Enough)) => {
                    return Err(Refused::StaleShare(error.to_string()));
                }
                Err(error) => {
                    *drill = roots.anew(monotonic);
                    Err(error.to_string())
                }
            }
        };
        let complete = match taken {
            Ok(complete) => complete,
            Err(why) => return Err(self.bad_share(giver, why).await),
        };
        if let Some(drill) = complete {
            // rule: ROOT-6 — by shares and by the automatic way, neither of which has the key in use.
            let shares = roots.ways.open_shares(drill.collection.shares());
            let shares = match shares {
                Ok(root) => root,
                Err(error) => return Err(self.bad_share(giver, error.to_string()).await),
            };
            let (ways, means) = (Arc::clone(&roots.ways), roots.means.clone());
            let automatic = tokio::task::spawn_blocking(move || ways.open_auto(&means)).await;
            let automatic =
                automatic.map_err(|_| Refused::Internal("the automatic way could not be tried"))?;
            let automatic = automatic.map_err(|error| {
                Refused::Invalid(format!(
                    "the shares open the root key, and the automatic way does not: {error}"
                ))
            })?;
            if !shares.same(&automatic) {
                return Err(Refused::Invalid(
                    "the two ways open two root keys: one of the wraps was replaced".to_owned(),
                ));
            }
            let proven = Entry::new(self.act(), Kind::Root, self.clock.now());
            self.append(&proven.signers(drill.givers)).await?;
        }
        Ok(Plan::reading(&self.show_root()))
    }

    async fn bad_share(&self, giver: String, why: String) -> Refused {
        // rule: ROOT-4
        let alarm = Entry::alarm(self.act(), Alarm::BadShares, self.clock.now());
        if let Err(error) = self.append(&alarm.subject(giver)).await {
            tracing::error!(%error, "an alarm could not be recorded");
        }
        Refused::Invalid(format!(
            "{why}; what was given is forgotten: give the shares anew"
        ))
    }

    /// Records that shares opened the root key, and which did not.
    pub(super) async fn record_opened(&self, opened: Opened) -> Result<(), StartError> {
        let Opened::Shares { givers, bad } = opened else {
            return Ok(());
        };
        let now = self.clock.now();
        // rule: ROOT-4
        let entry = Entry::new(self.act(), Kind::Root, now).signers(givers);
        self.begin(&entry).await?;
        for giver in bad {
            let alarm = Entry::alarm(self.act(), Alarm::BadShares, now);
            self.begin(&alarm.subject(giver)).await?;
        }
        Ok(())
    }
}
