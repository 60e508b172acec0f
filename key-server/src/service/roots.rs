//! The root key of a server that is open: what is shown of it, drills, and its end (ROOT-5, ROOT-6).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use store::root::{Collection, Given, Means, Place, Progress, ShareError, Ways};
use store::sealed::RootKey;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::keys::TlsKey;
use ticket_format::statement::{RootView, SealServer, ShareGive, SharePurpose};
use tokio::sync::watch;

use super::Service;
use super::administer::{Asked, Change, Plan};
use super::start::StartError;
use crate::refused::Refused;
use crate::sealed::{self, KEPT, Opened};

/// How long an admin's shares that do not fit raise no other alarm.
const QUIET: Duration = Duration::from_secs(60);

/// How long the automatic way may take.
pub const AUTOMATIC: Duration = Duration::from_secs(60);

/// The ways to the root key, and the drill that is under way.
pub(super) struct Roots {
    ways: ArcSwap<Ways>,
    pub(super) means: Means,
    pub(super) place: Place,
    drill: Mutex<Drill>,
    /// When whose shares last raised an alarm; what is too old to matter is dropped.
    alarmed: Mutex<BTreeMap<String, Duration>>,
    /// One use of the automatic way at a time: what a TPM's tools leave stands in one place.
    pub(super) automatic: tokio::sync::Mutex<()>,
    /// Whether another root key may be in force by now than this process works with.
    unsettled: AtomicBool,
    /// Whether an admin sealed the server.
    sealing: watch::Sender<bool>,
    /// The files of the server's own keys, by name.
    pub(super) keys: Vec<PathBuf>,
}

struct Drill {
    ways: Arc<Ways>,
    collection: Collection,
    begun: Duration,
    givers: Vec<String>,
}

impl Drill {
    fn begin(place: &Place, ways: Arc<Ways>, begun: Duration) -> Self {
        let to = Given {
            realm: place.realm.clone(),
            server: place.server,
            root: ways.root(),
            purpose: SharePurpose::Drill,
        };
        Self {
            collection: Collection::new(to, ways.threshold(), &mut super::rng()),
            ways,
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
        let place = Place {
            realm: realm.to_owned(),
            server,
        };
        let ways = Arc::new(ways);
        let keys = std::fs::read_dir(ways.sealed().join("keys"));
        let keys = keys.into_iter().flatten().flatten();
        Self {
            keys: keys.map(|file| PathBuf::from(file.file_name())).collect(),
            drill: Mutex::new(Drill::begin(&place, Arc::clone(&ways), monotonic)),
            ways: ArcSwap::new(ways),
            means,
            place,
            alarmed: Mutex::default(),
            automatic: tokio::sync::Mutex::default(),
            unsettled: AtomicBool::new(false),
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
        Drill::begin(&self.place, self.ways.load_full(), monotonic)
    }

    /// Whether this admin's shares raise an alarm now: once a minute.
    fn first_bad(&self, giver: &str, now: Duration) -> bool {
        let mut alarmed = self.alarmed.lock().unwrap_or_else(PoisonError::into_inner);
        alarmed.retain(|_, then| now.saturating_sub(*then) < QUIET);
        let first = !alarmed.contains_key(giver);
        if first {
            alarmed.insert(giver.to_owned(), now);
        }
        first
    }

    /// The generation in force.
    pub(super) fn ways(&self) -> Arc<Ways> {
        self.ways.load_full()
    }

    /// Takes over the next root key's ways; shares of the one before are erased.
    pub(super) fn replace(&self, ways: Ways, monotonic: Duration) {
        // rule: ROOT-7
        self.ways.store(Arc::new(ways));
        *self.drill.lock().unwrap_or_else(PoisonError::into_inner) = self.anew(monotonic);
        self.settle();
    }

    /// Another root key is about to be in force; until that is known nothing is sealed.
    pub(super) fn unsettle(&self) {
        self.unsettled.store(true, Ordering::SeqCst);
    }

    /// It is known which root key is in force.
    pub(super) fn settle(&self) {
        self.unsettled.store(false, Ordering::SeqCst);
    }

    /// That the root key in force is the one that this process works with.
    pub(super) fn settled(&self) -> Result<(), Refused> {
        // rule: ROOT-7
        if self.unsettled.load(Ordering::SeqCst) {
            return Err(Refused::Internal(
                "which root key is in force is known after a restart",
            ));
        }
        Ok(())
    }
}

/// Waits for the automatic way, but not for ever: a token may hang.
pub(super) async fn within<T>(task: tokio::task::JoinHandle<T>) -> Result<T, Refused> {
    match tokio::time::timeout(AUTOMATIC, task).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(Refused::Internal("the automatic way could not be tried")),
        Err(_) => Err(Refused::Busy(
            "the automatic way has not answered in a minute: look after the token or TPM",
        )),
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
        sealed::view(&drill.ways, None, None, Some(attempt))
    }

    /// Plans the server's end.
    pub(super) fn seal(&self, asked: &Asked<'_>) -> Result<Plan, Refused> {
        let wanted: SealServer = asked.statement.body()?;
        // rule: ROOT-5
        if wanted.root != self.roots.ways().root() {
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
            // rule: ROOT-6 — both from what the next start will read, and neither is the key in use.
            let held = drill.ways.afresh().map(|ways| {
                let shares = ways.open_shares(drill.collection.shares());
                (ways, shares)
            });
            let record = Entry::new(self.act(), Kind::Root, self.clock.now());
            let record = record.signers(drill.givers);
            let outcome = match held {
                Err(error) => Err(format!("what stands on disk is no root key: {error}")),
                Ok((_, Err(error))) => {
                    return Err(self.bad_share(giver, error.to_string()).await);
                }
                Ok((ways, Ok(shares))) => self.both_open(ways, &shares).await?,
            };
            if let Err(why) = outcome {
                // What nobody may miss: a way that is needed on the worst day is gone.
                tracing::error!(%why, "a drill failed");
                self.append(&record.refused(ticket_format::Refusal::Invalid))
                    .await?;
                return Err(Refused::Invalid(why));
            }
            self.append(&record).await?;
        }
        Ok(Plan::reading(&self.show_root()))
    }

    /// Whether the automatic way opens the same root key as the shares did, and that is the one in use.
    async fn both_open(&self, ways: Ways, shares: &RootKey) -> Result<Result<(), String>, Refused> {
        // rule: ROOT-6
        let means = self.roots.means.clone();
        let _turn = self.roots.automatic.lock().await;
        let automatic = within(tokio::task::spawn_blocking(move || ways.open_auto(&means))).await?;
        Ok(match automatic {
            Err(error) => Err(format!(
                "the shares open the root key, and the automatic way does not: {error}"
            )),
            Ok(automatic) if !shares.same(&automatic) => {
                Err("the two ways open two root keys: one of the wraps was replaced".to_owned())
            }
            Ok(_) if !shares.same(&self.state.vault.root()) => {
                Err("both ways open another root key than the one in use".to_owned())
            }
            Ok(_) => Ok(()),
        })
    }

    async fn bad_share(&self, giver: String, why: String) -> Refused {
        // rule: ROOT-4
        if self.roots.first_bad(&giver, self.clock.monotonic()) {
            let alarm = Entry::alarm(self.act(), Alarm::BadShares, self.clock.now());
            if let Err(error) = self.append(&alarm.subject(giver)).await {
                tracing::error!(%error, "an alarm could not be recorded");
            }
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
