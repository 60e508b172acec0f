//! Exposure: what could have been read, and the entries it is told from (EXP-1, AUD-5).

use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{Members, Selector};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{DatasetId, ItemDigest, LaunchId};
use ticket_format::messages::batch::item_digest;
use ticket_format::statement::{EntryShow, Exposed, ExposureShow};
use ticket_format::time::Timestamp;
use ticket_format::wrapped::Wrapped;
use ticket_format::{Context, Refusal, limits};

use crate::rig::{Rig, START, named, operator, place, refusal, rig};

fn show(selector: Selector) -> ExposureShow {
    ExposureShow {
        selector,
        since: Timestamp::default(),
        from: 0,
        rows: 500,
    }
}

async fn exposed(rig: &Rig, selector: Selector) -> Vec<Exposed> {
    let page = rig.administer(&show(selector)).await.unwrap();
    assert_eq!(page.next, None);
    page.rows
}

fn digest(wrap: &[u8], context: &Context) -> ItemDigest {
    item_digest(wrap, &context.to_cbor())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_released_is_listed_exactly_with_its_name_and_dek() {
    // rule: EXP-1, AUD-5
    let rig = rig().await;
    let (writer, opened) = rig.opened(|_| {}).await;
    let (a, b) = (named("faces/a"), named("faces/b"));
    let made = rig.wraps(&opened, &a, 2).await;
    let (reader, opened) = rig
        .opened(|claims| claims.common.launch = LaunchId([8; 16]))
        .await;
    // One opens, one does not: it is of another context.
    let items = [(made[0].0.as_slice(), &a), (made[1].0.as_slice(), &b)];
    let got = rig.redeem(&opened, &items).await.unwrap();
    assert_eq!(got.refusals(), [None, Some(Refusal::WrapAuthentication)]);
    let rows = exposed(&rig, Selector::ticket(reader.claims.common.id)).await;
    let [row] = rows.as_slice() else {
        panic!("{} rows", rows.len())
    };
    let dek = Wrapped::parse(&made[0].0).unwrap().header().dek;
    assert_eq!((row.kind, row.name.as_str()), (Kind::Redeem, "faces"));
    assert_eq!((row.item, row.dek), (digest(&made[0].0, &a), Some(dek)));
    assert_eq!(row.context.as_ref(), Some(&a));
    assert_eq!(row.node, *reader.claims.common.node());
    assert_eq!(
        (row.act, row.launch),
        (got.entry.act, Some(LaunchId([8; 16])))
    );
    assert_eq!(row.entry, place(&got.clear.receipt));
    // By launch, by node, by both; and not of others.
    assert_eq!(
        exposed(&rig, Selector::launch(LaunchId([8; 16]))).await,
        rows
    );
    let of_node = exposed(&rig, Selector::node(reader.claims.common.node().clone())).await;
    assert_eq!(of_node.len(), 3);
    assert_eq!(of_node[0].ticket, writer.claims.common.id);
    assert_eq!(
        of_node[0].dek,
        Some(dek),
        "what was generated is known by its DEK"
    );
    let both = Members {
        node: Some(reader.claims.common.node().clone()),
        launch: Some(LaunchId([8; 16])),
        ..Members::default()
    };
    assert_eq!(exposed(&rig, Selector::new(both).unwrap()).await, rows);
    assert!(
        exposed(&rig, Selector::launch(LaunchId([9; 16])))
            .await
            .is_empty()
    );
    // After a restart the same.
    let rig = rig.restart().await;
    assert_eq!(
        exposed(&rig, Selector::ticket(reader.claims.common.id)).await,
        rows
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_side_file_lost_is_listed_all_the_same_without_its_context() {
    // rule: AUD-5
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let (a, b) = (named("a"), named("b"));
    rig.generate(&opened, &[&a], true).await.unwrap();
    rig.generate(&opened, &[&b], true).await.unwrap();
    rig.service.close().await;
    // A crash: the last record is torn.
    let side = rig.world.dir.path().join("audit.side");
    let bytes = std::fs::read(&side).unwrap();
    std::fs::write(&side, &bytes[..bytes.len() - 1]).unwrap();
    let rig = rig.restart().await;
    let rows = exposed(&rig, Selector::ticket(job.claims.common.id)).await;
    let known: Vec<_> = rows.iter().map(|row| row.context.as_ref()).collect();
    assert_eq!(known, [Some(&a), None]);
    assert_eq!((rows[1].dek, rows[1].name.as_str()), (None, "faces"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrap_is_known_by_what_its_dek_was_opened_with_and_by_what_it_is_from_then_on() {
    // rule: AUD-5, REW-1
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let (old, new) = (named("old"), named("new"));
    let made = rig.wraps(&opened, &old, 1).await;
    rig.rewrap(&opened, &[(&made[0].0, &old, Some(&new))])
        .await
        .unwrap();
    let rows = exposed(&rig, Selector::ticket(job.claims.common.id)).await;
    let known: Vec<_> = rows
        .iter()
        .map(|row| (row.kind, row.context.as_ref()))
        .collect();
    let expected = [
        (Kind::Generate, Some(&old)),
        (Kind::Rewrap, Some(&old)),
        (Kind::Rewrap, Some(&new)),
    ];
    assert_eq!(known, expected);
    assert_eq!((rows[1].item, rows[1].dek), (rows[0].item, rows[0].dek));
    assert_eq!(rows[2].dek, rows[0].dek);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_withheld_is_no_exposure() {
    // rule: EXP-1, RED-2
    let rig = std::sync::Arc::new(rig().await);
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&opened, &context, 1).await;
    let node = job.claims.common.node().clone();
    let before = exposed(&rig, Selector::node(node.clone())).await;
    // Decided and recorded; then, before it is released, the ticket is over.
    let clock = std::sync::Arc::clone(&rig.world.clock);
    rig.world.clock.before_reading(2, move || clock.set(3_600));
    let withheld = rig.redeem(&opened, &[(&made[0].0, &context)]).await;
    assert_eq!(refusal(withheld.map(drop)), Refusal::TicketExpired);
    let entries = rig.entries();
    let [.., batch, withheld] = entries.as_slice() else {
        panic!()
    };
    assert_eq!((batch.kind, batch.outcome), (Kind::Redeem, Ok(())));
    assert_eq!(
        (withheld.kind, withheld.follows),
        (Kind::Withheld, Some(batch.act))
    );
    let page = rig
        .administer(&show(Selector::node(node.clone())))
        .await
        .unwrap();
    assert_eq!(page.rows, before);
    assert_eq!(page.withheld, [batch.act]);
    // The same where it is asked for by launch or ticket.
    for selector in [
        Selector::launch(job.claims.common.launch),
        Selector::ticket(job.claims.common.id),
    ] {
        let page = rig.administer(&show(selector)).await.unwrap();
        assert_eq!((page.rows.len(), page.withheld), (1, vec![batch.act]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_join_without_a_gap_and_without_a_row_twice() {
    // rule: EXP-1
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let mut wanted = Vec::new();
    for count in [700, 1, 0, 300] {
        let contexts: Vec<_> = (0..count).map(|n| named(&format!("{count}/{n}"))).collect();
        if contexts.is_empty() {
            rig.world.clock.set(100);
            continue;
        }
        let borrowed: Vec<_> = contexts.iter().collect();
        rig.generate(&opened, &borrowed, true).await.unwrap();
        wanted.extend(contexts);
    }
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let mut ask = show(Selector::ticket(job.claims.common.id));
        (ask.from, ask.rows) = (from, 333);
        let page = rig.administer(&ask).await.unwrap();
        assert!(page.rows.len() <= 333);
        found.extend(page.rows.into_iter().filter_map(|row| row.context));
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(found, wanted);
    // Since: only what came later.
    let mut ask = show(Selector::ticket(job.claims.common.id));
    ask.since = Timestamp::from_seconds(START + 100);
    assert_eq!(rig.administer(&ask).await.unwrap().rows.len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_longest_contexts_fits_an_answer() {
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let long: Vec<_> = (0..16)
        .map(|n| (format!("{n:064}"), "v".repeat(1_024)))
        .collect();
    let long = Context::new(long.into_iter().collect()).unwrap();
    let made = rig.generate(&opened, &[&long; 100], false).await.unwrap();
    assert_eq!(made.clear.wraps.unwrap().len(), 100);
    let (mut found, mut ask) = (0, show(Selector::ticket(job.claims.common.id)));
    loop {
        let page = rig.administer(&ask).await.unwrap();
        assert!(page.to_cbor().len() < limits::MESSAGE / 2 + 64 * 1024);
        assert!(
            page.rows
                .iter()
                .all(|row| row.context.as_ref() == Some(&long))
        );
        found += page.rows.len();
        match page.next {
            Some(next) => ask.from = next,
            None => break,
        }
    }
    assert_eq!(found, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn exposure_is_asked_of_a_ticket_a_node_or_a_launch_by_any_admin() {
    // rule: ADM-4, EXP-1
    let rig = rig().await;
    let other = show(Selector::dataset(DatasetId([1; 16])));
    assert_eq!(refusal(rig.administer(&other).await), Refusal::Invalid);
    let ask = show(Selector::launch(LaunchId([3; 16])));
    assert!(rig.administer_by(&ask, &[&operator()]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_shown_as_it_stands() {
    let rig = rig().await;
    let last = rig.entries().len() as u64 - 1;
    let view = rig.administer(&EntryShow { index: last }).await.unwrap();
    let entry = Entry::from_cbor(&view.receipt.entry, limits::ENTRY).unwrap();
    assert_eq!(Some(entry), rig.entries().get(last as usize).cloned());
    let none = EntryShow { index: 1_000_000 };
    assert_eq!(refusal(rig.administer(&none).await), Refusal::NotFound);
}
