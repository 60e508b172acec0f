//! Honest load: nodes that log in, renew, get tickets, redeem, generate and rewrap; guesses of secrets;
//! and denials, whose victims go on asking.

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::link::Link;
use client::redeem::Presented;
use client::wallet::DatasetSession;
use ticket_format::bootstrap::Bootstrap;
use ticket_format::denial::Selector;
use ticket_format::report::{Report, exit};
use ticket_format::seal::Kem;
use ticket_format::secret::BootstrapSecret;
use ticket_format::statement::DenyBody;
use ticket_format::ticket::{Action, Actions};
use ticket_format::tlog::LogKey;
use ticket_format::{Context, Refusal};
use tokio::time::{sleep, sleep_until};

use crate::realm::{DATASET, Newcomer, Node, Realm, now, rng};
use crate::tally::Tallies;
use crate::{admins, floor};

/// Nodes at work at a time.
pub(crate) const WORKERS: u8 = 4;
/// DEKs that there are.
const DEKS: usize = 1_000;
/// Sizes of batches.
const BATCHES: [usize; 4] = [1, 10, 100, 1_000];
/// DEKs that are made, or wrapped anew, in one request.
const MADE: usize = 10;
/// Between the rounds of a worker.
const PAUSE: Duration = Duration::from_millis(50);
/// Rounds of a worker from one renewal to the next.
const RENEWS: u32 = 5;
/// Between newcomers.
const NEWCOMERS: Duration = Duration::from_secs(1);
/// Between denials.
const DENIALS: Duration = Duration::from_secs(5);
/// Within this a denial is applied: the dataset's lease, and time for a busy machine.
const APPLIED: Duration = Duration::from_secs(10);
/// Victims that go on asking.
const VICTIMS: usize = 8;
/// Life of a ticket, in seconds.
const LIFE: u64 = 3_600;
/// DEKs that a ticket is for.
const BUDGET: u64 = 10_000;
/// Another dataset, made for its key server's log key.
const OTHER: &str = "soak";

type Item = (Vec<u8>, Context);

/// What all of the load shares.
pub(crate) struct Shared {
    pub(crate) realm: Arc<Realm>,
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) until: Instant,
    launch: Bootstrap,
    items: Vec<Item>,
}

/// The keys of both logs.
pub(crate) async fn log_keys(realm: &Realm) -> Result<[LogKey; 2], Report> {
    let key_server = realm.servers.key_server.clone();
    let record = realm.dataset(&key_server, OTHER).await?;
    Ok([realm.servers.broker_log.clone(), record.log_key])
}

impl Shared {
    /// Has the DEKs made.
    pub(crate) async fn new(
        realm: &Arc<Realm>,
        launch: &Bootstrap,
        tallies: &Arc<Tallies>,
        until: Instant,
    ) -> Result<Arc<Self>, Report> {
        let mut shared = Self {
            realm: Arc::clone(realm),
            tallies: Arc::clone(tallies),
            until,
            launch: launch.clone(),
            items: Vec::new(),
        };
        let from = 1;
        let node = shared.log_in(from).await?;
        let (_, presented) = shared.ticket(from, &node).await?;
        let name = |number| Context::named(&format!("s3://soak/object-{number:06}"));
        let contexts: Result<Vec<Context>, _> = (0..DEKS).map(name).collect();
        let contexts = contexts.map_err(|why| Report::new(exit::LOCAL, "no context").why(why))?;
        let wraps = generate(&presented, &contexts).await?;
        shared.items = wraps.into_iter().zip(contexts).collect();
        Ok(Arc::new(shared))
    }

    fn over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// A new connection to the broker, from a port of its own: who closes one closes its socket.
    async fn broker(&self, from: u8) -> Result<Link, Report> {
        self.realm.broker(&floor::socket(from)?).await
    }

    async fn key_server(&self, from: u8) -> Result<Link, Report> {
        self.realm.key_server(&floor::socket(from)?).await
    }

    async fn boot(&self) -> Result<Newcomer, Report> {
        let mut booted = self.realm.boot(&self.launch, 1).await?;
        booted
            .pop()
            .ok_or_else(|| Report::new(exit::LOCAL, "nothing booted"))
    }

    async fn log_in(&self, from: u8) -> Result<Node, Report> {
        let newcomer = self.boot().await?;
        let link = self.broker(from).await?;
        let node = newcomer.login(&link).await;
        link.close().await;
        node
    }

