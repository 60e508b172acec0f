//! The wire by hand: a connection to a live server, and messages whose bodies and proofs a test may
//! bend before they are sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::link::Server;
use client::wallet::{DatasetSession, NodeSession, SessionSecrets};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::bootstrap::Bootstrap;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::ids::{
    ChainDigest, EvidenceHash, LoginId, NodeId, ProofHash, RequestHash, RequestId, TicketHash,
};
use ticket_format::keys::{NodeSecret, ServerSecret};
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::alias::AliasBody;
use ticket_format::messages::batch::{BatchHead, GenerateBody, RedeemBody};
use ticket_format::messages::feed::FeedBody;
use ticket_format::messages::issue::IssueBody;
use ticket_format::messages::login::LoginBody;
use ticket_format::messages::present::{PresentAnswer, PresentBody};
use ticket_format::messages::renew::RenewBody;
use ticket_format::messages::{Answer, BatchAnswer, Clear, Receipt, Request, Verb, Verdict};
use ticket_format::seal::{self, AnswerId, Kem, Session};
use ticket_format::sign::{ALG_EDDSA, Channel, Exporter, Proof};
use ticket_format::statement::{
    ActBody, DatasetCreated, DatasetRecord, KekList, KekRotate, KekRow, ReceivedStatement,
};
use ticket_format::ticket::{self, Action, Actions, DatasetClaims, NodeClaims};
use ticket_format::time::Timestamp;
use ticket_format::{Context, Refusal, labels, limits};
use transport::{ClientLimits, Connection, ExchangeError, ExporterUse};

use crate::admins::{self, Admins};

/// How long a test waits for one connection or answer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The operating system's random generator.
#[must_use]
pub fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// The wall clock.
#[must_use]
pub fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed();
    Timestamp::from_seconds(since.map_or(0, |since| since.as_secs()))
}

/// What came back.
#[derive(Debug)]
pub enum Reply {
    /// It was done.
    Done {
        /// The answer's body.
        body: Vec<u8>,
        /// The answer's proof.
        proof: Option<Proof>,
    },
    /// One of the closed list.
    Refused {
        /// Which one.
        refusal: Refusal,
        /// Its detail, if the server trusted us with one.
        detail: Option<String>,
    },
    /// The transport said no, or the connection is gone.
    Transport(ExchangeError),
    /// Neither: a server must never send this.
    Garbage(Vec<u8>),
}

impl Reply {
    /// The refusal's number.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        }
    }

    /// The body of a success.
    ///
    /// # Panics
    /// When it was none.
    #[must_use]
    pub fn done(self) -> Vec<u8> {
        match self {
            Self::Done { body, .. } => body,
            other => panic!("refused: {other:?}"),
        }
    }
}

/// An open connection, with what proofs on it are bound to.
#[derive(Clone, Debug)]
pub struct Wire {
    /// The connection.
    pub connection: Connection,
    /// What signatures and MACs cover.
    pub channel: Channel,
    /// What HPKE covers.
    pub hpke: Exporter,
}

