//! The history check: thousands of rounds of redemptions and denials while the servers are killed,
//! stopped, restarted and cut off from each other, and then what was seen is held to three things:
//!
//! 1. no redemption that was sent after its ticket's denial had been acknowledged is released;
//! 2. none that was sent after the lease had ended;
//! 3. nothing that was refused as denied is released later.
//!
//! What happens is drawn from a seed (`POSTERN_HISTORY_SEED`), how it interleaves is the machine's.

#![allow(clippy::print_stdout, reason = "what happened is shown with the test")]

mod record;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use client::link::Server;
use client::wallet::DatasetSession;
use record::{End, Event, History, Redemption};
use tests::admins::Admins;
use tests::house::{DATASET, House};
use tests::node::Node;
use tests::relay::{Relay, Weather};
use tests::wire::{self, Message, Presented, Reply, Wire};
use ticket_format::Context;
use ticket_format::denial::Selector;
use ticket_format::ids::TicketId;
use ticket_format::messages::Verb;
use ticket_format::messages::batch::RedeemBody;
use ticket_format::statement::{DenyBody, FeedShow};

/// Rounds: redemptions and the driver's steps.
const ROUNDS: usize = 10_000;
/// Least of them that are the driver's.
const STEPS: usize = 1_000;
/// The dataset's lease.
const LEASE: Duration = Duration::from_secs(1);
/// How long an answer is waited for: a stopped server gives none.
const ANSWER: Duration = Duration::from_secs(3);
/// Live tickets that the redeemers draw from.
const LIVE: usize = 24;
/// Redeemers at once.
const REDEEMERS: usize = 3;

/// xorshift64*: repeatable, and good enough to draw lots.
struct Lots(u64);

impl Lots {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.draw() % limit.max(1) as u64) as usize
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.below(1_000) as f64 / 1_000.0)
    }
}

/// A ticket of the history, with something that it may redeem.
struct Held {
    number: usize,
    id: TicketId,
    session: DatasetSession,
    denied: AtomicBool,
}

struct World {
    tickets: RwLock<Vec<Arc<Held>>>,
    history: Mutex<History>,
    wrap: Vec<u8>,
    context: Context,
    key_server: Server,
    rounds: AtomicUsize,
    over: AtomicBool,
}

impl World {
    fn note(&self, event: Event) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.events.push(event);
    }

    fn pick(&self, lots: &mut Lots) -> Arc<Held> {
        let tickets = self.tickets.read().unwrap_or_else(PoisonError::into_inner);
        // Mostly among the newest: the live ones, and some that were denied.
        let from = tickets.len().saturating_sub(LIVE * 2);
        Arc::clone(&tickets[from + lots.below(tickets.len() - from)])
    }

    fn add(&self, session: DatasetSession) {
        let id = wire::claims(&session).common.id;
        let mut tickets = self.tickets.write().unwrap_or_else(PoisonError::into_inner);
        let number = tickets.len();
        tickets.push(Arc::new(Held {
            number,
            id,
            session,
            denied: AtomicBool::new(false),
        }));
    }

    fn live(&self) -> usize {
        let tickets = self.tickets.read().unwrap_or_else(PoisonError::into_inner);
        let live = tickets
            .iter()
            .filter(|held| !held.denied.load(Ordering::Relaxed));
        live.count()
    }
}

/// Sends one message; none when no answer came.
async fn send(wire: &Wire, message: &Message) -> Option<Reply> {
    let request = message.on(&wire.channel);
    match tokio::time::timeout(ANSWER, wire.raw(&request)).await {
        Ok(Reply::Transport(_)) | Err(_) => None,
        Ok(reply) => Some(reply),
    }
}

/// A connection, if one can be made soon.
async fn connect(server: &Server) -> Option<Wire> {
    let connected = tokio::time::timeout(ANSWER, Wire::try_connect(server)).await;
    connected.ok()?.ok()
}

