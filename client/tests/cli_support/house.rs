//! A broker and a key server that grant everything, with logs of their own, and lie where they are told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{
    ActId, DatasetId, EvidenceHash, KekId, LaunchId, NodeId, PolicyDigest, ProofHash, RequestHash,
    StatementDigest, StatementId, TicketHash, TicketId,
};
use ticket_format::keys::{NodeKey, ProofKey, ServerSecret, TicketSecret};
use ticket_format::messages::alias::AliasAnswer;
use ticket_format::messages::batch::RedeemBody;
use ticket_format::messages::issue::{IssueAnswer, IssueBody};
use ticket_format::messages::login::{LoginAnswer, LoginBody};
use ticket_format::messages::present::{PresentAnswer, PresentBody};
use ticket_format::messages::renew::RenewBody;
use ticket_format::messages::wipe::{WipeAnswer, WipeBody};
use ticket_format::messages::{
    Answer, BatchAnswer, Clear, Receipt, RefusalNotice, RequestView, Verb, Verdict,
};
use ticket_format::seal::{self, AnswerId, Kem, SealingKey, SealingSecret, Session};
use ticket_format::sign::{Channel, Exporter};
use ticket_format::statement::{DatasetRecord, Payload, Role, WitnessMode, Witnessing};
use ticket_format::ticket::{
    self, Attributes, Audience, Common, DatasetClaims, NodeClaims, verify_for_anyone,
};
use ticket_format::wrapped::{Origin, Wrapped};
use ticket_format::{Refusal, labels, limits};
use transport::{ExporterUse, Handler, Peer, ServerIdentity, ServerLimits};

use super::log::{TestLog, policy};
use super::{TICKET, TLS, broker_log, now, owners, rng, tls_key};

const REALM: &str = "example.org";
const KEY_SERVER: [u8; 32] = [41; 32];
/// The one dataset, `faces`.
pub const DATASET: DatasetId = DatasetId([1; 16]);
/// The witness that the dataset requires.
pub const WITNESS: u8 = 7;
/// The launch's statement.
pub const LAUNCH: &[u8] = b"the launch";

/// How a receipt is bent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It is of another log.
    OtherLog,
    /// It is of another act, which is logged.
    OtherAct,
    /// Its entry is not in the log.
    NotLogged,
    /// No witness has cosigned it.
    Unwitnessed,
}

/// One of the two servers.
pub struct Fake {
    pub address: SocketAddr,
    pub log: Mutex<TestLog>,
    /// Bends the receipt of each answer to this verb.
    pub lie: Mutex<Option<(Verb, Lie)>>,
    /// The verbs that were asked for.
    pub asked: Mutex<Vec<Verb>>,
    /// What was presented.
    pub presented: Mutex<Vec<PresentBody>>,
    /// The record of whatever alias is asked for.
    pub alias: Mutex<Option<Vec<u8>>>,
    tls: [u8; 32],
    record: Option<Vec<u8>>,
}

pub struct Conn {
    authenticator: Exporter,
    hpke: Exporter,
    session: Mutex<Option<Arc<Session>>>,
}

fn start(tls: [u8; 32], log: TestLog, record: Option<Vec<u8>>) -> Arc<Fake> {
    let identity = ServerIdentity::new(&SigningKey::from_bytes(&tls)).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = transport::Server::bind(any, &identity, ServerLimits::default()).unwrap();
    let fake = Arc::new(Fake {
        address: server.local_addr(),
        log: Mutex::new(log),
        lie: Mutex::default(),
        asked: Mutex::default(),
        presented: Mutex::default(),
        alias: Mutex::default(),
        tls,
        record,
    });
    tokio::spawn(server.run(Arc::clone(&fake), std::future::pending()));
    fake
}

