//! The keys, ids and times that all vectors share.

use std::collections::BTreeMap;

use serde_json::json;
use ticket_format::Context;
use ticket_format::bootstrap::{Bootstrap, launch_secret};
use ticket_format::cbor::{Encode, Writer};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{
    ActId, DatasetId, DekId, EvidenceHash, KekId, LaunchId, LoginId, NodeId, PolicyDigest,
    ProofHash, RequestId, StatementDigest, StatementId, TicketId,
};
use ticket_format::iid::{self, RegionKeys};
use ticket_format::keys::{
    AdminKey, FeedSecret, LaunchSecret, NodeSecret, ProducerSecret, ProofSecret, ServerSecret,
    TicketSecret, TlsKey, TlsSecret,
};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::secret::{BootstrapSecret, Kek, PairsKey, SealingSeed};
use ticket_format::sign::{Channel, Exporter};
use ticket_format::statement::{DatasetRecord, LaunchCreate, Payload, Role};
use ticket_format::ticket::{
    self, Action, Actions, Attributes, Audience, Common, DatasetClaims, NodeClaims,
};
use ticket_format::time::Timestamp;

use super::admins;
use super::case::{Case, hex};
use super::log::{self, Log};

/// A real proof, as AWS signed it and the metadata service serves it.
pub(super) const IID_PROOF: &str =
    include_str!("../../../ticket-format/tests/data/aws/iid/metaphor-2026/rsa2048.b64");

pub(super) const REALM: &str = "example";
/// Exporter values (TR-4) of the one connection that all exchanges travel on.
pub(super) const AUTHENTICATOR: Exporter = Exporter([0xa1; 32]);
pub(super) const HPKE: Exporter = Exporter([0xa2; 32]);

pub(super) const LAUNCH: LaunchId = LaunchId([0x21; 16]);
pub(super) const LOGIN: LoginId = LoginId([0x22; 16]);
pub(super) const DATASET: DatasetId = DatasetId([0x23; 16]);
pub(super) const KEK: KekId = KekId([0x24; 16]);
pub(super) const DEK: DekId = DekId([0x25; 16]);
pub(super) const NODE_TICKET: TicketId = TicketId([0x26; 16]);
pub(super) const DATASET_TICKET: TicketId = TicketId([0x27; 16]);
pub(super) const REQUEST: RequestId = RequestId([0x28; 16]);
pub(super) const STATEMENT: StatementId = StatementId([0x29; 16]);
pub(super) const ACT: ActId = ActId([0x2a; 16]);

/// The time of the vectors: 2026-02-16T00:43:27Z, five minutes after the instance's launch.
pub(super) const NOW: u64 = 1_771_202_607;

pub(super) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(NOW + seconds)
}

pub(super) struct World {
    pub(super) broker_tls: TlsSecret,
    pub(super) server_tls: TlsSecret,
    pub(super) ticket: TicketSecret,
    pub(super) feed: FeedSecret,
    pub(super) server: ServerSecret,
    pub(super) launch: LaunchSecret,
    pub(super) node: NodeSecret,
    pub(super) next_node: NodeSecret,
    pub(super) node_proof: ProofSecret,
    pub(super) job_proof: ProofSecret,
    pub(super) producer: ProducerSecret,
    pub(super) node_sealing: SealingSecret,
    pub(super) job_sealing: SealingSecret,
    pub(super) job_x25519: SealingSecret,
    pub(super) dataset: SealingSecret,
    pub(super) kek: Kek,
    pub(super) attributes: Attributes,
    pub(super) proof_hash: ProofHash,
    pub(super) broker_log: Log,
    pub(super) server_log: Log,
    /// What digests of pairs are made with in the broker's log (AUD-5).
    pub(super) pairs: PairsKey,
}

fn sealing(kem: Kem, seed: u8) -> SealingSecret {
    SealingSecret::from_seed(kem, SealingSeed::from_bytes([seed; 32]))
}

pub(super) fn bootstrap_secret() -> BootstrapSecret {
    BootstrapSecret::from_bytes([0x10; 32])
}