    /// A ticket, presented on a new connection.
    async fn ticket(&self, from: u8, node: &Node) -> Result<(DatasetSession, Presented), Report> {
        let link = self.broker(from).await?;
        let session = issue(node, &link).await;
        link.close().await;
        let session = session?;
        let link = self.key_server(from).await?;
        let presented = node.present(&session, &link).await?;
        Ok((session, presented))
    }

    fn some(&self, count: usize, from: usize) -> &[Item] {
        let from = from % (DEKS - count + 1);
        &self.items[from..from + count]
    }
}

/// A ticket for all that a job does.
async fn issue(node: &Node, link: &Link) -> Result<DatasetSession, Report> {
    let actions = Actions::new(&[Action::Decrypt, Action::Encrypt, Action::Rewrap]);
    let wanted = client::issue::Wanted {
        dataset: DATASET.to_owned(),
        actions: actions.ok_or_else(|| Report::new(exit::LOCAL, "no action"))?,
        required: Default::default(),
        life: LIFE,
        budget: BUDGET,
        kem: Kem::XWing,
    };
    let link = node.to_broker(link);
    let state = &mut *node.state.lock().await;
    let session =
        client::issue::issue(&link, state, &node.session, &wanted, now(), &mut rng()).await;
    session.map_err(|error| error.report())
}

/// The first refusal among verdicts, as of the whole.
fn first<T>(verdicts: Vec<Result<T, Refusal>>) -> Result<Vec<T>, Report> {
    let refused = |refusal| Report::refused("key server", refusal, None);
    verdicts
        .into_iter()
        .map(|verdict| verdict.map_err(refused))
        .collect()
}

async fn redeem(presented: &Presented, items: &[Item]) -> Result<(), Report> {
    let asked: Vec<(&[u8], &Context)> = items
        .iter()
        .map(|(wrapped, context)| (wrapped.as_slice(), context))
        .collect();
    let verdicts = presented.redeem(&asked, &mut rng()).await;
    first(verdicts.map_err(|error| error.report())?).map(drop)
}

async fn generate(presented: &Presented, contexts: &[Context]) -> Result<Vec<Vec<u8>>, Report> {
    let asked: Vec<&Context> = contexts.iter().collect();
    let made = presented.generate(&asked, false, None, &mut rng()).await;
    let made = first(made.map_err(|error| error.report())?)?;
    Ok(made.into_iter().map(|made| made.wrapped).collect())
}

async fn rewrap(presented: &Presented, items: &[Item]) -> Result<(), Report> {
    let asked: Vec<(&[u8], &Context, Option<&Context>)> = items
        .iter()
        .map(|(wrapped, context)| (wrapped.as_slice(), context, None))
        .collect();
    let verdicts = presented.rewrap(&asked, &[], &mut rng()).await;
    first(verdicts.map_err(|error| error.report())?).map(drop)
}