/// A broker, and the key server of its one dataset, `faces`.
pub fn house(mode: WitnessMode) -> (Arc<Fake>, Arc<Fake>) {
    let tls = ticket_format::keys::TlsSecret::from_seed(&KEY_SERVER).public();
    let mut log = TestLog::new(REALM, Role::KeyServer, &tls, 32);
    let log_key = log.key();
    log.witnesses = vec![WITNESS];
    let key_server = start(KEY_SERVER, log, None);
    let mut keys = owners().map(|owner| owner.public()).to_vec();
    keys.sort();
    let record = DatasetRecord {
        recipients: Default::default(),
        class: Default::default(),
        dataset: DATASET,
        name: "faces".to_owned(),
        tags: BTreeMap::new(),
        tls_key: tls,
        server_key: ServerSecret::from_seed(&[23; 32]).public(),
        addresses: vec![key_server.address.to_string()],
        kek: KekId([2; 16]),
        kek_version: 3,
        public_key: SealingSecret::generate(Kem::XWing, &mut rng()).public(),
        producers: Vec::new(),
        kems: vec![Kem::XWing],
        max_budget: 1_000,
        max_life: 3_600,
        owners: keys,
        lease: 5,
        evidence: false,
        follows: DatasetRecord::FIRST,
        log_key,
        witnessing: Witnessing {
            mode,
            policy: match mode {
                WitnessMode::None => String::new(),
                _ => policy(WITNESS),
            },
        },
    };
    let payload = Payload::record(StatementId::random(&mut rng()), REALM, now(), &record);
    let [one, two] = owners();
    let record = payload.sign(&[&one, &two]).unwrap();
    let mut log = broker_log(&tls_key());
    log.witnesses = vec![WITNESS];
    (start(TLS, log, Some(record)), key_server)
}

struct Job {
    proof_key: ProofKey,
    sealing_key: SealingKey,
    evidence: EvidenceHash,
    audience: Audience,
}

impl Fake {
    /// The receipt of an act, or one that is bent.
    fn receipt(&self, verb: Verb, entry: &Entry) -> Receipt {
        let mut log = self.log.lock().unwrap();
        let lie = self.lie.lock().unwrap().filter(|(bent, _)| *bent == verb);
        match lie.map(|(_, lie)| lie) {
            None => log.append(entry),
            Some(Lie::OtherLog) => log.signed_by(99).append(entry),
            Some(Lie::OtherAct) => log.append(&entry.clone().ticket_hash(TicketHash([9; 32]))),
            Some(Lie::NotLogged) => Receipt {
                entry: entry.to_cbor(),
                ..log.append(&Entry::new(ActId([5; 16]), Kind::Start, now()))
            },
            Some(Lie::Unwitnessed) => {
                let witnesses = std::mem::take(&mut log.witnesses);
                let receipt = log.append(entry);
                log.witnesses = witnesses;
                receipt
            }
        }
    }

    fn entry(&self, kind: Kind, ticket: TicketHash) -> Entry {
        Entry::new(ActId::random(&mut rng()), kind, now()).ticket_hash(ticket)
    }

    fn common(&self, job: Job) -> Common {
        let issued = now();
        Common {
            realm: REALM.to_owned(),
            audience: job.audience,
            expires: issued.plus(3_600),
            issued,
            id: TicketId::random(&mut rng()),
            proof_key: job.proof_key,
            sealing_key: job.sealing_key,
            launch: LaunchId([3; 16]),
            attributes: Attributes {
                node: NodeId::new("123456789012", "eu-west-1", super::INSTANCE).unwrap(),
                availability_zone: "eu-west-1a".to_owned(),
                image: "ami-0123456789abcdef0".to_owned(),
                instance_type: "c7g.large".to_owned(),
                launched_at: issued.minus(60),
            },
            evidence: job.evidence,
        }
    }

    fn node_ticket(&self, verb: Verb, kind: Kind, job: Job, node_key: NodeKey) -> Answer {
        let claims = NodeClaims {
            common: self.common(job),
            node_key,
        };
        let ticket = ticket::sign(&claims, &TicketSecret::from_seed(&TICKET));
        let entry = self.entry(kind, TicketHash::of(&ticket));
        let answer = LoginAnswer {
            receipt: self.receipt(verb, &entry),
            ticket,
            launch: LAUNCH.to_vec(),
            records: Vec::new(),
        };
        Answer::done(verb, &answer)
    }

