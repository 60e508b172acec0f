//! Present, and what a presented ticket is used for: redeem, generate, rewrap.

use ticket_format::Context;
use ticket_format::cbor::{Encode, Writer};
use ticket_format::entry::Kind;
use ticket_format::ids::{ItemDigest, RequestHash, TicketHash};
use ticket_format::labels;
use ticket_format::messages::batch::{
    BatchHead, GenerateBody, RedeemBody, RewrapBody, item_digest,
};
use ticket_format::messages::present::{PresentAnswer, PresentBody};
use ticket_format::messages::{Answer, BatchAnswer, Clear, Request, Verb, Verdict};
use ticket_format::seal::{self, AnswerId, Exports, SealingSecret, Session};
use ticket_format::secret::Dek;
use ticket_format::ticket;
use ticket_format::wrapped::{Header, Origin, local};

use super::case::Case;
use super::rng::Fixed;
use super::tickets::EVIDENCE;
use super::world::{
    AUTHENTICATOR, DATASET, DEK, HPKE, KEK, REALM, REQUEST, World, ed25519, identity, signed_input,
};

const SALT: [u8; 32] = [0x71; 32];

/// A ticket presented, seen from both ends, and the vector that says so.
struct Presented {
    case: Case,
    ticket: TicketHash,
    session: Session,
    /// The same exports again: a session does not give its own away.
    exports: Exports,
}

pub(super) fn cases(world: &World) -> Vec<Case> {
    let x_wing = present(
        world,
        &world.job_sealing,
        "session/present-x-wing",
        "PRE-2, SEAL-1: a ticket presented; X-Wing.",
    );
    let x25519 = present(
        world,
        &world.job_x25519,
        "session/present-x25519",
        "PRE-2, SEAL-1: a ticket presented; X25519.",
    );
    vec![
        redeem(
            world,
            &x_wing,
            "session/redeem",
            "RED-5, SEAL-3, SEAL-4: two items redeemed, one of them refused; X-Wing.",
        ),
        redeem(
            world,
            &x25519,
            "session/redeem-x25519",
            "RED-5, SEAL-3, SEAL-4: two items redeemed, one of them refused; X25519.",
        ),
        generate(world, &x_wing),
        rewrap(world, &x_wing),
        x_wing.case,
        x25519.case,
    ]
}

/// An encapsulation to this ticket's key, always the same one.
fn encapsulate(secret: &SealingSecret, info: &[u8]) -> Vec<u8> {
    // The keys are constants of ours, so neither is of low order.
    #[allow(clippy::expect_used)]
    seal::encapsulate(
        &secret.public(),
        info,
        &mut Fixed::new("postern vectors: session"),
    )
    .expect("a usable key")
    .0
}

fn present(world: &World, secret: &SealingSecret, path: &str, about: &str) -> Presented {
    let ticket = ticket::sign(&world.dataset_claims(EVIDENCE, secret), &world.ticket);
    let hash = ticket::hash(&ticket);
    let receipt = world.broker_log.witnessed(&world.issued(&ticket));
    let body = PresentBody {
        ticket: ticket.clone(),
        receipt: Some(receipt),
        evidence: None,
    }
    .to_cbor();
    let server = world.server_tls.public();
    let input = signed_input(
        labels::PRESENT_REQUEST,
        &identity(server),
        Some(AUTHENTICATOR),
        Some(&hash.0),
        &body,
    );
    let proof =
        world
            .to_server()
            .sign_with(&world.job_proof, labels::PRESENT_REQUEST, Some(hash), &body);
    assert_eq!(
        proof.value,
        ed25519(&world.job_proof.seed(), &input),
        "present is signed over SIG-1's array"
    );
    let request = Request {
        verb: Verb::Present,
        body: body.clone(),
        proofs: vec![proof],
    }
    .to_bytes();

    let info = seal::session_info(secret.kem(), REALM, &server, hash, HPKE);
    let enc = encapsulate(secret, &info);
    #[allow(clippy::expect_used)]
    let open = || {
        secret
            .decapsulate(&enc, &info)
            .expect("it was made for this key")
    };
    let answer = PresentAnswer {
        handle: 1,
        enc: enc.clone(),
        dataset: DATASET,
        sealing_key: secret.public().hash(),
    }
    .to_cbor();
    let proof =
        world
            .to_server()
            .sign_with(&world.server, labels::PRESENT_ANSWER, Some(hash), &answer);
    let signed = signed_input(
        labels::PRESENT_ANSWER,
        &identity(server),
        Some(AUTHENTICATOR),
        Some(&hash.0),
        &answer,
    );
    assert_eq!(
        proof.value,
        ed25519(&world.server.seed(), &signed),
        "the answer is signed over SIG-1's array"
    );
    let whole = Answer::Done {
        verb: Verb::Present,
        body: answer.clone(),
        proof: Some(proof),
    }
    .to_bytes();
    let exports = open();
    let mac = mac_context(hash);
    let case = Case::new(path, about)
        .input("keys", "world.json")
        .input("kem", secret.kem().id())
        .given("sealing_seed", secret.seed().expose())
        .given("ticket", &ticket)
        .gives("ticket_hash", hash.0)
        .gives_item("body", "present-body", &body)
        .gives_item("signed", "signed", &input)
        .gives_item("request", "request", &request)
        .gives("info", &info)
        .gives("enc", &enc)
        .gives_item("answer_body", "present-answer", &answer)
        .gives_item("answer_signed", "signed", &signed)
        .gives_item("answer", "answer", &whole)
        .gives("mac_exporter_context", &mac)
        .gives("mac_key", exports.export::<32>(&mac).as_slice());
    Presented {
        case,
        ticket: hash,
        session: Session::new(open(), hash),
        exports,
    }
}

