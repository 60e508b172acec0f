//! A whole broker in one process, on a real store and log, with a clock that tests set; and the
//! nodes, key servers and admins that talk to it.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test program uses its own part

pub mod admins;
pub mod witness;

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit_log::{AuditLog, SideFile, SideOptions};
use broker::realm::{Caller, Realm};
use broker::secrets::{self, RootKeyConfig, Secrets};
use broker::tickets::TicketRing;
use broker::{Broker, Files, Hooks, Limits, ManualClock, StartError, Witnesses};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use store::{RedbStore, Store};
use tempfile::TempDir;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::evidence::{IssueEvidence, LoginEvidence, RenewEvidence};
use ticket_format::ids::*;
use ticket_format::iid::{self, RegionKeys};
use ticket_format::keys::*;
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::feed::{FeedAnswer, FeedBody};
use ticket_format::messages::issue::{IssueAnswer, IssueBody};
use ticket_format::messages::login::{LoginAnswer, LoginBody};
use ticket_format::messages::renew::{RenewAnswer, RenewBody};
use ticket_format::messages::{Answer, Receipt, RefusalNotice, Request, Verb};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::secret::PairsKey;
use ticket_format::sign::{Channel, Exporter, Proof};
use ticket_format::statement::*;
use ticket_format::ticket::{self, Action, Actions, DatasetClaims, NodeClaims};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{LogKey, LogSecret, Logged, Origin, Verifier};
use ticket_format::{Context, Refusal, labels, limits};

pub const REALM: &str = "test";
/// Later than every document's pendingTime.
pub const NOW: u64 = 1_771_300_000;

pub fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// What a broker keeps, but for the side file.
const FILES: [&str; 2] = ["store.redb", "audit"];

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir(to).expect("a directory");
        let mode = std::fs::metadata(from).expect("a directory").permissions();
        std::fs::set_permissions(to, mode).expect("a mode");
        for entry in std::fs::read_dir(from).expect("a directory") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::copy(from, to).expect("a copy");
    }
}

pub fn seed() -> [u8; 32] {
    *PairsKey::random(&mut rng()).expose()
}

pub fn log_secret(role: Role, server: &TlsKey, seeds: &[[u8; 32]; 2]) -> LogSecret {
    let origin = Origin::new(REALM, role, server);
    LogSecret::from_seeds(origin, &seeds[0], &seeds[1]).expect("seeds")
}

/// Real documents: directory, account, region, image, instance.
pub struct Instance {
    pub directory: &'static str,
    pub account: &'static str,
    pub region: &'static str,
    pub image: &'static str,
    pub instance: &'static str,
}

pub const SYDNEY: Instance = Instance {
    directory: "metaphor-2026",
    account: "189292791360",
    region: "ap-southeast-2",
    image: "ami-0cbde744623b7506b",
    instance: "i-0c5541936caf78c12",
};
pub const SEOUL: Instance = Instance {
    directory: "ansible-2022-a",
    account: "707811555388",
    region: "ap-northeast-2",
    image: "ami-07cc75e9e8f9300eb",
    instance: "i-0140f65cf5b9ba76a",
};
pub const OREGON: Instance = Instance {
    directory: "teleport-2021-a",
    account: "278576220453",
    region: "us-west-2",
    image: "ami-0fa9e1f64142cde17",
    instance: "i-078517ca8a70a1dde",
};

impl Instance {
    pub fn proof(&self) -> Vec<u8> {
        let base =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../ticket-format/tests/data/aws/iid");
        std::fs::read(base.join(self.directory).join("rsa2048.b64")).expect("a fixture")
    }

    pub fn node(&self) -> NodeId {
        NodeId::new(self.account, self.region, self.instance).expect("a node")
    }
}

