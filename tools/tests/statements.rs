//! What `postern-admin` sends, what it believes of an answer, and what it does when none comes. A
//! server of the test's own speaks the real transport and verifies the real statements.

#[path = "support/logs.rs"]
mod logs;
mod support;

use std::sync::{Arc, Mutex};

use audit_log::guard::consistency;
use audit_log::{AuditLog, Options};
use support::{Place, Said, now, secret};
use ticket_format::Refusal;
use ticket_format::cbor::{Decode as _, Encode};
use ticket_format::denial::{CHAIN_START, Denial, chain_next};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, DatasetId, KekId, StatementDigest, StatementId};
use ticket_format::keys::{AdminSecret, TlsSecret};
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::consistency::ConsistencyBody;
use ticket_format::messages::{Answer, Receipt, RefusalNotice, RequestView, Verb};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::statement::{
    Act, AdminSet, AdminSetBody, AdminSetPage, AdminSetShow, Audience, DatasetList, DatasetPage,
    DatasetRow, DatasetView, Denied, DenyBody, FeedView, LaunchCreate, LaunchShow, LaunchView,
    LogRecover, LogState, LogView, NodePage, Nothing, Payload, PolicySet, PolicyText,
    PolicyTextSet, ProposalRow, ProposalView, Propose, ReceivedStatement, Role, TicketKeyRows,
    VerifiedStatement, WitnessRow, WitnessState, Witnessing, policy_digest,
};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, LogSecret, Proof};
use transport::{Bytes, Handler, Peer, Server, ServerIdentity, ServerLimits};

/// How the server errs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Err {
    No,
    /// The first statement is carried out, and the connection closed instead of an answer.
    LoseFirst,
    /// The receipt is of another statement.
    OtherReceipt,
    /// The receipt is signed by other keys than the server's log has.
    OtherLog,
    /// The policy that it says it set is another one.
    OtherPolicy,
    /// The denial that it says it made is another one.
    OtherDenial,
    /// Nothing is carried out.
    Refuse(Refusal),
}

/// A statement that was carried out.
type Seen = (StatementId, Act, Vec<u8>);

/// A broker and a key server in one.
struct Broker {
    set: AdminSet,
    tls: TlsSecret,
    err: Err,
    seen: Mutex<Vec<Seen>>,
    /// Sets after the first.
    sets: Vec<Vec<u8>>,
    /// What waits in the inbox.
    inbox: Vec<Vec<u8>>,
    /// The policy in force.
    policy: String,
    /// The only dataset.
    record: Option<DatasetView>,
    /// When it says that it made the denial, however often it is asked.
    made: Timestamp,
    /// Its logs: as a broker, and as a key server.
    logs: Mutex<Vec<AuditLog>>,
    /// How it says that its log is.
    state: LogState,
}

impl Broker {
    fn new(set: AdminSet, err: Err) -> Self {
        Self {
            set,
            tls: TlsSecret::from_seed(&[1; 32]),
            err,
            seen: Mutex::default(),
            sets: Vec::new(),
            inbox: Vec::new(),
            policy: String::new(),
            record: None,
            made: now(),
            logs: Mutex::default(),
            state: LogState::Good,
        }
    }

    /// The log that an act's record goes into; of the acts in these tests one is for a key server.
    fn log(&self, act: Act) -> AuditLog {
        let of_key_server = matches!(act, Act::CanarySet | Act::DatasetSet);
        self.logs.lock().unwrap()[usize::from(of_key_server)].clone()
    }

    /// The set in force.
    fn in_force(&self) -> AdminSet {
        self.set.follow(&self.sets, "example", now()).unwrap()
    }

