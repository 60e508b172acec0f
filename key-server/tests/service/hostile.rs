//! Any bytes from anybody: one numbered refusal, and the next caller is served (REF-1).

use std::sync::Arc;

use key_server::state::Connection;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::ids::TicketHash;
use ticket_format::labels;
use ticket_format::messages::batch::RedeemBody;
use ticket_format::messages::present::PresentBody;
use ticket_format::messages::{Answer, Request, Verb};

use crate::rig::{Rig, named, rig};

/// Sends the request with each so-many-th byte flipped, cut off there, and one byte longer: never is it
/// served, and never is more said than the number.
async fn bend(rig: &Rig, connection: &Arc<Connection>, request: &[u8], step: usize) {
    let flipped = (0..request.len()).step_by(step).flat_map(|at| {
        let mut flipped = request.to_vec();
        flipped[at] ^= 1;
        [flipped, request[..at].to_vec()]
    });
    let longer = [request, &[0]].concat();
    for bent in flipped.chain([longer]) {
        match rig.exchange(connection, bent).await {
            Answer::Refused(notice) => assert_eq!(notice.detail, None, "{}", notice.refusal),
            Answer::Done { .. } => panic!("a bent request was served"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bent_presentation_is_refused() {
    // rule: REF-1, REF-2, TKT-1
    let rig = rig().await;
    let (job, connection) = (rig.job(|_| {}), rig.connect(1));
    let body = PresentBody {
        ticket: job.ticket.clone(),
        receipt: job.receipt.clone(),
        evidence: None,
    };
    let (body, hash) = (body.to_cbor(), TicketHash::of(&job.ticket));
    let proof =
        connection
            .channel
            .sign_with(&job.proof, labels::PRESENT_REQUEST, Some(hash), &body);
    let request = Request::encode_parts(Verb::Present, &body, &[proof]);
    bend(&rig, &connection, &request, 7).await;
    assert!(connection.is_empty());
    assert!(matches!(
        rig.exchange(&connection, request).await,
        Answer::Done { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bent_redemption_is_refused() {
    // rule: REF-1, REF-2, SEAL-3
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let wrap = rig.wraps(&opened, &context, 1).await.remove(0).0;
    let body = RedeemBody::encode(&opened.head(), &[(&wrap, &context)]);
    let proof = opened.mac(Verb::Redeem, &body);
    let request = Request::encode_parts(Verb::Redeem, &body, &[proof]);
    let before = rig.entries().len();
    bend(&rig, &opened.connection, &request, 1).await;
    assert_eq!(rig.entries().len(), before, "strangers leave no entries");
    assert!(matches!(
        rig.exchange(&opened.connection, request).await,
        Answer::Done { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_is_answered_again_and_a_batch_of_1001_items_is_not() {
    let rig = rig().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let made = rig.wraps(&opened, &context, 2).await;
    let items = vec![(made[0].0.as_slice(), &context); 1_001];
    let notice = rig.redeem(&opened, &items).await.unwrap_err();
    assert_eq!(notice.refusal, Refusal::Malformed);
    assert_eq!(
        rig.redeem(&opened, &items[..1_000])
            .await
            .unwrap()
            .deks
            .len(),
        32_000
    );
    assert!(rig.redeem(&opened, &[]).await.is_err());
}