impl World {
    pub(super) fn new() -> Self {
        // A constant that the tests of the verifier hold to be good.
        #[allow(clippy::expect_used)]
        let document =
            iid::verify(IID_PROOF.as_bytes(), &RegionKeys::built_in()).expect("AWS signed it");
        #[allow(clippy::expect_used)]
        let node = NodeId::new(
            document.account_id(),
            document.region(),
            document.instance_id(),
        )
        .expect("the verifier checked its form");
        let broker_tls = TlsSecret::from_seed(&[1; 32]);
        let server_tls = TlsSecret::from_seed(&[2; 32]);
        Self {
            broker_log: Log::new(Role::Broker, &broker_tls.public(), 22),
            server_log: Log::new(Role::KeyServer, &server_tls.public(), 24),
            pairs: PairsKey::from_bytes([30; 32]),
            broker_tls,
            server_tls,
            ticket: TicketSecret::from_seed(&[3; 32]),
            feed: FeedSecret::from_seed(&[4; 32]),
            server: ServerSecret::from_seed(&[5; 32]),
            launch: launch_secret(&bootstrap_secret(), LAUNCH),
            node: NodeSecret::from_seed(&[7; 32]),
            next_node: NodeSecret::from_seed(&[8; 32]),
            node_proof: ProofSecret::from_seed(&[9; 32]),
            job_proof: ProofSecret::from_seed(&[10; 32]),
            producer: ProducerSecret::from_seed(&[11; 32]),
            node_sealing: sealing(Kem::XWing, 12),
            job_sealing: sealing(Kem::XWing, 13),
            job_x25519: sealing(Kem::X25519, 14),
            dataset: sealing(Kem::XWing, 15),
            kek: Kek::from_bytes([16; 32]),
            attributes: Attributes {
                node,
                availability_zone: document.availability_zone().to_owned(),
                image: document.image_id().to_owned(),
                instance_type: document.instance_type().to_owned(),
                launched_at: Timestamp::from_seconds(document.pending_time()),
            },
            proof_hash: ProofHash(*document.proof_hash()),
        }
    }

    pub(super) fn to_broker(&self) -> Channel {
        Channel {
            realm: REALM.to_owned(),
            server: self.broker_tls.public(),
            exporter: AUTHENTICATOR,
        }
    }

    pub(super) fn to_server(&self) -> Channel {
        Channel {
            realm: REALM.to_owned(),
            server: self.server_tls.public(),
            exporter: AUTHENTICATOR,
        }
    }