/// A broker with its files and the keys of everybody.
pub struct World {
    pub dir: TempDir,
    pub clock: Arc<ManualClock>,
    pub admins: admins::Admins,
    /// The admin set in the configuration.
    pub configured: Vec<u8>,
    /// The next start's hooks.
    pub hooks: Hooks,
    /// The next start's witnesses.
    pub witnesses: Witnesses,
    /// The next start's size of a shard, in bytes.
    pub shard_bytes: u64,
    /// What everybody knows of the broker's log.
    pub verifier: Verifier,
    pub pairs: PairsKey,
    /// Of the key server's log.
    pub server_log: LogKey,
    log_seeds: [[u8; 32]; 2],
    pub server_tls: TlsSecret,
    pub server: ServerSecret,
    pub tls: TlsSecret,
    feed: FeedSecret,
    broker: Option<Arc<Broker>>,
    log: Option<AuditLog>,
    store: Option<Arc<RedbStore>>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        let rng = &mut rng();
        let admins = admins::Admins::new();
        let (tls, server_tls) = (TlsSecret::generate(rng), TlsSecret::generate(rng));
        let seeds = || [seed(), seed()];
        let log_seeds = seeds();
        let log = log_secret(Role::Broker, &tls.public(), &log_seeds);
        let server_log = log_secret(Role::KeyServer, &server_tls.public(), &seeds());
        let mut world = Self {
            dir: tempfile::tempdir().expect("a directory"),
            clock: Arc::new(ManualClock::at(Timestamp::from_seconds(NOW))),
            configured: admins.first.clone(),
            admins,
            hooks: Hooks::default(),
            witnesses: Vec::new(),
            shard_bytes: audit_log::Options::default().shard_bytes,
            verifier: Verifier::new(log.key().clone(), None),
            pairs: PairsKey::random(rng),
            server_log: server_log.key().clone(),
            log_seeds,
            server_tls,
            server: ServerSecret::generate(rng),
            tls,
            feed: FeedSecret::generate(rng),
            broker: None,
            log: None,
            store: None,
        };
        world.start(limits).await.expect("the broker starts");
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn root(&self) -> RootKeyConfig {
        RootKeyConfig {
            credential: Some(self.path("root.credential")),
            passphrase_file: None,
        }
    }

    /// The ticket keys as a broker's program opens them: made at the first start.
    fn tickets(&self) -> TicketRing {
        let (data, root) = (self.path("data"), self.root());
        if !data.exists() {
            store::files::create_private(&self.path("root.credential"), &[7; 32])
                .expect("a credential");
            secrets::prepare(&data, &mut rng()).expect("a place for keys");
            let root = root.open(&data).expect("a root key");
            Secrets::create(&data, &root, None, &mut rng()).expect("keys");
        }
        let opened = Secrets::open(&data, &root.open(&data).expect("a root key"));
        let opened = opened.expect("the keys");
        opened.tickets.ring(None).expect("ticket keys")
    }

    pub async fn start(&mut self, limits: Limits) -> Result<(), StartError> {
        let store =
            RedbStore::open(self.path("store.redb"), store::Options::default()).expect("a store");
        let clock: Arc<ManualClock> = Arc::clone(&self.clock);
        let told = Arc::clone(&clock);
        let told: audit_log::Clock = Arc::new(move || broker::Clock::now(&*told));
        let options = audit_log::Options {
            shard_bytes: self.shard_bytes,
            shard_entries: Some(Arc::new(audit_log::guard::Shards {
                clock: Arc::clone(&told),
            })),
            clock: told,
            ..audit_log::Options::default()
        };
        let (log, _) =
            AuditLog::open(self.path("audit"), self.log_secret(), &options).expect("a log");
        let (side, _) =
            SideFile::open(self.path("audit.side"), &SideOptions::default()).expect("a side file");
        let realm = Realm {
            name: REALM.to_owned(),
            tls: self.tls.public(),
            tickets: self.tickets(),
            feed: FeedSecret::from_seed(&self.feed.seed()),
            pairs: self.pairs.clone(),
            others: Vec::new(),
            admins: broker::admins::Admins::configured(&self.configured, REALM, self.now())
                .expect("an admin set"),
            regions: RegionKeys::built_in(),
            nobody: Realm::nobody(&mut rng()),
        };
        let (store, kept): (Arc<RedbStore>, _) = (Arc::new(store), log.clone());
        let files = Files {
            store: Arc::clone(&store) as Arc<dyn store::Store>,
            log,
            side: side.clone(),
        };
        let (hooks, witnesses) = (self.hooks.clone(), self.witnesses.clone());
        match Broker::start(files, realm, clock, limits, hooks, witnesses).await {
            Ok(broker) => {
                self.broker = Some(Arc::new(broker));
                self.log = Some(kept);
                self.store = Some(store);
                Ok(())
            }
            Err(error) => {
                kept.close().await;
                side.close().await;
                store::Store::close(&*store).await;
                Err(error)
            }
        }
    }

