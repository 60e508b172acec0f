//! Encrypting without any server: the dataset record, the producer's signature, who is refused.

mod cli_support;

use std::collections::BTreeMap;

use cli_support::log::TestLog;
use cli_support::{Home, admin_set, now, owners, rng, tls_key};
use client::object::{BodyHeader, Decryptor, HEADER_LEN, ObjectContext, container};
use client::redeem::raw_context;
use ticket_format::Context;
use ticket_format::cbor::Encode as _;
use ticket_format::ids::{DatasetId, KekId, StatementId};
use ticket_format::keys::{AdminSecret, ProducerKey, ServerSecret};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::secret::SealingSeed;
use ticket_format::statement::{DatasetRecord, Payload, Role, Witnessing};
use ticket_format::wrapped::{Origin, Wrapped, object_context, public};

const REALM: &str = "example.org";

fn dataset_secret() -> SealingSecret {
    SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([22; 32]))
}

/// A home with `faces.record`, which names these producers.
fn home(producers: Vec<ProducerKey>) -> Home {
    let home = Home::new();
    let record = DatasetRecord {
        recipients: Default::default(),
        class: Default::default(),
        dataset: DatasetId([1; 16]),
        name: "faces".to_owned(),
        tags: BTreeMap::new(),
        tls_key: tls_key(),
        server_key: ServerSecret::from_seed(&[23; 32]).public(),
        addresses: vec!["127.0.0.1:1".to_owned()],
        kek: KekId([2; 16]),
        kek_version: 3,
        public_key: dataset_secret().public(),
        producers,
        kems: vec![Kem::XWing],
        max_budget: 1_000,
        max_life: 3_600,
        owners: {
            let mut keys = owners().map(|owner| owner.public()).to_vec();
            keys.sort();
            keys
        },
        lease: 5,
        evidence: false,
        follows: DatasetRecord::FIRST,
        log_key: TestLog::new(REALM, Role::KeyServer, &tls_key(), 32).key(),
        witnessing: Witnessing::none(),
    };
    let payload = Payload::record(StatementId::random(&mut rng()), REALM, now(), &record);
    let [one, two] = owners();
    let statement = payload.sign(&[&one, &two]).unwrap();
    std::fs::write(home.path("faces.record"), statement).unwrap();
    std::fs::write(home.path("alone.record"), payload.sign(&[&one]).unwrap()).unwrap();
    let set = admin_set(&owners());
    std::fs::write(home.path("admin-set"), set.body().to_cbor()).unwrap();
    let payload = Payload::record(StatementId::random(&mut rng()), REALM, now(), set.body());
    let statement = payload.sign(&[&one, &two]).unwrap();
    std::fs::write(home.path("admin-set.statement"), statement).unwrap();
    std::fs::write(home.path("plain"), b"some faces").unwrap();
    home
}

impl Home {
    fn encrypt(&self, record: &str, set: &str, more: &[&str]) -> cli_support::Said {
        let [from, to, record, set] = ["plain", "out.postern", record, set].map(|n| self.path(n));
        let arguments = [
            "encrypt",
            &from,
            &to,
            "--record",
            &record,
            "--admin-set",
            &set,
        ];
        self.run(&[&arguments[..], more].concat())
    }

    /// Opens what was encrypted as the key server and a reader would.
    fn open(&self, producers: &[ProducerKey]) -> (Vec<u8>, Origin) {
        let bytes = std::fs::read(self.path("out.postern")).unwrap();
        let (prefix, rest) = bytes.split_at(container::PREFIX_LEN);
        let (map, body) = rest.split_at(container::map_len(prefix).unwrap());
        let metadata = container::parse(map).unwrap();
        assert_eq!(metadata.kek_version, 3);
        let context = Context::new(metadata.context_for("out").unwrap()).unwrap();
        let raw = raw_context(&context);
        let wrapped = Wrapped::parse(&metadata.wrapped).unwrap();
        let Wrapped::Public {
            header,
            enc,
            commitment,
            producer,
        } = &wrapped
        else {
            panic!("a public wrap");
        };
        let exports = public::open_upload(&dataset_secret(), REALM, header, enc).unwrap();
        let dek = public::unwrap(&exports, REALM, header, &raw, commitment).unwrap();
        if let Some(claim) = producer {
            public::verify_producer(producers, REALM, header, enc, commitment, &raw, claim)
                .unwrap();
            let body = BodyHeader::from_bytes(&body[..HEADER_LEN]).unwrap();
            assert_eq!(claim.body_commitment, body.commitment);
        }
        let context = ObjectContext::new(object_context(REALM, header, &raw));
        let mut decryptor = Decryptor::new(dek.expose(), &context);
        let mut plain = Vec::new();
        decryptor.update(body, &mut plain).unwrap();
        decryptor.finish(&mut plain).unwrap();
        (plain, wrapped.claimed_origin())
    }
}