    /// The launch that one of the statements seen made.
    fn launch(&self, seen: &[Seen], show: LaunchShow) -> Vec<u8> {
        let (.., bytes) = seen
            .iter()
            .find(|(_, act, _)| *act == Act::LaunchCreate)
            .unwrap();
        let received = ReceivedStatement::parse(bytes).unwrap();
        let made = received.verify(&self.set, "example", None, now()).unwrap();
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

    fn denied(&self, body: &DenyBody, digest: StatementDigest) -> Vec<u8> {
        assert_eq!(body.reason, "test");
        let by = if self.err == Err::OtherDenial {
            StatementDigest([9; 32])
        } else {
            digest
        };
        let denial = Denial::new(
            body.selector.clone(),
            body.reason.clone(),
            by,
            self.made,
            "ops".to_owned(),
        );
        let record = denial.to_cbor();
        Denied {
            epoch: 1,
            chain: chain_next(CHAIN_START, denial.forget, &record),
            before: CHAIN_START,
            record,
        }
        .to_cbor()
    }

    fn row(&self, statement: &[u8]) -> ProposalRow {
        let received = ReceivedStatement::parse(statement).unwrap();
        let set = self.in_force();
        let signers = received.signed_by(&set).unwrap();
        let payload = received.payload();
        ProposalRow {
            id: payload.id,
            act: payload.act,
            audience: payload.audience,
            signers: signers.iter().map(|one| one.name.clone()).collect(),
            counting: set.counting(payload.act, &signers),
            needed: set.quorum(payload.act).unwrap_or(0),
            until: payload.expires,
        }
    }

    /// The result of an act.
    fn result(
        &self,
        statement: &VerifiedStatement,
        digest: StatementDigest,
        seen: &[Seen],
    ) -> Vec<u8> {
        match statement.act() {
            Act::AdminSetShow => {
                let show: AdminSetShow = statement.body().unwrap();
                let known = usize::try_from(show.after - 1).unwrap();
                AdminSetPage {
                    statements: self.sets.get(known..).unwrap_or_default().to_vec(),
                    more: false,
                }
                .to_cbor()
            }
            Act::PolicyShow => PolicyText {
                text: self.policy.clone(),
                digest: policy_digest(&self.policy),
            }
            .to_cbor(),
            Act::PolicySet if self.err == Err::OtherPolicy => PolicyTextSet {
                digest: policy_digest(""),
            }
            .to_cbor(),
            Act::PolicySet => PolicyTextSet {
                digest: policy_digest(&statement.body::<PolicySet>().unwrap().text),
            }
            .to_cbor(),
            Act::CanarySet => Nothing {}.to_cbor(),
            Act::Propose => {
                let propose: Propose = statement.body().unwrap();
                self.row(&propose.statement).to_cbor()
            }
            Act::ProposalShow => {
                let waiting = self.inbox.first().unwrap();
                ProposalView {
                    row: ProposalRow {
                        signers: vec!["whoever".to_owned()],
                        counting: 1,
                        needed: 1,
                        id: ReceivedStatement::parse(waiting).unwrap().payload().id,
                        act: Act::PolicySet,
                        audience: Audience::Everyone,
                        until: now(),
                    },
                    statement: waiting.clone(),
                }
                .to_cbor()
            }
            Act::DatasetList => {
                let page: DatasetList = statement.body().unwrap();
                let rows = match &self.record {
                    Some(view) if page.after.is_empty() => vec![view.row.clone()],
                    _ => Vec::new(),
                };
                DatasetPage { rows, more: false }.to_cbor()
            }
            Act::DatasetShow => self.record.as_ref().unwrap().to_cbor(),
            Act::FeedShow => {
                let mark = Denied::from_cbor(
                    &self.denied(
                        &ReceivedStatement::parse(
                            &seen.iter().find(|(_, act, _)| *act == Act::Deny).unwrap().2,
                        )
                        .unwrap()
                        .body()
                        .unwrap(),
                        StatementDigest::of(
                            &seen.iter().find(|(_, act, _)| *act == Act::Deny).unwrap().2,
                        ),
                    ),
                    1 << 20,
                )
                .unwrap();
                FeedView {
                    epoch: mark.epoch,
                    chain: mark.chain,
                    subscribers: Vec::new(),
                    links: Vec::new(),
                }
                .to_cbor()
            }
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
            Act::Deny => self.denied(&statement.body().unwrap(), digest),
            Act::TicketKeyList => TicketKeyRows {
                rows: Vec::new(),
                records: Vec::new(),
                overlap: 28_800,
            }
            .to_cbor(),
            Act::LogRecover => Nothing {}.to_cbor(),
            Act::LogShow => {
                let log = self.log(Act::LogShow);
                LogView {
                    key: log.key().clone(),
                    checkpoint: log.head().checkpoint.note().to_owned(),
                    state: self.state,
                    wrong: match self.state {
                        LogState::Good => String::new(),
                        _ => "witness w1 has seen more".to_owned(),
                    },
                    witnesses: vec![WitnessRow {
                        name: "w1".to_owned(),
                        size: Some(1_000),
                        ago_ms: Some(1),
                        state: WitnessState::Ahead,
                    }],
                }
                .to_cbor()
            }
            act => panic!("{act} is in no test"),
        }
    }

    /// The result of a statement, and the entry that it leaves.
    fn carried_out(&self, message: &[u8]) -> Result<(Act, Vec<u8>, Entry), Answer> {
        let request = RequestView::parse(message).unwrap();
        assert_eq!(request.proofs.len(), 0);
        if request.verb == Verb::Consistency {
            let body = ConsistencyBody::from_cbor(request.body, 1 << 16).unwrap();
            let shown = Checkpoint::of_note_unverified(&body.checkpoint).unwrap();
            let logs = self.logs.lock().unwrap();
            let log = logs
                .iter()
                .find(|log| log.key().origin == shown.shard.origin);
            return Err(match consistency(log.unwrap(), &body) {
                Ok(answer) => Answer::done(Verb::Consistency, &answer),
                Err(error) => RefusalNotice::bare(error.refusal()).into(),
            });
        }
        assert_eq!(request.verb, Verb::Administer);
        let received = ReceivedStatement::parse(request.body).unwrap();
        let tls = self.tls.public();
        // rule: ADM-1 — what the tool signs is what a server accepts.
        let statement = received
            .verify(&self.in_force(), "example", Some(&tls), now())
            .unwrap();
        let mut seen = self.seen.lock().unwrap();
        if seen.iter().any(|(id, ..)| *id == statement.id()) {
            let same = seen.iter().any(|(.., bytes)| bytes == request.body);
            assert!(same, "an id is never used for another statement");
            return Err(RefusalNotice::bare(Refusal::StatementReplayed).into());
        }
        if let Err::Refuse(refusal) = self.err {
            return Err(RefusalNotice::detailed(refusal, "as the test asked").into());
        }
        seen.push((statement.id(), statement.act(), request.body.to_vec()));
        let digest = StatementDigest::of(request.body);
        let named = if self.err == Err::OtherReceipt {
            StatementDigest([9; 32])
        } else {
            digest
        };
        let entry = Entry::new(ActId([1; 16]), Kind::Statement, now()).proof(named.0);
        Ok((
            statement.act(),
            self.result(&statement, digest, &seen),
            entry,
        ))
    }

    async fn answer(&self, message: &[u8]) -> Answer {
        let (act, result, entry) = match self.carried_out(message) {
            Ok(done) => done,
            Err(answer) => return answer,
        };
        let log = self.log(act);
        let appended = log.append(entry.to_cbor()).await.unwrap();
        let mut proof = appended.proof();
        if self.err == Err::OtherLog {
            let origin = log.key().origin.clone();
            let other = LogSecret::from_seeds(origin, &[8; 32], &[9; 32]).unwrap();
            let read: Proof = proof.parse().unwrap();
            let checkpoint = Checkpoint::of_note_unverified(&read.checkpoint).unwrap();
            let signed = other.sign(&checkpoint, now());
            proof = Proof {
                checkpoint: signed.note().to_owned(),
                ..read
            }
            .to_string();
        }
        let receipt = Receipt {
            entry: entry.to_cbor(),
            proof,
        };
        Answer::done(Verb::Administer, &AdministerAnswer { result, receipt })
    }

    /// What was carried out, but for the questions after the admin set and the ticket keys.
    fn acts(&self) -> Vec<Act> {
        let seen = self.seen.lock().unwrap();
        let all = seen.iter().map(|(_, act, _)| *act);
        all.filter(|act| ![Act::AdminSetShow, Act::TicketKeyList].contains(act))
            .collect()
    }
}

impl Handler for Broker {
    type Connection = Peer;