    /// Ends the broker without any tidying and starts it again on the same files.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start(Limits::default())
            .await
            .expect("the broker starts again");
    }

    pub async fn stop(&mut self) {
        self.store = None;
        if let Some(broker) = self.broker.take() {
            broker.close().await;
        }
    }

    /// The broker's log keys.
    pub fn log_secret(&self) -> LogSecret {
        log_secret(Role::Broker, &self.tls.public(), &self.log_seeds)
    }

    /// What a receipt proves (TLOG-5).
    pub fn verify(&self, receipt: &Receipt) -> Logged {
        self.verifier.verify(receipt).expect("a receipt")
    }

    /// Copies what the broker keeps, while it does not run.
    pub fn back_up(&self) {
        for name in FILES {
            copy(&self.path(name), &self.path(&format!("{name}.old")));
        }
    }

    /// Puts back what was copied.
    pub fn restore(&self) {
        self.remove();
        for name in FILES {
            copy(&self.path(&format!("{name}.old")), &self.path(name));
        }
    }

    /// Removes store and log.
    pub fn remove(&self) {
        std::fs::remove_file(self.path("store.redb")).expect("it was there");
        std::fs::remove_dir_all(self.path("audit")).expect("it was there");
    }

    pub fn broker(&self) -> &Arc<Broker> {
        self.broker.as_ref().expect("a running broker")
    }

    /// What the store holds, behind the broker's back.
    pub async fn stored<T: Decode>(&self, key: &str) -> T {
        let store = self.store.as_ref().expect("a store");
        let entry = store.get(key.as_bytes()).await.expect("a read");
        T::from_cbor(&entry.expect("a record").value, store::MAX_VALUE_BYTES).expect("its shape")
    }

    pub async fn has(&self, key: &str) -> bool {
        let store = self.store.as_ref().expect("a store");
        store.get(key.as_bytes()).await.expect("a read").is_some()
    }

    pub async fn put(&self, key: &str, record: &impl Encode) {
        self.put_raw(key, record.to_cbor()).await;
    }

    pub async fn put_raw(&self, key: &str, value: Vec<u8>) {
        let put = store::Transaction::new().put(key.as_bytes(), value);
        let store = self.store.as_ref().expect("a store");
        store.commit(put).await.expect("a commit");
    }

    pub fn now(&self) -> Timestamp {
        use broker::Clock;
        self.clock.now()
    }

    /// A new connection.
    pub fn connect(&self) -> Connection<'_> {
        let exporter = Exporter(RequestHash::of(StatementId::random(&mut rng()).as_bytes()).0);
        let caller = Caller {
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            exporter,
        };
        Connection {
            world: self,
            caller,
            channel: Channel {
                realm: REALM.to_owned(),
                server: self.tls.public(),
                exporter,
            },
        }
    }

    /// An act, signed by as many admins as it takes.
    pub async fn act<B: ActBody>(&self, body: &B) -> Result<B::Result, RefusalNotice> {
        self.act_by(body, &self.admins.of(B::ACT)).await
    }

    /// An act, signed by these.
    pub async fn act_by<B: ActBody>(
        &self,
        body: &B,
        by: &[&AdminSecret],
    ) -> Result<B::Result, RefusalNotice> {
        let statement = self.payload(body).sign(by).expect("a statement");
        self.send_statement::<B>(&statement).await
    }

    /// What is signed for an act at this broker, good for an hour.
    pub fn payload<B: ActBody>(&self, body: &B) -> Payload {
        Payload::act(
            StatementId::random(&mut rng()),
            REALM,
            self.tls.public(),
            self.now(),
            3_600,
            body,
        )
    }

    /// A record for everyone, signed by as many admins as it takes.
    pub async fn record<B: ActBody>(&self, body: &B) -> Result<B::Result, RefusalNotice> {
        self.record_by(body, &self.admins.of(B::ACT)).await
    }

    /// A record for everyone, signed by these.
    pub async fn record_by<B: ActBody>(
        &self,
        body: &B,
        by: &[&AdminSecret],
    ) -> Result<B::Result, RefusalNotice> {
        let payload = Payload::record(StatementId::random(&mut rng()), REALM, self.now(), body);
        self.send_statement::<B>(&payload.sign(by).expect("a statement"))
            .await
    }

    pub async fn send_statement<B: ActBody>(
        &self,
        statement: &[u8],
    ) -> Result<B::Result, RefusalNotice> {
        let answer = self
            .connect()
            .send(Verb::Administer, statement, &[])
            .await?;
        let answer =
            AdministerAnswer::from_cbor(&answer.0, limits::MESSAGE).expect("an administer answer");
        // rule: TLOG-5
        let logged = self.verify(&answer.receipt);
        assert_eq!(logged.entry.proof, Some(StatementDigest::of(statement).0));
        Ok(B::Result::from_cbor(&answer.result, limits::MESSAGE).expect("the act's result"))
    }

    /// Registers a launch for an instance; `change` alters its terms.
    pub async fn launch(
        &self,
        instance: &Instance,
        change: impl FnOnce(&mut LaunchCreate),
    ) -> Launch {
        let secret = LaunchSecret::generate(&mut rng());
        let mut terms = LaunchCreate {
            launch: LaunchId::random(&mut rng()),
            key: secret.public(),
            accounts: vec![instance.account.to_owned()],
            regions: vec![instance.region.to_owned()],
            images: vec![instance.image.to_owned()],
            uses: 1,
            group: false,
            from: self.now().minus(60),
            until: self.now().plus(3_600),
            max_age: 10 * 365 * 86_400,
            node_life: 30 * 86_400,
            comment: String::new(),
        };
        change(&mut terms);
        let id = terms.launch;
        let view = self.record(&terms).await.expect("the launch is registered");
        Launch {
            id,
            secret,
            digest: view.digest,
        }
    }

    /// Registers the dataset `faces` and a policy that permits decryption.
    pub async fn dataset(&self) -> DatasetId {
        let record = self.dataset_record();
        self.record(&record).await.expect("the dataset is recorded");
        let text =
            r#"@id("all") permit (principal, action == Postern::Action::"decrypt", resource);"#;
        self.set_policy(text).await.expect("the policy is set");
        record.dataset
    }

    /// Puts a policy in the place of the one that stands.
    pub async fn set_policy(&self, text: &str) -> Result<PolicyTextSet, RefusalNotice> {
        let stands = self.act(&policies::PolicyShow {}).await.expect("a policy");
        self.act(&PolicySet {
            text: text.to_owned(),
            replaces: Some(stands.digest).filter(|_| !stands.text.is_empty()),
        })
        .await
    }

    pub fn dataset_record(&self) -> DatasetRecord {
        DatasetRecord {
            recipients: Default::default(),
            class: Default::default(),
            dataset: DatasetId::random(&mut rng()),
            name: "faces".to_owned(),
            tags: BTreeMap::new(),
            tls_key: self.server_tls.public(),
            server_key: self.server.public(),
            addresses: vec!["127.0.0.1:7879".to_owned()],
            kek: KekId::random(&mut rng()),
            kek_version: 1,
            public_key: SealingSecret::generate(Kem::XWing, &mut rng()).public(),
            producers: Vec::new(),
            kems: vec![Kem::XWing],
            max_budget: 1_000,
            max_life: 3_600,
            owners: self.admins.owners(),
            lease: 5,
            evidence: false,
            follows: DatasetRecord::FIRST,
            log_key: self.server_log.clone(),
            witnessing: witnessing::Witnessing::none(),
        }
    }

    pub async fn deny(&self, selector: Selector) -> Denied {
        self.act(&DenyBody {
            selector,
            reason: "disk cloned".to_owned(),
        })
        .await
        .expect("the denial is made")
    }

    /// Every entry of the audit log.
    pub fn entries(&self) -> Vec<Entry> {
        let log = self.log.as_ref().expect("the log");
        let entries = log.read(0).map(|record| {
            Entry::from_cbor(&record.expect("a record").entry, limits::ENTRY).expect("an entry")
        });
        entries.collect()
    }

    pub fn alarms(&self) -> Vec<Alarm> {
        self.entries()
            .into_iter()
            .filter(|entry| entry.kind == Kind::Alarm)
            .filter_map(|entry| entry.alarm)
            .collect()
    }
}

