//! A broker that refuses everything and remembers what it was asked, and a node's home on disk.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

pub mod house;
pub mod log;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use client::chain::Chain;
use client::link::Server;
use client::login::{Evidence, prepare};
use client::state::NodeState;
use client::wallet::{NodeSession, SessionSecrets, Wallet, WalletFile};
use ed25519_dalek::SigningKey;
use log::TestLog;
use ticket_format::Refusal;
use ticket_format::bootstrap::Bootstrap;
use ticket_format::cbor::Encode as _;
use ticket_format::ids::{
    AdminSetDigest, EvidenceHash, LaunchId, NodeId, ProofHash, SealingKeyHash, StatementDigest,
    TicketId,
};
use ticket_format::keys::{AdminSecret, NodeSecret, ProofSecret, TicketSecret, TlsKey};
use ticket_format::messages::present::Link as EvidenceLink;
use ticket_format::messages::{Answer, RefusalNotice};
use ticket_format::seal::Kem;
use ticket_format::secret::BootstrapSecret;
use ticket_format::sign::{ALG_EDDSA, Proof};
use ticket_format::statement::{Admin, AdminKeyKind, AdminRole, AdminSet, AdminSetBody, Role};
use ticket_format::ticket::{self, Attributes, Audience, Common, NodeClaims};
use ticket_format::time::Timestamp;
use transport::{Handler, Peer, ServerIdentity, ServerLimits};

/// The TLS key of the broker in these tests.
const TLS: [u8; 32] = [1; 32];
const TICKET: [u8; 32] = [2; 32];
const INSTANCE: &str = "i-0123456789abcdef0";

pub fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
    rand_core::UnwrapErr(getrandom::SysRng)
}

pub fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_seconds(since.as_secs())
}

/// The broker's log in these tests, empty.
pub fn broker_log(tls_key: &TlsKey) -> TestLog {
    TestLog::new("example.org", Role::Broker, tls_key, 31)
}

type Look = Box<dyn Fn(&[u8]) + Send + Sync>;

/// A broker that refuses.
pub struct Refusing {
    pub address: SocketAddr,
    pub refusal: Mutex<Refusal>,
    look: Look,
}

impl Refusing {
    /// Starts one; `look` sees each request before it is refused.
    pub fn start(look: impl Fn(&[u8]) + Send + Sync + 'static) -> Arc<Self> {
        let identity = ServerIdentity::new(&SigningKey::from_bytes(&TLS)).unwrap();
        let limits = ServerLimits::default();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = transport::Server::bind(any, &identity, limits).unwrap();
        let broker = Arc::new(Self {
            address: server.local_addr(),
            refusal: Mutex::new(Refusal::Internal),
            look: Box::new(look),
        });
        tokio::spawn(server.run(Arc::clone(&broker), std::future::pending()));
        broker
    }
}

impl Handler for Refusing {
    type Connection = ();

    fn connected(&self, _peer: Peer) {}

    async fn exchange(&self, _connection: &(), message: Bytes) -> Bytes {
        (self.look)(&message);
        let notice = RefusalNotice::detailed(*self.refusal.lock().unwrap(), "because of this test");
        Answer::Refused(notice).to_bytes().into()
    }
}

/// Who the broker at `address` is.
pub fn tls_key() -> TlsKey {
    TlsKey::from_bytes(&SigningKey::from_bytes(&TLS).verifying_key().to_bytes()).unwrap()
}

/// Secrets of the two who own every dataset and keep the set.
pub fn owners() -> [AdminSecret; 2] {
    [21, 24].map(|seed| AdminSecret::from_seed(&[seed; 32]))
}

/// A set of these owners and an operator.
pub fn admin_set(owners: &[AdminSecret]) -> AdminSet {
    let admin = |name: String, key, roles: &[AdminRole]| Admin {
        name,
        kind: AdminKeyKind::File,
        key,
        roles: roles.to_vec(),
        application: None,
    };
    let operator = AdminSecret::from_seed(&[4; 32]).public();
    let mut admins = vec![admin("op".to_owned(), operator, &[AdminRole::Operator])];
    let roles = [AdminRole::DatasetOwner, AdminRole::Security];
    for (number, owner) in owners.iter().enumerate() {
        admins.push(admin(format!("owner-{number}"), owner.public(), &roles));
    }
    admins.sort_by_key(|admin| admin.key.to_bytes());
    AdminSet::new(AdminSetBody {
        version: 1,
        follows: AdminSetDigest([0; 32]),
        admins,
        quorums: AdminSetBody::usual_quorums(2),
    })
    .unwrap()
}

