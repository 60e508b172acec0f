//! Present, redeem, generate, rewrap: a dataset ticket in use at its key server
//! (`spec/protocol.md`, section 7).

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use ticket_format::cbor::{Decode, Encode, Writer};
use ticket_format::entry::Kind;
use ticket_format::ids::{ItemDigest, KekId, RequestHash, RequestId};
use ticket_format::key_pair::KeyPairKind;
use ticket_format::messages::batch::{
    BatchHead, GenerateBody, RedeemBody, RewrapBody, item_digest,
};
use ticket_format::messages::present::{PresentAnswer, PresentBody};
use ticket_format::messages::{BatchAnswer, Clear, Verb, Verdict};
use ticket_format::seal::{self, AnswerId, Session};
use ticket_format::secret::Dek;
use ticket_format::tlog::Verifier;
use ticket_format::wrapped::{Origin, Wrapped};
use ticket_format::{Context, Refusal, labels, limits};

use crate::error::Error;
use crate::issue::Opened;
use crate::logs::LoggedLink;
use crate::receipt::{self, Expected};
use crate::wallet::DatasetSession;

const SERVER: &str = "key server";

/// A DEK with what is known of it.
#[derive(Clone, Debug)]
pub struct Released {
    /// The DEK.
    pub dek: Dek,
    /// Where it came from, as the key server authenticated it (ORG-1).
    pub origin: Origin,
}

/// A new wrap, with its DEK when that was asked for.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The wrapped DEK.
    pub wrapped: Vec<u8>,
    /// The DEK.
    pub dek: Option<Dek>,
    /// Of a key pair: its public key, as SubjectPublicKeyInfo. Where the private part is there, it is known to
    /// fit it (GEN-2).
    pub public: Option<Vec<u8>>,
}

/// A ticket presented on one connection.
#[derive(Debug)]
pub struct Presented {
    link: LoggedLink,
    /// With the witnesses that the dataset requires.
    receipts: Option<Verifier>,
    opened: Opened,
    handle: u64,
    session: Session,
    accept_unsigned: bool,
}

impl Presented {
    /// Presents a dataset ticket on an open connection to its key server.
    ///
    /// # Errors
    /// The exchange failed, the key server refused, or its answer is not signed by the key server
    /// that the admin-signed record names.
    pub async fn present(
        logged: LoggedLink,
        session: &DatasetSession,
        opened: Opened,
    ) -> Result<Self, Error> {
        logged.is_of(opened.log_key())?;
        let witnesses = opened.witnesses()?;
        let link = logged.link();
        let body = PresentBody {
            ticket: session.ticket.clone(),
            // rule: PRE-5
            receipt: Some(session.receipt.clone()),
            // rule: EVD-3
            evidence: session.evidence.clone().filter(|_| opened.record.evidence),
        }
        .to_cbor();
        let ticket = Some(opened.hash);
        let channel = link.channel();
        // rule: PRE-1
        let proof = channel.sign_with(
            &session.secrets.proof,
            labels::PRESENT_REQUEST,
            ticket,
            &body,
        );
        // Together, for one round trip: nothing of the answer is used before the log is proven, and the
        // ticket alone, bound to this connection, is nothing that a server could misuse.
        let proofs = [proof];
        let (proven, answered) =
            tokio::join!(logged.proven(), link.call(Verb::Present, &body, &proofs));
        proven?;
        let (answer, signature) = answered.map_err(|error| match error.refusal() {
            // The owners have changed the dataset since the ticket was issued: the record that came
            // with it does not say so yet.
            Some(Refusal::Evidence) if session.evidence.is_none() => {
                Error::NoTicket("the dataset wants evidence by now; run `postern issue` again")
            }
            _ => error,
        })?;
        // rule: PRE-4
        let signature =
            signature.ok_or(Error::answer(SERVER, "its encapsulation is not signed"))?;
        channel
            .verify_with(
                &opened.record.server_key,
                labels::PRESENT_ANSWER,
                ticket,
                &answer,
                &signature,
            )
            .map_err(|_| {
                Error::answer(
                    SERVER,
                    "its encapsulation is not signed by the key server of the dataset record",
                )
            })?;
        let answer = PresentAnswer::from_cbor(&answer, limits::SMALL_MESSAGE)
            .map_err(Error::malformed(SERVER))?;
        if answer.dataset != opened.claims.dataset
            || answer.sealing_key != opened.claims.common.sealing_key.hash()
        {
            return Err(Error::answer(SERVER, "its encapsulation is to another key"));
        }
        // rule: SEAL-1
        let kem = session.secrets.sealing.kem();
        let info = seal::session_info(
            kem,
            &channel.realm,
            &channel.server,
            opened.hash,
            link.hpke_exporter(),
        );
        let exports = session.secrets.sealing.decapsulate(&answer.enc, &info);
        let exports =
            exports.map_err(|_| Error::answer(SERVER, "its encapsulation does not open"))?;
        Ok(Self {
            handle: answer.handle,
            session: Session::new(exports, opened.hash),
            // rule: TLOG-8
            receipts: witnesses.map(|policy| Verifier::new(opened.log_key().clone(), Some(policy))),
            link: logged,
            opened,
            accept_unsigned: false,
        })
    }