/// A node at work, until the time is over.
pub(crate) async fn worker(shared: Arc<Shared>, number: u8) -> Result<(), Report> {
    let (from, tallies) = (10 + number, &shared.tallies);
    let newcomer = shared.boot().await?;
    let dir = newcomer.dir.clone();
    let link = shared.broker(from).await?;
    let mut node = newcomer.login(&link).await?;
    link.close().await;
    let mut round = 0_u32;
    while !shared.over() {
        round += 1;
        let begun = Instant::now();
        let ticket = shared.ticket(from, &node).await;
        if let Some((_, presented)) = tallies.honest("ticket", begun, ticket) {
            for batch in BATCHES {
                let items = shared.some(batch, round as usize * 7);
                let begun = Instant::now();
                let name = match batch {
                    1 => "redeem of 1",
                    10 => "redeem of 10",
                    100 => "redeem of 100",
                    _ => "redeem of 1000",
                };
                tallies.honest(name, begun, redeem(&presented, items).await);
            }
            let items = shared.some(MADE, round as usize);
            let contexts: Vec<Context> = items.iter().map(|(_, context)| context.clone()).collect();
            let begun = Instant::now();
            tallies.honest("generate", begun, generate(&presented, &contexts).await);
            let begun = Instant::now();
            tallies.honest("rewrap", begun, rewrap(&presented, items).await);
            let _ = presented.close().await;
        }
        if round.is_multiple_of(RENEWS) {
            let begun = Instant::now();
            let renewed = renew(&shared, from, &dir, &mut node).await;
            tallies.honest("renew", begun, renewed);
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

async fn renew(
    shared: &Shared,
    from: u8,
    dir: &std::path::Path,
    node: &mut Node,
) -> Result<(), Report> {
    let link = shared.broker(from).await?;
    let logged = node.to_broker(&link);
    let state = node.state.get_mut();
    let session = client::renew::renew(&logged, dir, state, now(), &mut rng()).await;
    link.close().await;
    node.session = session.map_err(|error| error.report())?;
    Ok(())
}

/// Nodes that log in for the first time, and nodes that guess.
pub(crate) async fn newcomers(shared: Arc<Shared>) -> Result<(), Report> {
    let (from, tallies) = (2, &shared.tallies);
    while !shared.over() {
        let begun = Instant::now();
        tallies.honest("login", begun, shared.log_in(from).await.map(drop));
        let mut guesser = shared.boot().await?;
        guesser.evidence.bootstrap.secret = BootstrapSecret::random(&mut rng());
        if let Ok(link) = shared.broker(from).await {
            match guesser.login(&link).await.err() {
                Some(report) if [exit::RETRY, exit::REFUSED].contains(&report.exit) => {}
                Some(report) => tallies.breaks("guess-taken", report.to_string()),
                None => tallies.breaks("guess-taken", "a wrong secret logged in".to_owned()),
            }
            link.close().await;
        }
        sleep(NEWCOMERS).await;
    }
    Ok(())
}

/// A node that was denied and goes on asking.
struct Victim {
    node: Node,
    session: DatasetSession,
    presented: Presented,
}

/// Denies one node after the other, and has all of them go on asking.
pub(crate) async fn denier(shared: Arc<Shared>) -> Result<(), Report> {
    let (from, tallies) = (3, &shared.tallies);
    let mut victims: Vec<Victim> = Vec::new();
    let mut next = 0;
    while !shared.over() {
        let due = Instant::now() + DENIALS;
        let begun = Instant::now();
        let made = async {
            let node = shared.log_in(from).await?;
            let (session, presented) = shared.ticket(from, &node).await?;
            redeem(&presented, shared.some(1, 0)).await?;
            Ok(Victim {
                node,
                session,
                presented,
            })
        };
        if let Some(victim) = tallies.honest("victim", begun, made.await) {
            let begun = Instant::now();
            let denied = tallies.honest("deny", begun, deny(&shared, &victim).await);
            if denied.is_some() && applied(&shared, &victim).await {
                victims.push(victim);
            }
            if victims.len() > VICTIMS {
                let gone = victims.remove(0);
                let _ = gone.presented.close().await;
            }
        }
        while Instant::now() < due && !shared.over() {
            if !victims.is_empty() {
                next = (next + 1) % victims.len();
                asks_in_vain(&shared, from, &victims[next]).await;
            }
            sleep_until((Instant::now() + PAUSE).into()).await;
        }
    }
    Ok(())
}

async fn deny(shared: &Shared, victim: &Victim) -> Result<(), Report> {
    let node = victim.node.state.lock().await.node.clone();
    let body = DenyBody {
        selector: Selector::node(node),
        reason: "soak".to_owned(),
    };
    let broker = &shared.realm.servers.broker;
    let statement = shared.realm.admins.act(broker, &body)?;
    let link = shared.realm.admin_link(broker).await?;
    let denied = admins::send::<DenyBody>(&link, &statement).await;
    link.close().await;
    denied.map(drop)
}

/// Waits until the key server has applied the denial of a victim.
async fn applied(shared: &Shared, victim: &Victim) -> bool {
    let ordered = Instant::now();
    loop {
        match redeem(&victim.presented, shared.some(1, 0)).await {
            Err(report) if report.exit == exit::DENIED => return true,
            // Busy, or its connection gave way to others.
            Err(report) if report.exit == exit::RETRY && !victim.presented.is_open() => {
                return true;
            }
            _ => {}
        }
        if ordered.elapsed() > APPLIED {
            let what = format!("a redemption after {:?}", ordered.elapsed());
            shared.tallies.breaks("denial-late", what);
            return false;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Nothing is served to a victim: not on its connection, not on another, and no other ticket.
async fn asks_in_vain(shared: &Shared, from: u8, victim: &Victim) {
    let served = |what: &str| shared.tallies.breaks("denied-served", what.to_owned());
    if redeem(&victim.presented, shared.some(1, 0)).await.is_ok() {
        served("a redemption on a connection from before");
    }
    if let Ok(link) = shared.key_server(from).await {
        if victim.node.present(&victim.session, &link).await.is_ok() {
            served("a present on a new connection");
        }
        link.close().await;
    }
    if let Ok(link) = shared.broker(from).await {
        if issue(&victim.node, &link).await.is_ok() {
            served("a ticket");
        }
        link.close().await;
    }
}