impl Wire {
    /// Connects to a pinned server.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub async fn connect(server: &Server) -> Self {
        Self::try_connect(server)
            .await
            .unwrap_or_else(|error| panic!("{} at {:?}: {error}", server.word, server.addresses))
    }

    /// As [`Wire::connect`].
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn try_connect(server: &Server) -> Result<Self, transport::ConnectError> {
        // The largest messages of the table are larger than an honest client would send.
        let limits = ClientLimits {
            message_bytes: 8 * 1024 * 1024,
            ..ClientLimits::default()
        };
        let address: SocketAddr = server.addresses[0].parse().expect("host:port");
        let pin = server.tls_key.to_bytes();
        let connection = Connection::connect(address, pin, limits, PATIENCE).await?;
        let exporter = |usage| Exporter(connection.exporter(usage).expect("an exporter value"));
        Ok(Self {
            channel: Channel {
                realm: server.realm.clone(),
                server: server.tls_key,
                exporter: exporter(ExporterUse::Authenticator),
            },
            hpke: exporter(ExporterUse::Hpke),
            connection,
        })
    }

    /// Sends bytes as they are.
    pub async fn raw(&self, request: &[u8]) -> Reply {
        let answer = match self.connection.exchange_within(request, PATIENCE).await {
            Ok(answer) => answer,
            Err(error) => return Reply::Transport(error),
        };
        match Answer::parse(&answer) {
            Ok(Answer::Done { body, proof, .. }) => Reply::Done { body, proof },
            Ok(Answer::Refused(notice)) => Reply::Refused {
                refusal: notice.refusal,
                detail: notice.detail,
            },
            Err(_) => Reply::Garbage(answer.to_vec()),
        }
    }

    /// Sends a message with the proofs that this connection wants.
    pub async fn send(&self, message: &Message) -> Reply {
        self.raw(&message.on(&self.channel)).await
    }

    /// An act by as many admins as it needs; its result or the refusal.
    ///
    /// # Errors
    /// The server's reply, when it is not done.
    pub async fn act<B: ActBody>(&self, admins: &Admins, body: &B) -> Result<B::Result, Reply> {
        let message = statement(admins, &self.channel, body);
        match self.send(&message).await {
            Reply::Done { body, .. } => Ok(result_of::<B>(&body)),
            other => Err(other),
        }
    }

    /// A dataset's KEK versions, the newest first.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn keks(&self, admins: &Admins, dataset: &str) -> Vec<KekRow> {
        let list = KekList {
            name: dataset.to_owned(),
        };
        self.act(admins, &list).await.expect("the versions").rows
    }

    /// Makes a dataset's next KEK version.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn rotate(&self, admins: &Admins, dataset: &str) -> DatasetCreated {
        let rotate = KekRotate {
            name: dataset.to_owned(),
            replaces: self.keks(admins, dataset).await[0].kek,
        };
        self.act(admins, &rotate).await.expect("a rotation")
    }

    /// Presents a ticket once the key server has heard the broker.
    ///
    /// # Panics
    /// When it is refused for another reason, or the key server never hears the broker.
    pub async fn present_when_leased(&self, ticket: &DatasetSession) -> Presented {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            match self.present(ticket).await {
                Ok(presented) => return presented,
                Err(reply) if reply.refusal() == Some(Refusal::Lease) => {
                    let waited = std::time::Instant::now() >= deadline;
                    assert!(!waited, "the key server does not hear the broker");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(reply) => panic!("{reply:?}"),
            }
        }
    }

    /// Presents a dataset ticket.
    ///
    /// # Errors
    /// The server's reply, when it is not done.
    pub async fn present(&self, ticket: &DatasetSession) -> Result<Presented, Reply> {
        let body = match self.send(&present(ticket)).await {
            Reply::Done { body, .. } => body,
            other => return Err(other),
        };
        let answer = PresentAnswer::from_cbor(&body, limits::SMALL_MESSAGE).expect("its shape");
        let hash = TicketHash::of(&ticket.ticket);
        let secret = &ticket.secrets.sealing;
        let (realm, server) = (&self.channel.realm, &self.channel.server);
        let info = seal::session_info(secret.kem(), realm, server, hash, self.hpke);
        let exports = secret.decapsulate(&answer.enc, &info).expect("it opens");
        Ok(Presented {
            handle: answer.handle,
            enc: answer.enc,
            info,
            session: Arc::new(Session::new(exports, hash)),
            hash,
        })
    }
}

/// A ticket presented on one connection.
#[derive(Clone, Debug)]
pub struct Presented {
    /// Its handle.
    pub handle: u64,
    /// The encapsulation.
    pub enc: Vec<u8>,
    /// HPKE's info.
    pub info: Vec<u8>,
    /// MACs requests and opens answers.
    pub session: Arc<Session>,
    /// The ticket's hash.
    pub hash: TicketHash,
}

impl Presented {
    /// The head of a fresh request.
    #[must_use]
    pub fn head(&self) -> BatchHead {
        BatchHead {
            handle: self.handle,
            ticket: self.hash,
            request: RequestId::random(&mut rng()),
        }
    }

    /// A redeem, generate or rewrap of an encoded body.
    #[must_use]
    pub fn batch(&self, verb: Verb, body: Vec<u8>) -> Message {
        let (session, hash) = (Arc::clone(&self.session), self.hash);
        let label = verb.request_label().unwrap_or_default();
        Message::new(verb, body, move |channel, body| {
            vec![session.mac().authenticate(channel, label, hash, body)]
        })
    }
}

type Prove = dyn Fn(&Channel, &[u8]) -> Vec<Proof> + Send + Sync;

/// A request whose proofs can be made for any body and any connection.
#[derive(Clone)]
pub struct Message {
    /// What it asks for.
    pub verb: Verb,
    /// The body that an honest caller sends.
    pub body: Vec<u8>,
    prove: Arc<Prove>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes", self.verb.name(), self.body.len())
    }
}