/// `["postern/1 request mac", ticket hash]` (SEAL-3).
fn mac_context(ticket: TicketHash) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(2).text(labels::REQUEST_MAC).bytes(&ticket.0);
    writer.into_bytes()
}

/// `["postern/1 answer key", verb, ticket hash, request hash, salt]` (SEAL-4).
fn answer_context(verb: Verb, ticket: TicketHash, request: RequestHash) -> Vec<u8> {
    let mut writer = Writer::new();
    writer
        .array(5)
        .text(labels::ANSWER_KEY)
        .uint(verb.number())
        .bytes(&ticket.0)
        .bytes(&request.0)
        .bytes(&SALT);
    writer.into_bytes()
}

fn head(presented: &Presented) -> BatchHead {
    BatchHead {
        handle: 1,
        ticket: presented.ticket,
        request: REQUEST,
    }
}

fn dek() -> Dek {
    Dek::from_bytes([0x81; 32])
}

fn header() -> Header {
    Header {
        dataset: DATASET,
        kek: KEK,
        kek_version: 1,
        dek: DEK,
    }
}

fn wrap(world: &World, context: &Context) -> Vec<u8> {
    local::wrap(
        &world.kek,
        REALM,
        &header(),
        Origin::Generated,
        &context.to_cbor(),
        &dek(),
        &mut Fixed::new("postern vectors: wrap"),
    )
}