/// Redeems one ticket after the other until the history is over.
async fn redeem(world: Arc<World>, seed: u64) {
    let mut lots = Lots(seed);
    while !world.over.load(Ordering::Relaxed) {
        let Some(wire) = connect(&world.key_server).await else {
            continue;
        };
        // A connection takes so many tickets and no more; and a new one begins without state.
        for _ in 0..40 {
            let held = world.pick(&mut lots);
            let sent = Instant::now();
            let presented = match tokio::time::timeout(ANSWER, wire.present(&held.session)).await {
                Ok(Ok(presented)) => presented,
                Ok(Err(Reply::Transport(_))) | Err(_) => break,
                Ok(Err(reply)) => {
                    note(&world, &held, sent, refused(&reply));
                    continue;
                }
            };
            for _ in 0..1 + lots.below(6) {
                let sent = Instant::now();
                let Some(end) = once(&world, &wire, &presented).await else {
                    note(&world, &held, sent, End::Lost);
                    break;
                };
                note(&world, &held, sent, end);
            }
            if world.over.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

async fn once(world: &World, wire: &Wire, presented: &Presented) -> Option<End> {
    let items = [(world.wrap.as_slice(), &world.context)];
    let body = RedeemBody::encode(&presented.head(), &items);
    let request = ticket_format::ids::RequestHash::of(&body);
    match send(wire, &presented.batch(Verb::Redeem, body)).await? {
        Reply::Done { body, .. } => {
            let opened = presented.open(Verb::Redeem, request, &body);
            Some(match opened.first() {
                Some(Ok(_)) => End::Released,
                Some(Err(refusal)) => End::Refused(*refusal as u8),
                None => End::Lost,
            })
        }
        reply => Some(refused(&reply)),
    }
}

fn refused(reply: &Reply) -> End {
    reply
        .refusal()
        .map_or(End::Lost, |refusal| End::Refused(refusal as u8))
}

fn note(world: &World, held: &Held, sent: Instant, end: End) {
    world.rounds.fetch_add(1, Ordering::Relaxed);
    let mut history = world.history.lock().unwrap_or_else(PoisonError::into_inner);
    history.redemptions.push(Redemption {
        ticket: held.number,
        sent,
        ended: Instant::now(),
        end,
    });
}

/// Faults and acts, one at a time.
struct Driver {
    house: House,
    relay: Relay,
    world: Arc<World>,
    lots: Lots,
    node: Node,
    broker: Option<Wire>,
    newest: u64,
    did: std::collections::BTreeMap<&'static str, usize>,
}

impl Driver {
    async fn step(&mut self) {
        let what = match self.lots.below(1_000) {
            0..300 => self.deny().await,
            300..560 => self.acknowledgements().await,
            560..760 => self.issue().await,
            760..880 => self.weather(),
            880..930 => self.stand_still(),
            930..945 => self.kill_key_server(),
            945..955 => self.kill_broker(),
            _ => {
                let pause = self.lots.up_to(Duration::from_millis(60));
                tokio::time::sleep(pause).await;
                "wait"
            }
        };
        *self.did.entry(what).or_default() += 1;
        self.world.rounds.fetch_add(1, Ordering::Relaxed);
    }

    async fn broker(&mut self) -> Option<Wire> {
        if self.broker.is_none() {
            self.broker = connect(&self.house.broker_server()).await;
        }
        self.broker.clone()
    }

    async fn ask(&mut self, message: impl FnOnce(&Admins, &Wire) -> Message) -> Option<Vec<u8>> {
        let wire = self.broker().await?;
        match send(&wire, &message(&self.house.admins, &wire)).await {
            Some(Reply::Done { body, .. }) => Some(body),
            Some(_) => None,
            None => {
                self.broker = None;
                None
            }
        }
    }

    async fn deny(&mut self) -> &'static str {
        if self.world.live() < LIVE / 2 {
            return self.issue().await;
        }
        let held = self.world.pick(&mut self.lots);
        if held.denied.swap(true, Ordering::Relaxed) {
            return "deny again";
        }
        let body = DenyBody {
            selector: Selector::ticket(held.id),
            reason: "history".to_owned(),
        };
        let answer = self
            .ask(|admins, wire| wire::statement(admins, &wire.channel, &body))
            .await;
        // Without an answer it may or may not stand: then only what is refused stays refused.
        let Some(answer) = answer else {
            return "deny, lost";
        };
        let epoch = wire::result_of::<DenyBody>(&answer).epoch;
        self.newest = self.newest.max(epoch);
        self.world.note(Event::Denied {
            ticket: held.number,
            epoch,
        });
        "deny"
    }

    /// Asks the broker who has applied the newest denial, and believes signatures only.
    async fn acknowledgements(&mut self) -> &'static str {
        let body = FeedShow {
            epoch: self.newest,
            hold_ms: self.lots.below(200) as u64,
        };
        let answer = self
            .ask(|admins, wire| wire::statement(admins, &wire.channel, &body))
            .await;
        let Some(answer) = answer else {
            return "ask who applied, lost";
        };
        let seen = Instant::now();
        let view = wire::result_of::<FeedShow>(&answer);
        let key = self.house.signing_key();
        let server = self.house.broker_server();
        for subscriber in view.subscribers {
            assert_eq!(subscriber.key, key, "the house has one key server");
            let Some(last) = subscriber.last else {
                continue;
            };
            // rule: DEN-10
            let acknowledged = last
                .verify(&server.realm, &server.tls_key, &key)
                .expect("the key server's signature");
            self.world.note(Event::Acknowledged {
                epoch: acknowledged.epoch,
                seen,
            });
        }
        "ask who applied"
    }

    async fn issue(&mut self) -> &'static str {
        if self.world.live() >= LIVE {
            return "enough tickets";
        }
        let Some(wire) = self.broker().await else {
            return "issue, lost";
        };
        match tokio::time::timeout(ANSWER, self.node.issue(&wire, DATASET)).await {
            Ok(Ok(session)) => {
                self.world.add(session);
                "issue"
            }
            Ok(Err(Reply::Transport(_))) | Err(_) => {
                self.broker = None;
                "issue, lost"
            }
            Ok(Err(reply)) => panic!("{reply:?}"),
        }
    }

    fn weather(&mut self) -> &'static str {
        let cut = self.relay.cut_since();
        let next = match self.lots.below(7) {
            0 => Weather::Cut,
            1 => Weather::Deaf,
            2 => Weather::Slow(self.lots.up_to(Duration::from_millis(300))),
            _ => Weather::Fair,
        };
        if next != Weather::Cut
            && let Some(from) = cut
        {
            // Noted before the network comes back.
            self.world.note(Event::Cut {
                from,
                until: Instant::now(),
            });
        }
        self.relay.set(next);
        match next {
            Weather::Cut => "cut",
            Weather::Deaf => "cut one way",
            Weather::Slow(_) => "slow",
            Weather::Fair => "mend",
        }
    }

    /// Stops a server where it is, and lets it go on later, perhaps after its lease.
    fn stand_still(&mut self) -> &'static str {
        let (daemon, what) = if self.lots.below(2) == 0 {
            (&mut self.house.key_server, "stop the key server")
        } else {
            (&mut self.house.broker, "stop the broker")
        };
        daemon.pause();
        std::thread::sleep(self.lots.up_to(LEASE.mul_f32(1.4)));
        daemon.resume();
        what
    }

    fn kill_key_server(&mut self) -> &'static str {
        self.house.key_server.restart();
        "kill the key server"
    }

    fn kill_broker(&mut self) -> &'static str {
        self.broker = None;
        self.house.broker.restart();
        "kill the broker"
    }

    /// Once all is well again, everybody has applied everything, and what was not denied works.
    async fn settle(&mut self) {
        if let Some(from) = self.relay.cut_since() {
            let until = Instant::now();
            self.world.note(Event::Cut { from, until });
        }
        self.relay.set(Weather::Fair);
        let deadline = Instant::now() + Duration::from_secs(60);
        let key = self.house.signing_key();
        loop {
            let show = FeedShow {
                epoch: self.newest,
                hold_ms: 1_000,
            };
            let answer = self
                .ask(|admins, wire| wire::statement(admins, &wire.channel, &show))
                .await;
            let applied = answer.is_some_and(|answer| {
                let view = wire::result_of::<FeedShow>(&answer);
                view.subscribers.iter().any(|subscriber| {
                    let last = subscriber.last.as_ref();
                    let server = self.house.broker_server();
                    let last = last
                        .and_then(|last| last.verify(&server.realm, &server.tls_key, &key).ok());
                    last.is_some_and(|last| last.epoch == view.epoch && last.epoch >= self.newest)
                })
            });
            if applied {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the key server has not applied epoch {} a minute after all was well\n{}",
                self.newest,
                self.house.key_server.log()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_fault_releases_what_is_denied_or_unheard_of() {
    let number = |name: &str, or: u64| {
        std::env::var(name).map_or(or, |text| text.parse().expect("a number"))
    };
    let seed = number("POSTERN_HISTORY_SEED", 20_261_122);
    let rounds = number("POSTERN_HISTORY_ROUNDS", ROUNDS as u64) as usize;
    println!("seed {seed}");

    let mut house = House::with(|dataset| dataset.lease = LEASE.as_secs());
    let relay = Relay::to(house.broker_address()).await;
    house.key_server_hears_by(relay.address());
    let node = house.node(0).await;
    let broker = house.to_broker().await;
    let first = node.issue(&broker, DATASET).await.expect("a ticket");
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&first).await;
    let context = Context::named("history").expect("a name");
    let (wrap, _) = server.generate(&presented, &context).await.expect("a DEK");

    let world = Arc::new(World {
        tickets: RwLock::new(Vec::new()),
        history: Mutex::new(History::default()),
        wrap,
        context,
        key_server: house.key_server_server(),
        rounds: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    world.add(first);
    let mut driver = Driver {
        house,
        relay,
        world: Arc::clone(&world),
        lots: Lots(seed),
        node,
        broker: Some(broker),
        newest: 0,
        did: std::collections::BTreeMap::new(),
    };
    for _ in 0..LIVE {
        driver.issue().await;
    }
    let redeemers: Vec<_> = (0..REDEEMERS as u64)
        .map(|which| tokio::spawn(redeem(Arc::clone(&world), seed ^ (which + 1) << 32)))
        .collect();
    let mut steps = 0;
    while steps < STEPS.min(rounds) || world.rounds.load(Ordering::Relaxed) < rounds {
        driver.step().await;
        steps += 1;
    }
    driver.settle().await;
    world.over.store(true, Ordering::Relaxed);
    for redeemer in redeemers {
        redeemer.await.expect("a redeemer");
    }

    let history =
        std::mem::take(&mut *world.history.lock().unwrap_or_else(PoisonError::into_inner));
    let released = history.count(|end| end == End::Released);
    let denied = history.count(|end| end == End::Refused(14));
    let unheard = history.count(|end| end == End::Refused(60));
    let lost = history.count(|end| end == End::Lost);
    println!(
        "{} rounds: {released} released, {denied} denied, {unheard} without a lease, {lost} lost; {:?}",
        world.rounds.load(Ordering::Relaxed),
        driver.did
    );
    let faults = history.faults(LEASE);
    assert!(
        faults.is_empty(),
        "seed {seed}: {} faults: {faults:#?}",
        faults.len()
    );
    // A history in which nothing happens shows nothing.
    assert!(
        released > 500 && denied > 100 && unheard > 20,
        "too little happened"
    );

    // And all that was denied, and nothing else, is refused in the end.
    let server = connect(&world.key_server).await.expect("the key server");
    let tickets = world
        .tickets
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let told: Vec<usize> = history
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Denied { ticket, .. } => Some(*ticket),
            _ => None,
        })
        .collect();
    for held in tickets.iter().rev().take(40) {
        // A busy machine may let the lease of a second run out here too.
        let deadline = Instant::now() + Duration::from_secs(60);
        let end = loop {
            let end = match server.present(&held.session).await {
                Ok(_) => End::Released,
                Err(reply) => refused(&reply),
            };
            if end != End::Refused(60) || Instant::now() >= deadline {
                break end;
            }
        };
        if told.contains(&held.number) {
            assert_eq!(end, End::Refused(14), "ticket {}", held.number);
        } else if !held.denied.load(Ordering::Relaxed) {
            assert_eq!(end, End::Released, "ticket {}", held.number);
        }
    }
    drop(server);
    driver.house.is_sound();
}
