//! A million denials: `denials_load_s`, `denials_start_s`, `denials_memory_mb`, `denial_check_ns`.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use key_server::records::{self, FeedHead};
use store::{KeyRange, MAX_PAGE_ENTRIES, MAX_WRITES, Options, RedbStore, Store as _, Transaction};
use ticket_format::cbor::Encode as _;
use ticket_format::denial::{
    CHAIN_START, Denial, DenialSet, Loader, Members, Selector, TicketFacts, chain_next,
};
use ticket_format::ids::{DatasetId, LaunchId, NodeId, StatementDigest, TicketId};
use ticket_format::report::{Report, exit};
use ticket_format::time::Timestamp;
use tools::admin::now;

use crate::realm::Realm;
use crate::rows::Row;
use crate::servers::KeyServer;

/// How many there are.
const DENIALS: u64 = 1_000_000;
/// Tickets that are asked about.
const TICKETS: u64 = 4_096;

pub(super) struct Bench {
    empty: KeyServer,
    full: KeyServer,
    set: DenialSet,
    tickets: Vec<Ticket>,
    map: HashMap<[u8; 16], u64>,
    map_bytes: f64,
}

/// What a question is about.
struct Ticket {
    ticket: TicketId,
    parent: TicketId,
    node: NodeId,
    launch: LaunchId,
    dataset: DatasetId,
}

impl Bench {
    /// Fills a key server's store. The server follows nobody: no broker knows these denials.
    pub(super) async fn new(realm: &Realm) -> Result<Self, Report> {
        let (mut empty, mut full) = (
            realm.servers.another("key-server-empty", false)?,
            realm.servers.another("key-server-full", false)?,
        );
        for server in [&mut empty, &mut full] {
            // It makes its store.
            server.start().await?;
            server.stop();
        }
        let set = fill(&full.store()).await?;
        let tickets: Vec<Ticket> = (0..TICKETS).map(ticket).collect();
        let denied = tickets.iter().filter(|ticket| ask(&set, ticket));
        if set.len() as u64 != DENIALS || denied.count() > 0 {
            return Err(Report::new(
                exit::LOCAL,
                "the denials are not as they were meant",
            ));
        }
        let before = resident();
        let map: HashMap<[u8; 16], u64> = (0..DENIALS).map(|key| (id(key, 7), key)).collect();
        let map_bytes = resident() - before;
        Ok(Self {
            empty,
            full,
            set,
            tickets,
            map,
            map_bytes,
        })
    }

    /// Loads the denials, and starts the server with and without them.
    pub(super) async fn load(
        &mut self,
        load: &mut Row,
        start: &mut Row,
        memory: &mut Row,
    ) -> Result<(), Report> {
        // First, so that the file is in the page cache for all.
        let floor = read_all(&self.full.store()).await?.as_secs_f64();
        load.add(load_all(&self.full.store()).await?.as_secs_f64(), floor);
        let (without, _) = self.empty.start().await?;
        let nothing = self.empty.memory().unwrap_or_default();
        self.empty.stop();
        let (with, _) = self.full.start().await?;
        let everything = self.full.memory().unwrap_or_default();
        self.full.stop();
        start.add(with.saturating_sub(without).as_secs_f64(), floor);
        let megabytes = everything.saturating_sub(nothing) as f64 / 1e6;
        memory.add(megabytes, self.map_bytes / 1e6);
        Ok(())
    }

    /// Asks about tickets that are not denied.
    pub(super) fn check(&self, row: &mut Row) {
        const TURNS: u32 = 50;
        let asked = f64::from(TURNS) * self.tickets.len() as f64;
        let started = Instant::now();
        for _ in 0..TURNS {
            for ticket in &self.tickets {
                black_box(ask(&self.set, black_box(ticket)));
            }
        }
        let value = started.elapsed();
        let started = Instant::now();
        for _ in 0..TURNS {
            for ticket in &self.tickets {
                black_box(self.map.get(&black_box(ticket).ticket.0));
            }
        }
        let floor = started.elapsed();
        row.add(
            value.as_secs_f64() * 1e9 / asked,
            floor.as_secs_f64() * 1e9 / asked,
        );
    }
}

fn ask(set: &DenialSet, ticket: &Ticket) -> bool {
    let facts = TicketFacts {
        ticket: Some(ticket.ticket),
        parent: Some(ticket.parent),
        node: &ticket.node,
        launch: ticket.launch,
        image: "ami-0123456789abcdef0",
        dataset: Some(ticket.dataset),
        issued: now_of_the_run(),
    };
    set.check(&facts).is_some()
}

/// When all of it was issued: long before now, so that an issue time in a selector hits.
fn now_of_the_run() -> Timestamp {
    Timestamp::from_seconds(1_700_000_000)
}

/// An id that no other number has; `of` tells kinds of ids apart.
fn id(number: u64, of: u8) -> [u8; 16] {
    let mut id = [of; 16];
    // Odd, so that it is a bijection: spread over all bits, as a random id is.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    id[..8].copy_from_slice(&(spread ^ (spread >> 29)).to_le_bytes());
    id
}