pub struct Launch {
    pub id: LaunchId,
    pub secret: LaunchSecret,
    pub digest: StatementDigest,
}

/// One connection: nothing more than its exporter value.
pub struct Connection<'a> {
    pub world: &'a World,
    pub caller: Caller,
    pub channel: Channel,
}

impl Connection<'_> {
    pub async fn raw(&self, message: &[u8]) -> Answer {
        let bytes = self
            .world
            .broker()
            .answer(&self.caller, message, pending())
            .await;
        Answer::parse(&bytes).expect("every answer is one of the list")
    }

    pub async fn send(
        &self,
        verb: Verb,
        body: &[u8],
        proofs: &[Proof],
    ) -> Result<(Vec<u8>, Option<Proof>), RefusalNotice> {
        match self.raw(&Request::encode_parts(verb, body, proofs)).await {
            Answer::Done {
                verb: answered,
                body,
                proof,
            } => {
                assert_eq!(answered, verb);
                Ok((body, proof))
            }
            Answer::Refused(notice) => Err(notice),
        }
    }
}

/// A node's own state, as its wallet would have it.
pub struct Node {
    pub name: NodeId,
    pub proof: Vec<u8>,
    pub login: LoginId,
    pub key: NodeSecret,
    pub chain: EvidenceHash,
}