impl Message {
    /// A request by hand.
    pub fn new(
        verb: Verb,
        body: Vec<u8>,
        prove: impl Fn(&Channel, &[u8]) -> Vec<Proof> + Send + Sync + 'static,
    ) -> Self {
        Self {
            verb,
            body,
            prove: Arc::new(prove),
        }
    }

    /// The proofs over some body on a connection.
    #[must_use]
    pub fn proofs(&self, channel: &Channel, body: &[u8]) -> Vec<Proof> {
        (self.prove)(channel, body)
    }

    /// Its bytes for a connection.
    #[must_use]
    pub fn on(&self, channel: &Channel) -> Vec<u8> {
        self.bent(channel, &self.body)
    }

    /// The same request with another body, proved anew.
    #[must_use]
    pub fn bent(&self, channel: &Channel, body: &[u8]) -> Vec<u8> {
        Request::encode_parts(self.verb, body, &self.proofs(channel, body))
    }

    /// Another body under the proofs of the honest one.
    #[must_use]
    pub fn forged(&self, channel: &Channel, body: &[u8]) -> Vec<u8> {
        Request::encode_parts(self.verb, body, &self.proofs(channel, &self.body))
    }
}

/// The result in an administer answer.
///
/// # Panics
/// When it has not its shape.
#[must_use]
pub fn result_of<B: ActBody>(answer: &[u8]) -> B::Result {
    let answer = AdministerAnswer::from_cbor(answer, limits::MESSAGE).expect("its shape");
    let result = B::Result::from_cbor(&answer.result, limits::MESSAGE);
    result.expect("the act's result")
}

/// An act for the server of a connection, by as many admins as it needs.
///
/// # Panics
/// When it cannot be signed.
pub fn statement<B: ActBody>(admins: &Admins, channel: &Channel, body: &B) -> Message {
    admins::statement_by(&admins.for_act(B::ACT), channel, body)
}

/// A record for everyone, by as many admins as it needs.
///
/// # Panics
/// When it cannot be signed.
pub fn record<B: ActBody>(admins: &Admins, realm: &str, body: &B) -> Message {
    admins::record_by(&admins.for_act(B::ACT), realm, body)
}

fn placeholder() -> Proof {
    Proof {
        alg: ALG_EDDSA,
        value: vec![0],
    }
}

/// A second handle on a key: secret keys have no copies by themselves.
#[must_use]
pub fn again(key: &NodeSecret) -> NodeSecret {
    NodeSecret::from_seed(&key.seed())
}

/// Session keys a second time: they have no copies by themselves.
#[must_use]
pub fn copy(secrets: &SessionSecrets) -> SessionSecrets {
    use ticket_format::seal::SealingSecret;
    use ticket_format::secret::SealingSeed;
    let seed = SealingSeed::from_bytes(*secrets.sealing.seed().expose());
    SessionSecrets {
        proof: proof_again(secrets),
        sealing: SealingSecret::from_seed(secrets.sealing.kem(), seed),
    }
}

/// The record in a dataset record's statement.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn record_of(statement: &[u8]) -> DatasetRecord {
    let received = ReceivedStatement::parse(statement).expect("a statement");
    received.body().expect("a record")
}

fn proof_again(secrets: &SessionSecrets) -> ticket_format::keys::ProofSecret {
    ticket_format::keys::ProofSecret::from_seed(&secrets.proof.seed())
}

/// What one login is made of. A test changes what it wants to lie about.
pub struct Login<'a> {
    /// From user-data.
    pub bootstrap: &'a Bootstrap,
    /// The identity proof, as the metadata service serves it.
    pub proof: &'a str,
    /// Hash of the decoded proof.
    pub proof_hash: ProofHash,
    /// The login id.
    pub login: LoginId,
    /// The node key.
    pub key: &'a NodeSecret,
    /// Proof and sealing key of the ticket.
    pub secrets: &'a SessionSecrets,
}

impl Login<'_> {
    /// The message and the end of its evidence chain.
    #[must_use]
    pub fn message(&self, channel: &Channel) -> (Message, EvidenceHash) {
        let launch = Arc::new(self.bootstrap.launch_secret());
        let mut body = LoginBody {
            launch: self.bootstrap.launch,
            login: self.login,
            iid_proof: self.proof.as_bytes().to_vec(),
            node_key: self.key.public(),
            proof_key: self.secrets.proof.public(),
            sealing_key: self.secrets.sealing.public(),
            launch_digest: self.bootstrap.launch_digest,
            evidence: placeholder(),
        };
        let evidence = body.evidence(self.proof_hash);
        let signature = evidence.sign(&launch, &channel.realm, &channel.server);
        let chain = evidence.link(None, &signature);
        body.evidence = signature;
        let (key, proof) = (again(self.key), proof_again(self.secrets));
        let message = Message::new(Verb::Login, body.to_cbor(), move |channel, body| {
            let label = labels::LOGIN_REQUEST;
            vec![
                channel.sign_with(&*launch, label, None, body),
                channel.sign_with(&key, label, None, body),
                channel.sign_with(&proof, label, None, body),
            ]
        });
        (message, chain)
    }
}