/// Request with its MAC, answer with its sealed part: the same for all three verbs.
fn batch(
    world: &World,
    presented: &Presented,
    case: Case,
    (verb, rule): (Verb, &'static str),
    body: &[u8],
    clear: impl FnOnce(RequestHash) -> Clear,
    deks: &[u8],
) -> Case {
    let label = verb.request_label().unwrap_or_default();
    let server = world.server_tls.public();
    let input = signed_input(
        label,
        &identity(server),
        Some(AUTHENTICATOR),
        Some(&presented.ticket.0),
        body,
    );
    let mac =
        presented
            .session
            .mac()
            .authenticate(&world.to_server(), label, presented.ticket, body);
    let request = RequestHash::of(body);
    let clear = clear(request).to_cbor();
    let id = AnswerId {
        verb,
        request,
        salt: SALT,
    };
    // A batch of a few keys is far from what an AEAD refuses.
    let sealed = if deks.is_empty() {
        Vec::new()
    } else {
        presented
            .session
            .seal(&id, &clear, deks)
            .unwrap_or_default()
    };
    let context = answer_context(verb, presented.ticket, request);
    let answer = BatchAnswer {
        clear: clear.clone(),
        sealed: sealed.clone(),
    };
    case.input("keys", "world.json")
        .given("ticket_hash", presented.ticket.0)
        .given("salt", SALT)
        .given("deks", deks)
        .gives_item("body", rule, body)
        .gives("request_hash", request.0)
        .gives_item("authenticated", "signed", &input)
        .gives("mac", &mac.value)
        .gives_item(
            "request",
            "request",
            Request {
                verb,
                body: body.to_vec(),
                proofs: vec![mac],
            }
            .to_bytes(),
        )
        .gives_item("clear", "clear", &clear)
        .gives("answer_exporter_context", &context)
        .gives(
            "answer_key",
            presented.exports.export::<32>(&context).as_slice(),
        )
        .gives("sealed", &sealed)
        .gives_item("answer_body", "batch-answer", answer.to_cbor())
        .gives_item("answer", "answer", Answer::done(verb, &answer).to_bytes())
}

fn redeem(world: &World, presented: &Presented, path: &str, about: &str) -> Case {
    let (context, wrapped) = (World::context(), wrap(world, &World::context()));
    let mut damaged = wrapped.clone();
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    let body = RedeemBody::encode(
        &head(presented),
        &[(&wrapped, &context), (&damaged, &context)],
    );
    let digest = |wrapped: &[u8]| item_digest(wrapped, &context.to_cbor());
    let refused = ticket_format::Refusal::WrapAuthentication;
    let items = vec![(digest(&wrapped), Ok(())), (digest(&damaged), Err(refused))];
    let case = Case::new(path, about)
        .given("wrapped", &wrapped)
        .given("damaged", &damaged)
        .given("context", context.to_cbor());
    batch(
        world,
        presented,
        case,
        (Verb::Redeem, "redeem-body"),
        &body,
        |request| Clear {
            verdicts: vec![Verdict::Done(Origin::Generated), Verdict::Refused(refused)],
            ticket: presented.ticket,
            request,
            salt: SALT,
            receipt: world.server_log.witnessed(
                &world
                    .entry(Kind::Redeem)
                    .ticket_hash(presented.ticket)
                    .request(request)
                    .items(items)
                    .keks(vec![header().kek], vec![0]),
            ),
            wraps: None,
            publics: None,
        },
        dek().expose(),
    )
}

fn generate(world: &World, presented: &Presented) -> Case {
    let context = World::context();
    let wrapped = wrap(world, &context);
    let body = GenerateBody::encode(&head(presented), &[&context], true, None);
    let items = vec![(item_digest(&wrapped, &context.to_cbor()), Ok(()))];
    let case = Case::new(
        "session/generate",
        "GEN-1: one DEK made, with the sealed copy.",
    )
    .given("context", context.to_cbor());
    batch(
        world,
        presented,
        case,
        (Verb::Generate, "generate-body"),
        &body,
        |request| Clear {
            verdicts: vec![Verdict::Done(Origin::Generated)],
            ticket: presented.ticket,
            request,
            salt: SALT,
            receipt: world.server_log.witnessed(
                &world
                    .entry(Kind::Generate)
                    .ticket_hash(presented.ticket)
                    .request(request)
                    .items(items)
                    .kek(header().kek),
            ),
            wraps: Some(vec![Some(wrapped)]),
            publics: None,
        },
        dek().expose(),
    )
}

fn rewrap(world: &World, presented: &Presented) -> Case {
    let context = World::context();
    let old = wrap(world, &context);
    let new_header = Header {
        kek_version: 2,
        kek: ticket_format::ids::KekId([0x2e; 16]),
        ..header()
    };
    let new_kek = ticket_format::secret::Kek::from_bytes([17; 32]);
    let rng = &mut Fixed::new("postern vectors: wrapped anew");
    let new = local::wrap(
        &new_kek,
        REALM,
        &new_header,
        Origin::Generated,
        &context.to_cbor(),
        &dek(),
        rng,
    );
    // The new wrap of an earlier rewrap, whose object stands in its place by now.
    let in_place = ItemDigest([0x56; 32]);
    let body = RewrapBody::encode(&head(presented), &[(&old, &context, None)], &[in_place]);
    let items = vec![(item_digest(&old, &context.to_cbor()), Ok(()))];
    let moved = item_digest(&new, &context.to_cbor());
    let case = Case::new(
        "session/rewrap",
        "REW-1, REW-2, INV-1: one DEK moved to KEK version 2, no plaintext leaves; another one's new wrap stands in its place. The entry names both versions and the new wrap.",
    )
    .given("wrapped", &old)
    .given("context", context.to_cbor())
    .given("kek_2", new_kek.expose())
    .given("kek_2_id", new_header.kek.0)
    .given("in_place", in_place.0)
    .gives("moved", moved.0);
    batch(
        world,
        presented,
        case,
        (Verb::Rewrap, "rewrap-body"),
        &body,
        |request| Clear {
            verdicts: vec![Verdict::Done(Origin::Generated)],
            ticket: presented.ticket,
            request,
            salt: SALT,
            receipt: world.server_log.witnessed(
                &world
                    .entry(Kind::Rewrap)
                    .ticket_hash(presented.ticket)
                    .request(request)
                    .items(items)
                    .keks(vec![header().kek], vec![0])
                    .kek(new_header.kek)
                    .moved(vec![moved])
                    .confirmed(vec![in_place]),
            ),
            wraps: Some(vec![Some(new)]),
            publics: None,
        },
        &[],
    )
}
