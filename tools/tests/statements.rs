//! What `postern-admin` sends, what it believes of an answer, and what it does when none comes. A
//! server of the test's own speaks the real transport and verifies the real statements.

mod support;

use std::sync::{Arc, Mutex};

use support::{Place, Said};
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, ChainDigest, StatementDigest, StatementId};
use ticket_format::keys::{AdminKey, TlsSecret};
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::{Answer, Receipt, RefusalNotice, RequestView, Verb};
use ticket_format::statement::{
    Act, Denied, DenyBody, LaunchCreate, LaunchShow, LaunchView, NodePage, PolicySet,
    PolicyTextSet, ReceivedStatement, VerifiedStatement, policy_digest,
};
use ticket_format::time::Timestamp;
use transport::{Bytes, Handler, Peer, Server, ServerIdentity, ServerLimits};

/// How the server errs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Err {
    No,
    /// The first statement is carried out, and the connection closed instead of an answer.
    LoseFirst,
    /// The receipt is of another statement.
    OtherReceipt,
    /// The policy that it says it set is another one.
    OtherPolicy,
    /// Nothing is carried out.
    Refuse(Refusal),
}

/// A statement that was carried out.
type Seen = (StatementId, Act, Vec<u8>);

struct Broker {
    admin: AdminKey,
    tls: TlsSecret,
    err: Err,
    seen: Mutex<Vec<Seen>>,
}

