//! The inbox (`spec/protocol.md`, section 9, "Proposals").
#![allow(missing_docs)]

mod support;

use support::admins::{MANAGES, admin, set_of};
use support::*;
use ticket_format::Refusal;
use ticket_format::ids::StatementId;
use ticket_format::keys::{AdminSecret, TlsSecret};
use ticket_format::limits;
use ticket_format::messages::RefusalNotice;
use ticket_format::statement::status::StatusShow;
use ticket_format::statement::*;

const POLICY: &str = r#"@id("all") permit (principal, action, resource);"#;

fn policy() -> PolicySet {
    PolicySet {
        text: POLICY.to_owned(),
        replaces: None,
    }
}

/// `who` leaves a statement in the inbox.
async fn leave(
    world: &World,
    statement: &[u8],
    who: &AdminSecret,
) -> Result<ProposalRow, RefusalNotice> {
    let body = Propose {
        statement: statement.to_vec(),
    };
    world.act_by(&body, &[who]).await
}

async fn waiting(world: &World) -> Vec<ProposalRow> {
    world.act(&ProposalList::first()).await.unwrap().rows
}

fn metric(world: &World, name: &str) -> String {
    let text = world.broker().metrics().render();
    let line = text.lines().find(|line| line.starts_with(name));
    line.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn signatures_join_in_the_inbox_and_the_statement_leaves_it_when_used() {
    // rule: PRO-1, PRO-2
    let mut world = World::new().await;
    let one = &world.admins.managers[0];
    let payload = world.payload(&policy());
    let by_one = payload.sign(&[one]).unwrap();
    let row = leave(&world, &by_one, one).await.unwrap();
    assert_eq!((row.id, row.act), (payload.id, Act::PolicySet));
    assert_eq!(row.audience, payload.audience);
    assert_eq!(
        (row.signers, row.counting, row.needed, row.until),
        (vec!["manager-1".to_owned()], 1, 2, payload.expires)
    );
    assert!(metric(&world, "postern_proposals_pending").ends_with(" 1"));
    // Kept over a restart; sent again, nothing changes.
    world.restart().await;
    let [one, two] = &world.admins.managers;
    leave(&world, &by_one, one).await.unwrap();
    // The other one looks, signs the same bytes, and sends his signature alone.
    let shown = world
        .act_by(&ProposalShow { id: payload.id }, &[two])
        .await
        .unwrap();
    assert_eq!(shown.statement, by_one);
    let by_two = payload.sign(&[two]).unwrap();
    let row = leave(&world, &by_two, two).await.unwrap();
    assert_eq!((row.counting, row.needed), (2, 2));
    assert_eq!(waiting(&world).await.len(), 1);
    let whole = world
        .act(&ProposalShow { id: payload.id })
        .await
        .unwrap()
        .statement;
    world.send_statement::<PolicySet>(&whole).await.unwrap();
    assert!(waiting(&world).await.is_empty());
    assert!(metric(&world, "postern_proposals_pending").ends_with(" 0"));
    assert!(!world.has(&format!("proposal/{}/0", payload.id)).await);
    // What was used does not wait again.
    assert_eq!(
        refusal(leave(&world, &whole, one).await),
        Refusal::StatementReplayed
    );
}

#[tokio::test]
async fn only_what_needs_more_signatures_waits_and_each_must_verify() {
    // rule: PRO-1, PRO-2
    let world = World::new().await;
    let [one, two] = &world.admins.managers;
    let operator = &world.admins.operator;
    let stranger = AdminSecret::generate(&mut rng());
    let deny = DenyBody {
        selector: ticket_format::denial::Selector::node(SYDNEY.node()),
        reason: String::new(),
    };
    let elsewhere = Payload {
        realm: "elsewhere".to_owned(),
        ..world.payload(&policy())
    };
    let over = Payload {
        not_before: world.now().minus(100),
        expires: world.now(),
        ..world.payload(&policy())
    };
    let mut damaged = world.payload(&policy()).sign(&[one]).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    let cases = [
        (
            world.payload(&deny).sign(&[operator]).unwrap(),
            Refusal::Invalid,
        ),
        (
            world.payload(&StatusShow {}).sign(&[one]).unwrap(),
            Refusal::Invalid,
        ),
        (
            world.payload(&policy()).sign(&[&stranger]).unwrap(),
            Refusal::StatementSignature,
        ),
        (
            world.payload(&policy()).sign(&[one, &stranger]).unwrap(),
            Refusal::StatementSignature,
        ),
        (
            world.payload(&policy()).sign(&[operator]).unwrap(),
            Refusal::Quorum,
        ),
        (elsewhere.sign(&[one]).unwrap(), Refusal::StatementAudience),
        (over.sign(&[one]).unwrap(), Refusal::StatementExpired),
        (damaged, Refusal::StatementSignature),
        (vec![0xa0], Refusal::StatementMalformed),
    ];
    for (statement, expected) in cases {
        assert_eq!(refusal(leave(&world, &statement, two).await), expected);
    }
    assert!(waiting(&world).await.is_empty());
    // One for a key server waits here too: the inbox is one for all.
    let server = TlsSecret::generate(&mut rng()).public();
    let body = DatasetPolicySet {
        name: "faces".to_owned(),
        text: POLICY.to_owned(),
        replaces: policy_digest(""),
    };
    let id = StatementId::random(&mut rng());
    let payload = Payload::act(id, REALM, server, world.now(), 3_600, &body);
    let row = leave(&world, &payload.sign(&[one]).unwrap(), one)
        .await
        .unwrap();
    assert_eq!(row.audience, Audience::Server(server));
    // Another payload under its id.
    let other = Payload {
        id,
        ..world.payload(&policy())
    };
    assert_eq!(
        refusal(leave(&world, &other.sign(&[two]).unwrap(), two).await),
        Refusal::Exists
    );
}

#[tokio::test]
async fn a_removed_admins_signature_is_dropped_and_what_nobody_signed_any_more_goes() {
    // rule: PRO-2, SET-2
    let world = World::new().await;
    let [one, two] = &world.admins.managers;
    let alone = world.payload(&policy());
    leave(&world, &alone.sign(&[one]).unwrap(), one)
        .await
        .unwrap();
    let both = world.payload(&policy());
    leave(&world, &both.sign(&[one, two]).unwrap(), one)
        .await
        .unwrap();
    let third = AdminSecret::generate(&mut rng());
    let mut admins = world.admins.all();
    admins.retain(|admin| admin.name != "manager-1");
    admins.push(admin("manager-3", &third, &MANAGES));
    let set = set_of(2, world.admins.set().digest(), admins);
    world.record(&set).await.unwrap();
    // One approves what the removed one had signed: it is refused until somebody else signs.
    let rows = waiting(&world).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].id, &rows[0].signers[..], rows[0].counting),
        (both.id, &["manager-2".to_owned()][..], 1)
    );
    let shown = world.act(&ProposalShow { id: both.id }).await.unwrap();
    assert_eq!(
        refusal(world.send_statement::<PolicySet>(&shown.statement).await),
        Refusal::Quorum
    );
    let approved = ReceivedStatement::parse(&shown.statement)
        .unwrap()
        .add_by(&third)
        .unwrap();
    leave(&world, &approved, &third).await.unwrap();
    let with_one = both.sign(&[one, two, &third]).unwrap();
    assert_eq!(
        refusal(world.send_statement::<PolicySet>(&with_one).await),
        Refusal::StatementSignature
    );
    world.send_statement::<PolicySet>(&approved).await.unwrap();
    assert!(waiting(&world).await.is_empty());
}