/// A ticket with its session keys.
pub struct Held {
    pub bytes: Vec<u8>,
    pub proof_key: ProofSecret,
    pub answer: LoginAnswer,
}

impl Held {
    pub fn claims(&self, world: &World) -> NodeClaims {
        let verified = ticket::verify_for_anyone::<NodeClaims>(
            &self.bytes,
            &*world.broker().realm().tickets.keys(),
        );
        verified.expect("a node ticket").claims().clone()
    }
}

impl Node {
    pub fn boot(instance: &Instance) -> Self {
        Self {
            name: instance.node(),
            proof: instance.proof(),
            login: LoginId::random(&mut rng()),
            key: NodeSecret::generate(&mut rng()),
            chain: EvidenceHash([0; 32]),
        }
    }

    /// Another holder of the same disk.
    pub fn clone_disk(&self) -> Self {
        Self {
            name: self.name.clone(),
            proof: self.proof.clone(),
            login: self.login,
            key: NodeSecret::from_seed(&self.key.seed()),
            chain: self.chain,
        }
    }

    /// The body of a login, with the hash of its evidence.
    pub fn login_body(
        &self,
        launch: &Launch,
        proof_key: &ProofSecret,
        server: &TlsKey,
    ) -> (LoginBody, EvidenceHash) {
        let sealing_key = SealingSecret::generate(Kem::XWing, &mut rng()).public();
        let hash = iid::verify(&self.proof, &RegionKeys::built_in())
            .map_or([0; 32], |document| *document.proof_hash());
        let evidence = LoginEvidence {
            launch: launch.id,
            launch_digest: launch.digest,
            iid_proof: ProofHash(hash),
            node_key: self.key.public(),
            proof_key: proof_key.public(),
            sealing_key: sealing_key.hash(),
        };
        let signature = evidence.sign(&launch.secret, REALM, server);
        let chain = evidence.link(None, &signature);
        let body = LoginBody {
            launch: launch.id,
            login: self.login,
            iid_proof: self.proof.clone(),
            node_key: self.key.public(),
            proof_key: proof_key.public(),
            sealing_key,
            launch_digest: launch.digest,
            evidence: signature,
        };
        (body, chain)
    }

