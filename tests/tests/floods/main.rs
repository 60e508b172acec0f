//! Floods against real processes: whatever strangers do, memory and descriptors stay bounded, honest
//! requests succeed, and a denial that is ordered meanwhile is applied.
//!
//! Bounded in count and time, on loopback only. What is measured of time is told and not held to: that
//! belongs to the bench (suite `flood`).
// What is measured is told to who runs them by hand.
#![allow(missing_docs, clippy::print_stderr)]

mod honest;
mod packets;
mod strangers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tests::house::House;
use tokio::sync::Notify;
use tools::floods::{Flood, Force, Tally, Target, Usage};

use honest::Honest;

/// One test at a time: they measure.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The longest that a flood goes on, should what is waited for not come.
const LONGEST: Duration = Duration::from_secs(40);
/// For how long honest requests are made during a flood at least.
const SPAN: Duration = Duration::from_millis(1_200);

/// What a flood may cost either server.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// Memory beyond what it held before, in KiB.
    memory: u64,
    /// Descriptors beyond what it had open before.
    descriptors: u64,
}

/// A server of ours keeps no socket per connection, and opens no file for a stranger.
const DESCRIPTORS: u64 = 16;

fn target(server: &client::link::Server) -> Target {
    let address = server.addresses[0].parse().expect("an address");
    Target::new(address).expect("on loopback")
}

/// Floods both servers, makes honest requests meanwhile, holds both to the bound, and tells what an act of
/// each side cost. `meanwhile` runs when the honest requests have, and the flood goes on until it is done.
async fn withstand(
    house: &House,
    honest: &mut Honest,
    (flood, force): (&[Flood; 2], Force),
    bound: Bound,
    meanwhile: impl AsyncFnOnce(&mut Honest),
) -> [Tally; 2] {
    let pids = [house.broker.pid(), house.key_server.pid()];
    let usage = || pids.map(|pid| Usage::of(pid).expect("it runs"));
    let targets = [house.broker_server(), house.key_server_server()].map(|server| target(&server));
    let calm = usage();
    let (alone, _) = honest.rounds(SPAN / 2).await;
    let before = usage();
    let stop = Arc::new(Notify::new());
    let mut floods = Vec::new();
    for (flood, target) in flood.iter().cloned().zip(targets) {
        let stop = Arc::clone(&stop);
        let force = Force {
            span: LONGEST,
            ..force
        };
        floods.push(tokio::spawn(async move {
            flood.run_until(target, force, stop.notified()).await
        }));
    }
    let (rounds, shed) = honest.rounds(SPAN).await;
    assert!(
        rounds > 0,
        "no honest request got through ({shed} were shed)"
    );
    meanwhile(honest).await;
    assert!(
        floods.iter().all(|flood| !flood.is_finished()),
        "the flood was over before"
    );
    let during = usage();
    stop.notify_waiters();
    let mut tallies = Vec::new();
    for flood in floods {
        tallies.push(flood.await.expect("no panic"));
    }
    let tallies: [Tally; 2] = tallies.try_into().expect("two");
    for (number, server) in ["broker", "key server"].into_iter().enumerate() {
        let (before, during) = (before[number], during[number]);
        let grown = during.peak.saturating_sub(before.resident);
        let acts = tallies[number].acts.max(1);
        let spent = during.cpu.saturating_sub(before.cpu);
        let each = before.cpu.saturating_sub(calm[number].cpu) / alone.max(1);
        let hostile = spent.saturating_sub(each * rounds) / u32::try_from(acts).unwrap_or(u32::MAX);
        eprintln!(
            "{} of {server}: {:?}, {grown} KiB, {} descriptors, CPU {hostile:?} per hostile act, {each:?} per honest round; {rounds} honest, {shed} shed",
            flood[number].name(),
            tallies[number],
            during.descriptors,
        );
        assert!(grown <= bound.memory, "{server}: {grown} KiB");
        let opened = during.descriptors.saturating_sub(before.descriptors);
        assert!(
            opened <= bound.descriptors,
            "{server}: {opened} descriptors"
        );
    }
    tallies
}

/// Waits for something that comes from another process.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LONGEST / 2;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