#[tokio::test]
async fn the_inbox_is_bounded_and_forgets() {
    // rule: PRO-2
    let world = World::new().await;
    let [one, two] = &world.admins.managers;
    let mut kept = Vec::new();
    for _ in 0..16 {
        let payload = world.payload(&policy());
        leave(&world, &payload.sign(&[one]).unwrap(), one)
            .await
            .unwrap();
        kept.push(payload.id);
    }
    let more = world.payload(&policy());
    let statement = more.sign(&[one]).unwrap();
    let refused = leave(&world, &statement, one).await.unwrap_err();
    assert_eq!(refused.refusal, Refusal::Busy);
    // Another admin's share is his own; and a signature still joins.
    leave(&world, &statement, two).await.unwrap();
    let first = kept[0];
    let shown = world.act(&ProposalShow { id: first }).await.unwrap();
    let joined = ReceivedStatement::parse(&shown.statement).unwrap();
    let joined = joined.add_by(two).unwrap();
    assert_eq!(leave(&world, &joined, one).await.unwrap().counting, 2);
    // Pages.
    let page = world
        .act(&ProposalList {
            rows: 10,
            ..ProposalList::first()
        })
        .await
        .unwrap();
    assert_eq!((page.rows.len(), page.more), (10, true));
    let rest = world
        .act(&ProposalList::after(page.rows[9].id))
        .await
        .unwrap();
    assert_eq!((rest.rows.len(), rest.more), (7, false));
    // The whole inbox has a bound too.
    let third = AdminSecret::generate(&mut rng());
    let others: Vec<_> = (0..4).map(|_| AdminSecret::generate(&mut rng())).collect();
    let mut admins = world.admins.all();
    for (number, key) in others.iter().chain([&third]).enumerate() {
        admins.push(admin(&format!("more-{number}"), key, &MANAGES));
    }
    let set = set_of(2, world.admins.set().digest(), admins);
    world.record(&set).await.unwrap();
    let mut left = 17;
    'all: for other in &others {
        for _ in 0..16 {
            let payload = world.payload(&policy());
            match leave(&world, &payload.sign(&[one]).unwrap(), other).await {
                Ok(_) => left += 1,
                Err(notice) => {
                    assert_eq!(notice.refusal, Refusal::Busy);
                    break 'all;
                }
            }
        }
    }
    assert_eq!(left, 64);
    assert_eq!(waiting(&world).await.len(), 64);
    // An hour later all are over.
    world.clock.advance(3_600);
    assert!(waiting(&world).await.is_empty(), "before the next minute");
    world.broker().tick().await.unwrap();
    assert!(metric(&world, "postern_proposals_pending").ends_with(" 0"));
    assert!(!world.has(&format!("proposal/{first}/0")).await);
}

