//! One job: a ticket of its own to each dataset of its table.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use ticket_format::ids::{DatasetId, NodeId};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::seal::Kem;
use ticket_format::secret::Dek;
use ticket_format::ticket::Actions;
use ticket_format::{Context, Refusal};

use super::ticket::{JobTicket, denied};
use super::{Shared, clock};
use crate::door::{JobDataset, JobKeys, Named};
use crate::error::Error;
use crate::issue::Wanted;
use crate::keys::KeyError;
use crate::redeem::Generated;
use crate::watch::{Denied, Ended, Watched};

/// How long the key server is tried to be told of a wipe.
const TELL: Duration = Duration::from_secs(30);
/// A broker that was away is not asked again sooner than this for the same ticket; nor one that refused.
const AWAY: Duration = Duration::from_millis(500);
const REFUSED: Duration = Duration::from_secs(5);

/// A job: what a table of the agent's rules gives to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// The table's name.
    pub name: String,
    /// The user.
    pub uid: u32,
    /// The systemd unit, where the table names one.
    pub unit: Option<String>,
    /// The datasets, by name or alias.
    pub datasets: Vec<String>,
    /// What for.
    pub actions: Actions,
    /// Pairs that every context must hold.
    pub require: Context,
    /// Most distinct DEKs of one ticket.
    pub budget: u64,
    /// Life of its tickets, in seconds.
    pub life: u64,
}

/// What is held for one job.
#[derive(Debug)]
pub struct JobHeld {
    spec: Arc<JobSpec>,
    shared: Arc<Shared>,
    lanes: Vec<Arc<Lane>>,
}

/// The tickets to one dataset, one after the other.
#[derive(Debug)]
pub(super) struct Lane {
    /// As the table has it.
    name: String,
    spec: Arc<JobSpec>,
    shared: Arc<Shared>,
    current: Mutex<Option<Arc<JobTicket>>>,
    /// Of the last ticket: an alias may come to name another one.
    dataset: Mutex<Option<DatasetId>>,
    /// Held while a ticket is asked for.
    issuing: tokio::sync::Mutex<()>,
    attempts: AtomicU64,
    /// Why there is none, and since when.
    failure: Mutex<Option<(Instant, Arc<Error>)>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is whole before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    fn new(name: &str, spec: &Arc<JobSpec>, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            spec: Arc::clone(spec),
            shared: Arc::clone(shared),
            current: Mutex::default(),
            dataset: Mutex::default(),
            issuing: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
            failure: Mutex::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The dataset, as a ticket to it says.
    fn told(&self, ticket: &JobTicket) -> JobDataset {
        let opened = ticket.opened();
        JobDataset {
            id: opened.claims.dataset,
            name: self.name.clone(),
            realm: opened.claims.common.realm.clone(),
            recipients: !opened.record.recipients.all().is_empty(),
            created: ticket.created(),
            actions: opened.claims.actions,
        }
    }

    /// The ticket, if there is a live one.
    pub(super) fn live(&self) -> Option<Arc<JobTicket>> {
        locked(&self.current)
            .as_ref()
            .filter(|ticket| ticket.is_live())
            .cloned()
    }

    /// The ticket; one is asked for where there is none. Who asks meanwhile gets what came of that.
    async fn ticket(self: &Arc<Self>) -> Result<Arc<JobTicket>, KeyError> {
        if let Some(ticket) = self.live() {
            return Ok(ticket);
        }
        if let Some((since, failure)) = &*locked(&self.failure) {
            let pause = match failure.worth_retrying() {
                true => AWAY,
                false => REFUSED,
            };
            // Many ask at once and again: the broker is asked for one of them.
            if since.elapsed() < pause {
                return Err(KeyError::Exchange(Error::Shared(Arc::clone(failure))));
            }
        }
        let before = self.attempts.load(Ordering::Acquire);
        // In a task: one who goes away must not end what others wait for.
        let lane = Arc::clone(self);
        let issued = self.shared.spawn(async move {
            let _issuing = lane.issuing.lock().await;
            if let Some(ticket) = lane.live() {
                return Ok(ticket);
            }
            if lane.attempts.load(Ordering::Acquire) != before
                && let Some((_, failure)) = locked(&lane.failure).clone()
            {
                return Err(failure);
            }
            lane.issue().await
        });
        let ended = || Arc::new(Error::NoTicket("the agent ends"));
        let issued = issued.await.unwrap_or_else(|| Err(ended()));
        issued.map_err(|failure| KeyError::Exchange(Error::Shared(failure)))
    }

    /// Asks for a ticket, and puts it in the place of the one there is.
    async fn issue(self: &Arc<Self>) -> Result<Arc<JobTicket>, Arc<Error>> {
        // rule: AGT-3
        let wanted = Wanted {
            dataset: self.name.clone(),
            actions: self.spec.actions,
            required: self.spec.require.clone(),
            life: self.spec.life,
            budget: self.spec.budget,
            kem: Kem::XWing,
        };
        let issued = self.shared.node.issue(&wanted).await;
        let issued = issued.map_err(Arc::new);
        let failure = issued.as_ref().err().cloned();
        *locked(&self.failure) = failure.map(|failure| (Instant::now(), failure));
        self.attempts.fetch_add(1, Ordering::AcqRel);
        let issued = issued?;
        let dataset = issued.opened.claims.dataset;
        let ticket = Arc::new(JobTicket::new(&self.shared, issued));
        *locked(&self.dataset) = Some(dataset);
        let before = locked(&self.current).replace(Arc::clone(&ticket));
        match before {
            Some(before) if before.is_gone() => before.erase().await,
            Some(before) => before.retire().await,
            None => {}
        }
        if let Some(watched) = ticket.watched() {
            let keeping = Arc::clone(self).kept(Arc::clone(&ticket), watched);
            drop(self.shared.spawn(keeping));
        }
        // rule: AGT-6
        if ticket.is_gone() {
            // The node was denied while it was on its way.
            ticket.erase().await;
            return Err(Arc::new(denied("broker")));
        }
        Ok(ticket)
    }

    /// As [`Lane::keep`]: that one has others issued, which are kept in turn.
    fn kept(self: Arc<Self>, ticket: Arc<JobTicket>, watched: Watched) -> BoxFuture<'static, ()> {
        Box::pin(self.keep(ticket, watched))
    }