fn now() -> Timestamp {
    Timestamp::from_seconds(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

impl Broker {
    /// The launch that one of the statements seen made.
    fn launch(&self, seen: &[Seen], show: LaunchShow) -> Vec<u8> {
        let (.., bytes) = seen
            .iter()
            .find(|(_, act, _)| *act == Act::LaunchCreate)
            .unwrap();
        let received = ReceivedStatement::parse(bytes).unwrap();
        let made = received
            .verify(&[self.admin], "example", None, now())
            .unwrap();
        let launch: LaunchCreate = made.body().unwrap();
        assert_eq!(launch.launch, show.launch);
        LaunchView {
            launch,
            digest: made.digest(),
            used: 0,
            nodes: Vec::new(),
            closed: false,
        }
        .to_cbor()
    }

    /// The result of an act.
    fn result(
        &self,
        statement: &VerifiedStatement,
        digest: StatementDigest,
        seen: &[Seen],
    ) -> Vec<u8> {
        match statement.act() {
            Act::PolicySet if self.err == Err::OtherPolicy => PolicyTextSet {
                digest: policy_digest(""),
            }
            .to_cbor(),
            Act::PolicySet => PolicyTextSet {
                digest: policy_digest(&statement.body::<PolicySet>().unwrap().text),
            }
            .to_cbor(),
            Act::LaunchCreate => {
                let launch: LaunchCreate = statement.body().unwrap();
                LaunchView {
                    launch,
                    digest,
                    used: 0,
                    nodes: Vec::new(),
                    closed: false,
                }
                .to_cbor()
            }
            Act::LaunchShow => {
                let show: LaunchShow = statement.body().unwrap();
                self.launch(seen, show)
            }
            Act::NodeList => NodePage {
                rows: Vec::new(),
                more: false,
            }
            .to_cbor(),
            Act::Deny => {
                let body: DenyBody = statement.body().unwrap();
                assert_eq!(body.reason, "test");
                Denied {
                    epoch: 1,
                    chain: ChainDigest([1; 32]),
                }
                .to_cbor()
            }
            act => panic!("{act} is in no test"),
        }
    }

    fn answer(&self, message: &[u8], first: bool) -> Answer {
        let request = RequestView::parse(message).unwrap();
        assert_eq!((request.verb, request.proofs.len()), (Verb::Administer, 0));
        let received = ReceivedStatement::parse(request.body).unwrap();
        let tls = self.tls.public();
        // rule: ADM-1 — what the tool signs is what a server accepts.
        let statement = received
            .verify(&[self.admin], "example", Some(&tls), now())
            .unwrap();
        let mut seen = self.seen.lock().unwrap();
        if seen.iter().any(|(id, ..)| *id == statement.id()) {
            let same = seen.iter().any(|(.., bytes)| bytes == request.body);
            assert!(same, "an id is never used for another statement");
            return RefusalNotice::bare(Refusal::StatementReplayed).into();
        }
        if let Err::Refuse(refusal) = self.err {
            return RefusalNotice::detailed(refusal, "as the test asked").into();
        }
        seen.push((statement.id(), statement.act(), request.body.to_vec()));
        assert!(first || self.err != Err::LoseFirst || seen.len() > 1);
        let digest = StatementDigest::of(request.body);
        let named = if self.err == Err::OtherReceipt {
            StatementDigest([9; 32])
        } else {
            digest
        };
        let entry = Entry::new(ActId([1; 16]), Kind::Statement, now()).proof(named.0);
        let receipt = Receipt {
            index: 1,
            chain: [1; 32],
            entry: entry.to_cbor(),
        };
        Answer::done(
            Verb::Administer,
            &AdministerAnswer {
                result: self.result(&statement, digest, &seen),
                receipt,
            },
        )
    }
}

impl Handler for Broker {
    type Connection = Peer;

    fn connected(&self, peer: Peer) -> Peer {
        peer
    }

    async fn exchange(&self, peer: &Peer, message: Bytes) -> Bytes {
        let first = self.seen.lock().unwrap().is_empty();
        let answer = self.answer(&message, first);
        if first && self.err == Err::LoseFirst {
            peer.close();
        }
        Bytes::from(answer.to_bytes())
    }

    fn closed(&self, _connection: &Peer) {}
}

/// Runs a command against such a server; also the acts that the server carried out.
fn against(err: Err, arguments: &[&str]) -> (Place, Said, Vec<Act>) {
    let place = Place::new();
    let admin: AdminKey = place.init().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let tls = TlsSecret::from_seed(&[1; 32]);
    let broker = Arc::new(Broker {
        admin,
        tls,
        err,
        seen: Mutex::default(),
    });
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let identity = ServerIdentity::new(&key).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = {
        let _inside = runtime.enter();
        Server::bind(
            "127.0.0.1:0".parse().unwrap(),
            &identity,
            ServerLimits::default(),
        )
        .unwrap()
    };
    let keys = |seed: u8| TlsSecret::from_seed(&[seed; 32]).public();
    let file = format!(
        "realm = \"example\"\naddresses = [\"{}\"]\ntls-key = \"{}\"\nticket-key = \"{}\"\nfeed-key = \"{}\"\n",
        server.local_addr(),
        broker.tls.public(),
        keys(2),
        keys(3)
    );
    place.write("admin/broker-keys.toml", file);
    place.write(
        "policy",
        "@id(\"all\") permit (principal, action, resource);\n",
    );
    let running = runtime.spawn(server.run(Arc::clone(&broker), async move {
        let _ = stopped.await;
    }));
    let mut all = vec![
        "--config",
        "admin/admin.toml",
        "--passphrase-file",
        "passphrase",
    ];
    all.extend(arguments);
    let said = place.run(&all);
    let _ = stop.send(());
    let _ = runtime.block_on(running).unwrap();
    let acts = broker
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|(_, act, _)| *act)
        .collect();
    (place, said, acts)
}

#[test]
fn an_act_is_signed_sent_and_believed() {
    // rule: ADM-1
    let (_, said, acts) = against(Err::No, &["policy", "set", "policy"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(acts, [Act::PolicySet]);
}

#[test]
fn a_statement_whose_answer_was_lost_is_sent_again_as_it_is_and_acts_once() {
    // rule: ADM-2
    let (_, said, acts) = against(Err::LoseFirst, &["policy", "set", "policy"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.err.contains("The first answer was lost"),
        "{}",
        said.err
    );
    assert_eq!(acts, [Act::PolicySet]);
}

#[test]
fn a_question_whose_answer_was_lost_is_put_anew() {
    // rule: ADM-4
    let (_, said, acts) = against(Err::LoseFirst, &["node", "list"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(acts, [Act::NodeList, Act::NodeList]);
}

#[test]
fn an_answer_whose_receipt_is_of_another_statement_is_not_believed() {
    let (_, said, _) = against(Err::OtherReceipt, &["policy", "set", "policy"]);
    assert_eq!((said.code, said.out.as_str()), (9, ""), "{}", said.err);
}

#[test]
fn a_server_that_set_another_policy_is_noticed() {
    let (_, said, _) = against(Err::OtherPolicy, &["policy", "set", "policy"]);
    assert_eq!((said.code, said.out.as_str()), (9, ""), "{}", said.err);
}

#[test]
fn a_refusal_ends_with_its_own_exit_code_and_shows_the_detail() {
    for (refusal, code) in [
        (Refusal::StatementSignature, 1),
        (Refusal::Exists, 7),
        (Refusal::NotFound, 6),
        (Refusal::Busy, 8),
        (Refusal::Clock, 10),
    ] {
        let (_, said, acts) = against(Err::Refuse(refusal), &["policy", "set", "policy"]);
        assert_eq!(said.code, code, "{}", said.err);
        assert!(
            said.err.contains(&refusal.to_string()) && said.err.contains("as the test asked"),
            "{}",
            said.err
        );
        assert_eq!(acts, []);
    }
}

#[test]
fn the_user_data_of_a_launch_is_printed_once_and_opens_that_launch() {
    // rule: BOOT-1, BOOT-2
    let (place, said, acts) = against(Err::No, &["launch", "create", "--account", "123456789012"]);
    assert_eq!(
        (said.code, acts.as_slice()),
        (0, [Act::LaunchCreate].as_slice()),
        "{}",
        said.err
    );
    let bootstrap = ticket_format::bootstrap::Bootstrap::find(said.out.as_bytes()).unwrap();
    assert!(said.err.contains(&bootstrap.launch.to_string()));
    let secret = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        bootstrap.secret.expose(),
    );
    assert!(!said.err.contains(&secret));
    place.write("user-data", said.out);
    let shown = place.run(&["inspect", "bootstrap", "user-data"]);
    assert_eq!(
        shown.json()["launch_key"],
        bootstrap.launch_secret().public().to_string()
    );
}

#[test]
fn user_data_goes_into_a_new_private_file_and_nowhere_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let (place, said, _) = against(
        Err::LoseFirst,
        &[
            "launch",
            "create",
            "--account",
            "123456789012",
            "--out",
            "user-data",
            "--cloud-init",
            "--format",
            "json",
        ],
    );
    // The first answer is lost; the launch stands and is the one whose secret is still here.
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(place.path("user-data").exists());
    let arguments = [
        "launch",
        "create",
        "--account",
        "123456789012",
        "--out",
        "user-data",
        "--cloud-init",
        "--format",
        "json",
    ];
    let (place, said, _) = against(Err::No, &arguments);
    assert_eq!(said.code, 0, "{}", said.err);
    let file = place.path("user-data");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("#cloud-config\n"));
    assert!(!said.out.contains("# postern/1"), "{}", said.out);
}

#[test]
fn a_denial_asks_first_and_does_nothing_unless_it_is_confirmed() {
    let deny = ["deny", "--account", "123456789012", "--reason", "test"];
    let (_, said, acts) = against(Err::No, &deny);
    assert_eq!(
        (said.code, acts.as_slice()),
        (2, [Act::NodeList].as_slice()),
        "{}",
        said.err
    );
    let dry = [&deny[..], &["--dry-run"]].concat();
    let (_, said, acts) = against(Err::No, &dry);
    assert_eq!(
        (said.code, acts.as_slice()),
        (0, [Act::NodeList].as_slice()),
        "{}",
        said.err
    );
    let yes = [&deny[..], &["--yes"]].concat();
    let (_, said, acts) = against(Err::No, &yes);
    assert_eq!(
        (said.code, acts.as_slice()),
        (0, [Act::NodeList, Act::Deny].as_slice()),
        "{}",
        said.err
    );
    let wait = [&deny[..], &["--yes", "--wait"]].concat();
    let (_, said, acts) = against(Err::No, &wait);
    assert_eq!(
        (said.code, acts.len()),
        (10, 0),
        "no key server is configured to wait for: {}",
        said.err
    );
}

#[test]
fn a_server_with_another_key_is_never_spoken_to() {
    // rule: TR-2
    let (place, _, _) = against(Err::No, &["node", "list"]);
    let keys = std::fs::read_to_string(place.path("admin/broker-keys.toml")).unwrap();
    let pinned = TlsSecret::from_seed(&[1; 32]).public().to_string();
    let other = TlsSecret::from_seed(&[8; 32]).public().to_string();
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = {
        let _inside = runtime.enter();
        Server::bind(
            "127.0.0.1:0".parse().unwrap(),
            &ServerIdentity::new(&key).unwrap(),
            ServerLimits::default(),
        )
        .unwrap()
    };
    let address = keys
        .lines()
        .find(|line| line.starts_with("addresses"))
        .unwrap();
    let new = keys.replace(&pinned, &other).replace(
        address,
        &format!("addresses = [\"{}\"]", server.local_addr()),
    );
    place.write("admin/broker-keys.toml", new);
    let admin = TlsSecret::from_seed(&[5; 32])
        .public()
        .to_string()
        .parse()
        .unwrap();
    let broker = Arc::new(Broker {
        admin,
        tls: TlsSecret::from_seed(&[1; 32]),
        err: Err::No,
        seen: Mutex::default(),
    });
    let running = runtime.spawn(server.run(Arc::clone(&broker), std::future::pending()));
    let said = place.run(&[
        "node",
        "list",
        "--config",
        "admin/admin.toml",
        "--passphrase-file",
        "passphrase",
    ]);
    assert_eq!(said.code, 9, "{}", said.err);
    assert!(broker.seen.lock().unwrap().is_empty());
    running.abort();
}