/// A chain of this end that a login began.
pub fn chain(byte: u8) -> Chain {
    let login = EvidenceLink {
        node_key: NodeSecret::from_seed(&[byte; 32]).public(),
        proof_key: ProofSecret::from_seed(&[byte; 32]).public(),
        sealing_key: SealingKeyHash([byte; 32]),
        proof: Proof {
            alg: ALG_EDDSA,
            value: vec![byte; 64],
        },
    };
    Chain::begin(EvidenceHash([byte; 32]), b"MA==".to_vec(), login)
}

pub fn evidence(address: &str, tls_key: TlsKey) -> Evidence {
    let admins = admin_set(&owners());
    Evidence {
        bootstrap: Bootstrap {
            realm: "example.org".to_owned(),
            launch: LaunchId([3; 16]),
            secret: BootstrapSecret::from_bytes([0x77; 32]),
            brokers: vec![address.to_owned()],
            broker_key: tls_key,
            admin_set: admins.body().to_cbor(),
            launch_digest: StatementDigest([5; 32]),
            ticket_key: TicketSecret::from_seed(&TICKET).public(),
            log_key: broker_log(&tls_key).key(),
        },
        proof: "MA==".to_owned(),
        node: NodeId::new("123456789012", "eu-west-1", INSTANCE).unwrap(),
        proof_hash: ProofHash([6; 32]),
        admins,
    }
}

/// A node's directory: state, wallet and configuration.
pub struct Home {
    pub dir: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn wallet(&self) -> WalletFile {
        let path = self.dir.path().join("run/wallet");
        WalletFile::from_spec(&format!("FILE:{}", path.display())).unwrap()
    }

    /// A node that has logged in at the broker at `address`, with a ticket that ends in `life`
    /// seconds; returns its secrets.
    pub fn logged_in(
        &self,
        address: &str,
        tls_key: TlsKey,
        life: i64,
    ) -> (NodeState, Vec<[u8; 32]>) {
        let evidence = evidence(address, tls_key);
        let mut state = prepare(&self.state(), &evidence, &mut rng()).unwrap();
        let secrets = SessionSecrets::generate(Kem::XWing, &mut rng());
        let issued = now().minus(7_200);
        let claims = NodeClaims {
            common: Common {
                realm: "example.org".to_owned(),
                audience: Audience::Broker(tls_key),
                expires: now()
                    .plus(life.max(0).unsigned_abs())
                    .minus((-life).max(0).unsigned_abs()),
                issued,
                id: TicketId([7; 16]),
                proof_key: secrets.proof.public(),
                sealing_key: secrets.sealing.public(),
                launch: LaunchId([3; 16]),
                attributes: Attributes {
                    node: evidence.node.clone(),
                    availability_zone: "eu-west-1a".to_owned(),
                    image: "ami-0123456789abcdef0".to_owned(),
                    instance_type: "c7g.large".to_owned(),
                    launched_at: issued,
                },
                evidence: EvidenceHash([8; 32]),
            },
            node_key: state.key.public(),
        };
        state.chains = vec![chain(8)];
        state.known = true;
        state.save(&self.state()).unwrap();
        let mut canaries = vec![*state.key.seed(), *state.wallet_key];
        canaries.extend([*secrets.proof.seed(), *secrets.sealing.seed().expose()]);
        let ticket = ticket::sign(&claims, &TicketSecret::from_seed(&TICKET));
        let wallet = Wallet {
            node: Some(NodeSession { ticket, secrets }),
            datasets: Vec::new(),
        };
        let lock = self.wallet().lock().unwrap();
        self.wallet()
            .save(&lock, &wallet, &state.wallet_key, &mut rng())
            .unwrap();
        (state, canaries)
    }

    /// The command, seeing this home and nothing else.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.env_clear().stdin(Stdio::null()).args(arguments);
        command
            .env("POSTERN_STATE", self.state())
            .env(
                "POSTERN_WALLET",
                format!("FILE:{}", self.wallet().path().display()),
            )
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("LLVM_PROFILE_FILE", "/dev/null");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::from(self.command(arguments).output().unwrap())
    }

    pub fn configure(&self, text: &str) {
        let dir = self.dir.path().join("config/postern");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("config.toml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it ended by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// An address on which nobody listens.
pub fn closed_port() -> String {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string()
}

pub fn server(address: SocketAddr) -> Server {
    Server {
        word: "broker",
        realm: "example.org".to_owned(),
        addresses: vec![address.to_string()],
        tls_key: tls_key(),
    }
}

pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