#[test]
fn with_the_record_alone_a_file_is_encrypted_that_the_dataset_can_open() {
    // rule: WRAP-3, ORG-1
    let home = home(Vec::new());
    let said = home.encrypt("faces.record", "admin-set", &["--format", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let object: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&object["done"], &object["bytes"]), (&1.into(), &10.into()));
    let (plain, origin) = home.open(&[]);
    assert_eq!(
        (plain.as_slice(), origin),
        (&b"some faces"[..], Origin::PublicUnsigned)
    );
}

#[test]
fn a_registered_producer_signs_for_dek_context_and_body() {
    // rule: WRAP-4
    let made = Home::new();
    let secret = made.path("producer");
    let key: ProducerKey = made
        .run(&["producer", "init", "--out", &secret])
        .out
        .trim()
        .parse()
        .unwrap();
    let home = home(vec![key]);
    let more = ["--producer", &secret];
    let said = home.encrypt("faces.record", "admin-set.statement", &more);
    assert_eq!(said.code, 0, "{said:?}");
    let (plain, origin) = home.open(&[key]);
    assert_eq!(
        (plain.as_slice(), origin),
        (&b"some faces"[..], Origin::PublicSigned(key.id()))
    );
}

#[test]
fn a_record_that_the_admin_set_does_not_authorise_is_not_believed() {
    // rule: ISS-6, SET-2, SET-5
    let home = home(Vec::new());
    let others = admin_set(&[98, 99].map(|seed| AdminSecret::from_seed(&[seed; 32])));
    std::fs::write(home.path("others"), others.body().to_cbor()).unwrap();
    std::fs::write(home.path("no-set"), b"0a0b").unwrap();
    for (record, set, code) in [
        ("faces.record", "others", 9),
        ("alone.record", "admin-set", 9),
        ("faces.record", "no-set", 10),
        ("faces.record", "plain", 10),
        ("faces.record", "missing", 10),
    ] {
        let said = home.encrypt(record, set, &[]);
        assert_eq!(said.code, code, "{record} by {set}: {said:?}");
        assert!(!cli_support::exists(home.path("out.postern").as_ref()));
    }
}

#[test]
fn a_record_that_admins_who_do_not_own_the_dataset_signed_is_not_believed() {
    // rule: SET-5
    let home = home(Vec::new());
    let [one, two] = owners();
    let stranger = AdminSecret::from_seed(&[77; 32]);
    let set = admin_set(&[
        AdminSecret::from_seed(&one.seed()),
        AdminSecret::from_seed(&two.seed()),
        AdminSecret::from_seed(&stranger.seed()),
    ]);
    let record = std::fs::read(home.path("faces.record")).unwrap();
    let (_, record) = client::producer::verify_record(&record, &set, now()).unwrap();
    let signed = |by: &[&AdminSecret]| {
        let id = StatementId::random(&mut rng());
        let payload = Payload::record(id, REALM, now(), &record);
        client::producer::verify_record(&payload.sign(by).unwrap(), &set, now())
    };
    assert!(signed(&[&one, &two]).is_ok());
    assert!(signed(&[&one, &two, &stranger]).is_ok());
    assert!(signed(&[&one, &stranger]).is_err());
}

#[test]
fn a_flipped_byte_anywhere_in_the_record_is_noticed() {
    let home = home(Vec::new());
    let good = std::fs::read(home.path("faces.record")).unwrap();
    let admins = admin_set(&owners());
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        assert!(
            client::producer::verify_record(&flipped, &admins, now()).is_err(),
            "byte {at}"
        );
    }
    assert!(client::producer::verify_record(&good, &admins, now()).is_ok());
}

#[test]
fn an_unregistered_producer_and_a_secret_that_others_may_read_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = home(Vec::new());
    let secret = home.path("producer");
    assert_eq!(home.run(&["producer", "init", "--out", &secret]).code, 0);
    let said = home.encrypt("faces.record", "admin-set", &["--producer", &secret]);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(said.err.contains("does not name the producer"), "{said:?}");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = home.encrypt("faces.record", "admin-set", &["--producer", &secret]);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(!cli_support::exists(home.path("out.postern").as_ref()));
}

#[test]
fn decrypting_without_a_ticket_ends_with_3() {
    let home = home(Vec::new());
    assert_eq!(home.encrypt("faces.record", "admin-set", &[]).code, 0);
    let (from, to) = (home.path("out.postern"), home.path("back"));
    let said = home.run(&["decrypt", &from, &to, "--dataset", "faces"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(!cli_support::exists(to.as_ref()));
}
