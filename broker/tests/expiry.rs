//! No order of logins, renewals, issues, waits and restarts moves an expiry beyond what it may be
//! (CVE-2021-32923, CVE-2020-25816).
#![allow(missing_docs)]

mod support;

use rand_core::Rng;
use support::*;
use ticket_format::Refusal;
use ticket_format::keys::NodeSecret;
use ticket_format::limits;
use ticket_format::messages::RefusalNotice;
use ticket_format::time::Timestamp;

/// A generator that gives the same numbers again for a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one_of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len() as u64) as usize]
    }
}

/// How often each thing was done, and refused because a time was over.
#[derive(Debug, Default)]
struct Met {
    nodes: u64,
    datasets: u64,
    over: u64,
}

/// The dataset record's most, in seconds.
const MOST: u64 = 3_600;

fn in_time<T>(result: Result<T, RefusalNotice>, met: &mut Met, what: &str) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(refused) => {
            // Nothing but time is in the way here.
            let over = [
                Refusal::NodeExpired,
                Refusal::TicketExpired,
                Refusal::RetryOver,
                Refusal::Invalid,
                Refusal::LaunchClosed,
            ];
            assert!(over.contains(&refused.refusal), "{what}: {refused:?}");
            met.over += 1;
            None
        }
    }
}

/// What holds of every node ticket.
fn node_ticket(world: &World, held: &Held, end: Timestamp, what: &str) {
    let common = held.claims(world).common;
    assert_eq!(common.issued, world.now(), "{what}");
    assert!(common.expires > common.issued, "{what}: over as it is made");
    assert!(common.expires <= end, "{what}: beyond the node's life");
    assert!(
        common.expires <= common.issued.plus(limits::NODE_TICKET_LIFE),
        "{what}: {}",
        common.expires.since(common.issued)
    );
}

async fn live(seed: u64, met: &mut Met) {
    let mut chance = Chance(seed);
    let mut world = World::new().await;
    world.dataset().await;
    let life = chance.one_of(&[1_000, 9 * 3_600, 30 * 3_600]);
    let launch = world.launch(&SYDNEY, |terms| terms.node_life = life).await;
    let mut node = Node::boot(&SYDNEY);
    let first = node.clone_disk();
    let mut held = node.login(&world, &launch).await.unwrap();
    let end = world.now().plus(life);
    node_ticket(&world, &held, end, "the first");
    let mut renewed = None;
    for step in 0..40 {
        let what = format!("seed {seed}, step {step}");
        let expires = held.claims(&world).common.expires;
        match chance.below(9) {
            0 => {
                // Some time, or until right before, at and after an expiry.
                let now = world.now();
                let until = |at: Timestamp| at.since(now);
                let some = [
                    1,
                    600,
                    601,
                    7 * 3_600,
                    until(expires).saturating_sub(1),
                    until(expires),
                    until(expires) + 1,
                    until(end).saturating_sub(1),
                ];
                world.clock.advance(chance.one_of(&some));
            }
            1 => {
                let next = NodeSecret::generate(&mut rng());
                let answer = node.renew_with(&world, &node.key, &next).await;
                if let Some((new, chain)) = in_time(answer, met, &what) {
                    node_ticket(&world, &new, end, &what);
                    met.nodes += 1;
                    let before = node.clone_disk();
                    renewed = Some((before, NodeSecret::from_seed(&next.seed())));
                    (node.key, node.chain, held) = (next, chain, new);
                }
            }
            2 => {
                // The same renewal again, as one whose answer was lost.
                let Some((before, next)) = &renewed else {
                    continue;
                };
                let answer = before.renew_with(&world, &before.key, next).await;
                if let Some((again, _)) = in_time(answer, met, &what) {
                    node_ticket(&world, &again, end, &what);
                    met.nodes += 1;
                }
            }
            3 => {
                // The login again, as long as the node has not renewed.
                if renewed.is_none() {
                    let answer = first.clone_disk().login(&world, &launch).await;
                    if let Some(again) = in_time(answer, met, &what) {
                        node_ticket(&world, &again, end, &what);
                        met.nodes += 1;
                    }
                }
            }
            4 => world.restart().await,
            _ => {
                let wanted = chance.one_of(&[0, 1, 60, MOST, MOST + 1, u64::MAX]);
                let signed = chance.one_of(&[0, 1, 90, MOST, 10 * MOST]);
                let now = world.now();
                let answer = node
                    .issue(&world, &held, |body| {
                        (body.life, body.budget, body.expires) = (wanted, 1, now.plus(signed));
                    })
                    .await;
                let Some(answer) = in_time(answer, met, &what) else {
                    let none = wanted == 0 || signed == 0 || expires <= now;
                    assert!(none, "{what}: nothing was over");
                    continue;
                };
                met.datasets += 1;
                let common = dataset_claims(&world, &answer.ticket).common;
                let least = wanted.min(signed).min(MOST);
                assert_eq!(common.issued, now, "{what}");
                assert!(common.expires > now && common.expires <= expires, "{what}");
                assert!(common.expires <= now.plus(least), "{what}");
                assert!(common.expires <= end, "{what}");
            }
        }
        if world.now() >= end {
            let late = node.renew(&world).await.map(drop).unwrap_err();
            assert_eq!(late.refusal, Refusal::NodeExpired, "{what}");
            return;
        }
    }
}

#[tokio::test]
async fn cve_2021_32923_no_order_of_acts_moves_an_expiry_beyond_its_most() {
    // rule: REN-5, ISS-4, LOG-7
    let seed = rng().next_u64();
    let mut met = Met::default();
    for number in 0..8 {
        live(seed.wrapping_add(number), &mut met).await;
    }
    let enough = met.nodes > 10 && met.datasets > 10 && met.over > 5;
    assert!(enough, "seed {seed}: {met:?}");
}