    fn connected(&self, peer: Peer) -> Peer {
        peer
    }

    async fn exchange(&self, peer: &Peer, message: Bytes) -> Bytes {
        let before = self.acts().len();
        let answer = self.answer(&message).await;
        if (before, self.acts().len()) == (0, 1) && self.err == Err::LoseFirst {
            peer.close();
        }
        Bytes::from(answer.to_bytes())
    }

    fn closed(&self, _connection: &Peer) {}
}

/// Serves until the guard is dropped; the place gets the files that name the server.
struct Serving {
    runtime: tokio::runtime::Runtime,
    broker: Arc<Broker>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Serving {
    fn start(place: &Place, broker: Broker) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let broker = Arc::new(broker);
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
        let roles = [
            (Role::Broker, "broker-log"),
            (Role::KeyServer, "server-log"),
        ];
        let mut lines = Vec::new();
        for (role, name) in roles {
            // The server's TLS key is of the same seed.
            let secret = logs::secret(role, 1);
            let [ed25519, ml_dsa] = secret.key().vkeys();
            lines.push(format!("log-keys = [\"{ed25519}\", \"{ml_dsa}\"]\n"));
            let _inside = runtime.enter();
            let (log, _) = AuditLog::open(place.path(name), secret, &Options::default()).unwrap();
            broker.logs.lock().unwrap().push(log);
        }
        let keys = |seed: u8| TlsSecret::from_seed(&[seed; 32]).public();
        let (address, tls) = (server.local_addr(), broker.tls.public());
        place.write(
            "admin/broker-keys.toml",
            format!(
                "realm = \"example\"\naddresses = [\"{address}\"]\ntls-key = \"{tls}\"\nticket-key = \"{}\"\nfeed-key = \"{}\"\n{}",
                keys(2),
                keys(3),
                lines[0],
            ),
        );
        place.write(
            "server-keys.toml",
            format!(
                "realm = \"example\"\naddresses = [\"{address}\"]\ntls-key = \"{tls}\"\nsigning-key = \"{}\"\n{}",
                keys(4),
                lines[1],
            ),
        );
        place.write("policy", POLICY);
        let handler = Arc::clone(&broker);
        runtime.spawn(server.run(handler, async move {
            let _ = stopped.await;
        }));
        Self {
            runtime,
            broker,
            stop,
        }
    }

