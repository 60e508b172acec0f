//! The job's side of the test: makes tickets, presents them, asks, and checks answers as a client does.

use std::sync::Arc;

use key_server::clock::Clock;
use key_server::state::Connection;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::Entry;
use ticket_format::ids::{
    DatasetId, EvidenceHash, ItemDigest, LaunchId, NodeId, PolicyDigest, RequestHash, RequestId,
    TicketHash, TicketId,
};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::keys::ProofSecret;
use ticket_format::messages::batch::{BatchHead, GenerateBody, RedeemBody, RewrapBody};
use ticket_format::messages::present::{Evidence, PresentAnswer, PresentBody};
use ticket_format::messages::{Answer, BatchAnswer, Clear, Receipt, RefusalNotice, Request, Verb};
use ticket_format::seal::{AnswerId, Kem, SealingKey, SealingSecret, Session, session_info};
use ticket_format::sign::{Channel, Proof};
use ticket_format::ticket::{self, Action, Actions, Attributes, Audience, Common, DatasetClaims};
use ticket_format::tlog::Verifier;
use ticket_format::{Context, Refusal, labels, limits};
use zeroize::Zeroizing;

use crate::rig::{REALM, Rig, World, rng};

impl Rig {
    /// A job with a ticket for the dataset; `edit` says how it differs from the usual one.
    pub(crate) fn job(&self, edit: impl FnOnce(&mut DatasetClaims)) -> Job {
        self.job_of(Kem::XWing, edit)
    }

    pub(crate) fn job_of(&self, kem: Kem, edit: impl FnOnce(&mut DatasetClaims)) -> Job {
        let rng = &mut rng();
        let (proof, sealing) = (
            ProofSecret::generate(rng),
            SealingSecret::generate(kem, rng),
        );
        let dataset = self
            .dataset
            .as_ref()
            .map_or(DatasetId([9; 16]), |dataset| dataset.dataset);
        let claims = claims(&self.world, dataset, &proof, sealing.public(), edit);
        let ticket = ticket::sign(&claims, &self.world.broker);
        Job {
            receipt: Some(self.world.issuer.issue(&ticket, &claims)),
            ticket,
            claims,
            proof,
            sealing,
        }
    }

    /// Presents on this connection and checks the answer as a client does (PRE-4).
    pub(crate) async fn present(
        &self,
        connection: &Arc<Connection>,
        job: &Job,
    ) -> Result<Opened, RefusalNotice> {
        self.present_with(connection, job, &job.proof, &connection.channel)
            .await
    }

    pub(crate) async fn present_with(
        &self,
        connection: &Arc<Connection>,
        job: &Job,
        proof: &ProofSecret,
        channel: &Channel,
    ) -> Result<Opened, RefusalNotice> {
        self.present_beside(connection, job, proof, channel, None)
            .await
    }

    /// Presents with evidence.
    pub(crate) async fn present_showing(
        &self,
        connection: &Arc<Connection>,
        job: &Job,
        evidence: &Evidence,
    ) -> Result<Opened, RefusalNotice> {
        let evidence = Some(evidence.clone());
        self.present_beside(connection, job, &job.proof, &connection.channel, evidence)
            .await
    }

    async fn present_beside(
        &self,
        connection: &Arc<Connection>,
        job: &Job,
        proof: &ProofSecret,
        channel: &Channel,
        evidence: Option<Evidence>,
    ) -> Result<Opened, RefusalNotice> {
        let body = PresentBody {
            ticket: job.ticket.clone(),
            receipt: job.receipt.clone(),
            evidence,
        }
        .to_cbor();
        let hash = TicketHash::of(&job.ticket);
        let proof = channel.sign_with(proof, labels::PRESENT_REQUEST, Some(hash), &body);
        let answer = self
            .exchange(
                connection,
                Request::encode_parts(Verb::Present, &body, &[proof]),
            )
            .await;
        let (body, proof) = match answer {
            Answer::Done { body, proof, .. } => (body, proof.unwrap()),
            Answer::Refused(notice) => return Err(notice),
        };
        let key = self.world.signing.public();
        connection
            .channel
            .verify_with(&key, labels::PRESENT_ANSWER, Some(hash), &body, &proof)
            .unwrap();
        let answer = PresentAnswer::from_cbor(&body, limits::SMALL_MESSAGE).unwrap();
        assert_eq!(answer.sealing_key, job.sealing.public().hash());
        let info = session_info(
            job.sealing.kem(),
            REALM,
            &self.world.server(),
            hash,
            connection.hpke,
        );
        let session = Session::new(job.sealing.decapsulate(&answer.enc, &info).unwrap(), hash);
        Ok(Opened {
            connection: Arc::clone(connection),
            handle: answer.handle,
            session,
            enc: answer.enc,
        })
    }