    pub(super) fn context() -> Context {
        let pairs = [("name", "faces/0001.jpg"), ("team", "maps")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        Context::new(BTreeMap::from(pairs)).unwrap_or_default()
    }

    pub(super) fn required() -> Context {
        Context::new(BTreeMap::from([("team".to_owned(), "maps".to_owned())])).unwrap_or_default()
    }

    pub(super) fn actions() -> Actions {
        // Three of them, so not none.
        #[allow(clippy::expect_used)]
        Actions::new(&Action::ALL).expect("not empty")
    }

    fn common(
        &self,
        audience: Audience,
        id: TicketId,
        evidence: EvidenceHash,
        life: u64,
        sealing: &SealingSecret,
        proof: &ProofSecret,
    ) -> Common {
        Common {
            realm: REALM.to_owned(),
            audience,
            expires: at(life),
            issued: at(0),
            id,
            proof_key: proof.public(),
            sealing_key: sealing.public(),
            launch: LAUNCH,
            attributes: self.attributes.clone(),
            evidence,
        }
    }

    pub(super) fn node_claims(&self, evidence: EvidenceHash) -> NodeClaims {
        let audience = Audience::Broker(self.broker_tls.public());
        let common = self.common(
            audience,
            NODE_TICKET,
            evidence,
            8 * 3_600,
            &self.node_sealing,
            &self.node_proof,
        );
        NodeClaims {
            common,
            node_key: self.node.public(),
        }
    }

    pub(super) fn dataset_claims(
        &self,
        evidence: EvidenceHash,
        sealing: &SealingSecret,
    ) -> DatasetClaims {
        let audience = Audience::KeyServer(self.server_tls.public());
        DatasetClaims {
            common: self.common(
                audience,
                DATASET_TICKET,
                evidence,
                3_600,
                sealing,
                &self.job_proof,
            ),
            dataset: DATASET,
            dataset_name: "faces".to_owned(),
            actions: Self::actions(),
            required: Self::required(),
            budget: 1_000,
            policy: PolicyDigest::of(POLICY.as_bytes()),
            parent: NODE_TICKET,
        }
    }

    pub(super) fn launch_create(&self) -> LaunchCreate {
        LaunchCreate {
            launch: LAUNCH,
            key: self.launch.public(),
            accounts: vec![self.attributes.node.account().to_owned()],
            regions: vec![self.attributes.node.region().to_owned()],
            images: Vec::new(),
            uses: 1,
            group: false,
            from: Timestamp::from_seconds(NOW - 600),
            until: at(3_000),
            max_age: 900,
            node_life: 7 * 86_400,
            comment: "vectors".to_owned(),
        }
    }

    pub(super) fn record(&self) -> DatasetRecord {
        DatasetRecord {
            recipients: Default::default(),
            class: Default::default(),
            dataset: DATASET,
            name: "faces".to_owned(),
            tags: BTreeMap::from([("class".to_owned(), "personal".to_owned())]),
            tls_key: self.server_tls.public(),
            server_key: self.server.public(),
            addresses: vec!["ks.example:7879".to_owned()],
            kek: KEK,
            kek_version: 1,
            public_key: self.dataset.public(),
            producers: vec![self.producer.public()],
            kems: vec![Kem::X25519, Kem::XWing],
            max_budget: 100_000,
            max_life: 3_600,
            owners: self.owners(),
            lease: 5,
            evidence: true,
            follows: DatasetRecord::FIRST,
            log_key: self.server_log.key.clone(),
            witnessing: log::witnessing(),
        }
    }

    /// The dataset's owners, ascending.
    fn owners(&self) -> Vec<AdminKey> {
        let mut owners: Vec<AdminKey> = admins::OWNERS
            .iter()
            .map(|name| admins::named(name).admin.key)
            .collect();
        owners.sort();
        owners
    }

    pub(super) fn launch_payload(&self) -> Payload {
        Payload::record(STATEMENT, REALM, at(0), &self.launch_create())
    }

    pub(super) fn launch_statement(&self) -> Vec<u8> {
        admins::signed(&self.launch_payload(), &[admins::OPERATOR])
    }

    pub(super) fn record_payload(&self) -> Payload {
        Payload::record(StatementId([0x2b; 16]), REALM, at(0), &self.record())
    }

    pub(super) fn record_statement(&self) -> Vec<u8> {
        admins::signed(&self.record_payload(), admins::OWNERS)
    }

    pub(super) fn bootstrap(&self) -> Bootstrap {
        Bootstrap {
            realm: REALM.to_owned(),
            launch: LAUNCH,
            secret: bootstrap_secret(),
            brokers: vec!["broker.example:7878".to_owned()],
            broker_key: self.broker_tls.public(),
            admin_set: admins::first_body().to_cbor(),
            launch_digest: self.launch_digest(),
            ticket_key: self.ticket.public(),
            log_key: self.broker_log.key.clone(),
        }
    }

    pub(super) fn launch_digest(&self) -> StatementDigest {
        StatementDigest::of(&self.launch_statement())
    }

    /// The broker's entry of a dataset ticket's issue, with what a key server looks for in it (PRE-5).
    pub(super) fn issued(&self, ticket: &[u8]) -> Entry {
        self.entry(Kind::Issue)
            .ticket_hash(ticket::hash(ticket))
            .ticket(DATASET_TICKET)
            .dataset(DATASET)
            .launch(LAUNCH)
            .expires(at(3_600))
    }

    pub(super) fn entry(&self, kind: Kind) -> Entry {
        Entry::new(ACT, kind, at(0)).subject(&self.attributes.node)
    }
}

pub(super) const POLICY: &str = "@id(\"all\") permit (principal, action, resource);\n";

/// The array of SIG-1, built here a second time: what a signature of these parts is over.
pub(super) fn signed_input(
    label: &str,
    identity: &[u8],
    exporter: Option<Exporter>,
    ticket: Option<&[u8]>,
    body: &[u8],
) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut writer = Writer::new();
    writer.array(6).text(label).text(REALM).bytes(identity);
    writer
        .optional_bytes(exporter.as_ref().map(|value| &value.0[..]))
        .optional_bytes(ticket);
    writer.bytes(&Sha256::digest(body));
    writer.into_bytes()
}

