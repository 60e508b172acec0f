//! A draft policy tried on what was decided (ISS-7), and entries shown.
#![allow(missing_docs)]

mod support;

use std::collections::BTreeMap;

use support::*;
use ticket_format::entry::Kind;
use ticket_format::statement::*;
use ticket_format::ticket::{Action, Actions};
use ticket_format::time::Timestamp;
use ticket_format::{Context, Refusal};

fn ask(draft: &str) -> WhatIf {
    WhatIf {
        draft: draft.to_owned(),
        dataset: None,
        since: Timestamp::from_seconds(0),
        from: 0,
    }
}

fn study(name: &str) -> Context {
    Context::new(BTreeMap::from([("study".to_owned(), name.to_owned())])).unwrap()
}

/// A node that decrypted twice for study a and once for b, and was refused to encrypt for a.
async fn history() -> World {
    let world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(&world, &launch).await.unwrap();
    for name in ["a", "a", "b"] {
        node.issue(&world, &held, |body| body.required = study(name))
            .await
            .unwrap();
        world.clock.advance(10);
    }
    let encrypt = Actions::new(&[Action::Encrypt]).unwrap();
    let refused = node.issue(&world, &held, |body| {
        (body.actions, body.required) = (encrypt, study("a"));
    });
    assert_eq!(refusal(refused.await), Refusal::Policy);
    world
}

const DRAFT: &str = r#"
    @id("writers") permit (principal, action == Postern::Action::"encrypt", resource);
    @id("study-b") permit (principal, action == Postern::Action::"decrypt", resource)
        when { context.pairs.hasTag("study") && context.pairs.getTag("study") == "b" };
"#;

#[tokio::test]
async fn a_draft_shows_who_would_gain_and_lose() {
    // rule: ISS-7
    let mut world = history().await;
    let changed = |action, gains, times, recorded: &[&str], drafted: &[&str]| Changed {
        node: SYDNEY.node(),
        dataset: "faces".to_owned(),
        action,
        gains,
        times,
        recorded: recorded.iter().map(ToString::to_string).collect(),
        drafted: drafted.iter().map(ToString::to_string).collect(),
    };
    let lost = changed(Action::Decrypt, false, 2, &["all"], &[]);
    for _ in 0..2 {
        let page = world.act(&ask(DRAFT)).await.unwrap();
        let gained = changed(Action::Encrypt, true, 1, &[], &["writers"]);
        assert_eq!(page.decisions, 4);
        assert_eq!(page.changed, [lost.clone(), gained]);
        assert_eq!(page.next, None);
        // What was decided stands in the files.
        world.restart().await;
    }
    // The policy in force changes nothing.
    let same = r#"@id("all") permit (principal, action == Postern::Action::"decrypt", resource);"#;
    let page = world.act(&ask(same)).await.unwrap();
    assert_eq!((page.decisions, page.changed.len()), (4, 0));
    // As a dataset's own policy it takes, and gives nothing that the broker refused.
    let of_dataset = WhatIf {
        dataset: Some("faces".to_owned()),
        ..ask(DRAFT)
    };
    let page = world.act(&of_dataset).await.unwrap();
    assert_eq!((page.decisions, page.changed), (3, vec![lost]));
}

#[tokio::test]
async fn a_trial_begins_when_and_where_it_is_told() {
    // rule: ISS-7
    let world = history().await;
    let since = WhatIf {
        since: world.now().minus(10),
        ..ask(DRAFT)
    };
    assert_eq!(world.act(&since).await.unwrap().decisions, 2);
    let entries = world.entries();
    let second = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.kind == Kind::Issue)
        .nth(1)
        .unwrap()
        .0;
    let from = WhatIf {
        from: second as u64,
        ..ask(DRAFT)
    };
    assert_eq!(world.act(&from).await.unwrap().decisions, 3);
    let beyond = WhatIf {
        from: u64::MAX,
        ..ask(DRAFT)
    };
    let page = world.act(&beyond).await.unwrap();
    assert_eq!((page.decisions, page.next), (0, None));
    // A draft that is none, a dataset that is none.
    let bad = world.act(&ask("permit (")).await.unwrap_err();
    assert_eq!(bad.refusal, Refusal::Invalid);
    let unknown = WhatIf {
        dataset: Some("none".to_owned()),
        ..ask(DRAFT)
    };
    assert_eq!(refusal(world.act(&unknown).await), Refusal::NotFound);
}

#[tokio::test]
async fn what_is_not_known_any_more_is_left_out() {
    // rule: ISS-7, AUD-5
    let mut world = history().await;
    world.stop().await;
    std::fs::remove_file(world.path("audit.side")).unwrap();
    world.start(broker::Limits::default()).await.unwrap();
    let page = world.act(&ask(DRAFT)).await.unwrap();
    assert_eq!((page.decisions, page.changed.len()), (0, 0));
}

#[tokio::test]
async fn any_admin_may_see_an_entry_as_it_stands() {
    // rule: ADM-4
    let world = history().await;
    let entries = world.entries();
    for (index, entry) in entries.iter().enumerate() {
        let show = EntryShow {
            index: index as u64,
        };
        let view = world
            .act_by(&show, &[&world.admins.managers[0]])
            .await
            .unwrap();
        let shown = world.verify(&view.receipt).entry;
        assert_eq!(shown, *entry);
    }
    let none = EntryShow { index: u64::MAX };
    assert_eq!(refusal(world.act(&none).await), Refusal::NotFound);
}
