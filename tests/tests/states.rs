//! Every message in every state that a server may be in towards its sender: what is not finished, what is
//! another server's, and what is denied is answered by its own refusal, whatever the message (CVE-2026-30836).
#![allow(missing_docs)]

use std::fs;

use client::link::Server;
use client::wallet::DatasetSession;
use tests::admins::statement_by;
use tests::house::{DATASET, House};
use tests::node::Node;
use tests::wire::{self, Message, Presented, Wire, now, rng, secrets};
use ticket_format::cbor::Encode as _;
use ticket_format::ids::TicketHash;
use ticket_format::keys::{AdminSecret, NodeSecret, ProofSecret, ServerSecret};
use ticket_format::messages::batch::{GenerateBody, RedeemBody, RewrapBody};
use ticket_format::messages::consistency::ConsistencyBody;
use ticket_format::messages::watch::WatchBody;
use ticket_format::messages::wipe::WipeBody;
use ticket_format::messages::{Receipt, Verb};
use ticket_format::statement::{ActBody as _, StatusShow};
use ticket_format::tlog::Proof;
use ticket_format::{Context, Refusal};

/// In what state a server is towards the sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A broker at which the node has logged in.
    Broker,
    /// A broker whose admins denied the node.
    BrokerDenied,
    /// A key server to which nothing was presented on this connection, although on another.
    Fresh,
    Presented,
    /// A key server to which the ticket was presented before it was denied.
    Denied,
    /// A key server that nobody presented a denied ticket to before.
    DeniedFresh,
    /// A key server without its root key, under its door key.
    Sealed,
}

impl State {
    fn at_a_broker(self) -> bool {
        matches!(self, Self::Broker | Self::BrokerDenied)
    }
}

/// What the message comes to: done, where there is none.
fn expected(state: State, verb: Verb) -> Option<Refusal> {
    use State::{Broker, BrokerDenied, Denied, DeniedFresh, Fresh, Presented, Sealed};
    let at_a_broker = state.at_a_broker();
    match (verb, state) {
        // Without a root key nothing but shares is taken.
        (_, Sealed) => Some(Refusal::Sealed),
        // Admins, and who asks how a log goes on, are heard everywhere.
        (Verb::Administer | Verb::Consistency, _) => None,
        // Of the other kind of server.
        (Verb::Login | Verb::Renew | Verb::Issue | Verb::Alias | Verb::Feed, _) if !at_a_broker => {
            Some(Refusal::Unsupported)
        }
        (Verb::Present | Verb::Redeem | Verb::Generate | Verb::Rewrap, _) if at_a_broker => {
            Some(Refusal::Unsupported)
        }
        (Verb::Feed, _) => None,
        (Verb::Login | Verb::Renew | Verb::Issue, Broker) => None,
        (Verb::Alias, Broker) => Some(Refusal::DatasetUnknown),
        (Verb::Login | Verb::Renew | Verb::Issue | Verb::Alias, _) => Some(Refusal::Denied),
        (Verb::Present, Fresh | Presented) => None,
        (Verb::Redeem | Verb::Generate | Verb::Rewrap, Presented) => None,
        (Verb::Redeem | Verb::Generate | Verb::Rewrap, Fresh | DeniedFresh) => {
            Some(Refusal::HandleUnknown)
        }
        (Verb::Present | Verb::Redeem | Verb::Generate | Verb::Rewrap, _) => Some(Refusal::Denied),
        // Whoever holds a ticket hears of it; only a denied one was wiped.
        (Verb::Watch, _) => None,
        (Verb::Wipe, BrokerDenied | Denied | DeniedFresh) => None,
        (Verb::Wipe, _) => Some(Refusal::Invalid),
    }
}

/// All that somebody needs who sends every message.
struct Sender<'a> {
    admin: &'a AdminSecret,
    signing: &'a ServerSecret,
    node: &'a Node,
    next: NodeSecret,
    ticket: &'a DatasetSession,
    presented: Presented,
    wrap: Vec<u8>,
    /// A receipt of the broker's log and one of the key server's.
    receipts: [Receipt; 2],
}