/// A renewal from one node key to another.
#[must_use]
pub fn renew(
    channel: &Channel,
    node: &NodeId,
    old: &NodeSecret,
    new: &NodeSecret,
    secrets: &SessionSecrets,
    chain: EvidenceHash,
) -> (Message, EvidenceHash) {
    let mut body = RenewBody {
        node: node.clone(),
        old_key: old.public(),
        new_key: new.public(),
        proof_key: secrets.proof.public(),
        sealing_key: secrets.sealing.public(),
        chain,
        evidence: placeholder(),
    };
    let evidence = body.evidence();
    let signature = evidence.sign(old, &channel.realm, &channel.server);
    let linked = evidence.link(Some(chain), &signature);
    body.evidence = signature;
    let (old, new, proof) = (again(old), again(new), proof_again(secrets));
    let message = Message::new(Verb::Renew, body.to_cbor(), move |channel, body| {
        let label = labels::RENEW_REQUEST;
        vec![
            channel.sign_with(&old, label, None, body),
            channel.sign_with(&new, label, None, body),
            channel.sign_with(&proof, label, None, body),
        ]
    });
    (message, linked)
}

/// An issue for all three actions.
#[must_use]
pub fn issue(
    channel: &Channel,
    node: &NodeSession,
    key: &NodeSecret,
    dataset: &str,
    secrets: &SessionSecrets,
) -> Message {
    let claims = ticket::read_unverified::<NodeClaims>(&node.ticket).expect("a node ticket");
    let chain = claims.common.evidence;
    let life = 600;
    let mut body = IssueBody {
        node_ticket: node.ticket.clone(),
        dataset: dataset.to_owned(),
        actions: Actions::new(&Action::ALL).expect("some"),
        required: Context::default(),
        proof_key: secrets.proof.public(),
        sealing_key: secrets.sealing.public(),
        life,
        budget: 1_000,
        expires: now().plus(life),
        evidence: placeholder(),
        admin_set: 1,
        ticket_key: 1,
    };
    body.evidence = body
        .evidence(chain)
        .sign(key, &channel.realm, &channel.server);
    let hash = TicketHash::of(&node.ticket);
    let (node, job) = (proof_again(&node.secrets), proof_again(secrets));
    Message::new(Verb::Issue, body.to_cbor(), move |channel, body| {
        let label = labels::ISSUE_REQUEST;
        vec![
            channel.sign_with(&node, label, Some(hash), body),
            channel.sign_with(&job, label, Some(hash), body),
        ]
    })
}

/// A question which dataset an alias names.
#[must_use]
pub fn alias(node: &NodeSession, alias: &str) -> Message {
    let body = AliasBody {
        ticket: node.ticket.clone(),
        alias: alias.to_owned(),
    };
    let (hash, node) = (TicketHash::of(&node.ticket), proof_again(&node.secrets));
    Message::new(Verb::Alias, body.to_cbor(), move |channel, body| {
        vec![channel.sign_with(&node, labels::ALIAS_REQUEST, Some(hash), body)]
    })
}

/// A presentation of a dataset ticket.
#[must_use]
pub fn present(session: &DatasetSession) -> Message {
    presentation(session, &present_body(session))
}

/// What an honest presentation says.
#[must_use]
pub fn present_body(session: &DatasetSession) -> PresentBody {
    PresentBody {
        ticket: session.ticket.clone(),
        receipt: Some(session.receipt.clone()),
        evidence: None,
    }
}

/// A presentation that says something, signed by the ticket's proof key.
#[must_use]
pub fn presentation(session: &DatasetSession, body: &PresentBody) -> Message {
    let hash = TicketHash::of(&session.ticket);
    let proof = proof_again(&session.secrets);
    Message::new(Verb::Present, body.to_cbor(), move |channel, body| {
        vec![channel.sign_with(&proof, labels::PRESENT_REQUEST, Some(hash), body)]
    })
}

