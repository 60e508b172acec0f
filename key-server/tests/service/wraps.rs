//! The wraps under a KEK version, listed (INV-1).

use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::ids::{ItemDigest, KekId};
use ticket_format::messages::batch::item_digest;
use ticket_format::statement::{WrapList, WrapPage};
use ticket_format::wrapped::Wrapped;

use crate::rig::{Rig, named, refusal, rig};

fn list(kek: KekId, after: Option<ItemDigest>, rows: u64) -> WrapList {
    WrapList {
        name: "faces".into(),
        kek,
        after,
        rows,
    }
}

async fn page(rig: &Rig, asked: &WrapList) -> WrapPage {
    rig.administer(asked).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wraps_of_one_version_are_listed_page_by_page_with_what_they_stand_for() {
    // rule: INV-1
    let rig = rig().await;
    let first = rig.dataset().kek;
    let (_, maker) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&maker, &context, 3).await;
    let second = rig.rotate().await.unwrap().kek;
    let newer = rig.wraps(&maker, &context, 1).await;
    let mut expected: Vec<_> = made
        .iter()
        .map(|(wrap, _)| {
            let dek = Wrapped::parse(wrap).unwrap().header().dek;
            (item_digest(wrap, &context.to_cbor()), Some(dek))
        })
        .collect();
    expected.sort_by_key(|(digest, _)| digest.0);

    let got = page(&rig, &list(first, None, 2)).await;
    let rest = page(&rig, &list(first, Some(got.rows[1].digest), 2)).await;
    assert_eq!((got.rows.len(), got.more), (2, true));
    assert_eq!((rest.rows.len(), rest.more), (1, false));
    let all: Vec<_> = got.rows.into_iter().chain(rest.rows).collect();
    let listed: Vec<_> = all.iter().map(|row| (row.digest, row.dek)).collect();
    assert_eq!(listed, expected);
    assert!(all.iter().all(|row| row.context.as_ref() == Some(&context)));

    let got = page(&rig, &list(second, None, 200)).await;
    let listed: Vec<_> = got.rows.iter().map(|row| row.digest).collect();
    assert_eq!(listed, [item_digest(&newer[0].0, &context.to_cbor())]);

    let unknown = rig.administer(&list(KekId([9; 16]), None, 2)).await;
    assert_eq!(refusal(unknown.map(drop)), Refusal::KekUnknown);
}
