//! Present: PRE-1 to PRE-3, TKT, SEAL-5.

use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::denial::{CHAIN_START, Selector};
use ticket_format::entry::Kind;
use ticket_format::ids::{DatasetId, TicketHash};
use ticket_format::keys::{ProofSecret, TicketSecret, TlsSecret};
use ticket_format::labels;
use ticket_format::messages::present::PresentBody;
use ticket_format::messages::{Answer, Request, Verb};
use ticket_format::seal::Kem;
use ticket_format::ticket::{self, Audience};

use crate::rig::{other_channel, pairs, refusal, rig, rng, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_presented_and_recorded() {
    // rule: PRE-1, PRE-2, AUD-1
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    assert_eq!(opened.enc.len(), 1_120);
    let entries = rig.entries();
    let entry = entries.last().unwrap();
    assert_eq!((entry.kind, entry.outcome), (Kind::Present, Ok(())));
    assert_eq!(entry.ticket, Some(job.claims.common.id));
    assert_eq!(entry.ticket_hash, Some(TicketHash::of(&job.ticket)));
    assert_eq!(
        entry.subject.as_deref(),
        Some("ec2/123456789012/eu-west-1/i-0123456789abcdef0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_ticket_file_alone_opens_nothing() {
    // rule: TKT-7, PRE-1
    let rig = rig().await;
    let job = rig.job(|_| {});
    let connection = rig.connect(1);
    let thief = ProofSecret::generate(&mut rng());
    assert_eq!(
        refusal(
            rig.present_with(&connection, &job, &thief, &connection.channel)
                .await
                .map(drop)
        ),
        Refusal::Possession
    );
    // Without any proof, or with one too many, it is no better.
    let body = PresentBody {
        ticket: job.ticket.clone(),
        receipt: job.receipt.clone(),
        evidence: None,
    }
    .to_cbor();
    let proof = connection.channel.sign_with(
        &job.proof,
        labels::PRESENT_REQUEST,
        Some(TicketHash::of(&job.ticket)),
        &body,
    );
    for proofs in [vec![], vec![proof.clone(), proof]] {
        let answer = rig
            .exchange(
                &connection,
                Request::encode_parts(Verb::Present, &body, &proofs),
            )
            .await;
        assert!(
            matches!(answer, Answer::Refused(notice) if notice.refusal == Refusal::Possession && notice.detail.is_none())
        );
    }
    assert!(connection.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_presentation_copied_to_another_connection_is_refused() {
    // rule: PRE-1, SIG-1
    let rig = rig().await;
    let job = rig.job(|_| {});
    let connection = rig.connect(1);
    let elsewhere = other_channel(&connection.channel);
    assert_eq!(
        refusal(
            rig.present_with(&connection, &job, &job.proof, &elsewhere)
                .await
                .map(drop)
        ),
        Refusal::Possession
    );
    assert!(rig.present(&connection, &job).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_for_another_server_realm_or_broker_is_refused() {
    // rule: TKT-4, TKT-6
    let rig = rig().await;
    let connection = rig.connect(1);
    let other = TlsSecret::generate(&mut rng()).public();
    for audience in [
        Audience::KeyServer(other),
        Audience::Broker(rig.world.server()),
    ] {
        let job = rig.job(|claims| claims.common.audience = audience);
        assert_eq!(
            refusal(rig.present(&connection, &job).await.map(drop)),
            Refusal::TicketAudience
        );
    }
    let job = rig.job(|claims| claims.common.realm = "other".into());
    assert_eq!(
        refusal(rig.present(&connection, &job).await.map(drop)),
        Refusal::TicketAudience
    );
    let mut job = rig.job(|_| {});
    job.ticket = ticket::sign(&job.claims, &TicketSecret::generate(&mut rng()));
    assert_eq!(
        refusal(rig.present(&connection, &job).await.map(drop)),
        Refusal::TicketSignature
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_outside_its_life_is_refused() {
    // rule: TKT-5
    let rig = rig().await;
    let job = rig.job(|_| {});
    rig.world.clock.set(3_600);
    rig.service
        .state
        .lease
        .heard(std::time::Duration::from_secs(10));
    let notice = rig
        .present(&rig.connect(1), &job)
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(notice.refusal, Refusal::TicketExpired);
    // rule: AUD-1
    assert_eq!(notice.detail, None, "who held a ticket once is a stranger");
    assert_eq!(rig.entries().pop().unwrap().kind, Kind::Statement);
    let early = rig.job(|claims| {
        (claims.common.issued, claims.common.expires) = (rig.now().plus(61), rig.now().plus(999))
    });
    assert_eq!(
        refusal(rig.present(&rig.connect(1), &early).await.map(drop)),
        Refusal::TicketNotYetValid
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_datasets_longest_life_holds_whatever_the_broker_signed() {
    let rig = rig().await;
    let now = rig.now();
    let job = rig.job(|claims| {
        (claims.common.issued, claims.common.expires) = (now.minus(7_200), now.plus(1))
    });
    assert_eq!(
        refusal(rig.present(&rig.connect(1), &job).await.map(drop)),
        Refusal::TicketExpired
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_an_unknown_dataset_is_refused() {
    // rule: PRE-1
    let rig = rig().await;
    let job = rig.job(|claims| claims.dataset = DatasetId([0xdd; 16]));
    assert_eq!(
        refusal(rig.present(&rig.connect(1), &job).await.map(drop)),
        Refusal::DatasetUnknown
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn x25519_sealing_is_off_unless_the_dataset_allows_it() {
    // rule: SEAL-5
    let rig = rig().await;
    let job = rig.job_of(Kem::X25519, |_| {});
    assert_eq!(
        refusal(rig.present(&rig.connect(1), &job).await.map(drop)),
        Refusal::Kem
    );
    let mut both = wanted("both");
    both.kems = vec![Kem::X25519, Kem::XWing];
    let created = rig.administer(&both).await.unwrap();
    let job = rig.job_of(Kem::X25519, |claims| claims.dataset = created.dataset);
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    assert_eq!(opened.enc.len(), 32);
    assert_eq!(rig.wraps(&opened, &pairs(&[]), 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_word_alone_opens_nothing() {
    // rule: PRE-3
    let rig = rig().await;
    let foreign = |claims: &mut ticket_format::ticket::DatasetClaims| {
        claims.common.attributes.node =
            ticket_format::ids::NodeId::new("210987654321", "eu-west-1", "i-0123456789abcdef0")
                .unwrap();
        // With every pair that the policy reads in the ticket, presenting is refused already.
        claims.required = pairs(&[("purpose", "train")]);
    };
    let job = rig.job(foreign);
    assert_eq!(
        refusal(rig.present(&rig.connect(1), &job).await.map(drop)),
        Refusal::Policy
    );
    // Where the pairs are not known yet, the request is refused.
    let job = rig.job(|claims| {
        foreign(claims);
        claims.required = pairs(&[]);
    });
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let made = rig.generate(&opened, &[&pairs(&[])], true).await.unwrap();
    assert_eq!(made.refusals(), [Some(Refusal::Policy)]);
    assert!(made.deks.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_presents_64_tickets_and_expired_ones_make_room() {
    let rig = rig().await;
    let connection = rig.connect(1);
    let job = rig.job(|claims| claims.common.expires = claims.common.issued.plus(60));
    for _ in 0..64 {
        rig.present(&connection, &job).await.unwrap();
    }
    assert_eq!(
        refusal(rig.present(&connection, &job).await.map(drop)),
        Refusal::TooLarge
    );
    rig.world.clock.set(60);
    let job = rig.job(|_| {});
    rig.present(&connection, &job).await.unwrap();
    assert_eq!(connection.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_learns_the_number_only() {
    // rule: REF-1, REF-2, REF-3
    let rig = rig().await;
    let connection = rig.connect(1);
    let mut login = Request::encode_parts(Verb::Login, b"", &[]);
    for (bytes, expected) in [
        (vec![], Refusal::Malformed),
        (vec![0xff; 40], Refusal::Malformed),
        (vec![0; 3_000_000], Refusal::TooLarge),
        (login.clone(), Refusal::Unsupported),
        (
            Request::encode_parts(Verb::Present, &[0xa0], &[]),
            Refusal::Malformed,
        ),
        (
            Request::encode_parts(Verb::Redeem, &[0xa0], &[]),
            Refusal::Malformed,
        ),
        (
            Request::encode_parts(Verb::Administer, &[0xa0], &[]),
            Refusal::StatementMalformed,
        ),
    ] {
        let Answer::Refused(notice) = rig.exchange(&connection, bytes).await else {
            panic!("served")
        };
        assert_eq!((notice.refusal, notice.detail), (expected, None));
    }
    login.push(0);
    let before = rig.entries().len();
    let Answer::Refused(_) = rig.exchange(&connection, login).await else {
        panic!("served")
    };
    // rule: AUD-1
    rig.service.each_minute().await;
    let entries = rig.entries();
    assert_eq!(entries.len(), before + 1, "counted, not listed");
    let entry = entries.last().unwrap();
    assert_eq!(
        (entry.kind, entry.count, entry.source.as_deref()),
        (Kind::RefusalsCounted, Some(8), Some("10.0.0.1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_refusal_of_a_node_again_is_counted() {
    // rule: AUD-1
    let rig = rig().await;
    let job = rig.job(|_| {});
    rig.deny(Selector::node(job.claims.common.node().clone()))
        .await;
    let before = rig.entries().len();
    for n in 0..20 {
        let notice = rig
            .present(&rig.connect(n), &job)
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(notice.refusal, Refusal::Denied);
        assert!(notice.detail.is_some(), "the caller is known");
    }
    assert_eq!(rig.entries().len(), before + 1);
    // Another refusal is listed.
    let other = rig.job(|claims| claims.dataset = DatasetId([0xdd; 16]));
    rig.service
        .state
        .gate
        .apply(Default::default(), 2, CHAIN_START)
        .await;
    assert!(rig.present(&rig.connect(1), &other).await.is_err());
    assert_eq!(rig.entries().len(), before + 2);
    rig.service.each_minute().await;
    let entries = rig.entries();
    assert_eq!(entries.len(), before + 3);
    let counted = &entries[before + 2];
    assert_eq!(
        (counted.kind, counted.outcome, counted.count),
        (Kind::RefusalsCounted, Err(Refusal::Denied), Some(19))
    );
    assert_eq!(counted.subject, entries[before].subject);
}