    fn login(&self, body: &[u8]) -> Answer {
        let body = LoginBody::from_cbor(body, limits::SMALL_MESSAGE).unwrap();
        let job = Job {
            evidence: body.evidence(ProofHash([6; 32])).link(None, &body.evidence),
            audience: Audience::Broker(tls_key()),
            proof_key: body.proof_key,
            sealing_key: body.sealing_key.clone(),
        };
        self.node_ticket(Verb::Login, Kind::Login, job, body.node_key)
    }

    fn renew(&self, body: &[u8]) -> Answer {
        let body = RenewBody::from_cbor(body, limits::SMALL_MESSAGE).unwrap();
        let job = Job {
            evidence: body.evidence().link(Some(body.chain), &body.evidence),
            audience: Audience::Broker(tls_key()),
            proof_key: body.proof_key,
            sealing_key: body.sealing_key.clone(),
        };
        self.node_ticket(Verb::Renew, Kind::Renew, job, body.new_key)
    }

    fn issue(&self, body: &[u8]) -> Answer {
        let body = IssueBody::from_cbor(body, limits::SMALL_MESSAGE).unwrap();
        if body.dataset != "faces" {
            return RefusalNotice::bare(Refusal::DatasetUnknown).into();
        }
        let broker = TicketSecret::from_seed(&TICKET);
        let node = verify_for_anyone::<NodeClaims>(&body.node_ticket, &broker.public()).unwrap();
        let chain = node.claims().common.evidence;
        let key_server = ticket_format::keys::TlsSecret::from_seed(&KEY_SERVER).public();
        let job = Job {
            evidence: body.evidence(chain).link(Some(chain), &body.evidence),
            audience: Audience::KeyServer(key_server),
            proof_key: body.proof_key,
            sealing_key: body.sealing_key.clone(),
        };
        let claims = DatasetClaims {
            common: self.common(job),
            dataset: DATASET,
            dataset_name: body.dataset,
            actions: body.actions,
            required: body.required,
            budget: body.budget,
            policy: PolicyDigest([4; 32]),
            parent: node.claims().common.id,
        };
        let ticket = ticket::sign(&claims, &broker);
        let entry = self.entry(Kind::Issue, TicketHash::of(&ticket));
        let answer = IssueAnswer {
            receipt: self.receipt(Verb::Issue, &entry),
            ticket,
            record: self.record.clone().unwrap(),
            admin_sets: Vec::new(),
            ticket_keys: Vec::new(),
        };
        Answer::done(Verb::Issue, &answer)
    }

    fn alias(&self) -> Answer {
        match self.alias.lock().unwrap().clone() {
            Some(statement) => Answer::done(Verb::Alias, &AliasAnswer { statement }),
            None => RefusalNotice::bare(Refusal::DatasetUnknown).into(),
        }
    }

    fn present(&self, conn: &Conn, body: &[u8]) -> Answer {
        let body = PresentBody::from_cbor(body, limits::PRESENT).unwrap();
        let broker = TicketSecret::from_seed(&TICKET).public();
        let verified = verify_for_anyone::<DatasetClaims>(&body.ticket, &broker).unwrap();
        let hash = TicketHash::of(&body.ticket);
        let server = ticket_format::keys::TlsSecret::from_seed(&self.tls).public();
        let key = &verified.claims().common.sealing_key;
        let info = seal::session_info(key.kem(), REALM, &server, hash, conn.hpke);
        let (enc, exports) = seal::encapsulate(key, &info, &mut rng()).unwrap();
        *conn.session.lock().unwrap() = Some(Arc::new(Session::new(exports, hash)));
        let answer = PresentAnswer {
            handle: 1,
            enc,
            dataset: verified.claims().dataset,
            sealing_key: key.hash(),
        }
        .to_cbor();
        let channel = Channel {
            realm: REALM.to_owned(),
            server,
            exporter: conn.authenticator,
        };
        let signing = ServerSecret::from_seed(&[23; 32]);
        let proof = channel.sign_with(&signing, labels::PRESENT_ANSWER, Some(hash), &answer);
        self.presented.lock().unwrap().push(body);
        Answer::Done {
            verb: Verb::Present,
            body: answer,
            proof: Some(proof),
        }
    }