/// The instance of this number: it has 17 hexadecimal digits.
fn node(number: u64) -> NodeId {
    let name = format!("ec2/123456789012/eu-west-1/i-{number:017x}");
    // The form that the parser demands.
    name.parse()
        .unwrap_or_else(|_| unreachable!("{name} names a node"))
}

/// A ticket that no selector meets: its numbers lie beyond theirs.
fn ticket(number: u64) -> Ticket {
    let number = number + 10 * DENIALS;
    Ticket {
        ticket: TicketId(id(number, 1)),
        parent: TicketId(id(number + TICKETS, 1)),
        node: node(number),
        launch: LaunchId(id(number, 2)),
        dataset: DatasetId(id(number, 3)),
    }
}

/// The selector of this number, of one of twelve kinds.
pub(super) fn selector(number: u64) -> Selector {
    let ticket = Some(TicketId(id(number, 1)));
    let owner = Some(node(number));
    let launch = Some(LaunchId(id(number, 2)));
    let dataset = Some(DatasetId(id(number, 3)));
    let account = Some(format!("{:012}", 200_000_000_000 + number));
    let region = Some("eu-west-1".to_owned());
    let image = Some(format!("ami-{number:017x}"));
    let none = Members::default;
    #[rustfmt::skip]
    let mut members = match number % 12 {
        0 => Members { ticket, ..none() },
        1 => Members { node: owner, ..none() },
        2 => Members { launch, ..none() },
        3 => Members { dataset, ..none() },
        4 => Members { node: owner, dataset, ..none() },
        5 => Members { launch, dataset, ..none() },
        6 => Members { ticket, dataset, ..none() },
        7 => Members { node: owner, image, ..none() },
        8 => Members { launch, account, ..none() },
        9 => Members { account, region, ..none() },
        10 => Members { image, region, dataset, ..none() },
        _ => Members { image, ..none() },
    };
    if number.is_multiple_of(5) {
        members.issued_before = Some(now_of_the_run().plus(number));
    }
    // A member is named in each kind.
    Selector::new(members).unwrap_or_else(|_| unreachable!("a selector names something"))
}

/// Writes the denials as a key server does, and gives the set of them.
async fn fill(path: &Path) -> Result<DenialSet, Report> {
    let store = open(path)?;
    let (mut chain, made) = (CHAIN_START, now());
    let mut loader = Loader::new(&[0; 16]);
    let mut epoch = 0;
    while epoch < DENIALS {
        let mut writes = Transaction::new();
        for _ in 1..MAX_WRITES.min((DENIALS - epoch + 1) as usize) {
            epoch += 1;
            let denial = Denial::new(
                selector(epoch),
                "the disk was copied".to_owned(),
                StatementDigest(id_32(epoch)),
                made,
                "operator".to_owned(),
            );
            let bytes = denial.to_cbor();
            chain = chain_next(chain, denial.forget, &bytes);
            writes = writes.put(records::denial(epoch), bytes);
            loader.insert(&denial, epoch).map_err(failed)?;
        }
        let head = FeedHead { epoch, chain };
        let writes = writes.put(records::FEED_HEAD, head.to_cbor());
        store.commit(writes).await.map_err(failed)?;
    }
    store.close().await;
    Ok(loader.finish())
}

fn id_32(number: u64) -> [u8; 32] {
    let mut id_32 = [0; 32];
    id_32[..16].copy_from_slice(&id(number, 9));
    id_32
}

/// Reads the records and does nothing with them.
async fn read_all(path: &Path) -> Result<Duration, Report> {
    let store = open(path)?;
    let started = Instant::now();
    let (mut range, mut count) = (KeyRange::prefix(records::DENIALS), 0);
    loop {
        let page = store.range(range.clone(), MAX_PAGE_ENTRIES).await;
        let page = page.map_err(failed)?;
        count += page.entries.len() as u64;
        match page.entries.last() {
            Some((last, _)) if page.more => range = range.after(last),
            _ => break,
        }
    }
    let took = started.elapsed();
    store.close().await;
    if count == DENIALS {
        Ok(took)
    } else {
        Err(Report::new(
            exit::LOCAL,
            "the store does not hold what was written",
        ))
    }
}

/// Makes the set of them as a key server does.
async fn load_all(path: &Path) -> Result<Duration, Report> {
    let store = open(path)?;
    let started = Instant::now();
    let set = key_server::service::load::denials(&store, &[7; 16])
        .await
        .map_err(failed)?;
    let took = started.elapsed();
    store.close().await;
    if set.len() as u64 == DENIALS {
        Ok(took)
    } else {
        Err(Report::new(exit::LOCAL, "not all denials were loaded"))
    }
}

fn open(path: &Path) -> Result<RedbStore, Report> {
    RedbStore::open(path, Options::default()).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Report {
    Report::new(exit::LOCAL, "the denials cannot be written or read").why(error)
}

/// Bytes of memory that this process holds.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kilobytes.unwrap_or(0.0) * 1_024.0
}
