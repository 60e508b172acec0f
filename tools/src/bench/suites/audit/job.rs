//! A job with a ticket, as far as the client's part of a redemption needs one.

use client::link::Link;
use client::wallet::SessionSecrets;
use ticket_format::Context;
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{
    ActId, EvidenceHash, LaunchId, NodeId, PolicyDigest, RequestHash, RequestId, TicketHash,
    TicketId,
};
use ticket_format::messages::batch::{
    BatchHead, GenerateBody, RedeemBody, RewrapBody, item_digest,
};
use ticket_format::messages::present::{PresentAnswer, PresentBody};
use ticket_format::messages::{BatchAnswer, Clear, Receipt, Verb};
use ticket_format::report::{Report, exit};
use ticket_format::seal::{self, AnswerId, Kem, Session};
use ticket_format::sign::Proof;
use ticket_format::ticket::{self, Action, Actions, Attributes, Audience, Common, DatasetClaims};
use ticket_format::tlog::Verifier;
use ticket_format::{labels, limits};

use super::door::KeyServer;
use crate::documents::{ACCOUNT, REGION};
use crate::realm::{DATASET, now, rng};
use crate::servers::REALM;

/// A wrapped DEK and its context.
pub(crate) type Item = (Vec<u8>, Context);

/// A ticket, its secrets and the receipt of its issue.
pub(crate) struct Ticket {
    secrets: SessionSecrets,
    bytes: Vec<u8>,
    receipt: Receipt,
}

/// A ticket presented on a connection.
pub(crate) struct Job {
    link: Link,
    session: Session,
    handle: u64,
    ticket: TicketHash,
}