    /// Gives 32 bytes of 0xd0 for each item.
    fn redeem(&self, conn: &Conn, body: &[u8]) -> Answer {
        let asked = RedeemBody::parse(body).unwrap();
        let session = conn.session.lock().unwrap().clone().unwrap();
        let digests = asked.items.iter().map(|item| (item.digest(), Ok(())));
        let request = RequestHash::of(body);
        let wraps = asked.items.iter().map(|item| Wrapped::parse(item.wrapped));
        let keks = wraps.filter_map(|wrap| Some(wrap.ok()?.header().kek));
        let keks: Vec<_> = keks.collect();
        let of = (0..keks.len()).map(|place| u8::try_from(place).unwrap());
        let entry = self
            .entry(Kind::Redeem, asked.head.ticket)
            .request(request)
            .items(digests.collect())
            .keks(keks.clone(), of.collect());
        let clear = Clear {
            verdicts: vec![Verdict::Done(Origin::Generated); asked.items.len()],
            ticket: asked.head.ticket,
            request,
            salt: [8; 32],
            receipt: self.receipt(Verb::Redeem, &entry),
            wraps: None,
            publics: None,
        };
        let id = AnswerId {
            verb: Verb::Redeem,
            request,
            salt: clear.salt,
        };
        let deks = vec![0xd0; 32 * asked.items.len()];
        let clear = clear.to_cbor();
        let sealed = session.seal(&id, &clear, &deks).unwrap();
        Answer::done(Verb::Redeem, &BatchAnswer { clear, sealed })
    }

    fn wipe(&self, body: &[u8]) -> Answer {
        let body = WipeBody::from_cbor(body, limits::SMALL_MESSAGE).unwrap();
        let entry = self.entry(Kind::Wiped, TicketHash::of(&body.ticket));
        let receipt = self.receipt(Verb::Wipe, &entry);
        Answer::done(Verb::Wipe, &WipeAnswer { receipt })
    }

    /// Bends receipts from now on.
    pub fn lies(&self, lie: Option<(Verb, Lie)>) {
        *self.lie.lock().unwrap() = lie;
    }
}

impl Handler for Fake {
    type Connection = Conn;

    fn connected(&self, peer: Peer) -> Conn {
        let exporter = |usage| Exporter(peer.exporter(usage).unwrap());
        Conn {
            authenticator: exporter(ExporterUse::Authenticator),
            hpke: exporter(ExporterUse::Hpke),
            session: Mutex::default(),
        }
    }

    async fn exchange(&self, conn: &Conn, message: Bytes) -> Bytes {
        let request = RequestView::parse(&message).unwrap();
        self.asked.lock().unwrap().push(request.verb);
        let body = request.body;
        let answer = match request.verb {
            Verb::Login => self.login(body),
            Verb::Renew => self.renew(body),
            Verb::Issue => self.issue(body),
            Verb::Alias => self.alias(),
            Verb::Present => self.present(conn, body),
            Verb::Redeem => self.redeem(conn, body),
            Verb::Wipe => self.wipe(body),
            Verb::Consistency => self.log.lock().unwrap().answer(body),
            other => panic!("{other:?}"),
        };
        answer.to_bytes().into()
    }
}

/// The launch's digest, as a bootstrap has it.
pub fn launch_digest() -> StatementDigest {
    StatementDigest::of(LAUNCH)
}