    /// A job that has presented its ticket on a connection of its own.
    pub(crate) async fn opened(&self, edit: impl FnOnce(&mut DatasetClaims)) -> (Job, Opened) {
        let job = self.job(edit);
        let opened = self.present(&self.connect(1), &job).await.unwrap();
        (job, opened)
    }

    /// Sends a body with the MAC of this session.
    pub(crate) async fn batch(
        &self,
        opened: &Opened,
        verb: Verb,
        body: Vec<u8>,
    ) -> Result<Batch, RefusalNotice> {
        let proof = opened.mac(verb, &body);
        self.batch_with(opened, verb, body, proof).await
    }

    pub(crate) async fn batch_with(
        &self,
        opened: &Opened,
        verb: Verb,
        body: Vec<u8>,
        proof: Proof,
    ) -> Result<Batch, RefusalNotice> {
        let answer = self
            .exchange(
                &opened.connection,
                Request::encode_parts(verb, &body, &[proof]),
            )
            .await;
        let Answer::Done { body: answer, .. } = answer else {
            let Answer::Refused(notice) = answer else {
                unreachable!()
            };
            return Err(notice);
        };
        let answer = BatchAnswer::from_cbor(&answer, limits::MESSAGE).unwrap();
        let clear = Clear::from_cbor(&answer.clear, limits::MESSAGE).unwrap();
        // rule: RED-5
        let request = RequestHash::of(&body);
        assert_eq!(
            (clear.request, clear.ticket),
            (request, opened.session.ticket())
        );
        // rule: TLOG-5
        let verifier = Verifier::new(self.log.key().clone(), None);
        let entry = verifier.verify(&clear.receipt).unwrap().entry;
        assert_eq!(
            (entry.request, entry.ticket_hash),
            (Some(request), Some(opened.session.ticket()))
        );
        let id = AnswerId {
            verb,
            request,
            salt: clear.salt,
        };
        let deks = if answer.sealed.is_empty() {
            Zeroizing::new(Vec::new())
        } else {
            opened
                .session
                .open(&id, &answer.clear, &answer.sealed)
                .unwrap()
        };
        Ok(Batch {
            clear,
            entry,
            deks,
            sealed: answer.sealed,
        })
    }

    pub(crate) async fn redeem(
        &self,
        opened: &Opened,
        items: &[(&[u8], &Context)],
    ) -> Result<Batch, RefusalNotice> {
        let body = RedeemBody::encode(&opened.head(), items);
        self.batch(opened, Verb::Redeem, body).await
    }

    pub(crate) async fn generate(
        &self,
        opened: &Opened,
        contexts: &[&Context],
        copy: bool,
    ) -> Result<Batch, RefusalNotice> {
        let body = GenerateBody::encode(&opened.head(), contexts, copy, None);
        self.batch(opened, Verb::Generate, body).await
    }

    pub(crate) async fn generate_pairs(
        &self,
        opened: &Opened,
        contexts: &[&Context],
        copy: bool,
        kind: KeyPairKind,
    ) -> Result<Batch, RefusalNotice> {
        let body = GenerateBody::encode(&opened.head(), contexts, copy, Some(kind));
        self.batch(opened, Verb::Generate, body).await
    }

