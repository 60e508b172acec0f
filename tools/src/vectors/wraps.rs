//! Wrapped DEKs, both kinds.

use ticket_format::cbor::{Encode, Writer};
use ticket_format::labels;
use ticket_format::messages::batch::item_digest;
use ticket_format::secret::Dek;
use ticket_format::wrapped::public::{self, Upload};
use ticket_format::wrapped::{Header, Origin, Wrapped, local, object_context};

use super::case::Case;
use super::rng::Fixed;
use super::world::{DATASET, DEK, KEK, REALM, World, signed_input};

const BODY_COMMITMENT: [u8; 32] = [0x91; 32];

pub(super) fn cases(world: &World) -> Vec<Case> {
    vec![
        local_wrap(world),
        public_wrap(
            world,
            false,
            "wrapped/public-unsigned",
            "WRAP-3: a wrap that a producer made offline, unsigned.",
        ),
        public_wrap(
            world,
            true,
            "wrapped/public-signed",
            "WRAP-3, WRAP-4: a wrap that a producer made offline and signed.",
        ),
    ]
}

fn write_header(writer: &mut Writer, header: &Header) {
    writer
        .bytes(&header.dataset.0)
        .bytes(&header.kek.0)
        .uint(header.kek_version)
        .bytes(&header.dek.0);
}

fn local_wrap(world: &World) -> Case {
    let (header, context) = (
        Header {
            dataset: DATASET,
            kek: KEK,
            kek_version: 1,
            dek: DEK,
        },
        World::context().to_cbor(),
    );
    let dek = Dek::from_bytes([0x81; 32]);
    let wrapped = local::wrap(
        &world.kek,
        REALM,
        &header,
        Origin::Generated,
        &context,
        &dek,
        &mut Fixed::new("postern vectors: wrap"),
    );
    let mut associated = Writer::new();
    associated.array(9).text(labels::WRAP).text(REALM).uint(1);
    write_header(&mut associated, &header);
    associated.uint(0).raw(&context);
    Case::new("wrapped/local", "WRAP-2: a wrap that a key server made.")
        .input("keys", "world.json")
        .given("dek", dek.expose())
        .given("context", &context)
        .gives("associated_data", associated.into_bytes())
        .gives_item("wrapped", "wrapped-dek", &wrapped)
        .gives("item_digest", item_digest(&wrapped, &context).0)
        .gives("object_context", object_context(REALM, &header, &context))
}

/// One upload's first object. Everything random comes from one fixed stream.
pub(super) fn made(world: &World, signed: bool) -> (Vec<u8>, Dek) {
    let rng = &mut Fixed::new("postern vectors: upload");
    // The dataset's key is a constant of ours and X-Wing's.
    #[allow(clippy::expect_used)]
    let upload =
        Upload::begin(REALM, DATASET, KEK, 1, &world.dataset.public(), rng).expect("a usable key");
    let (dek, pending) = upload.object(World::context().to_cbor(), rng);
    (
        upload.finish(&pending, BODY_COMMITMENT, signed.then_some(&world.producer)),
        dek,
    )
}

fn public_wrap(world: &World, signed: bool, path: &str, about: &str) -> Case {
    let (wrapped, dek) = made(world, signed);
    let context = World::context().to_cbor();
    let case = Case::new(path, about)
        .input("keys", "world.json")
        .given("context", &context)
        .given("body_commitment", BODY_COMMITMENT)
        .gives_item("wrapped", "wrapped-dek", &wrapped)
        .gives("item_digest", item_digest(&wrapped, &context).0)
        .gives("dek", dek.expose());
    let Ok(Wrapped::Public {
        header,
        enc,
        commitment,
        producer,
    }) = Wrapped::parse(&wrapped)
    else {
        return case;
    };
    let mut info = Writer::new();
    info.array(5)
        .text(labels::PUBLIC)
        .array(3)
        .uint(25_722)
        .uint(1)
        .uint(3)
        .text(REALM)
        .bytes(&DATASET.0)
        .bytes(&KEK.0);
    let mut export = Writer::new();
    export.array(7).text(labels::PUBLIC_WRAP).text(REALM);
    write_header(&mut export, &header);
    export.raw(&context);
    let (info, export) = (info.into_bytes(), export.into_bytes());
    #[allow(clippy::expect_used)]
    let exports =
        public::open_upload(&world.dataset, REALM, &header, enc).expect("it was made for this key");
    let both = exports.export::<64>(&export);
    assert!(
        both[..32] == dek.expose()[..] && both[32..] == commitment,
        "the export is DEK and commitment"
    );
    let case = case
        .gives("dek_id", header.dek.0)
        .gives("enc", enc)
        .gives("info", info)
        .gives("exporter_context", export)
        .gives("export", both.as_slice());
    let Some(claim) = producer else { return case };
    let mut body = Writer::new();
    body.array(8);
    write_header(&mut body, &header);
    body.bytes(&sha256(enc))
        .bytes(&commitment)
        .raw(&context)
        .bytes(&BODY_COMMITMENT);
    let body = body.into_bytes();
    let input = signed_input(labels::PRODUCER, &DATASET.0, None, None, &body);
    assert_eq!(
        claim.signature.value,
        super::world::ed25519(&world.producer.seed(), &input)
    );
    case.gives("producer_body", body)
        .gives_item("producer_signed", "signed", input)
        .gives("producer_signature", claim.signature.value)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}