    /// Accepts DEKs that anybody who knows the dataset's public key could have wrapped (ORG-1).
    #[must_use]
    pub fn accept_unsigned(mut self, accept: bool) -> Self {
        self.accept_unsigned = accept;
        self
    }

    /// The ticket and the record behind it.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Whether the connection still stands.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.link.link().is_open()
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// As [`LoggedLink::close`]: what came over it is not to be used.
    pub async fn close(self) -> Result<(), Error> {
        self.link.close().await
    }

    fn head(&self, rng: &mut impl CryptoRng) -> BatchHead {
        BatchHead {
            handle: self.handle,
            ticket: self.opened.hash,
            request: RequestId::random(rng),
        }
    }

    /// Redeems 1 to 1,000 wrapped DEKs; one verdict each, in order.
    ///
    /// # Errors
    /// The exchange as a whole failed.
    pub async fn redeem(
        &self,
        items: &[(&[u8], &Context)],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<Result<Released, Refusal>>, Error> {
        let contexts: Vec<_> = items.iter().map(|(_, context)| context.to_cbor()).collect();
        let wraps = items.iter().map(|(wrapped, _)| *wrapped);
        let raw = wraps.zip(contexts.iter().map(Vec::as_slice));
        let body = RedeemBody::encode_raw(&self.head(rng), raw.clone());
        let digests = raw
            .map(|(wrapped, context)| item_digest(wrapped, context))
            .collect();
        let sent = Sent {
            digests: Digests::Known(digests),
            under: versions(items.iter().map(|(wrapped, _)| *wrapped)),
            confirmed: Vec::new(),
        };
        let (clear, deks) = self.batch(Verb::Redeem, Kind::Redeem, &body, sent).await?;
        let mut deks = deks.chunks_exact(32);
        clear
            .verdicts
            .iter()
            .map(|verdict| match verdict {
                Verdict::Refused(refusal) => Ok(Err(*refusal)),
                Verdict::Done(origin) => {
                    let dek = next_dek(&mut deks)?;
                    // rule: ORG-1
                    if *origin == Origin::PublicUnsigned && !self.accept_unsigned {
                        return Ok(Err(Refusal::Producer));
                    }
                    Ok(Ok(Released {
                        dek,
                        origin: *origin,
                    }))
                }
            })
            .collect()
    }

    /// Has 1 to 1,000 DEKs made, one for each context; or key pairs of a kind, which each context names.
    ///
    /// # Errors
    /// The exchange as a whole failed.
    pub async fn generate(
        &self,
        contexts: &[&Context],
        with_deks: bool,
        key_pair: Option<KeyPairKind>,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<Result<Generated, Refusal>>, Error> {
        // rule: GEN-1
        let body = GenerateBody::encode(&self.head(rng), contexts, with_deks, key_pair);
        let encoded = contexts.iter().map(|context| context.to_cbor()).collect();
        let sent = Sent {
            digests: Digests::OfNewWraps(encoded),
            under: Vec::new(),
            confirmed: Vec::new(),
        };
        let (clear, deks) = self
            .batch(Verb::Generate, Kind::Generate, &body, sent)
            .await?;
        let mut deks = deks.chunks_exact(32);
        let wraps = clear.wraps.unwrap_or_default();
        let mut publics = clear.publics.unwrap_or_default().into_iter();
        clear
            .verdicts
            .iter()
            .zip(wraps)
            .map(|(verdict, wrapped)| (verdict, wrapped, publics.next().flatten()))
            .map(|made| match made {
                (Verdict::Refused(refusal), None, None) => Ok(Err(*refusal)),
                (Verdict::Done(Origin::Generated), Some(wrapped), public) => {
                    self.check_wrap(&wrapped)?;
                    let dek = if with_deks {
                        Some(next_dek(&mut deks)?)
                    } else {
                        None
                    };
                    fits(key_pair, dek.as_ref(), public.as_deref())?;
                    Ok(Ok(Generated {
                        wrapped,
                        dek,
                        public,
                    }))
                }
                _ => Err(Error::answer(SERVER, "verdicts and wraps do not fit")),
            })
            .collect()
    }

    /// Has up to 500 wrapped DEKs wrapped anew under the current KEK version; and says which wraps of earlier
    /// rewraps stand where they were made for, as [`item_digest`] names them, up to 500.
    ///
    /// # Errors
    /// The exchange as a whole failed.
    pub async fn rewrap(
        &self,
        items: &[(&[u8], &Context, Option<&Context>)],
        confirms: &[ItemDigest],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<Result<Vec<u8>, Refusal>>, Error> {
        // rule: REW-1
        let body = RewrapBody::encode(&self.head(rng), items, confirms);
        let digests = Digests::OfMoved {
            old: items
                .iter()
                .map(|(wrapped, context, _)| item_digest(wrapped, &context.to_cbor()))
                .collect(),
            contexts: items
                .iter()
                .map(|(_, context, new)| new.unwrap_or(context).to_cbor())
                .collect(),
        };
        let sent = Sent {
            digests,
            under: versions(items.iter().map(|(wrapped, ..)| *wrapped)),
            confirmed: confirms.to_vec(),
        };
        let (clear, _) = self.batch(Verb::Rewrap, Kind::Rewrap, &body, sent).await?;
        let wraps = clear.wraps.unwrap_or_default();
        clear
            .verdicts
            .iter()
            .zip(wraps)
            .zip(items)
            .map(|((verdict, wrapped), (old, ..))| match (verdict, wrapped) {
                (Verdict::Refused(refusal), None) => Ok(Err(*refusal)),
                (Verdict::Done(_), Some(wrapped)) => {
                    let new = self.check_wrap(&wrapped)?;
                    let old = Wrapped::parse(old)
                        .map_err(Error::malformed(SERVER))?
                        .header()
                        .dek;
                    if new != old {
                        return Err(Error::answer(SERVER, "a new wrap is of another DEK"));
                    }
                    Ok(Ok(wrapped))
                }
                _ => Err(Error::answer(SERVER, "verdicts and wraps do not fit")),
            })
            .collect()
    }

    fn check_wrap(&self, wrapped: &[u8]) -> Result<ticket_format::ids::DekId, Error> {
        let parsed = Wrapped::parse(wrapped).map_err(Error::malformed(SERVER))?;
        if parsed.header().dataset != self.opened.claims.dataset {
            return Err(Error::answer(SERVER, "a new wrap is of another dataset"));
        }
        Ok(parsed.header().dek)
    }

    async fn batch(
        &self,
        verb: Verb,
        kind: Kind,
        body: &[u8],
        Sent {
            digests,
            under,
            confirmed,
        }: Sent,
    ) -> Result<(Clear, zeroize::Zeroizing<Vec<u8>>), Error> {
        let label = verb.request_label().unwrap_or_default();
        let ticket = self.opened.hash;
        // rule: RED-1
        let proof =
            self.session
                .mac()
                .authenticate(self.link.link().channel(), label, ticket, body);
        let (answer, _) = self.link.link().call(verb, body, &[proof]).await?;
        let answer =
            BatchAnswer::from_cbor(&answer, limits::MESSAGE).map_err(Error::malformed(SERVER))?;
        let clear =
            Clear::from_cbor(&answer.clear, limits::MESSAGE).map_err(Error::malformed(SERVER))?;
        let request = RequestHash(Sha256::digest(body).into());
        // rule: RED-5
        if clear.ticket != ticket || clear.request != request {
            return Err(Error::answer(SERVER, "it is of another request"));
        }
        let (moved, current) = (digests.moved(&clear), new_versions(&clear));
        let items = digests
            .with_verdicts(&clear)
            .ok_or(Error::answer(SERVER, "verdicts and items do not fit"))?;
        let policy = self.receipts.as_ref();
        let expected = Expected {
            kind,
            ticket,
            request,
            items,
            under,
            moved,
            current,
            confirmed,
        };
        receipt::check_batch(&self.link, &clear.receipt, policy, &expected).await?;
        let id = AnswerId {
            verb,
            request,
            salt: clear.salt,
        };
        let deks = if answer.sealed.is_empty() {
            zeroize::Zeroizing::default()
        } else {
            self.session
                .open(&id, &answer.clear, &answer.sealed)
                .map_err(|_| Error::answer(SERVER, "its sealed part does not open"))?
        };
        let released = clear
            .verdicts
            .iter()
            .filter(|verdict| verdict.refusal().is_none())
            .count();
        if deks.len() != released * 32 && !deks.is_empty() {
            return Err(Error::answer(SERVER, "verdicts and DEKs do not fit"));
        }
        Ok((clear, deks))
    }
}

/// Checks that a public key is there where a key pair was asked for, and that it is that of the private part.
fn fits(
    key_pair: Option<KeyPairKind>,
    private: Option<&Dek>,
    public: Option<&[u8]>,
) -> Result<(), Error> {
    let wrong = Error::answer(SERVER, "private part and public key are no pair");
    match (key_pair, private, public) {
        (None, _, None) | (Some(_), None, Some(_)) => Ok(()),
        // rule: GEN-2
        (Some(kind), Some(private), Some(public))
            if kind.public(private).as_deref() == Ok(public) =>
        {
            Ok(())
        }
        _ => Err(wrong),
    }
}

/// What was sent, as its entry must say it.
struct Sent {
    digests: Digests,
    /// Under which version each wrap is; empty where none was sent.
    under: Vec<Option<KekId>>,
    confirmed: Vec<ItemDigest>,
}

/// Under which versions these wraps are, as they say themselves.
fn versions<'a>(wraps: impl Iterator<Item = &'a [u8]>) -> Vec<Option<KekId>> {
    let version = |wrap| Some(Wrapped::parse(wrap).ok()?.header().kek);
    wraps.map(version).collect()
}

/// Under which versions the new wraps of an answer are.
fn new_versions(clear: &Clear) -> Vec<KekId> {
    let wraps = clear.wraps.iter().flatten().flatten();
    let mut keks = versions(wraps.map(Vec::as_slice));
    keks.dedup();
    // One that is no wrap is refused where it is read.
    keks.into_iter().flatten().collect()
}

/// How the items of a batch are named in its entry.
enum Digests {
    /// By what was sent.
    Known(Vec<ItemDigest>),
    /// By the new wrap and the context that was sent; a refused one by an empty wrap.
    OfNewWraps(Vec<Vec<u8>>),
    /// By what was sent; and the new wraps, each by itself and its context.
    OfMoved {
        old: Vec<ItemDigest>,
        contexts: Vec<Vec<u8>>,
    },
}

impl Digests {
    /// How the new wraps of a rewrap must be named in its entry.
    fn moved(&self, clear: &Clear) -> Vec<ItemDigest> {
        // rule: REW-1
        let Self::OfMoved { contexts, .. } = self else {
            return Vec::new();
        };
        let wraps = clear.wraps.iter().flatten().zip(contexts);
        wraps
            .filter_map(|(wrap, context)| Some(item_digest(wrap.as_deref()?, context)))
            .collect()
    }

    fn with_verdicts(self, clear: &Clear) -> Option<Vec<(ItemDigest, Option<Refusal>)>> {
        let digests = match self {
            Self::Known(digests) | Self::OfMoved { old: digests, .. } => digests,
            Self::OfNewWraps(contexts) => {
                let wraps = clear
                    .wraps
                    .as_ref()
                    .filter(|wraps| wraps.len() == contexts.len())?;
                let digest = |(wrap, context): (&Option<Vec<u8>>, &Vec<u8>)| {
                    item_digest(wrap.as_deref().unwrap_or_default(), context)
                };
                wraps.iter().zip(&contexts).map(digest).collect()
            }
        };
        let fits = digests.len() == clear.verdicts.len();
        fits.then(|| {
            digests
                .into_iter()
                .zip(clear.verdicts.iter().map(|verdict| verdict.refusal()))
                .collect()
        })
    }
}

fn next_dek(deks: &mut std::slice::ChunksExact<'_, u8>) -> Result<Dek, Error> {
    let bytes = deks.next().and_then(|dek| <[u8; 32]>::try_from(dek).ok());
    bytes
        .map(Dek::from_bytes)
        .ok_or(Error::answer(SERVER, "verdicts and DEKs do not fit"))
}

/// The encoded context map, as digests and object bodies take it.
#[must_use]
pub fn raw_context(context: &Context) -> Vec<u8> {
    let mut writer = Writer::new();
    context.encode(&mut writer);
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_that_of_the_private_part_or_nothing_is_used() {
        // rule: GEN-2
        let private = Dek::from_bytes([7; 32]);
        for kind in KeyPairKind::ALL {
            let good = kind.public(&private).unwrap();
            let other = kind.public(&Dek::from_bytes([8; 32])).unwrap();
            let fits = |private: Option<&Dek>, public: Option<&[u8]>| {
                fits(Some(*kind), private, public).is_ok()
            };
            assert!(fits(Some(&private), Some(&good)));
            assert!(fits(None, Some(&good)));
            assert!(!fits(Some(&private), Some(&other)));
            assert!(!fits(Some(&private), None) && !fits(None, None));
        }
        assert!(fits(None, Some(&private), None).is_ok());
        assert!(fits(None, Some(&private), Some(&[1; 44])).is_err());
    }
}