    fn run(&self, place: &Place, arguments: &[&str]) -> Said {
        let mut all = vec![
            "--config",
            "admin/admin.toml",
            "--passphrase-file",
            "passphrase",
        ];
        all.extend(arguments);
        place.run(&all)
    }

    fn end(self) -> Vec<Act> {
        let _ = self.stop.send(());
        let acts = self.broker.acts();
        let logs = std::mem::take(&mut *self.broker.logs.lock().unwrap());
        for log in logs {
            self.runtime.block_on(log.close());
        }
        drop(self.runtime);
        acts
    }
}

const POLICY: &str = "@id(\"all\") permit (principal, action, resource);\n";
const OPERATOR: &str = "operator";
const OWNER: &str = "dataset-owner,security";
const CANARY: [&str; 7] = [
    "dataset",
    "canary",
    "faces",
    "00112233445566778899aabbccddeeff",
    "alarm",
    "--key-server",
    "server-keys.toml",
];

/// Runs a command of an admin with these roles against such a server; also the acts that the server
/// carried out.
fn against(roles: &str, err: Err, arguments: &[&str]) -> (Place, Said, Vec<Act>) {
    let place = Place::new();
    let serving = Serving::start_in(&place, roles, err);
    let said = serving.run(&place, arguments);
    let acts = serving.end();
    (place, said, acts)
}

impl Serving {
    fn start_in(place: &Place, roles: &str, err: Err) -> Self {
        let set = place.realm(roles);
        Self::start(place, Broker::new(set, err))
    }
}

#[test]
fn an_act_is_signed_sent_and_believed() {
    // rule: ADM-1
    let (_, said, acts) = against(OWNER, Err::No, &CANARY);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(acts, [Act::CanarySet]);
}

#[test]
fn an_act_that_one_may_do_alone_is_not_tried_by_who_may_not() {
    // rule: SET-2
    let (_, said, acts) = against(OPERATOR, Err::No, &CANARY);
    assert_eq!((said.code, said.out.as_str()), (4, ""), "{}", said.err);
    assert!(said.err.contains("does not count for"), "{}", said.err);
    assert_eq!(acts, []);
}

#[test]
fn a_statement_whose_answer_was_lost_is_sent_again_as_it_is_and_acts_once() {
    // rule: ADM-2
    let (_, said, acts) = against(OWNER, Err::LoseFirst, &CANARY);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(acts, [Act::CanarySet]);
}

#[test]
fn a_question_whose_answer_was_lost_is_put_anew() {
    // rule: ADM-4
    let (_, said, acts) = against(OPERATOR, Err::LoseFirst, &["node", "list"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(acts, [Act::NodeList, Act::NodeList]);
}

#[test]
fn an_answer_whose_receipt_is_of_another_statement_is_not_believed() {
    let (_, said, _) = against(OWNER, Err::OtherReceipt, &CANARY);
    assert_eq!((said.code, said.out.as_str()), (9, ""), "{}", said.err);
}

#[test]
fn an_answer_whose_receipt_is_not_signed_by_the_servers_log_is_not_believed() {
    // rule: TLOG-5
    let (_, said, _) = against(OWNER, Err::OtherLog, &CANARY);
    assert_eq!((said.code, said.out.as_str()), (9, ""), "{}", said.err);
    assert!(said.err.contains("signature"), "{}", said.err);
}

#[test]
fn a_server_that_cannot_continue_what_was_seen_of_its_log_is_not_used_until_it_is_forgotten() {
    // rule: TLOG-6
    let place = Place::new();
    let set = place.realm(OPERATOR);
    for _ in 0..2 {
        // Across a restart of the server its log goes on.
        let serving = Serving::start(&place, Broker::new(set.clone(), Err::No));
        let said = serving.run(&place, &["node", "list"]);
        assert_eq!(said.code, 0, "{}", said.err);
        assert_eq!(serving.end(), [Act::NodeList]);
    }
    // The machine is set back.
    std::fs::remove_dir_all(place.path("broker-log")).unwrap();
    let serving = Serving::start(&place, Broker::new(set.clone(), Err::No));
    let said = serving.run(&place, &["node", "list"]);
    assert_eq!((said.code, said.out.as_str()), (9, ""), "{}", said.err);
    assert!(
        said.err.contains("not the one that was seen before"),
        "{}",
        said.err
    );
    let shown = serving.run(&place, &["log", "show", "--format=json"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(
        shown.json()["compared"]
            .as_str()
            .unwrap()
            .starts_with("LOST: ")
    );
    assert_eq!(serving.run(&place, &["log", "forget"]).code, 2, "it asks");
    assert_eq!(serving.run(&place, &["log", "forget", "--yes"]).code, 0);
    assert_eq!(serving.run(&place, &["node", "list"]).code, 0);
    assert_eq!(serving.end(), [Act::LogShow, Act::NodeList]);
}

#[test]
fn a_recovery_says_what_is_lost_and_travels_as_a_proposal() {
    // rule: TLOG-10, PRO-3
    let place = Place::new();
    let set = place.realm(OWNER);
    let mut broker = Broker::new(set.clone(), Err::No);
    broker.state = LogState::RolledBack;
    let serving = Serving::start(&place, broker);
    let dry = serving.run(&place, &["log", "recover", "--dry-run"]);
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert!(
        dry.err.contains("entries that witness w1 has cosigned"),
        "{}",
        dry.err
    );
    let said = serving.run(&place, &["--propose=recovery", "log", "recover", "--yes"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let statement = std::fs::read(place.path("recovery")).unwrap();
    let received = ReceivedStatement::parse(&statement).unwrap();
    assert_eq!(received.payload().act, Act::LogRecover);
    let body: LogRecover = received.body().unwrap();
    let log = serving.broker.log(Act::LogShow).head().checkpoint;
    assert_eq!(body.shard, log.checkpoint().shard.to_string());
    assert!(body.size <= log.checkpoint().size);
    let approved = serving.run(&place, &["proposal", "show", "recovery"]);
    assert!(
        approved.code == 0 && approved.out.contains("LOST") || approved.err.contains("LOST"),
        "{} {}",
        approved.out,
        approved.err
    );
    serving.end();
    let serving = Serving::start(&place, Broker::new(set, Err::No));
    assert_eq!(
        serving.run(&place, &["log", "recover", "--yes"]).code,
        7,
        "nothing is wrong"
    );
    serving.end();
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
        let (_, said, acts) = against(OWNER, Err::Refuse(refusal), &CANARY);
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
    let (place, said, acts) = against(
        OPERATOR,
        Err::No,
        &["launch", "create", "--account", "123456789012"],
    );
    assert_eq!(
        (said.code, acts.as_slice()),
        (0, [Act::LaunchCreate].as_slice()),
        "{}",
        said.err
    );
    let bootstrap = ticket_format::bootstrap::Bootstrap::find(said.out.as_bytes()).unwrap();
    assert!(said.err.contains(&bootstrap.launch.to_string()));
    // rule: TLOG-5
    assert_eq!(bootstrap.log_key, *logs::secret(Role::Broker, 1).key());
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
        OPERATOR,
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
    let (place, said, _) = against(OPERATOR, Err::No, &arguments);
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
    let (_, said, acts) = against(OPERATOR, Err::No, &deny);
    assert_eq!(
        (said.code, acts.as_slice()),
        (2, [Act::NodeList].as_slice()),
        "{}",
        said.err
    );
    let dry = [&deny[..], &["--dry-run"]].concat();
    let (_, said, acts) = against(OPERATOR, Err::No, &dry);
    assert_eq!(
        (said.code, acts.as_slice()),
        (0, [Act::NodeList].as_slice()),
        "{}",
        said.err
    );
    let yes = [&deny[..], &["--yes"]].concat();
    let (_, said, acts) = against(OPERATOR, Err::No, &yes);
    assert_eq!(
        (said.code, acts.as_slice()),
        (0, [Act::NodeList, Act::Deny].as_slice()),
        "{}",
        said.err
    );
    // rule: DEN-10
    let wait = [&deny[..], &["--yes", "--wait"]].concat();
    let (_, said, acts) = against(OPERATOR, Err::No, &wait);
    assert_eq!(
        (said.code, acts.as_slice()),
        (
            0,
            [Act::NodeList, Act::Deny, Act::DatasetList, Act::FeedShow].as_slice()
        ),
        "{}",
        said.err
    );
    assert!(
        said.out.contains("applied by 0 of 0 key servers"),
        "{}",
        said.out
    );
    let (_, said, acts) = against(OPERATOR, Err::OtherDenial, &wait);
    assert_eq!(
        (said.code, acts.as_slice()),
        (9, [Act::NodeList, Act::Deny].as_slice()),
        "a denial that names another statement is not believed: {}",
        said.err
    );
}

#[test]
fn a_key_server_that_no_authorised_record_names_counts_as_one_that_has_not_applied() {
    // rule: DEN-10
    let place = Place::new();
    let set = place.realm(OPERATOR);
    let owner = secret("second").public();
    let mut broker = Broker::new(set, Err::No);
    let (dataset, kek) = (DatasetId([1; 16]), KekId([2; 16]));
    let view = |record| DatasetView {
        rotation: Some(Default::default()),
        class: Default::default(),
        exportable: Some(false),
        row: DatasetRow {
            dataset,
            name: "faces".to_owned(),
            tags: Default::default(),
        },
        kek,
        kek_version: 1,
        public_key: SealingSecret::generate(Kem::XWing, &mut tools::admin::rng()).public(),
        producers: Vec::new(),
        kems: vec![Kem::XWing],
        max_budget: 1,
        max_life: 1,
        policy: None,
        record: Some(record),
        owners: vec![owner],
        lease: 5,
        evidence: false,
        canary: None,
        witnessing: Witnessing::none(),
        log_key: logs::secret(Role::KeyServer, 1).key().clone(),
    };
    broker.record = Some(view(proposal(POLICY, None, &secret("second"))));
    let serving = Serving::start(&place, broker);
    let said = serving.run(
        &place,
        &[
            "deny",
            "--account",
            "123456789012",
            "--reason",
            "test",
            "--yes",
            "--wait",
            "1s",
            "--format",
            "json",
        ],
    );
    serving.end();
    assert_eq!(said.code, 8, "{}", said.err);
    let told = said.json();
    assert_eq!(
        (
            &told["applied"],
            &told["subscribers"],
            &told["silent"][0]["datasets"][0]
        ),
        (&0.into(), &1.into(), &"faces".into())
    );
}

/// A policy that another admin proposed.
fn proposal(text: &str, replaces: Option<&str>, signer: &AdminSecret) -> Vec<u8> {
    let body = PolicySet {
        text: text.to_owned(),
        replaces: replaces.map(policy_digest),
    };
    let server = TlsSecret::from_seed(&[1; 32]).public();
    Payload::act(StatementId([5; 16]), "example", server, now(), 3_600, &body)
        .sign(&[signer])
        .unwrap()
}

const APPROVE: [&str; 3] = ["approve", "05050505050505050505050505050505", "--yes"];

/// Approves what waits; exit code, what was said, and the acts.
fn approve(
    place: &Place,
    change: impl FnOnce(&mut Broker),
    arguments: &[&str],
) -> (Said, Vec<Act>) {
    let set = place.realm(OWNER);
    let mut broker = Broker::new(set, Err::No);
    change(&mut broker);
    let serving = Serving::start(place, broker);
    let said = serving.run(place, arguments);
    (said, serving.end())
}

#[test]
fn an_act_that_others_must_sign_too_is_proposed() {
    // rule: PRO-1, SET-2
    let (_, said, acts) = against(OWNER, Err::No, &["policy", "set", "policy"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.starts_with("proposed ") && said.out.contains(": 1 of 2 signatures, kept until "),
        "{}",
        said.out
    );
    assert!(said.err.contains("+@id(\"all\")"), "{}", said.err);
    assert_eq!(acts, [Act::PolicyShow, Act::Propose]);
    let (place, said, acts) = against(
        OWNER,
        Err::No,
        &[
            "policy",
            "set",
            "policy",
            "--propose",
            "file",
            "--format",
            "json",
        ],
    );
    assert_eq!(
        (said.code, acts),
        (0, vec![Act::PolicyShow]),
        "{}",
        said.err
    );
    assert_eq!(
        (&said.json()["signatures"], &said.json()["needed"]),
        (&1.into(), &2.into())
    );
    let statement = std::fs::read(place.path("file")).unwrap();
    let received = ReceivedStatement::parse(&statement).unwrap();
    let body: PolicySet = received.body().unwrap();
    assert_eq!((body.text.as_str(), body.replaces), (POLICY, None));
}

#[test]
fn who_approves_sees_the_difference_and_the_last_signature_carries_it_out() {
    // rule: PRO-3, ADM-5
    let place = Place::new();
    let old = "@id(\"none\") forbid (principal, action, resource);\n";
    let (said, acts) = approve(
        &place,
        |broker| {
            broker.policy = old.to_owned();
            broker.inbox = vec![proposal(POLICY, Some(old), &secret("second"))];
        },
        &[&APPROVE[..], &["--out", "whole"]].concat(),
    );
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(acts, [Act::ProposalShow, Act::PolicyShow, Act::PolicySet]);
    for wanted in ["-@id(\"none\")", "+@id(\"all\")", "signed by second"] {
        assert!(said.err.contains(wanted), "{wanted}: {}", said.err);
    }
    let whole = std::fs::read(place.path("whole")).unwrap();
    assert_eq!(
        ReceivedStatement::parse(&whole)
            .unwrap()
            .claimed_signers()
            .len(),
        2
    );
}

#[test]
fn a_server_that_set_another_policy_is_noticed() {
    let place = Place::new();
    let (said, _) = approve(
        &place,
        |broker| {
            broker.err = Err::OtherPolicy;
            broker.inbox = vec![proposal(POLICY, None, &secret("second"))];
        },
        &APPROVE,
    );
    assert_eq!((said.code, said.out.as_str()), (9, ""), "{}", said.err);
}

#[test]
fn nothing_is_signed_that_is_not_confirmed_stale_or_signed_by_a_stranger() {
    // rule: PRO-3, ADM-5, SET-2
    let inbox = |text: &'static str, signer: AdminSecret| {
        move |broker: &mut Broker| {
            broker.policy = text.to_owned();
            broker.inbox = vec![proposal(POLICY, None, &signer)];
        }
    };
    let (said, acts) = approve(&Place::new(), inbox("", secret("second")), &APPROVE[..2]);
    assert_eq!(
        (said.code, acts),
        (2, vec![Act::ProposalShow, Act::PolicyShow]),
        "{}",
        said.err
    );
    let (said, acts) = approve(&Place::new(), inbox("other", secret("second")), &APPROVE);
    assert_eq!(
        (said.code, acts),
        (7, vec![Act::ProposalShow, Act::PolicyShow]),
        "{}",
        said.err
    );
    let (said, acts) = approve(&Place::new(), inbox("", secret("zed")), &APPROVE);
    assert_eq!(
        (said.code, acts),
        (9, vec![Act::ProposalShow]),
        "{}",
        said.err
    );
    assert!(said.err.contains("no admin"), "{}", said.err);
}

/// The set that follows, signed by the two others.
fn next_set(set: &AdminSet, change: impl FnOnce(&mut AdminSetBody)) -> Vec<u8> {
    let mut body = set.body().clone();
    (body.version, body.follows) = (set.version() + 1, set.digest());
    change(&mut body);
    Payload::record(StatementId([6; 16]), "example", now(), &body)
        .sign(&[&secret("second"), &secret("third")])
        .unwrap()
}

#[test]
fn newer_admin_sets_are_followed_and_remembered_and_a_removed_admin_counts_no_more() {
    // rule: SET-3, SET-2
    let place = Place::new();
    let (said, acts) = approve(
        &place,
        |broker| {
            broker.inbox = vec![proposal(POLICY, None, &secret("second"))];
            broker.sets = vec![next_set(&broker.set, |body| {
                body.admins.retain(|admin| admin.name != "second");
            })];
        },
        &APPROVE,
    );
    assert_eq!(
        (said.code, acts),
        (9, vec![Act::ProposalShow]),
        "{}",
        said.err
    );
    let known = place.run(&[
        "admin-set",
        "show",
        "--config",
        "admin/admin.toml",
        "--format",
        "json",
    ]);
    assert_eq!(
        (known.code, &known.json()["version"]),
        (0, &2.into()),
        "{}",
        known.err
    );
    // One that its predecessor does not authorise is not believed: nothing is signed.
    let place = Place::new();
    let set = place.realm(OWNER);
    let mut broker = Broker::new(set, Err::No);
    let alone = ReceivedStatement::parse(&next_set(&broker.set, |_| {})).unwrap();
    let alone = alone.payload().sign(&[&secret("second")]).unwrap();
    let later = place.write("admin/admin-set.cose.later", base64url(&alone));
    broker.policy = POLICY.to_owned();
    let serving = Serving::start(&place, broker);
    let said = serving.run(&place, &["policy", "set", "policy"]);
    assert_eq!(said.code, 9, "{} {}", later.display(), said.err);
    assert_eq!(serving.end(), [Act::PolicyShow], "{}", said.err);
}

fn base64url(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
}

#[test]
fn a_server_with_another_key_is_never_spoken_to() {
    // rule: TR-2
    let place = Place::new();
    let serving = Serving::start_in(&place, OPERATOR, Err::No);
    let keys = std::fs::read_to_string(place.path("admin/broker-keys.toml")).unwrap();
    let pinned = TlsSecret::from_seed(&[1; 32]).public().to_string();
    let other = TlsSecret::from_seed(&[8; 32]).public().to_string();
    let keys = keys.replace(&pinned, &other);
    place.write("admin/broker-keys.toml", &keys);
    let said = serving.run(&place, &["node", "list"]);
    assert_eq!(
        said.code, 10,
        "its log keys are another server's: {}",
        said.err
    );
    let head = keys.split("log-keys").next().unwrap();
    let [ed25519, ml_dsa] = logs::secret(Role::Broker, 8).key().vkeys();
    place.write(
        "admin/broker-keys.toml",
        format!("{head}log-keys = [\"{ed25519}\", \"{ml_dsa}\"]\n"),
    );
    let said = serving.run(&place, &["node", "list"]);
    assert_eq!(said.code, 9, "{}", said.err);
    assert_eq!(serving.end(), []);
}
