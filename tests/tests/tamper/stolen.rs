//! A stolen ticket-signing key, without the broker's log (PRE-5).

use super::*;
use client::wallet::DatasetSession;
use tests::wire::{self, rng};
use ticket_format::Refusal;
use ticket_format::entry::Alarm;
use ticket_format::ids::TicketId;
use ticket_format::keys::TicketSecret;
use ticket_format::messages::Receipt;
use ticket_format::ticket;

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_is_signed_but_not_in_the_brokers_log_opens_nothing() {
    // rule: PRE-5, TLOG-5
    let mut house = House::start();
    let node = house.node(0).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let honest = node.issue(&broker, DATASET).await.expect("a ticket");
    let _ = server.present_when_leased(&honest).await;
    assert_eq!(house.alarms("key-server", Alarm::UnloggedTicket), 0);

    // Who has the signing key makes a ticket of his own, like the honest one but for its id.
    let signing = TicketSecret::from_seed(&house.sealed_seed("broker", "broker-root", "ticket"));
    let mut claims = wire::claims(&honest);
    claims.common.id = TicketId::random(&mut rng());
    let forged = ticket::sign(&claims, &signing);
    let stolen = |receipt: Receipt| DatasetSession {
        alias: None,
        dataset: DATASET.to_owned(),
        ticket: forged.clone(),
        secrets: wire::copy(&honest.secrets),
        receipt,
        record: honest.record.clone(),
        evidence: None,
    };
    let begun = Instant::now();
    let other = node.issue(&broker, DATASET).await.expect("a ticket");
    for (what, receipt) in [
        ("the receipt of another ticket", honest.receipt.clone()),
        ("the receipt of a third", other.receipt.clone()),
        (
            "a receipt whose entry was changed",
            Receipt {
                entry: other.receipt.entry.iter().rev().copied().collect(),
                ..other.receipt.clone()
            },
        ),
        (
            "half a receipt",
            Receipt {
                proof: other.receipt.proof[..other.receipt.proof.len() / 2].to_owned(),
                ..other.receipt.clone()
            },
        ),
    ] {
        let reply = server.present(&stolen(receipt)).await.expect_err(what);
        assert_eq!(reply.refusal(), Some(Refusal::Receipt), "{what}");
    }
    let mut none = wire::present_body(&stolen(honest.receipt.clone()));
    none.receipt = None;
    let message = wire::presentation(&stolen(honest.receipt.clone()), &none);
    assert_eq!(
        server.send(&message).await.refusal(),
        Some(Refusal::Receipt)
    );
    assert!(house.alarms("key-server", Alarm::UnloggedTicket) > 0);
    noticed("a ticket outside the log", "the key server, at once", begun);
    house.is_sound();
}