impl Sender<'_> {
    /// The message that an honest sender would send.
    fn message(&self, verb: Verb, wire: &Wire, state: State) -> Message {
        let context = Context::named("a").expect("a context");
        let head = self.presented.head();
        let batch = |body| self.presented.batch(verb, body);
        match verb {
            Verb::Login => self.node.login_message(wire, &secrets()).0,
            Verb::Renew => {
                let chain = self.node.chain.expect("it has logged in");
                let (node, key) = (&self.node.iid.node, &self.node.key);
                wire::renew(&wire.channel, node, key, &self.next, &secrets(), chain).0
            }
            Verb::Issue => {
                let (node, key) = (self.node.ticket(), &self.node.key);
                wire::issue(&wire.channel, node, key, DATASET, &secrets())
            }
            Verb::Present => wire::present(self.ticket),
            Verb::Redeem => batch(RedeemBody::encode(&head, &[(&self.wrap, &context)])),
            Verb::Generate => batch(GenerateBody::encode(&head, &[&context], true, None)),
            Verb::Rewrap => {
                let items: [(&[u8], _, Option<&Context>); 1] = [(&self.wrap, &context, None)];
                batch(RewrapBody::encode(&head, &items, &[]))
            }
            Verb::Feed => wire::feed(ServerSecret::from_seed(&self.signing.seed())),
            Verb::Administer => statement_by(&[self.admin], &wire.channel, &StatusShow {}),
            Verb::Watch | Verb::Wipe => self.held(verb, state),
            Verb::Consistency => {
                let receipt = &self.receipts[usize::from(!state.at_a_broker())];
                let proof: Proof = receipt.proof.parse().expect("a proof");
                let body = ConsistencyBody::of(proof.checkpoint);
                Message::new(verb, body.to_cbor(), |_, _| Vec::new())
            }
            Verb::Alias => wire::alias(self.node.ticket(), "none"),
        }
    }

    /// What the holder of a ticket for this server says.
    fn held(&self, verb: Verb, state: State) -> Message {
        let node = self.node.ticket();
        let (ticket, proof) = if state.at_a_broker() {
            (node.ticket.clone(), &node.secrets.proof)
        } else {
            (self.ticket.ticket.clone(), &self.ticket.secrets.proof)
        };
        let proof = ProofSecret::from_seed(&proof.seed());
        let hash = TicketHash::of(&ticket);
        let label = verb.request_label().expect("a label");
        let body = if verb == Verb::Watch {
            WatchBody { ticket, hold_ms: 0 }.to_cbor()
        } else {
            let wipe = WipeBody {
                ticket,
                epoch: 1,
                erased: 3,
                at: now(),
            };
            wipe.to_cbor()
        };
        Message::new(verb, body, move |channel, body| {
            vec![channel.sign_with(&proof, label, Some(hash), body)]
        })
    }

    /// Sends each, and compares; the messages of one state go over one connection.
    async fn every_message(&self, state: State, wire: &Wire) {
        let mut wrong = Vec::new();
        // What is presented on this connection is presented last: before it, nothing is.
        let mut verbs = Verb::ALL.to_vec();
        verbs.sort_by_key(|verb| *verb == Verb::Present);
        for verb in verbs {
            let reply = wire.send(&self.message(verb, wire, state)).await;
            let came = match &reply {
                wire::Reply::Done { .. } => None,
                wire::Reply::Refused { refusal, .. } => Some(*refusal),
                other => panic!("{state:?}, {}: {other:?}", verb.name()),
            };
            let expected = expected(state, verb);
            if came != expected {
                wrong.push(format!(
                    "{}: {came:?} where {expected:?} is right ({reply:?})",
                    verb.name()
                ));
            }
        }
        assert!(wrong.is_empty(), "{state:?}:\n{}", wrong.join("\n"));
    }
}

/// One of those who may ask for the status.
fn admin(house: &House) -> AdminSecret {
    AdminSecret::from_seed(&house.admins.for_act(StatusShow::ACT)[0].seed())
}

/// The key server under its door key.
fn door(house: &House) -> Server {
    let text = fs::read_to_string(house.path("key-server/server-keys.toml")).expect("public keys");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("door-key = "));
    let key = line.expect("a door key").trim_matches('"');
    Server {
        tls_key: key.parse().expect("a key"),
        ..house.key_server_server()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cve_2025_44005_every_message_in_every_state_has_its_answer() {
    // rule: PRE-2, RED-1, REF-1
    let mut house = House::start();
    let node = house.node(0).await;
    let broker = house.to_broker().await;
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    let elsewhere = house.to_key_server().await;
    let presented = elsewhere.present_when_leased(&ticket).await;
    let context = Context::named("a").expect("a context");
    let (wrap, _) = elsewhere
        .generate(&presented, &context)
        .await
        .expect("a wrap");
    let receipt = elsewhere
        .generated(&presented, &context)
        .await
        .expect("a receipt");
    let other = house.to_key_server().await;
    let (admin, signing) = (admin(&house), house.signing_secret());
    let mut sender = Sender {
        admin: &admin,
        signing: &signing,
        node: &node,
        next: NodeSecret::generate(&mut rng()),
        ticket: &ticket,
        presented,
        wrap,
        receipts: [ticket.receipt.clone(), receipt],
    };

    sender.every_message(State::Broker, &broker).await;
    sender.every_message(State::Fresh, &other).await;
    let server = house.to_key_server().await;
    sender.presented = server.present(&ticket).await.expect("presented");
    sender.every_message(State::Presented, &server).await;

    let name = node.iid.node.to_string();
    house
        .admin_does(&[
            "deny", "--node", &name, "--reason", "states", "--yes", "--wait", "20s",
        ])
        .ok();
    sender.every_message(State::BrokerDenied, &broker).await;
    sender.every_message(State::Denied, &server).await;
    let fresh = house.to_key_server().await;
    sender.every_message(State::DeniedFresh, &fresh).await;

    house.key_server.stop();
    let credential = house.path("key-server-root");
    fs::rename(credential, house.path("taken-away")).expect("renamed");
    house.key_server.start_sealed();
    let sealed = Wire::connect(&door(&house)).await;
    sender.every_message(State::Sealed, &sealed).await;
}