/// Ed25519 over an input, by another path than the code's own.
pub(super) fn ed25519(seed: &[u8; 32], input: &[u8]) -> Vec<u8> {
    use ed25519_dalek::Signer as _;
    ed25519_dalek::SigningKey::from_bytes(seed)
        .sign(input)
        .to_vec()
}

pub(super) fn identity(key: TlsKey) -> [u8; 32] {
    key.to_bytes()
}

/// The file that lists them.
pub(super) fn case(world: &World) -> Case {
    macro_rules! keys {
        ($case:ident, $($name:literal $field:ident),*) => {
            $case$(.input($name, json!({ "seed": hex(world.$field.seed().as_slice()), "public": hex(world.$field.public().to_bytes()) })))*
        };
    }
    macro_rules! sealing_keys {
        ($case:ident, $($name:literal $field:ident),*) => {
            $case$(.input($name, json!({
                "kem": world.$field.kem().id(), "seed": hex(world.$field.seed().expose()), "public": hex(world.$field.public().as_bytes()),
            })))*
        };
    }
    let case = Case::new("world", "The keys, ids and times that all other files use. Seeds are of vectors only: never use them.")
        .input("realm", REALM)
        .input("now", NOW)
        .given("exporter_authenticator", AUTHENTICATOR.0)
        .given("exporter_hpke", HPKE.0);
    let case = keys!(case, "broker_tls" broker_tls, "server_tls" server_tls, "ticket" ticket, "feed" feed, "server_signing" server,
        "launch" launch, "node" node, "next_node" next_node, "node_proof" node_proof, "job_proof" job_proof, "producer" producer);
    let case = sealing_keys!(case, "node_sealing" node_sealing, "job_sealing" job_sealing, "job_sealing_x25519" job_x25519, "dataset" dataset);
    let admins: serde_json::Map<String, serde_json::Value> = admins::admins()
        .iter()
        .map(|keys| {
            let (seed, admin) = (keys.secret.seed(), &keys.admin);
            let said = json!({
                "seed": hex(seed.as_slice()), "public": hex(admin.key.to_bytes()), "kind": admin.kind.name(),
                "role": admin.roles.first().map(|role| role.name()), "application": admin.application,
            });
            (admin.name.clone(), said)
        })
        .collect();
    case.input("admins", admins)
        .input("broker_log", log::log_json(&world.broker_log))
        .input("server_log", log::log_json(&world.server_log))
        .input("witnesses", log::witnesses_json())
        .given("pairs_key", world.pairs.expose())
        .given("kek", world.kek.expose())
        .given("bootstrap_secret", bootstrap_secret().expose())
        .given("launch_id", LAUNCH.0)
        .given("login_id", LOGIN.0)
        .given("dataset_id", DATASET.0)
        .given("kek_id", KEK.0)
        .given("dek_id", DEK.0)
        .given("node_ticket_id", NODE_TICKET.0)
        .given("dataset_ticket_id", DATASET_TICKET.0)
        .given("request_id", REQUEST.0)
        .given("statement_id", STATEMENT.0)
        .given("act_id", ACT.0)
        .input("policy", POLICY)
        .input("iid_proof", IID_PROOF)
        .expect("node", world.attributes.node.to_string())
        .gives_item("attributes", "attributes", world.attributes.to_cbor())
        .gives("thumbprint_ticket", world.ticket.public().thumbprint().0)
        .gives_item(
            "cose_key_ticket",
            "cose-key",
            world.ticket.public().to_cose_key(),
        )
        .gives("producer_id", world.producer.public().id().0)
}
