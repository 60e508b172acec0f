//! Records before keys, and denials that are known to be applied (promises 7 and 8).

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_no_key_leaves_unless_its_record_is_durable() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let mut house = House::start();
    let node = house.node(0).await;
    let broker = house.to_broker().await;
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");

    // A server that ignores the signal of a file that may not grow sees EFBIG, as it would ENOSPC.
    house.key_server.stop();
    let run = house.key_server.command();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(run.get_program())
        .args(run.get_args());
    house.key_server.start_as(shell);
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let mut released = 0;
    let mut wraps = Vec::new();
    for number in 0..10 {
        let name = format!("object {number}");
        let (wrap, _) = server
            .generate(&presented, &named(&name))
            .await
            .expect("a DEK");
        wraps.push((name, wrap));
        released += 1;
    }
    let redeemed = server
        .redeem(&presented, &[(&wraps[0].1, &named("object 0"))])
        .await
        .expect("released");
    assert!(redeemed[0].is_ok());
    released += 1;
    let log = house.journal("key-server");
    let len = fs::metadata(&log).expect("a log").len();
    let pid = Pid::from_raw(i32::try_from(house.key_server.pid()).expect("a pid"));
    prlimit(
        pid,
        Resource::Fsize,
        Rlimit {
            current: Some(len),
            maximum: None,
        },
    )
    .expect("a limit");
    for _ in 0..3 {
        let reply = server
            .redeem(&presented, &[(&wraps[1].1, &named("object 1"))])
            .await
            .expect_err("not recorded");
        // rule: AUD-4
        assert_eq!(
            reply.refusal(),
            Some(Refusal::AuditUnavailable),
            "{reply:?}\n{}",
            house.key_server.log()
        );
    }
    assert!(refused(server.generate(&presented, &named("more")).await).is_some());

    // Killed at once: what was released is all there, and nothing that was not.
    house.key_server.kill();
    let entries = house.entries("key-server");
    let done = entries.iter().filter(|entry| {
        matches!(entry.kind, Kind::Redeem | Kind::Generate) && entry.outcome.is_ok()
    });
    assert_eq!(done.count(), released, "entries of releases");
    house.key_server.start();
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let redeemed = server
        .redeem(&presented, &[(&wraps[1].1, &named("object 1"))])
        .await
        .expect("the disk is free again");
    assert!(redeemed[0].is_ok());
    // rule: RED-6 — its entry is on disk when the answer is here.
    house.key_server.kill();
    let last = house.entries("key-server");
    assert!(last.iter().any(|entry| entry.kind == Kind::Redeem
        && entry.ticket_hash == Some(presented.hash)
        && entry.time >= last[0].time));
    let done = last.iter().filter(|entry| {
        matches!(entry.kind, Kind::Redeem | Kind::Generate) && entry.outcome.is_ok()
    });
    assert_eq!(done.count(), released + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_8_a_denial_reaches_every_key_server_at_once_and_who_applied_it_is_known() {
    let mut house = House::start();
    let node = house.node(0).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let mut taken = Vec::new();
    for _ in 0..20 {
        let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
        let presented = server.present_when_leased(&ticket).await;
        let (wrap, _) = server
            .generate(&presented, &named("a"))
            .await
            .expect("a DEK");
        let id = wire::claims(&ticket).common.id;
        let deny = DenyBody {
            selector: Selector::ticket(id),
            reason: "stolen".into(),
        };
        let asked = Instant::now();
        broker.act(&house.admins, &deny).await.expect("denied");
        let item = named("a");
        loop {
            match server.redeem(&presented, &[(&wrap, &item)]).await {
                Err(reply) if reply.refusal() == Some(Refusal::Denied) => break,
                Ok(_) => assert!(
                    asked.elapsed() < Duration::from_secs(5),
                    "the denial is not applied"
                ),
                Err(reply) => panic!("{reply:?}"),
            }
        }
        taken.push(asked.elapsed());
    }
    taken.sort();
    println!(
        "denied to refused, 20 times: median {:?}, worst {:?}",
        taken[10], taken[19]
    );
    // Of the node: nothing of it goes on, and postern-admin hears who applied it.
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    let presented = server.present_when_leased(&ticket).await;
    let name = node.iid.node.to_string();
    let said = house
        .admin_does(&[
            "deny", "--node", &name, "--reason", "gone", "--yes", "--wait", "10s",
        ])
        .ok();
    println!("{said}");
    assert_eq!(
        refused(server.generate(&presented, &named("b")).await),
        Some(Refusal::Denied)
    );
    assert_eq!(
        refused(server.present(&ticket).await),
        Some(Refusal::Denied)
    );
    assert_eq!(
        refused(node.issue(&broker, DATASET).await),
        Some(Refusal::Denied)
    );
    house.is_sound();
}
