//! Key pairs whose private part is a DEK (GEN-2).

use ticket_format::cbor::Encode as _;
use ticket_format::key_pair::KeyPairKind;
use ticket_format::messages::Verdict;
use ticket_format::messages::batch::item_digest;
use ticket_format::secret::Dek;
use ticket_format::wrapped::Origin;
use ticket_format::{Context, Refusal};

use crate::rig::{named, pairs, rig};

fn of_kind(kind: KeyPairKind, name: &str) -> Context {
    pairs(&[("name", name), (Context::KEY_PAIR, kind.name())])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_pair_is_made_wrapped_and_redeemed() {
    // rule: GEN-2
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    for kind in KeyPairKind::ALL {
        let (a, b) = (of_kind(*kind, "a"), of_kind(*kind, "b"));
        let made = rig
            .generate_pairs(&opened, &[&a, &b], true, *kind)
            .await
            .unwrap();
        let (wraps, publics) = (made.clear.wraps.unwrap(), made.clear.publics.unwrap());
        let parts = made.deks.chunks_exact(32);
        let privates: Vec<_> = parts
            .map(|part| Dek::from_bytes(part.try_into().unwrap()))
            .collect();
        for (private, public) in privates.iter().zip(&publics) {
            assert_eq!(kind.public(private).unwrap(), *public.as_ref().unwrap());
        }
        assert_ne!(publics[0], publics[1]);
        let wrap = wraps[1].as_ref().unwrap();
        let got = rig.redeem(&opened, &[(wrap, &b)]).await.unwrap();
        assert_eq!(got.deks.as_slice(), privates[1].expose());
        // It is named as any DEK is.
        let digest = item_digest(wrap, &b.to_cbor());
        assert_eq!(made.entry.items.unwrap()[1], (digest, Ok(())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_pair_without_the_copy_brings_the_public_key_alone() {
    // rule: GEN-2, GEN-1
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let kind = KeyPairKind::Ed25519;
    let context = of_kind(kind, "a");
    let contexts = [&context];
    let made = rig.generate_pairs(&opened, &contexts, false, kind);
    let made = made.await.unwrap();
    assert!(made.sealed.is_empty());
    assert!(made.clear.publics.unwrap()[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_names_the_kind_that_was_made_and_no_other() {
    // rule: GEN-2
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let kind = KeyPairKind::X25519;
    let (good, other) = (of_kind(kind, "a"), of_kind(KeyPairKind::P256, "a"));
    let made = rig
        .generate_pairs(&opened, &[&named("a"), &other, &good], true, kind)
        .await
        .unwrap();
    let refused = Verdict::Refused(Refusal::Context);
    assert_eq!(
        made.clear.verdicts,
        [refused, refused, Verdict::Done(Origin::Generated)]
    );
    let publics = made.clear.publics.unwrap();
    assert!(publics[0].is_none() && publics[1].is_none() && publics[2].is_some());
    assert_eq!(made.deks.len(), 32);
    // A DEK that is none of a pair is not made under such a context.
    let made = rig.generate(&opened, &[&good], true).await.unwrap();
    assert_eq!(made.clear.verdicts, [refused]);
    assert!(made.clear.publics.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrap_neither_makes_nor_unmakes_a_key_pair() {
    // rule: GEN-2
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let kind = KeyPairKind::P256;
    let (pair, moved) = (of_kind(kind, "a"), of_kind(kind, "b"));
    let contexts = [&pair];
    let made = rig.generate_pairs(&opened, &contexts, false, kind);
    let wraps = made.await.unwrap().clear.wraps.unwrap();
    let wrap = wraps[0].as_ref().unwrap();
    let plain = rig.wraps(&opened, &named("a"), 1).await;
    let refused = Verdict::Refused(Refusal::Context);
    let answer = rig
        .rewrap(
            &opened,
            &[
                (wrap, &pair, Some(&moved)),
                (wrap, &pair, Some(&named("a"))),
                (wrap, &pair, Some(&of_kind(KeyPairKind::X25519, "a"))),
                (&plain[0].0, &named("a"), Some(&pair)),
            ],
        )
        .await
        .unwrap();
    let done = Verdict::Done(Origin::Generated);
    assert_eq!(answer.clear.verdicts, [done, refused, refused, refused]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_ends_takes_the_public_key_back_too() {
    // rule: GEN-2, RED-4
    let rig = rig().await;
    let (_, opened) = rig.opened(|claims| claims.budget = 1).await;
    let kind = KeyPairKind::Ed25519;
    let (a, b) = (of_kind(kind, "a"), of_kind(kind, "b"));
    let contexts = [&a, &b];
    let made = rig.generate_pairs(&opened, &contexts, true, kind);
    let clear = made.await.unwrap().clear;
    assert_eq!(clear.verdicts[1], Verdict::Refused(Refusal::Budget));
    assert!(clear.publics.unwrap()[1].is_none());
}