    /// Stays with a ticket for as long as it lives: watches it, and replaces it.
    async fn keep(self: Arc<Self>, ticket: Arc<JobTicket>, watched: Watched) {
        let heard = tokio::select! {
            denied = heard(&watched, &self.shared) => Some(denied),
            () = self.live_on(&ticket) => None,
        };
        let Some(denied) = heard else { return };
        // rule: AGT-6
        ticket.erase().await;
        self.forget(&ticket);
        let erased = ticket.erased();
        let dataset = &self.name;
        tracing::warn!(
            dataset,
            erased,
            reason = denied.reason,
            "a ticket was denied"
        );
        let now = self.shared.clock().now();
        match watched.wipe(&denied, erased, now, TELL).await {
            Ok(logged) => tracing::info!(dataset, entry = logged.index, "the wipe is recorded"),
            Err(error) => tracing::warn!(%error, dataset, "the wipe was not told"),
        }
    }

    /// Until another ticket has taken its place, or its life is over.
    async fn live_on(self: &Arc<Self>, ticket: &Arc<JobTicket>) {
        let clock = self.shared.clock();
        let (due, end) = (
            clock::half(ticket.issued(), ticket.expires()),
            ticket.expires(),
        );
        // One that nobody uses is let go.
        let wanted = |now| now >= end || now >= due && ticket.is_used() && !ticket.is_gone();
        clock.wait_for(wanted).await;
        let mut pauses = clock::pauses();
        while clock.now() < end && !ticket.is_gone() {
            let error = {
                let _issuing = self.issuing.lock().await;
                match self.is_current(ticket) {
                    true => match self.issue().await {
                        Ok(_) => return,
                        Err(error) => error,
                    },
                    false => return,
                }
            };
            tracing::warn!(%error, dataset = self.name, "the ticket was not replaced");
            // rule: AGT-5
            if !error.worth_retrying() {
                break;
            }
            let pause = pauses.next().unwrap_or(clock::MOST);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = clock.until(end) => {}
            }
        }
        clock.until(end).await;
        if self.forget(ticket) {
            ticket.retire().await;
        }
    }

    fn is_current(&self, ticket: &Arc<JobTicket>) -> bool {
        let current = locked(&self.current);
        current.as_ref().is_some_and(|of| Arc::ptr_eq(of, ticket))
    }

    fn forget(&self, ticket: &Arc<JobTicket>) -> bool {
        let mut current = locked(&self.current);
        current.take_if(|of| Arc::ptr_eq(of, ticket)).is_some()
    }

    /// The node was denied. Its ticket's own watch says how many keys are erased here.
    pub(super) async fn erase(&self) {
        let current = locked(&self.current).clone();
        if let Some(ticket) = current {
            ticket.erase().await;
        }
    }

    /// The agent ends.
    pub(super) async fn end(&self) {
        let current = locked(&self.current).take();
        if let Some(ticket) = current {
            ticket.retire().await;
        }
    }
}

/// Waits until a ticket is denied; for ever, where it expires first.
pub(super) async fn heard(watched: &Watched, shared: &Arc<Shared>) -> Denied {
    let mut pauses = clock::pauses();
    loop {
        let clock = shared.clock().clone();
        match watched.until_denied(move || clock.now()).await {
            Ok(Ended::Denied(denied)) => return denied,
            Ok(Ended::Expired) => std::future::pending().await,
            // The key server checks every request itself; but of a denial nothing would be heard.
            Err(error) => tracing::warn!(%error, "a ticket is not watched"),
        }
        tokio::time::sleep(pauses.next().unwrap_or(clock::MOST)).await;
    }
}

