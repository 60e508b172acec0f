//! What the agent holds, against a real broker and key server: each job its own tickets and keys, few
//! requests for many data keys, nothing after a denial, and on through a broker's absence.
#![allow(missing_docs)]
#![allow(
    clippy::print_stdout,
    reason = "what was measured is shown with the test"
)]

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::Error;
use client::agent::held::{Clock, Held, HeldOptions, JobHeld, JobSpec};
use client::door::{JobKeys as _, Named};
use client::issue::Opened;
use client::keys::{DatasetKeys, KeyError};
use client::logs::Logs;
use client::state::NodeState;
use client::wallet::WalletFile;
use futures::future::join_all;
use tests::home::Home;
use tests::house::{DATASET, House};
use tests::node::Iid;
use tests::wire::{claims, now};
use ticket_format::cbor::Decode as _;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{DatasetId, ItemDigest, TicketHash, TicketId};
use ticket_format::secret::Dek;
use ticket_format::statement::{DatasetRecord, ReceivedStatement};
use ticket_format::ticket::{Action, Actions};
use ticket_format::{Context, Refusal, limits};

/// What is waited for comes within this time, or not at all.
const LONG: Duration = Duration::from_secs(90);

/// A wrapped data key, its context, and what it opens to.
type Wrap = (Vec<u8>, Context, Dek);

/// A house, a node that has logged in, and wraps that another node had made.
struct Scene {
    house: House,
    home: Home,
    node: String,
    dataset: DatasetId,
    wraps: Vec<Wrap>,
    /// How far the agent's clock is ahead, in seconds.
    ahead: Arc<AtomicU64>,
}

impl Scene {
    async fn new(wraps: usize) -> Self {
        // Long enough for the key server to serve while the broker is away.
        let house = House::with(|dataset| dataset.lease = 120);
        let (dataset, wraps) = made(&house, wraps).await;
        let iid = Iid::real(0);
        let user_data = house.user_data(&iid.account, &[]);
        let home = Home::new(&house, "node", &iid, &user_data);
        home.run(&["login"]).ok();
        Self {
            house,
            home,
            node: iid.node.to_string(),
            dataset,
            wraps,
            ahead: Arc::default(),
        }
    }

    fn state(&self) -> PathBuf {
        self.home.dir.join("state")
    }

    fn wallet(&self) -> WalletFile {
        let path = self.home.dir.join("run/wallet");
        WalletFile::from_spec(path.to_str().expect("text")).expect("a place")
    }

    fn try_start(&self, wallet: Option<WalletFile>) -> Result<Arc<Held>, Error> {
        let ahead = Arc::clone(&self.ahead);
        let options = HeldOptions {
            wallet,
            clock: Clock::new(move || now().plus(ahead.load(Ordering::SeqCst))),
            ..HeldOptions::default()
        };
        Held::start(&self.state(), Logs::of_state(&self.state()), options)
    }

    fn start(&self) -> Arc<Held> {
        self.try_start(Some(self.wallet())).expect("it starts")
    }

    fn entries(&self, server: &str, kind: Kind) -> Vec<Entry> {
        let entries = self.house.entries(server).into_iter();
        entries.filter(|entry| entry.kind == kind).collect()
    }

    fn redeems(&self) -> usize {
        self.entries("key-server", Kind::Redeem).len()
    }

    async fn open(&self, job: &JobHeld, number: usize) -> Result<Arc<Dek>, KeyError> {
        let (wrapped, context, _) = &self.wraps[number];
        job.open(self.dataset, wrapped, context).await
    }

    async fn opens(&self, job: &JobHeld, number: usize) {
        let dek = self.open(job, number).await.expect("it opens");
        assert_eq!(*dek, self.wraps[number].2);
    }
}

/// Wraps made for a node of its own; not by the agent.
async fn made(house: &House, count: usize) -> (DatasetId, Vec<Wrap>) {
    let node = house.node(1).await;
    let wire = house.to_broker().await;
    let logs = Logs::at(house.path("maker"));
    let context = |number| Context::named(&format!("object-{number}")).expect("a context");
    let contexts: Vec<Context> = (0..count).map(context).collect();
    let (mut dataset, mut wraps) = (None, Vec::new());
    // A ticket's budget is a thousand.
    for some in contexts.chunks(limits::ITEMS) {
        let session = node.issue(&wire, DATASET).await.expect("a ticket");
        let statement = ReceivedStatement::parse(&session.record).expect("a statement");
        let record = &statement.payload().body;
        let opened = Opened {
            claims: claims(&session),
            hash: TicketHash::of(&session.ticket),
            record: DatasetRecord::from_cbor(record, limits::STATEMENT).expect("a record"),
        };
        dataset = Some(opened.claims.dataset);
        let keys = DatasetKeys::new(session, opened, logs.clone(), LONG);
        let asked: Vec<&Context> = some.iter().collect();
        let made = keys.make(&asked, true, None).await.expect("an answer");
        for (made, context) in made.into_iter().zip(some) {
            let made = made.expect("a data key");
            wraps.push((made.wrapped, context.clone(), made.dek.expect("its DEK")));
        }
        keys.close().await.expect("one log");
    }
    (dataset.expect("some wraps"), wraps)
}