    pub fn login_proofs(
        &self,
        channel: &Channel,
        launch: &Launch,
        proof_key: &ProofSecret,
        body: &[u8],
    ) -> Vec<Proof> {
        vec![
            channel.sign_with(&launch.secret, labels::LOGIN_REQUEST, None, body),
            channel.sign_with(&self.key, labels::LOGIN_REQUEST, None, body),
            channel.sign_with(proof_key, labels::LOGIN_REQUEST, None, body),
        ]
    }

    pub async fn login(&mut self, world: &World, launch: &Launch) -> Result<Held, RefusalNotice> {
        let connection = world.connect();
        let proof_key = ProofSecret::generate(&mut rng());
        let (body, chain) = self.login_body(launch, &proof_key, &world.tls.public());
        let body = body.to_cbor();
        let proofs = self.login_proofs(&connection.channel, launch, &proof_key, &body);
        let (answer, _) = connection.send(Verb::Login, &body, &proofs).await?;
        self.chain = chain;
        let answer = LoginAnswer::from_cbor(&answer, limits::MESSAGE).expect("a login answer");
        assert_eq!(world.verify(&answer.receipt).entry.kind, Kind::Login);
        Ok(Held {
            bytes: answer.ticket.clone(),
            proof_key,
            answer,
        })
    }

    /// A renewal from `old` to `new` as it is sent on a connection, and what it makes of the chain.
    pub fn renewal(
        &self,
        channel: &Channel,
        old: &NodeSecret,
        new: &NodeSecret,
        proof_key: &ProofSecret,
    ) -> (RenewBody, [Proof; 3], EvidenceHash) {
        let sealing_key = SealingSecret::generate(Kem::XWing, &mut rng()).public();
        let evidence = RenewEvidence {
            node: &self.name,
            old_key: old.public(),
            new_key: new.public(),
            proof_key: proof_key.public(),
            sealing_key: sealing_key.hash(),
            chain: self.chain,
        };
        let signature = evidence.sign(old, REALM, &channel.server);
        let chain = evidence.link(Some(self.chain), &signature);
        let body = RenewBody {
            node: self.name.clone(),
            old_key: old.public(),
            new_key: new.public(),
            proof_key: proof_key.public(),
            sealing_key: sealing_key.clone(),
            chain: self.chain,
            evidence: signature,
        };
        let proofs = Self::renewal_proofs(channel, old, new, proof_key, &body.to_cbor());
        (body, proofs, chain)
    }

    pub fn renewal_proofs(
        channel: &Channel,
        old: &NodeSecret,
        new: &NodeSecret,
        proof_key: &ProofSecret,
        body: &[u8],
    ) -> [Proof; 3] {
        let label = labels::RENEW_REQUEST;
        [
            channel.sign_with(old, label, None, body),
            channel.sign_with(new, label, None, body),
            channel.sign_with(proof_key, label, None, body),
        ]
    }

    /// Sends a renewal from `old` to `new`; what comes of it is the caller's to keep.
    pub async fn renew_with(
        &self,
        world: &World,
        old: &NodeSecret,
        new: &NodeSecret,
    ) -> Result<(Held, EvidenceHash), RefusalNotice> {
        let connection = world.connect();
        let proof_key = ProofSecret::generate(&mut rng());
        let (body, proofs, chain) = self.renewal(&connection.channel, old, new, &proof_key);
        let (answer, _) = connection
            .send(Verb::Renew, &body.to_cbor(), &proofs)
            .await?;
        let answer = RenewAnswer::from_cbor(&answer, limits::MESSAGE).expect("a renew answer");
        assert_eq!(world.verify(&answer.receipt).entry.kind, Kind::Renew);
        Ok((
            Held {
                bytes: answer.ticket.clone(),
                proof_key,
                answer,
            },
            chain,
        ))
    }

    /// Renews to a fresh key and keeps it.
    pub async fn renew(&mut self, world: &World) -> Result<Held, RefusalNotice> {
        let next = NodeSecret::generate(&mut rng());
        let (held, chain) = self.renew_with(world, &self.key, &next).await?;
        (self.key, self.chain) = (next, chain);
        Ok(held)
    }