impl JobHeld {
    pub(super) fn new(spec: JobSpec, shared: &Arc<Shared>) -> Self {
        let spec = Arc::new(spec);
        let lane = |name: &String| Lane::new(name, &spec, shared);
        Self {
            lanes: spec.datasets.iter().map(lane).collect(),
            spec: Arc::clone(&spec),
            shared: Arc::clone(shared),
        }
    }

    /// Whose.
    #[must_use]
    pub fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// The tickets that are held for it now: public, and worth nothing without their session keys.
    #[must_use]
    pub fn tickets(&self) -> Vec<Vec<u8>> {
        let live = self.lanes.iter().filter_map(|lane| lane.live());
        live.map(|ticket| ticket.bytes().to_vec()).collect()
    }

    pub(super) fn lanes(&self) -> &[Arc<Lane>] {
        &self.lanes
    }

    /// The ticket to a dataset.
    async fn to(&self, dataset: DatasetId) -> Result<Arc<JobTicket>, KeyError> {
        self.lane_to(dataset).await.map(|(_, ticket)| ticket)
    }

    /// A dataset's lane, and its ticket.
    async fn lane_to(&self, dataset: DatasetId) -> Result<(&Arc<Lane>, Arc<JobTicket>), KeyError> {
        let known = self
            .lanes
            .iter()
            .find(|lane| *locked(&lane.dataset) == Some(dataset));
        if let Some(lane) = known {
            let ticket = lane.ticket().await?;
            if ticket.opened().claims.dataset == dataset {
                return Ok((lane, ticket));
            }
        }
        // Which name it has is not known yet, or is not any more.
        let mut failure = KeyError::Refused(Refusal::DatasetUnknown);
        let unknown = self.lanes.iter();
        let unknown = unknown.filter(|lane| locked(&lane.dataset).is_none());
        let tickets = join_all(unknown.map(async |lane| (lane, lane.ticket().await))).await;
        for (lane, ticket) in tickets {
            match ticket {
                Ok(ticket) if ticket.opened().claims.dataset == dataset => {
                    return Ok((lane, ticket));
                }
                Ok(_) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl JobKeys for JobHeld {
    fn node(&self) -> &NodeId {
        self.shared.node.id()
    }

    async fn datasets(&self) -> Result<Vec<JobDataset>, KeyError> {
        let mut failure = None;
        let mut datasets = Vec::new();
        let tickets = join_all(self.lanes.iter().map(Lane::ticket)).await;
        for (lane, ticket) in self.lanes.iter().zip(tickets) {
            match ticket {
                Ok(ticket) => datasets.push(lane.told(&ticket)),
                Err(error) => {
                    tracing::info!(%error, dataset = lane.name, "a dataset is not there");
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(failure) if datasets.is_empty() => Err(failure),
            _ => Ok(datasets),
        }
    }

    async fn dataset(&self, named: &Named) -> Result<Option<JobDataset>, KeyError> {
        // rule: AGT-5
        let found = match named {
            Named::Name(name) => match self.lanes.iter().find(|lane| lane.name == *name) {
                Some(lane) => (lane, lane.ticket().await?),
                None => return Ok(None),
            },
            Named::Id(id) => match self.lane_to(*id).await {
                Ok(found) => found,
                Err(KeyError::Refused(Refusal::DatasetUnknown)) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        Ok(Some(found.0.told(&found.1)))
    }

    async fn generate(
        &self,
        dataset: DatasetId,
        context: &Context,
        with_dek: bool,
        pair: Option<KeyPairKind>,
    ) -> Result<Generated, KeyError> {
        let context = context.clone();
        let ticket = self.to(dataset).await?;
        let work = async move |keys: Arc<crate::keys::DatasetKeys>| {
            let made = keys.make(&[&context], with_dek, pair).await?;
            one(made)
        };
        ticket.run(work).await
    }

    async fn open(
        &self,
        dataset: DatasetId,
        wrapped: &[u8],
        context: &Context,
    ) -> Result<Arc<Dek>, KeyError> {
        self.to(dataset).await?.open(wrapped, context).await
    }

    async fn rewrap(
        &self,
        dataset: DatasetId,
        wrapped: &[u8],
        context: &Context,
        new: &Context,
    ) -> Result<Vec<u8>, KeyError> {
        let (wrapped, context, new) = (wrapped.to_vec(), context.clone(), new.clone());
        let ticket = self.to(dataset).await?;
        let work = async move |keys: Arc<crate::keys::DatasetKeys>| {
            let moved = keys.rewrap(&[(&wrapped, &context, Some(&new))]).await?;
            one(moved)
        };
        ticket.run(work).await
    }

    fn holds(&self, ticket: &[u8]) -> bool {
        let mut live = self.lanes.iter().filter_map(|lane| lane.live());
        live.any(|held| held.is(ticket))
    }
}

/// The one answer to one item.
fn one<T>(answers: Vec<Result<T, KeyError>>) -> Result<T, KeyError> {
    let missing = || Error::answer("key server", "it has no verdict");
    answers.into_iter().next().ok_or_else(missing)?
}
