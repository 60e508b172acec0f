//! The broker over real QUIC on loopback.
#![allow(missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use broker::net::{Exchanges, identity};
use support::*;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::keys::ProofSecret;
use ticket_format::limits;
use ticket_format::messages::login::LoginAnswer;
use ticket_format::messages::{Answer, Request, Verb};
use ticket_format::sign::{Channel, Exporter};
use transport::{ClientLimits, Connection, ExporterUse, Server, ServerLimits};

#[tokio::test]
async fn a_node_logs_in_over_quic() {
    let world = World::new().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let server = Server::bind(
        "127.0.0.1:0".parse().unwrap(),
        &identity(&world.tls).unwrap(),
        ServerLimits::default(),
    )
    .unwrap();
    let address = server.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let exchanges = Arc::new(Exchanges(Arc::clone(world.broker())));
    let running = tokio::spawn(server.run(exchanges, async move {
        let _ = stopped.await;
    }));
    let pin = world.tls.public().to_bytes();
    let connection = Connection::connect(
        address,
        pin,
        ClientLimits::default(),
        Duration::from_secs(10),
    )
    .await
    .unwrap();
    let exporter = Exporter(connection.exporter(ExporterUse::Authenticator).unwrap());
    let channel = Channel {
        realm: REALM.to_owned(),
        server: world.tls.public(),
        exporter,
    };
    let node = Node::boot(&SYDNEY);
    let key = ProofSecret::generate(&mut rng());
    let body = node
        .login_body(&launch, &key, &world.tls.public())
        .0
        .to_cbor();
    let proofs = node.login_proofs(&channel, &launch, &key, &body);
    let answer = connection
        .exchange(&Request::encode_parts(Verb::Login, &body, &proofs))
        .await
        .unwrap();
    let Answer::Done { body, .. } = Answer::parse(&answer).unwrap() else {
        panic!("refused: {answer:?}")
    };
    LoginAnswer::from_cbor(&body, limits::MESSAGE).unwrap();
    connection.close();
    stop.send(()).unwrap();
    assert_eq!(running.await.unwrap().unwrap().unfinished, 0);
}