fn wrong(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Report {
    move |error| Report::new(exit::INTEGRITY, what).why(error)
}

impl Ticket {
    /// As a broker issues it: in its log before it is anywhere else.
    pub(crate) async fn issue(at: &KeyServer) -> Result<Self, Report> {
        let secrets = SessionSecrets::generate(Kem::XWing, &mut rng());
        let node = NodeId::new(ACCOUNT, REGION, "i-0123456789abcdef0");
        let node = node.map_err(|error| wrong("no node")(&error))?;
        let actions = Actions::new(&Action::ALL);
        let claims = DatasetClaims {
            common: Common {
                realm: REALM.to_owned(),
                audience: Audience::KeyServer(at.server.tls_key),
                expires: now().plus(12 * 3_600),
                issued: now(),
                id: TicketId::random(&mut rng()),
                proof_key: secrets.proof.public(),
                sealing_key: secrets.sealing.public(),
                launch: LaunchId([1; 16]),
                attributes: Attributes {
                    node: node.clone(),
                    availability_zone: format!("{REGION}a"),
                    image: "ami-0123456789abcdef0".to_owned(),
                    instance_type: "m5.large".to_owned(),
                    launched_at: now(),
                },
                evidence: EvidenceHash([2; 32]),
            },
            dataset: at.dataset.dataset,
            dataset_name: DATASET.to_owned(),
            actions: actions.ok_or_else(|| Report::new(exit::LOCAL, "no action"))?,
            required: Context::default(),
            budget: u64::MAX,
            policy: PolicyDigest([3; 32]),
            parent: TicketId([4; 16]),
        };
        let bytes = ticket::sign(&claims, &at.ticket);
        let entry = Entry::new(ActId::random(&mut rng()), Kind::Issue, now())
            .subject(node)
            .ticket_hash(ticket::hash(&bytes))
            .ticket(claims.common.id)
            .dataset(claims.dataset)
            .launch(claims.common.launch)
            .expires(claims.common.expires)
            .to_cbor();
        let appended = at.broker_log.append(entry.clone()).await;
        let appended = appended.map_err(|error| wrong("a log cannot be written")(&error))?;
        Ok(Self {
            secrets,
            bytes,
            receipt: Receipt {
                entry,
                proof: appended.proof(),
            },
        })
    }

    /// The body that presents it.
    pub(crate) fn body(&self) -> Vec<u8> {
        PresentBody {
            ticket: self.bytes.clone(),
            receipt: Some(self.receipt.clone()),
            evidence: None,
        }
        .to_cbor()
    }

    /// Possession of its proof key, on this channel.
    pub(crate) fn proof(&self, channel: &ticket_format::sign::Channel, body: &[u8]) -> Proof {
        let hash = Some(ticket::hash(&self.bytes));
        channel.sign_with(&self.secrets.proof, labels::PRESENT_REQUEST, hash, body)
    }

    /// Presents it on a connection.
    pub(crate) async fn present(&self, link: Link) -> Result<Job, Report> {
        let (body, ticket) = (self.body(), ticket::hash(&self.bytes));
        let proof = self.proof(link.channel(), &body);
        let answer = link.call(Verb::Present, &body, &[proof]).await;
        let (answer, _) = answer.map_err(|error| error.report())?;
        let answer = PresentAnswer::from_cbor(&answer, limits::SMALL_MESSAGE)
            .map_err(|error| wrong("a malformed answer")(&error))?;
        let channel = link.channel();
        let info = seal::session_info(
            Kem::XWing,
            &channel.realm,
            &channel.server,
            ticket,
            link.hpke_exporter(),
        );
        let exports = self.secrets.sealing.decapsulate(&answer.enc, &info);
        let exports = exports.map_err(|error| wrong("an encapsulation does not open")(&error))?;
        Ok(Job {
            session: Session::new(exports, ticket),
            handle: answer.handle,
            link,
            ticket,
        })
    }
}

impl Job {
    fn head(&self) -> BatchHead {
        BatchHead {
            handle: self.handle,
            ticket: self.ticket,
            request: RequestId::random(&mut rng()),
        }
    }

    async fn batch(&self, verb: Verb, body: &[u8]) -> Result<(BatchAnswer, Clear), Report> {
        let label = verb.request_label().unwrap_or_default();
        let mac = self.session.mac();
        let proof = mac.authenticate(self.link.channel(), label, self.ticket, body);
        let answer = self.link.call(verb, body, &[proof]).await;
        let (answer, _) = answer.map_err(|error| error.report())?;
        let malformed = wrong("a malformed answer");
        let answer =
            BatchAnswer::from_cbor(&answer, limits::MESSAGE).map_err(|error| malformed(&error))?;
        let clear =
            Clear::from_cbor(&answer.clear, limits::MESSAGE).map_err(|error| malformed(&error))?;
        Ok((answer, clear))
    }

    /// Has DEKs made.
    pub(crate) async fn generate(&self, contexts: Vec<Context>) -> Result<Vec<Item>, Report> {
        let asked: Vec<&Context> = contexts.iter().collect();
        let body = GenerateBody::encode(&self.head(), &asked, false, None);
        let (_, clear) = self.batch(Verb::Generate, &body).await?;
        let wraps = clear.wraps.unwrap_or_default().into_iter().flatten();
        let items: Vec<Item> = wraps.zip(contexts).collect();
        if items.is_empty() {
            return Err(Report::new(exit::INTEGRITY, "no DEK was made"));
        }
        Ok(items)
    }

    /// Has these wrapped anew; gives them with their new wraps.
    pub(crate) async fn rewrap(&self, items: &[Item]) -> Result<Vec<Item>, Report> {
        let asked: Vec<(&[u8], &Context, Option<&Context>)> = items
            .iter()
            .map(|(wrapped, context)| (wrapped.as_slice(), context, None))
            .collect();
        let body = RewrapBody::encode(&self.head(), &asked, &[]);
        let (_, clear) = self.batch(Verb::Rewrap, &body).await?;
        let wraps = clear.wraps.unwrap_or_default().into_iter().flatten();
        let contexts = items.iter().map(|(_, context)| context.clone());
        let done: Vec<Item> = wraps.zip(contexts).collect();
        if done.len() != items.len() {
            return Err(Report::new(exit::INTEGRITY, "wraps are missing"));
        }
        Ok(done)
    }

    /// Redeems these; with a verifier believes nothing without a receipt that names request and items.
    pub(crate) async fn redeem(
        &self,
        items: &[Item],
        log: Option<&Verifier>,
    ) -> Result<u64, Report> {
        let asked: Vec<(&[u8], &Context)> = items
            .iter()
            .map(|(wrapped, context)| (wrapped.as_slice(), context))
            .collect();
        let body = RedeemBody::encode(&self.head(), &asked);
        let (answer, clear) = self.batch(Verb::Redeem, &body).await?;
        let request = RequestHash::of(&body);
        let other = || Report::new(exit::INTEGRITY, "an answer is of another request");
        if clear.ticket != self.ticket || clear.request != request {
            return Err(other());
        }
        if let Some(log) = log {
            let logged = log.verify(&clear.receipt);
            let entry = logged
                .map_err(|error| wrong("a receipt proves nothing")(&error))?
                .entry;
            let recorded = entry.items.unwrap_or_default();
            let digests = items
                .iter()
                .map(|(wrapped, context)| (item_digest(wrapped, &context.to_cbor()), Ok(())));
            if entry.request != Some(request) || !recorded.into_iter().eq(digests) {
                return Err(other());
            }
        }
        let id = AnswerId {
            verb: Verb::Redeem,
            request,
            salt: clear.salt,
        };
        let deks = self.session.open(&id, &answer.clear, &answer.sealed);
        let deks = deks.map_err(|error| wrong("an answer does not open")(&error))?;
        if deks.len() != 32 * items.len() {
            return Err(Report::new(exit::INTEGRITY, "DEKs are missing"));
        }
        Ok(items.len() as u64)
    }
}
