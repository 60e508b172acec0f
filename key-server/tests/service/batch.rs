//! Redeem, generate, rewrap: RED, GEN, REW, ORG, SEAL.

use std::collections::HashSet;
use std::sync::Arc;

use ticket_format::cbor::Encode;
use ticket_format::entry::Kind;
use ticket_format::keys::ProducerSecret;
use ticket_format::messages::batch::{RedeemBody, item_digest};
use ticket_format::messages::{Verb, Verdict};
use ticket_format::statement::ProducerAdd;
use ticket_format::ticket::{Action, Actions};
use ticket_format::wrapped::public::Upload;
use ticket_format::wrapped::{Origin, Wrapped};
use ticket_format::{Context, Refusal, limits};

use crate::rig::{REALM, Rig, named, pairs, refusal, rig, rng, wanted};

fn upload(rig: &Rig) -> Upload {
    let dataset = rig.dataset();
    Upload::begin(
        REALM,
        dataset.dataset,
        dataset.kek,
        dataset.kek_version,
        &dataset.public_key,
        &mut rng(),
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_deks_come_back_by_redeem() {
    // rule: GEN-1, RED-3, RED-5
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&opened, &context, 1_000).await;
    let distinct: HashSet<_> = made.iter().map(|(_, dek)| dek).collect();
    assert_eq!(distinct.len(), 1_000);
    let items: Vec<_> = made
        .iter()
        .map(|(wrap, _)| (wrap.as_slice(), &context))
        .collect();
    let got = rig.redeem(&opened, &items).await.unwrap();
    let deks: Vec<u8> = made.iter().flat_map(|(_, dek)| *dek).collect();
    assert_eq!(*got.deks, deks);
    assert!(
        got.clear
            .verdicts
            .iter()
            .all(|verdict| *verdict == Verdict::Done(Origin::Generated))
    );
    // rule: AUD-3
    let entry = rig.entries().pop().unwrap();
    assert_eq!((entry.kind, &entry), (Kind::Redeem, &got.entry));
    let digests: Vec<_> = items
        .iter()
        .map(|(wrap, context)| (item_digest(wrap, &context.to_cbor()), Ok(())))
        .collect();
    assert_eq!(entry.items, Some(digests));
    assert_eq!(entry.policies, Some(vec!["team".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn generate_without_the_copy_gives_no_plaintext() {
    // rule: GEN-1
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let made = rig
        .generate(&opened, &[&named("a"), &named("b")], false)
        .await
        .unwrap();
    assert!(made.sealed.is_empty());
    let wraps = made.clear.wraps.unwrap();
    assert!(
        rig.redeem(&opened, &[(wraps[1].as_ref().unwrap(), &named("b"))])
            .await
            .unwrap()
            .deks
            .len()
            == 32
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2026_30836_a_handle_means_nothing_on_another_connection() {
    // rule: PRE-2, RED-1
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let mut elsewhere = rig.present(&rig.connect(2), &job).await.unwrap();
    let body = RedeemBody::encode(&opened.head(), &[(b"x", &named("a"))]);
    // The very bytes of one connection, on another that has the same handle and ticket: the MAC is of
    // another session.
    assert_eq!(opened.handle, elsewhere.handle);
    let proof = opened.mac(Verb::Redeem, &body);
    elsewhere.session = rig.present(&rig.connect(3), &job).await.unwrap().session;
    assert_eq!(
        refusal(
            rig.batch_with(&elsewhere, Verb::Redeem, body.clone(), proof.clone())
                .await
        ),
        Refusal::Possession
    );
    // And on one where nothing was presented.
    elsewhere.connection = rig.connect(4);
    assert_eq!(
        refusal(rig.batch_with(&elsewhere, Verb::Redeem, body, proof).await),
        Refusal::HandleUnknown
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_cannot_spend_anothers_ticket_on_a_shared_connection() {
    // rule: RED-1
    let rig = rig().await;
    let (_, mine) = rig.opened(|_| {}).await;
    let theirs = rig
        .present(&mine.connection, &rig.job(|_| {}))
        .await
        .unwrap();
    let context = named("a");
    let mut head = theirs.head();
    let body = RedeemBody::encode(&head, &[(b"x", &context)]);
    let label = Verb::Redeem.request_label().unwrap();
    let proof = mine.session.mac().authenticate(
        &mine.connection.channel,
        label,
        theirs.session.ticket(),
        &body,
    );
    assert_eq!(
        refusal(rig.batch_with(&theirs, Verb::Redeem, body, proof).await),
        Refusal::Possession
    );
    head.ticket = mine.session.ticket();
    let body = RedeemBody::encode(&head, &[(b"x", &context)]);
    assert_eq!(
        refusal(rig.batch(&mine, Verb::Redeem, body).await),
        Refusal::HandleUnknown
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_wrong_mac_is_refused() {
    // rule: RED-1, SEAL-3
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let body = RedeemBody::encode(&opened.head(), &[(b"x", &named("a"))]);
    for at in 0..32 {
        let mut proof = opened.mac(Verb::Redeem, &body);
        proof.value[at] ^= 1;
        assert_eq!(
            refusal(
                rig.batch_with(&opened, Verb::Redeem, body.clone(), proof)
                    .await
            ),
            Refusal::Possession
        );
    }
    // A MAC for another verb is another MAC.
    let proof = opened.mac(Verb::Rewrap, &body);
    assert_eq!(
        refusal(rig.batch_with(&opened, Verb::Redeem, body, proof).await),
        Refusal::Possession
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_the_ticket_does_not_carry_is_refused() {
    // rule: RED-2
    let rig = rig().await;
    let (_, opened) = rig
        .opened(|claims| claims.actions = Actions::new(&[Action::Decrypt]).unwrap())
        .await;
    assert_eq!(
        refusal(rig.generate(&opened, &[&named("a")], true).await),
        Refusal::Action
    );
    assert_eq!(
        refusal(rig.rewrap(&opened, &[(b"x", &named("a"), None)]).await),
        Refusal::Action
    );
    let entry = rig.entries().pop().unwrap();
    assert_eq!(
        (entry.kind, entry.outcome),
        (Kind::Rewrap, Err(Refusal::Action))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_item_spoils_no_other() {
    // rule: RED-3
    let rig = rig().await;
    let other = rig.administer(&wanted("other")).await.unwrap();
    let (_, opened) = rig
        .opened(|claims| claims.required = pairs(&[("purpose", "train")]))
        .await;
    let foreign = rig
        .present(
            &rig.connect(7),
            &rig.job(|claims| claims.dataset = other.dataset),
        )
        .await
        .unwrap();
    let (good, bare) = (pairs(&[("name", "a"), ("purpose", "train")]), named("a"));
    let made = rig.wraps(&opened, &good, 2).await;
    let others = rig.wraps(&foreign, &good, 1).await;
    let renamed = pairs(&[("name", "b"), ("purpose", "train")]);
    let mut tampered = made[0].0.clone();
    *tampered.last_mut().unwrap() ^= 1;
    let mut unknown_kek = made[0].0.clone();
    unknown_kek[25] ^= 1;
    let got = rig
        .redeem(
            &opened,
            &[
                (&made[0].0, &good),
                (b"garbage", &good),
                (&others[0].0, &good),
                (&made[1].0, &renamed),
                (&made[1].0, &bare),
                (&tampered, &good),
                (&unknown_kek, &good),
                (&made[1].0, &good),
            ],
        )
        .await
        .unwrap();
    let expected = [
        None,
        Some(Refusal::WrapMalformed),
        Some(Refusal::WrapDataset),
        Some(Refusal::WrapAuthentication),
        Some(Refusal::Context),
        Some(Refusal::WrapAuthentication),
        Some(Refusal::KekUnknown),
        None,
    ];
    assert_eq!(got.refusals(), expected);
    assert_eq!(*got.deks, [made[0].1, made[1].1].concat());
    let recorded: Vec<_> = got
        .entry
        .items
        .unwrap()
        .into_iter()
        .map(|(_, outcome)| outcome.err())
        .collect();
    assert_eq!(recorded, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_decides_item_by_item_where_it_reads_the_context() {
    // rule: PRE-3, RED-2
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let (train, sell) = (
        pairs(&[("purpose", "train")]),
        pairs(&[("purpose", "sell")]),
    );
    let made = rig
        .generate(&opened, &[&train, &sell, &named("a"), &sell], true)
        .await
        .unwrap();
    assert_eq!(
        made.refusals(),
        [None, Some(Refusal::Policy), None, Some(Refusal::Policy)]
    );
    assert_eq!(made.deks.len(), 64);
    let wraps = made.clear.wraps.unwrap();
    assert!(wraps[1].is_none() && wraps[2].is_some());
    assert_eq!(
        made.entry.policies,
        Some(vec!["no-selling".to_owned(), "team".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_reads_no_pair_refuses_the_whole_request() {
    // rule: RED-2
    let rig = rig().await;
    let mut closed = wanted("closed");
    closed.policy =
        r#"@id("nobody") forbid (principal, action == Postern::Action::"decrypt", resource);
        @id("writers") permit (principal, action == Postern::Action::"encrypt", resource);"#
            .into();
    let created = rig.administer(&closed).await.unwrap();
    let (_, opened) = rig.opened(|claims| claims.dataset = created.dataset).await;
    let made = rig.wraps(&opened, &named("a"), 1).await;
    let notice = rig
        .redeem(&opened, &[(&made[0].0, &named("a"))])
        .await
        .unwrap_err();
    assert_eq!(notice.refusal, Refusal::Policy);
    assert!(notice.detail.unwrap().contains("nobody"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_identical_requests_never_meet_the_same_key() {
    // rule: SEAL-4
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&opened, &context, 1).await;
    let body = RedeemBody::encode(&opened.head(), &[(&made[0].0, &context)]);
    let one = rig
        .batch(&opened, Verb::Redeem, body.clone())
        .await
        .unwrap();
    let two = rig.batch(&opened, Verb::Redeem, body).await.unwrap();
    assert_eq!(one.deks, two.deks);
    assert_ne!(one.clear.salt, two.clear.salt);
    assert_ne!(one.sealed[..32], two.sealed[..32]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_wraps_origin_is_told_and_survives_rewrap() {
    // rule: ORG-1, REW-1
    let rig = rig().await;
    let producer = ProducerSecret::generate(&mut rng());
    rig.administer(&ProducerAdd {
        name: "faces".into(),
        producer: producer.public(),
    })
    .await
    .unwrap();
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let upload = upload(&rig);
    for (signer, origin) in [
        (None, Origin::PublicUnsigned),
        (
            Some(&producer),
            Origin::PublicSigned(producer.public().id()),
        ),
    ] {
        let (dek, pending) = upload.object(context.to_cbor(), &mut rng());
        let wrap = upload.finish(&pending, [1; 32], signer);
        let got = rig.redeem(&opened, &[(&wrap, &context)]).await.unwrap();
        assert_eq!(
            (got.clear.verdicts.as_slice(), got.deks.as_slice()),
            ([Verdict::Done(origin)].as_slice(), &dek.expose()[..])
        );
        let moved = named("moved");
        let anew = rig
            .rewrap(&opened, &[(&wrap, &context, Some(&moved))])
            .await
            .unwrap();
        assert!(anew.sealed.is_empty(), "no plaintext leaves");
        let new = anew.clear.wraps.unwrap().pop().unwrap().unwrap();
        assert_eq!(
            Wrapped::parse(&new).unwrap().header().dek,
            Wrapped::parse(&wrap).unwrap().header().dek
        );
        let again = rig
            .redeem(&opened, &[(&new, &moved), (&new, &context)])
            .await
            .unwrap();
        assert_eq!(
            again.clear.verdicts,
            [
                Verdict::Done(origin),
                Verdict::Refused(Refusal::WrapAuthentication)
            ]
        );
        assert_eq!(again.deks.as_slice(), &dek.expose()[..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_is_not_registered_and_a_bent_commitment_are_refused() {
    // rule: WRAP-3, WRAP-4
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let upload = upload(&rig);
    let (_, pending) = upload.object(context.to_cbor(), &mut rng());
    let signed = upload.finish(
        &pending,
        [1; 32],
        Some(&ProducerSecret::generate(&mut rng())),
    );
    let mut bent = upload.finish(&pending, [1; 32], None);
    let commitment = bent.len() - 2;
    bent[commitment] ^= 1;
    let got = rig
        .redeem(&opened, &[(&signed, &context), (&bent, &context)])
        .await
        .unwrap();
    assert_eq!(
        got.refusals(),
        [Some(Refusal::Producer), Some(Refusal::WrapCommitment)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrap_wants_the_required_pairs_on_both_sides() {
    // rule: REW-1
    let rig = rig().await;
    let (_, opened) = rig
        .opened(|claims| claims.required = pairs(&[("purpose", "train")]))
        .await;
    let (good, bare, sell) = (
        pairs(&[("purpose", "train")]),
        named("a"),
        pairs(&[("purpose", "train"), ("x", "y")]),
    );
    let wrap = &rig.wraps(&opened, &good, 1).await[0].0;
    let got = rig
        .rewrap(
            &opened,
            &[
                (wrap, &good, Some(&bare)),
                (wrap, &good, Some(&sell)),
                (wrap, &good, None),
            ],
        )
        .await
        .unwrap();
    assert_eq!(got.refusals(), [Some(Refusal::Context), None, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_log_cannot_be_written_nothing_is_released() {
    // rule: RED-6, AUD-4
    let rig = rig().await;
    let (job, opened) = rig.opened(|claims| claims.budget = 2).await;
    let context = named("a");
    let wrap = rig.wraps(&opened, &context, 1).await.remove(0).0;
    rig.log.close().await;
    assert_eq!(
        refusal(rig.redeem(&opened, &[(&wrap, &context)]).await),
        Refusal::AuditUnavailable
    );
    assert_eq!(
        refusal(rig.generate(&opened, &[&context], true).await),
        Refusal::AuditUnavailable
    );
    assert_eq!(
        refusal(rig.present(&rig.connect(9), &job).await.map(drop)),
        Refusal::AuditUnavailable
    );
    // What was made for the answer that was not sent does not count: one was generated before, and
    // redeeming that one counts as another item.
    let had = rig
        .service
        .state
        .budgets
        .of(job.claims.common.id, job.claims.common.expires)
        .had();
    assert_eq!(had, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_request_of_a_stranger_waits_for_nobodys_turn() {
    // rule: RED-1
    let rig = Arc::new(rig().await);
    let (_, opened) = rig.opened(|_| {}).await;
    let opened = Arc::new(opened);
    let context = named("a");
    let garbage = vec![0x55; 1_000];
    let items: Vec<_> = vec![(garbage.as_slice(), &context); 32];
    let body = RedeemBody::encode(&opened.head(), &items);
    let (good, mut bad) = (
        opened.mac(Verb::Redeem, &body),
        opened.mac(Verb::Redeem, &body),
    );
    bad.value[0] ^= 1;
    // As many large requests as have a turn at a time, and each keeps its own for now.
    let turns = std::thread::available_parallelism().unwrap().get();
    rig.world.clock.hold(true);
    let mut large = tokio::task::JoinSet::new();
    for _ in 0..turns {
        let (rig, opened) = (Arc::clone(&rig), Arc::clone(&opened));
        let (body, good) = (body.clone(), good.clone());
        large.spawn(async move { rig.batch_with(&opened, Verb::Redeem, body, good).await });
    }
    while rig.world.clock.waiting() < turns {
        tokio::task::yield_now().await;
    }
    let patience = std::time::Duration::from_secs(20);
    let stranger = rig.batch_with(&opened, Verb::Redeem, body, bad);
    let answer = tokio::time::timeout(patience, stranger).await;
    rig.world.clock.hold(false);
    assert_eq!(refusal(answer.unwrap()), Refusal::Possession);
    for got in large.join_all().await {
        assert_eq!(got.unwrap().refusals(), [Some(Refusal::WrapMalformed); 32]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_rewrap_names_old_and_new_wraps_with_their_contexts_and_versions() {
    // rule: AUD-3, REW-1, REW-2, INV-1
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let (old, new) = (named("a"), named("b"));
    let wrap = rig.wraps(&opened, &old, 1).await.remove(0).0;
    rig.rotate().await.unwrap();
    let items = [
        (wrap.as_slice(), &old, None),
        (wrap.as_slice(), &new, None),
        (wrap.as_slice(), &old, Some(&new)),
    ];
    let got = rig.rewrap(&opened, &items).await.unwrap();
    let refused = Refusal::WrapAuthentication;
    assert_eq!(got.refusals(), [None, Some(refused), None]);
    let digest = |wrap: &[u8], context: &Context| item_digest(wrap, &context.to_cbor());
    let (same, other) = (digest(&wrap, &old), digest(&wrap, &new));
    let wraps = got.clear.wraps.unwrap();
    let moved = vec![
        digest(wraps[0].as_ref().unwrap(), &old),
        digest(wraps[2].as_ref().unwrap(), &new),
    ];
    let entry = got.entry;
    assert_eq!(
        entry.items.unwrap(),
        [(same, Ok(())), (other, Err(refused)), (same, Ok(()))]
    );
    assert_eq!(entry.moved, Some(moved.clone()));
    let newest = rig.service.state.vault.current(rig.dataset().dataset);
    assert_eq!(entry.kek, Some(newest.unwrap().id));
    assert_eq!(entry.keks, Some(vec![rig.dataset().kek]));
    assert_eq!(entry.kek_of, Some(vec![0, u8::MAX, 0]));
    // That they are in place is repeated by the entry, and is a request of its own.
    let told = rig.rewrap_and_confirm(&opened, &[], &moved).await.unwrap();
    assert_eq!(told.entry.confirmed, Some(moved));
    assert_eq!(rig.version(1).await.wraps, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn generate_and_redeem_name_the_versions_of_their_wraps() {
    // rule: INV-1
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let first = rig.wraps(&opened, &context, 1).await.remove(0).0;
    let second = rig.rotate().await.unwrap().kek;
    let made = rig.generate(&opened, &[&context], true).await.unwrap();
    assert_eq!((made.entry.kek, made.entry.keks), (Some(second), None));
    let newer = made.clear.wraps.unwrap().remove(0).unwrap();
    let items = [
        (&newer[..], &context),
        (b"x", &context),
        (&first[..], &context),
    ];
    let got = rig.redeem(&opened, &items).await.unwrap().entry;
    assert_eq!(got.keks, Some(vec![second, rig.dataset().kek]));
    assert_eq!((got.kek_of, got.kek), (Some(vec![0, u8::MAX, 1]), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrap_counts_by_its_old_wrap_and_what_is_beyond_the_budget_has_no_version() {
    // rule: RED-4, REW-1, INV-1
    let rig = rig().await;
    let (_, maker) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&maker, &context, 3).await;
    let [a, b, c] = [0, 1, 2].map(|n| made[n].0.as_slice());
    let (job, opened) = rig.opened(|claims| claims.budget = 2).await;
    let items = [c, a, c, b].map(|wrap| (wrap, &context, None));
    let got = rig.rewrap(&opened, &items).await.unwrap();
    assert_eq!(got.refusals(), [None, None, None, Some(Refusal::Budget)]);
    assert_eq!(got.entry.kek_of, Some(vec![0, 0, 0, u8::MAX]));
    assert_eq!(got.entry.moved.as_ref().map(Vec::len), Some(3));
    let wraps = got.clear.wraps.unwrap();
    assert!(wraps[3].is_none());
    // The old ones were had, by either verb; a new one was not.
    let new = wraps[0].as_deref().unwrap();
    let items = [a, new, c].map(|wrap| (wrap, &context));
    let had = [None, Some(Refusal::Budget), None];
    let got = rig.redeem(&opened, &items).await.unwrap();
    assert_eq!(got.refusals(), had);
    assert_eq!(got.entry.kek_of, Some(vec![0, u8::MAX, 0]));
    // And so after a restart, from the records alone.
    let rig = rig.restart().await;
    let budgets = &rig.service.state.budgets;
    let common = &job.claims.common;
    assert_eq!(budgets.of(common.id, common.expires).had(), 2);
    let opened = rig.present(&rig.connect(7), &job).await.unwrap();
    let got = rig.redeem(&opened, &items).await.unwrap();
    assert_eq!(got.refusals(), had);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrap_takes_five_hundred_items_and_refuses_one_more_as_a_whole() {
    // rule: REW-1
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&opened, &context, limits::REWRAPS + 1).await;
    rig.rotate().await.unwrap();
    let items: Vec<_> = made
        .iter()
        .map(|(wrap, _)| (wrap.as_slice(), &context, None))
        .collect();
    let before = rig.entries().len();
    let more = rig.rewrap(&opened, &items).await;
    assert_eq!(refusal(more.map(drop)), Refusal::Malformed);
    let done = rig.entries()[before..]
        .iter()
        .all(|entry| entry.items.is_none());
    assert!(done, "nothing of it was done");
    let got = rig.rewrap(&opened, &items[..500]).await.unwrap();
    assert_eq!(got.refusals(), [None; 500]);
    assert_eq!(got.entry.moved.as_ref().map(Vec::len), Some(500));
    let newer: Vec<_> = got.clear.wraps.unwrap().into_iter().flatten().collect();
    let items: Vec<_> = newer
        .iter()
        .map(|wrap| (wrap.as_slice(), &context))
        .collect();
    let deks: Vec<u8> = made[..500].iter().flat_map(|(_, dek)| *dek).collect();
    assert_eq!(*rig.redeem(&opened, &items).await.unwrap().deks, deks);
}