    /// An issue request; `change` alters its body before it is signed.
    pub async fn issue(
        &self,
        world: &World,
        held: &Held,
        change: impl FnOnce(&mut IssueBody),
    ) -> Result<IssueAnswer, RefusalNotice> {
        let job = ProofSecret::generate(&mut rng());
        let connection = world.connect();
        let body = self.issue_body(world, held, &job, change).to_cbor();
        let hash = Some(ticket::hash(&held.bytes));
        let proofs = [
            connection
                .channel
                .sign_with(&held.proof_key, labels::ISSUE_REQUEST, hash, &body),
            connection
                .channel
                .sign_with(&job, labels::ISSUE_REQUEST, hash, &body),
        ];
        let (answer, _) = connection.send(Verb::Issue, &body, &proofs).await?;
        let answer = IssueAnswer::from_cbor(&answer, limits::MESSAGE).expect("an issue answer");
        let logged = world.verify(&answer.receipt);
        let hash = ticket::hash(&answer.ticket);
        assert_eq!(logged.entry.ticket_hash, Some(hash));
        Ok(answer)
    }

    pub fn issue_body(
        &self,
        world: &World,
        held: &Held,
        job: &ProofSecret,
        change: impl FnOnce(&mut IssueBody),
    ) -> IssueBody {
        let mut body = IssueBody {
            node_ticket: held.bytes.clone(),
            dataset: "faces".to_owned(),
            actions: Actions::new(&[Action::Decrypt]).expect("an action"),
            required: Context::default(),
            proof_key: job.public(),
            sealing_key: SealingSecret::generate(Kem::XWing, &mut rng()).public(),
            life: 3_600,
            budget: 100,
            expires: world.now().plus(3_600),
            evidence: Proof {
                alg: -8,
                value: vec![0; 64],
            },
            admin_set: 1,
            ticket_key: 1,
        };
        change(&mut body);
        let evidence = IssueEvidence {
            dataset: &body.dataset,
            actions: body.actions,
            required: &body.required,
            proof_key: body.proof_key,
            kem: body.sealing_key.kem(),
            sealing_key: body.sealing_key.hash(),
            expires: body.expires,
            chain: self.chain,
        };
        body.evidence = evidence.sign(&self.key, REALM, &world.tls.public());
        body
    }
}

pub fn dataset_claims(world: &World, ticket: &[u8]) -> DatasetClaims {
    let verified =
        ticket::verify_for_anyone::<DatasetClaims>(ticket, &*world.broker().realm().tickets.keys());
    verified.expect("a dataset ticket").claims().clone()
}

/// A key server's side of the feed.
pub async fn feed(
    world: &World,
    key: &ServerSecret,
    epoch: u64,
    chain: ChainDigest,
    hold_ms: u64,
) -> Result<FeedAnswer, RefusalNotice> {
    let connection = world.connect();
    let nonce = RequestHash::of(StatementId::random(&mut rng()).as_bytes()).0;
    let body = FeedBody {
        subscriber: key.public(),
        nonce,
        epoch,
        chain,
        hold_ms,
        reports: Vec::new(),
    }
    .to_cbor();
    let proof = connection
        .channel
        .sign_with(key, labels::FEED_REQUEST, None, &body);
    let (answer, proof) = connection.send(Verb::Feed, &body, &[proof]).await?;
    // rule: DEN-4
    let feed_key = world.broker().realm().feed.public();
    let proof = proof.expect("a feed answer is signed");
    connection
        .channel
        .verify_with(&feed_key, labels::FEED_ANSWER, None, &answer, &proof)
        .expect("by the feed key");
    let answer = FeedAnswer::from_cbor(&answer, limits::MESSAGE).expect("a feed answer");
    assert_eq!(answer.nonce, nonce);
    Ok(answer)
}

/// The refusal of something that must not succeed.
pub fn refusal<T>(result: Result<T, RefusalNotice>) -> Refusal {
    match result {
        Ok(_) => panic!("this must be refused"),
        Err(notice) => notice.refusal,
    }
}

impl World {
    /// Lets the audit log fail from now on.
    pub async fn close_log(&self) {
        self.log.as_ref().expect("the log").close().await;
    }
}
