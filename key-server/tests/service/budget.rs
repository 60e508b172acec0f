//! Budgets: RED-4.

use std::sync::Arc;

use ticket_format::Refusal;
use ticket_format::cbor::Encode as _;
use ticket_format::messages::batch::item_digest;

use crate::rig::{named, rig, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_ends_and_a_retry_is_free() {
    // rule: RED-4
    let rig = rig().await;
    let (_, writer) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&writer, &context, 5).await;
    let items: Vec<_> = made
        .iter()
        .map(|(wrap, _)| (wrap.as_slice(), &context))
        .collect();
    let (_, opened) = rig.opened(|claims| claims.budget = 3).await;
    assert_eq!(
        rig.redeem(&opened, &items[..2]).await.unwrap().refusals(),
        [None, None]
    );
    let got = rig.redeem(&opened, &items).await.unwrap();
    let over = Some(Refusal::Budget);
    assert_eq!(got.refusals(), [None, None, None, over, over]);
    let deks: Vec<u8> = made[..3].iter().flat_map(|(_, dek)| *dek).collect();
    assert_eq!(*got.deks, deks);
    assert_eq!(
        rig.redeem(&opened, &items[..3]).await.unwrap().deks.len(),
        96,
        "a retry is free"
    );
    let made = rig.generate(&opened, &[&context], true).await.unwrap();
    assert_eq!((made.refusals(), made.deks.len()), (vec![over], 0));
    assert_eq!(made.clear.wraps, Some(vec![None]));
    // rule: RED-5 — the record names what the caller can name: no wrap that nobody got.
    let unmade = item_digest(&[], &context.to_cbor());
    let entry = rig.entries().pop().unwrap();
    assert_eq!(entry.items, Some(vec![(unmade, Err(Refusal::Budget))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_datasets_own_budget_holds_whatever_the_ticket_says() {
    // rule: RED-4
    let rig = rig().await;
    let mut small = wanted("small");
    small.max_budget = 1;
    let created = rig.administer(&small).await.unwrap();
    let (_, opened) = rig.opened(|claims| claims.dataset = created.dataset).await;
    let made = rig
        .generate(&opened, &[&named("a"), &named("b")], true)
        .await
        .unwrap();
    assert_eq!(made.refusals(), [None, Some(Refusal::Budget)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_get_no_more_than_the_budget() {
    // rule: RED-4
    let rig = Arc::new(rig().await);
    let (_, opened) = rig.opened(|claims| claims.budget = 10).await;
    let opened = Arc::new(opened);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (rig, opened) = (Arc::clone(&rig), Arc::clone(&opened));
        requests.spawn(async move {
            let context = named("a");
            rig.generate(&opened, &[&context, &context, &context], true)
                .await
                .unwrap()
                .deks
                .len()
                / 32
        });
    }
    let got: usize = requests.join_all().await.into_iter().sum();
    assert_eq!(got, 10);
}