#[tokio::test]
async fn a_proposal_is_kept_for_a_day_at_most_and_a_long_one_whole() {
    // rule: PRO-2
    let mut world = World::new().await;
    let one = &world.admins.managers[0];
    let third = AdminSecret::generate(&mut rng());
    let mut admins = world.admins.all();
    admins.push(admin("manager-3", &third, &MANAGES));
    // A set does not expire; its proposal does.
    let set = set_of(2, world.admins.set().digest(), admins);
    let id = StatementId::random(&mut rng());
    let payload = Payload::record(id, REALM, world.now(), &set);
    let row = leave(&world, &payload.sign(&[one]).unwrap(), one)
        .await
        .unwrap();
    assert_eq!(row.until, world.now().plus(86_400));
    // As long as a policy may be.
    let text = format!(
        "{POLICY}\n//{}",
        "x".repeat(limits::POLICY - POLICY.len() - 3)
    );
    let long = world.payload(&PolicySet {
        text,
        replaces: None,
    });
    let long_bytes = long.sign(&[one]).unwrap();
    leave(&world, &long_bytes, one).await.unwrap();
    world.restart().await;
    let shown = world.act(&ProposalShow { id: long.id }).await.unwrap();
    assert!(shown.statement == long_bytes);
    world.clock.advance(86_400);
    world.broker().tick().await.unwrap();
    assert!(waiting(&world).await.is_empty());
    assert!(!world.has(&format!("proposal/{}/1", long.id)).await);
}

#[tokio::test]
async fn a_proposal_is_withdrawn_by_who_signed_it_or_by_security() {
    // rule: PRO-4
    let world = World::new().await;
    let (operator, [one, two]) = (&world.admins.operator, &world.admins.managers);
    for who in [one, two] {
        let payload = world.payload(&policy());
        leave(&world, &payload.sign(&[one]).unwrap(), one)
            .await
            .unwrap();
        let withdraw = ProposalWithdraw { id: payload.id };
        assert_eq!(
            refusal(world.act_by(&withdraw, &[operator]).await),
            Refusal::Quorum
        );
        assert_eq!(waiting(&world).await.len(), 1);
        world.act_by(&withdraw, &[who]).await.unwrap();
        assert!(waiting(&world).await.is_empty());
        assert_eq!(
            refusal(world.act_by(&withdraw, &[who]).await),
            Refusal::NotFound
        );
        assert_eq!(
            refusal(world.act(&ProposalShow { id: payload.id }).await),
            Refusal::NotFound
        );
    }
}

#[tokio::test]
async fn alarms_and_proposals_are_told_to_the_hooks_and_the_metrics() {
    // rule: EXP-4, PRO-3
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::new().await;
    let script = world.path("tell");
    std::fs::write(&script, "#!/bin/sh\ncat >> \"$1\"\necho >> \"$1\"\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let argv = |file: &str| {
        let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
        vec![path(script.clone()), path(world.path(file))]
    };
    world.hooks = broker::Hooks::new(&store::hooks::HooksConfig {
        alarm: argv("alarms"),
        proposal: argv("proposals"),
    })
    .unwrap();
    world.restart().await;
    let one = &world.admins.managers[0];
    let payload = world.payload(&policy());
    leave(&world, &payload.sign(&[one]).unwrap(), one)
        .await
        .unwrap();
    // A replay is an alarm.
    let statement = world.payload(&StatusShow {}).sign(&[one]).unwrap();
    world
        .send_statement::<StatusShow>(&statement)
        .await
        .unwrap();
    assert_eq!(
        refusal(world.send_statement::<StatusShow>(&statement).await),
        Refusal::StatementReplayed
    );
    let counted = metric(&world, "postern_alarms_total{alarm=\"statement-replayed\"}");
    assert!(counted.ends_with(" 1"), "{counted:?}");
    let told = async |file: &str| {
        // The hook is another process.
        let line = async {
            loop {
                let text = std::fs::read_to_string(world.path(file)).unwrap_or_default();
                if text.contains('}') {
                    return text;
                }
                tokio::task::yield_now().await;
            }
        };
        let within = std::time::Duration::from_secs(30);
        tokio::time::timeout(within, line).await.expect("a line")
    };
    let line = told("alarms").await;
    assert!(line.contains(r#""alarm":"statement-replayed""#), "{line}");
    assert!(line.contains(r#""subject":"manager-1""#), "{line}");
    let line = told("proposals").await;
    assert!(line.contains(&payload.id.to_string()), "{line}");
    assert!(line.contains(r#""have":1,"need":2"#), "{line}");
}