    pub(crate) async fn rewrap(
        &self,
        opened: &Opened,
        items: &[(&[u8], &Context, Option<&Context>)],
    ) -> Result<Batch, RefusalNotice> {
        self.rewrap_and_confirm(opened, items, &[]).await
    }

    pub(crate) async fn rewrap_and_confirm(
        &self,
        opened: &Opened,
        items: &[(&[u8], &Context, Option<&Context>)],
        confirms: &[ItemDigest],
    ) -> Result<Batch, RefusalNotice> {
        let body = RewrapBody::encode(&opened.head(), items, confirms);
        self.batch(opened, Verb::Rewrap, body).await
    }

    /// So many fresh wraps under one context, with their DEKs.
    pub(crate) async fn wraps(
        &self,
        opened: &Opened,
        context: &Context,
        count: usize,
    ) -> Vec<(Vec<u8>, [u8; 32])> {
        let made = self
            .generate(opened, &vec![context; count], true)
            .await
            .unwrap();
        let wraps = made.clear.wraps.unwrap().into_iter().map(Option::unwrap);
        wraps
            .zip(
                made.deks
                    .chunks_exact(32)
                    .map(|dek| dek.try_into().unwrap()),
            )
            .collect()
    }
}

fn claims(
    world: &World,
    dataset: DatasetId,
    proof: &ProofSecret,
    sealing_key: SealingKey,
    edit: impl FnOnce(&mut DatasetClaims),
) -> DatasetClaims {
    let now = world.clock.now();
    let attributes = Attributes {
        node: NodeId::new("123456789012", "eu-west-1", "i-0123456789abcdef0").unwrap(),
        availability_zone: "eu-west-1a".into(),
        image: "ami-0abc".into(),
        instance_type: "m7i.large".into(),
        launched_at: now.minus(600),
    };
    let common = Common {
        realm: REALM.into(),
        audience: Audience::KeyServer(world.server()),
        expires: now.plus(3_600),
        issued: now,
        id: TicketId::random(&mut rng()),
        proof_key: proof.public(),
        sealing_key,
        launch: LaunchId([3; 16]),
        attributes,
        evidence: EvidenceHash([4; 32]),
    };
    let mut claims = DatasetClaims {
        common,
        dataset,
        dataset_name: "faces".into(),
        actions: Actions::new(&Action::ALL).unwrap(),
        required: Context::default(),
        budget: 5_000,
        policy: PolicyDigest([5; 32]),
        parent: TicketId([6; 16]),
    };
    edit(&mut claims);
    claims
}

pub(crate) struct Job {
    pub(crate) ticket: Vec<u8>,
    pub(crate) claims: DatasetClaims,
    pub(crate) proof: ProofSecret,
    pub(crate) sealing: SealingSecret,
    /// Of its issue.
    pub(crate) receipt: Option<Receipt>,
}

pub(crate) struct Opened {
    pub(crate) connection: Arc<Connection>,
    pub(crate) handle: u64,
    pub(crate) session: Session,
    pub(crate) enc: Vec<u8>,
}

impl Opened {
    pub(crate) fn head(&self) -> BatchHead {
        BatchHead {
            handle: self.handle,
            ticket: self.session.ticket(),
            request: RequestId::random(&mut rng()),
        }
    }

    pub(crate) fn mac(&self, verb: Verb, body: &[u8]) -> Proof {
        let label = verb.request_label().unwrap();
        self.session.mac().authenticate(
            &self.connection.channel,
            label,
            self.session.ticket(),
            body,
        )
    }
}

#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) clear: Clear,
    pub(crate) entry: Entry,
    pub(crate) deks: Zeroizing<Vec<u8>>,
    pub(crate) sealed: Vec<u8>,
}

impl Batch {
    /// What each item was refused with.
    pub(crate) fn refusals(&self) -> Vec<Option<Refusal>> {
        self.clear
            .verdicts
            .iter()
            .map(|verdict| verdict.refusal())
            .collect()
    }
}