/// A feed request of a key server, from the beginning on and without a wait.
#[must_use]
pub fn feed(signing: ServerSecret) -> Message {
    let body = FeedBody {
        subscriber: signing.public(),
        nonce: [7; 32],
        epoch: 0,
        chain: ChainDigest([0; 32]),
        hold_ms: 0,
        reports: Vec::new(),
    };
    Message::new(Verb::Feed, body.to_cbor(), move |channel, body| {
        vec![channel.sign_with(&signing, labels::FEED_REQUEST, None, body)]
    })
}

/// The claims of a dataset session, unverified.
///
/// # Panics
/// When it is no dataset ticket.
#[must_use]
pub fn claims(session: &DatasetSession) -> DatasetClaims {
    ticket::read_unverified(&session.ticket).expect("a dataset ticket")
}

/// Fresh session secrets for X-Wing.
#[must_use]
pub fn secrets() -> SessionSecrets {
    SessionSecrets::generate(Kem::XWing, &mut rng())
}

/// What a batch answered: a verdict for each item, with its DEK and, from generate and rewrap, its new
/// wrap.
pub type Opened = Vec<Result<(Option<[u8; 32]>, Option<Vec<u8>>), Refusal>>;

impl Wire {
    /// Sends a batch and opens its answer.
    ///
    /// # Errors
    /// The server's reply, when the whole is refused.
    pub async fn batch(
        &self,
        presented: &Presented,
        verb: Verb,
        body: Vec<u8>,
    ) -> Result<Opened, Reply> {
        let request = RequestHash::of(&body);
        match self.send(&presented.batch(verb, body)).await {
            Reply::Done { body, .. } => Ok(presented.open(verb, request, &body)),
            other => Err(other),
        }
    }

    /// Redeems items.
    ///
    /// # Errors
    /// As [`Wire::batch`].
    pub async fn redeem(
        &self,
        presented: &Presented,
        items: &[(&[u8], &Context)],
    ) -> Result<Opened, Reply> {
        let body = RedeemBody::encode(&presented.head(), items);
        self.batch(presented, Verb::Redeem, body).await
    }

    /// Has one DEK made: its wrap and itself.
    ///
    /// # Errors
    /// As [`Wire::batch`].
    ///
    /// # Panics
    /// When the item is refused.
    pub async fn generate(
        &self,
        presented: &Presented,
        context: &Context,
    ) -> Result<(Vec<u8>, [u8; 32]), Reply> {
        let body = GenerateBody::encode(&presented.head(), &[context], true, None);
        let mut made = self.batch(presented, Verb::Generate, body).await?;
        let (dek, wrap) = made.remove(0).expect("not refused");
        Ok((wrap.expect("a wrap"), dek.expect("a DEK")))
    }
}

impl Wire {
    /// Has one DEK made: the receipt of the release.
    ///
    /// # Errors
    /// As [`Wire::batch`].
    ///
    /// # Panics
    /// When the answer has not its shape.
    pub async fn generated(
        &self,
        presented: &Presented,
        context: &Context,
    ) -> Result<Receipt, Reply> {
        let body = GenerateBody::encode(&presented.head(), &[context], true, None);
        match self.send(&presented.batch(Verb::Generate, body)).await {
            Reply::Done { body, .. } => {
                let answer = BatchAnswer::from_cbor(&body, limits::MESSAGE).expect("its shape");
                let clear = Clear::from_cbor(&answer.clear, limits::MESSAGE).expect("its shape");
                Ok(clear.receipt)
            }
            other => Err(other),
        }
    }
}

impl Presented {
    /// Opens the answer to one of its requests.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    pub fn open(&self, verb: Verb, request: RequestHash, answer: &[u8]) -> Opened {
        let answer = BatchAnswer::from_cbor(answer, limits::MESSAGE).expect("its shape");
        let clear = Clear::from_cbor(&answer.clear, limits::MESSAGE).expect("its shape");
        let salt = clear.salt;
        let id = AnswerId {
            verb,
            request,
            salt,
        };
        let sealed = &answer.sealed;
        let deks = if sealed.is_empty() {
            Vec::new()
        } else {
            let opened = self.session.open(&id, &answer.clear, sealed);
            opened.expect("it opens").to_vec()
        };
        let mut deks = deks.chunks_exact(32).map(|dek| dek.try_into().expect("32"));
        let mut wraps = clear.wraps.unwrap_or_default().into_iter();
        let verdicts = clear.verdicts.into_iter();
        let one = |verdict: Verdict| {
            let wrap = wraps.next().flatten();
            match verdict.refusal() {
                Some(refusal) => Err(refusal),
                None => Ok((deks.next(), wrap)),
            }
        };
        verdicts.map(one).collect()
    }
}