fn spec(name: &str, uid: u32) -> JobSpec {
    JobSpec {
        name: name.to_owned(),
        uid,
        unit: None,
        datasets: vec![DATASET.to_owned()],
        actions: Actions::new(&[Action::Decrypt, Action::Encrypt]).expect("actions"),
        require: Context::default(),
        budget: 10_000,
        life: 3_600,
    }
}

fn ticket(held: &Held, job: &str) -> Option<TicketId> {
    let status = held.status();
    let job = status.jobs.into_iter().find(|of| of.name == job)?;
    job.datasets[0].ticket.as_ref().map(|ticket| ticket.id)
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < LONG, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn refusal<T>(answer: &Result<T, KeyError>) -> Option<Refusal> {
    match answer {
        Err(KeyError::Refused(refusal)) => Some(*refusal),
        Err(KeyError::Exchange(error)) => error.refusal(),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_thousand_wraps_are_a_handful_of_requests_and_each_job_has_its_own() {
    // rule: AGT-3, AGT-7, AGT-8
    let scene = Scene::new(3_000).await;
    let held = scene.start();
    let job = held.job(spec("one", 1_001));
    assert!(Arc::ptr_eq(&job, &held.job(spec("one", 1_001))));
    let datasets = job.datasets().await.expect("its datasets");
    assert_eq!((datasets.len(), datasets[0].id), (1, scene.dataset));
    assert_eq!(datasets[0].name, DATASET);
    let before = scene.redeems();
    // Each wrap by two at once.
    let twice = (0..3_000).chain(0..3_000);
    let opened = join_all(twice.map(|number| scene.open(&job, number))).await;
    let mut seen = HashSet::new();
    for (number, dek) in opened.iter().enumerate() {
        let dek = dek.as_ref().expect("it opens");
        assert_eq!(**dek, scene.wraps[number % 3_000].2, "{number}");
        seen.insert(*dek.expose());
    }
    assert_eq!(seen.len(), 3_000);
    let requests = scene.redeems() - before;
    println!("3,000 wraps, asked for twice: {requests} requests");
    assert!((3..=10).contains(&requests), "{requests} requests");
    let redeemed = scene.entries("key-server", Kind::Redeem);
    // A request that had to be tried again, as on a busy machine, is the same one.
    let asked: HashSet<Vec<ItemDigest>> = redeemed
        .into_iter()
        .map(|entry| entry.items.unwrap_or_default())
        .map(|items| items.into_iter().map(|(digest, _)| digest).collect())
        .collect();
    let items: usize = asked.iter().map(Vec::len).sum();
    assert_eq!(items, 3_000, "nothing was asked for twice");

    // Again: nothing is asked of the key server.
    for number in 0..3_000 {
        scene.opens(&job, number).await;
    }
    assert_eq!(scene.redeems() - before, requests);
    let cache = held.status().cache;
    assert_eq!((cache.kept, cache.evictions), (3_000, 0));
    assert_eq!(cache.hits, 3_000);
    assert_eq!(usize::try_from(cache.requests), Ok(asked.len()));

    // Another job has another ticket, and nothing of what came by the first one's.
    let other = held.job(spec("two", 1_002));
    scene.opens(&other, 0).await;
    assert_eq!(scene.redeems() - before, requests + 1);
    let tickets = [ticket(&held, "one"), ticket(&held, "two")];
    assert!(tickets.iter().all(Option::is_some) && tickets[0] != tickets[1]);
    // The same table for another user is another job.
    let third = held.job(spec("one", 1_003));
    assert!(!Arc::ptr_eq(&job, &third));
    scene.opens(&third, 0).await;
    assert_eq!(scene.redeems() - before, requests + 2);
    // Each holds its own ticket, and neither another job's nor one of the node that is no job's.
    let own = [job.tickets(), other.tickets(), third.tickets()];
    for (at, held) in [&job, &other, &third].into_iter().enumerate() {
        for (of, tickets) in own.iter().enumerate() {
            assert_eq!(tickets.len(), 1);
            assert_eq!(held.holds(&tickets[0]), at == of);
        }
    }
    let out = scene.house.path("ticket");
    let issue = [
        "issue",
        DATASET,
        "--ticket-out",
        out.to_str().expect("text"),
    ];
    scene.home.run(&issue).ok();
    assert!(!job.holds(&std::fs::read(&out).expect("a ticket")));

    // With another context it does not open, and that is no hit either.
    let (wrapped, ..) = &scene.wraps[0];
    let context = &scene.wraps[1].1;
    let wrong = job.open(scene.dataset, wrapped, context).await;
    assert!(matches!(wrong, Err(KeyError::Refused(_))), "{wrong:?}");
    // A dataset that is not the job's.
    let wrong = job.open(DatasetId([7; 16]), wrapped, context).await;
    assert_eq!(refusal(&wrong), Some(Refusal::DatasetUnknown));
    // What its table does not say it may not do: to wrap anew.
    let wrong = job.rewrap(scene.dataset, wrapped, &scene.wraps[0].1, context);
    assert_eq!(refusal(&wrong.await), Some(Refusal::Action));
    // What its table requires of a context: this wrap's has no such pair.
    let mut narrow = spec("narrow", 1_004);
    let pair = ("team".to_owned(), "a".to_owned());
    narrow.require = Context::new([pair].into()).expect("pairs");
    let narrow = held.job(narrow);
    let wrong = scene.open(&narrow, 0).await;
    assert_eq!(refusal(&wrong), Some(Refusal::Context), "{wrong:?}");

    let context = Context::named("new").expect("a context");
    let made = job.generate(scene.dataset, &context, true, None).await;
    let made = made.expect("a data key");
    let opened = job.open(scene.dataset, &made.wrapped, &context).await;
    assert_eq!(*opened.expect("it opens"), made.dek.expect("its DEK"));

    // rule: AGT-4
    let again = scene.try_start(None);
    assert!(
        matches!(again, Err(Error::Locked(_))),
        "one agent at a time"
    );
    held.end().await;
    assert_eq!(held.status().cache.kept, 0);
    assert!(scene.open(&job, 0).await.is_err(), "it has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_erases_before_anything_else_is_answered() {
    // rule: AGT-6
    let scene = Scene::new(20).await;
    let held = scene.start();
    let (job, other) = (held.job(spec("one", 1_001)), held.job(spec("two", 1_002)));
    for number in 0..10 {
        scene.opens(&job, number).await;
    }
    scene.opens(&other, 0).await;
    assert_eq!(held.status().cache.kept, 11);

    // One ticket: its DEKs go, another job's stay, and the next that is asked for comes by another ticket.
    let (first, others) = (ticket(&held, "one"), ticket(&held, "two"));
    let id = first.expect("a ticket").to_string();
    let deny = ["deny", "--ticket", &id, "--reason", "lost", "--yes"];
    scene.house.admin_does(&deny).ok();
    let wiped = |server| scene.entries(server, Kind::Wiped);
    until("the wipe of a dataset ticket", || {
        !wiped("key-server").is_empty()
    })
    .await;
    let [entry] = wiped("key-server").try_into().expect("one wipe");
    assert_eq!(
        (entry.outcome, entry.count),
        (Ok(()), Some(12)),
        "10 DEKs and 2 keys"
    );
    assert_eq!(held.status().cache.kept, 1);
    assert_eq!(ticket(&held, "two"), others);
    let redeems = scene.redeems();
    scene.opens(&job, 0).await;
    assert_eq!(scene.redeems(), redeems + 1);
    assert!(ticket(&held, "one") != first && ticket(&held, "one").is_some());

    // The node: everything goes. Whoever asks on and on is given nothing once the wipe is told.
    let deny = [
        "deny",
        "--node",
        &scene.node,
        "--reason",
        "disk cloned",
        "--yes",
    ];
    scene.house.admin_does(&deny).ok();
    until("the node's wipe", || !wiped("broker").is_empty()).await;
    for job in [&job, &other] {
        let after = scene.open(job, 0).await;
        assert!(
            after.is_err(),
            "a DEK that was kept is given after the wipe"
        );
    }
    let status = held.status();
    assert_eq!(status.cache.kept, 0);
    assert_eq!(status.ticket.denied.as_deref(), Some("disk cloned"));
    assert_eq!((ticket(&held, "one"), ticket(&held, "two")), (None, None));
    assert!(!scene.wallet().path().exists(), "the wallet is gone");
    let [entry] = wiped("broker").try_into().expect("one wipe");
    assert_eq!((entry.outcome, entry.count), (Ok(()), Some(2)));
    until("the wipes of both jobs", || wiped("key-server").len() == 3).await;
    for entry in &wiped("key-server")[1..] {
        assert_eq!(entry.count, Some(3), "one DEK and two keys");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_denial_ends_what_the_key_server_was_asked_for() {
    // rule: AGT-6
    let scene = Scene::new(2).await;
    let held = scene.start();
    let job = held.job(spec("one", 1_001));
    scene.opens(&job, 0).await;
    scene.opens(&job, 0).await;
    // From here on only the broker says anything.
    scene.house.key_server.pause();
    let deny = [
        "deny",
        "--node",
        &scene.node,
        "--reason",
        "disk cloned",
        "--yes",
    ];
    let (asking, dataset) = (Arc::clone(&job), scene.dataset);
    let (wrapped, context, _) = scene.wraps[1].clone();
    let asked = tokio::spawn(async move { asking.open(dataset, &wrapped, &context).await });
    scene.house.admin_does(&deny).ok();
    let waiting = tokio::time::timeout(LONG, asked).await;
    let waiting = waiting.expect("it is not waited for any more");
    let waiting = waiting.expect("it ends");
    assert_eq!(refusal(&waiting), Some(Refusal::Denied), "{waiting:?}");
    let kept = scene.open(&job, 0).await;
    assert_eq!(refusal(&kept), Some(Refusal::Denied), "{kept:?}");
    until("the DEKs' end", || held.status().cache.kept == 0).await;
    scene.house.key_server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_valid_is_used_while_the_broker_is_away_and_replaced_when_it_is_back() {
    // rule: AGT-4, AGT-5
    let mut scene = Scene::new(6).await;
    let held = scene.start();
    let job = held.job(spec("one", 1_001));
    scene.opens(&job, 0).await;
    let (first, node) = (ticket(&held, "one"), held.status().ticket.id);
    assert!(node.is_some(), "the wallet's ticket is gone on with");

    scene.house.broker.stop();
    // Past half of the dataset ticket's life.
    scene.ahead.store(40 * 60, Ordering::SeqCst);
    scene.opens(&job, 1).await;
    let late = held.job(spec("late", 1_002));
    let away = scene.open(&late, 0).await;
    assert!(
        matches!(&away, Err(KeyError::Exchange(error)) if error.worth_retrying()),
        "{away:?}"
    );
    scene.opens(&job, 2).await;
    assert_eq!(ticket(&held, "one"), first);
    scene.house.broker.start();
    until("another dataset ticket", || {
        ticket(&held, "one").is_some_and(|id| Some(id) != first)
    })
    .await;
    scene.ahead.store(0, Ordering::SeqCst);
    scene.opens(&job, 3).await;
    scene.opens(&late, 0).await;

    // Past half of the node ticket's.
    assert_eq!(held.status().ticket.id, node);
    scene.ahead.store(5 * 3_600, Ordering::SeqCst);
    until("another node ticket", || {
        held.status().ticket.id.is_some_and(|id| Some(id) != node)
    })
    .await;
    scene.ahead.store(0, Ordering::SeqCst);
    let renewed = held.status().ticket.id;
    scene.opens(&job, 4).await;
    held.end().await;
    drop(held);

    // After a restart it goes on with what the node has; no job's ticket was on a disk.
    let state = NodeState::load(&scene.state()).expect("it opens");
    let kept = scene.wallet().load(&state.expect("a state").wallet_key);
    assert!(kept.expect("it opens").datasets.is_empty());
    let held = scene.start();
    let status = held.status();
    assert_eq!((status.ticket.id, status.jobs.len()), (renewed, 0));
    drop(held);
    // With the state alone, where the wallet did not outlive a reboot.
    let held = scene.try_start(None).expect("it starts");
    let job = held.job(spec("one", 1_001));
    scene.opens(&job, 5).await;
    assert!(held.status().ticket.id != renewed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_that_cannot_be_had_does_not_keep_the_jobs_other_one_up() {
    // rule: AGT-5, DOOR-9
    let mut scene = Scene::new(1).await;
    let held = scene.start();
    let mut wanted = spec("two", 1_001);
    wanted.datasets.push("nothing".to_owned());
    let job = held.job(wanted);
    let named = |name: &str| Named::Name(name.to_owned());
    let found = job.dataset(&named(DATASET)).await.expect("an answer");
    assert_eq!(found.map(|found| found.id), Some(scene.dataset));
    let by_id = job.dataset(&Named::Id(scene.dataset)).await;
    assert!(by_id.expect("an answer").is_some());
    // It is the table's, so that somebody has to be told why it is not there; another one is not.
    assert!(job.dataset(&named("nothing")).await.is_err());
    assert!(
        job.dataset(&named("other"))
            .await
            .expect("an answer")
            .is_none()
    );
    scene.opens(&job, 0).await;
    // The broker goes away: nothing of the first one waits for it.
    let _ = scene.house.broker.stop();
    for _ in 0..20 {
        assert!(job.dataset(&named("nothing")).await.is_err());
        let found = job.dataset(&named(DATASET)).await.expect("an answer");
        assert!(found.is_some());
        scene.opens(&job, 0).await;
    }
}
