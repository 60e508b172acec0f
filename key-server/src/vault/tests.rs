use super::*;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::Context;
use ticket_format::cbor::Encode;
use ticket_format::keys::ProducerSecret;
use ticket_format::wrapped::public::Upload;

const REALM: &str = "test";
const DATASET: DatasetId = DatasetId([7; 16]);

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn root(byte: u8) -> RootKey {
    RootKey::from_credential(&[byte; 32]).unwrap()
}

fn vault() -> Vault {
    let vault = Vault::open(REALM, root(1), []).unwrap();
    vault.install(vault.create_kek(DATASET, 1, &mut rng()));
    vault
}

fn context(name: &str) -> Vec<u8> {
    Context::named(name).unwrap().to_cbor()
}

fn open(
    vault: &Vault,
    wrap: &[u8],
    context: &[u8],
    producers: &[ProducerKey],
) -> Result<(Dek, Origin), VaultError> {
    let wrapped = Wrapped::parse(wrap).unwrap();
    vault.unwrap(DATASET, &wrapped, context, producers, &mut Uploads::new())
}

fn upload(vault: &Vault) -> Upload {
    let kek = vault.current(DATASET).unwrap();
    Upload::begin(REALM, DATASET, kek.id, kek.version, &kek.public, &mut rng()).unwrap()
}

#[test]
fn a_copied_store_without_the_root_key_opens_no_kek() {
    // rule: REST-1
    let vault = Vault::open(REALM, root(1), []).unwrap();
    let pending = vault.create_kek(DATASET, 1, &mut rng());
    let (path, record) = (pending.path.as_str(), pending.record.as_slice());
    assert!(Vault::open(REALM, root(1), [(path, record)]).is_ok());
    let other = Vault::open(REALM, root(2), [(path, record)]);
    assert_eq!(other.unwrap_err(), LoadError::Sealed(SealedError::Open));
    // Nor does a record open in the place of another dataset's.
    let elsewhere = super::path(DatasetId([8; 16]), pending.info().id);
    assert!(Vault::open(REALM, root(1), [(elsewhere.as_str(), record)]).is_err());
}

#[test]
fn a_vault_opens_what_it_wrapped_before_a_restart() {
    let first = Vault::open(REALM, root(1), []).unwrap();
    let pending = first.create_kek(DATASET, 1, &mut rng());
    let (path, record) = (pending.path.clone(), pending.record.clone());
    first.install(pending);
    let dek = Dek::random(&mut rng());
    let wrap = first
        .wrap(
            DATASET,
            DekId([1; 16]),
            Origin::Generated,
            &context("a"),
            &dek,
            &mut rng(),
        )
        .unwrap();
    let second = Vault::open(REALM, root(1), [(path.as_str(), record.as_slice())]).unwrap();
    assert_eq!(
        open(&second, &wrap, &context("a"), &[]),
        Ok((dek, Origin::Generated))
    );
    assert_eq!(first.current(DATASET), second.current(DATASET));
}

#[test]
fn a_wrap_opens_with_its_own_context_only() {
    // rule: RED-3
    let vault = vault();
    let dek = Dek::random(&mut rng());
    let wrap = vault
        .wrap(
            DATASET,
            DekId([1; 16]),
            Origin::Generated,
            &context("a"),
            &dek,
            &mut rng(),
        )
        .unwrap();
    assert!(open(&vault, &wrap, &context("a"), &[]).is_ok());
    assert_eq!(
        open(&vault, &wrap, &context("b"), &[]),
        Err(VaultError::Wrap(WrapError::Authentication))
    );
}

#[test]
fn no_flipped_byte_of_a_wrap_goes_unnoticed() {
    // rule: RED-3
    let vault = vault();
    let dek = Dek::random(&mut rng());
    let local = vault
        .wrap(
            DATASET,
            DekId([1; 16]),
            Origin::Generated,
            &context("a"),
            &dek,
            &mut rng(),
        )
        .unwrap();
    let producer = ProducerSecret::generate(&mut rng());
    let upload = upload(&vault);
    let (_, pending) = upload.object(context("a"), &mut rng());
    let signed = upload.finish(&pending, [9; 32], Some(&producer));
    let (_, pending) = upload.object(context("a"), &mut rng());
    let unsigned = upload.finish(&pending, [9; 32], None);
    for wrap in [local, signed, unsigned] {
        assert!(open(&vault, &wrap, &context("a"), &[producer.public()]).is_ok());
        // The encapsulation is one long string whose bytes are all alike: one of it is enough each 37 bytes.
        let step = |at: usize| if (100..1_100).contains(&at) { 37 } else { 1 };
        let mut at = 0;
        while at < wrap.len() {
            let mut damaged = wrap.clone();
            damaged[at] ^= 1;
            let opened = Wrapped::parse(&damaged).map(|wrapped| {
                vault.unwrap(
                    DATASET,
                    &wrapped,
                    &context("a"),
                    &[producer.public()],
                    &mut Uploads::new(),
                )
            });
            assert!(!matches!(opened, Ok(Ok(_))), "byte {at} of {}", wrap.len());
            at += step(at);
        }
    }
}

#[test]
fn a_batch_of_one_upload_costs_one_decapsulation() {
    // rule: WRAP-3
    let vault = vault();
    let upload = upload(&vault);
    let mut uploads = Uploads::new();
    for n in 0..5 {
        let context = context(&n.to_string());
        let (dek, pending) = upload.object(context.clone(), &mut rng());
        let wrap = upload.finish(&pending, [0; 32], None);
        let opened = vault.unwrap(
            DATASET,
            &Wrapped::parse(&wrap).unwrap(),
            &context,
            &[],
            &mut uploads,
        );
        assert_eq!(opened, Ok((dek, Origin::PublicUnsigned)));
    }
    assert_eq!(uploads.len(), 1);
}

#[test]
fn a_public_wrap_names_its_producer_only_if_he_signed_and_is_registered() {
    // rule: WRAP-4, ORG-1
    let vault = vault();
    let (producer, stranger) = (
        ProducerSecret::generate(&mut rng()),
        ProducerSecret::generate(&mut rng()),
    );
    let upload = upload(&vault);
    let (dek, pending) = upload.object(context("a"), &mut rng());
    let wrap = upload.finish(&pending, [3; 32], Some(&producer));
    let origin = Origin::PublicSigned(producer.public().id());
    assert_eq!(
        open(&vault, &wrap, &context("a"), &[producer.public()]),
        Ok((dek, origin))
    );
    let unregistered = Err(VaultError::Wrap(WrapError::Producer));
    assert_eq!(
        open(&vault, &wrap, &context("a"), &[stranger.public()]),
        unregistered
    );
}

#[test]
fn a_kek_is_used_for_what_its_state_allows() {
    let vault = Vault::open(REALM, root(1), []).unwrap();
    let id = |state| {
        let kek = Arc::new(Kek::generate(DATASET, 1, &mut rng()).in_state(state));
        vault.install(Pending {
            kek: Arc::clone(&kek),
            path: String::new(),
            record: Vec::new(),
        });
        kek.id
    };
    let opens_only = id(KekState::OpensOnly);
    assert_eq!(vault.may_wrap(DATASET), Err(VaultError::State));
    assert_eq!(vault.may_open(DATASET, opens_only), Ok(()));
    let disabled = id(KekState::Disabled);
    assert_eq!(vault.may_open(DATASET, disabled), Err(VaultError::State));
    assert_eq!(
        vault.may_open(DatasetId([9; 16]), opens_only),
        Err(VaultError::Unknown)
    );
    let refused = vault.wrap(
        DATASET,
        DekId([1; 16]),
        Origin::Generated,
        &[0xa0],
        &Dek::random(&mut rng()),
        &mut rng(),
    );
    assert_eq!(refused, Err(VaultError::State));
}

#[test]
fn a_vault_prints_no_key() {
    let vault = vault();
    let text = format!("{vault:?} {:?}", vault.create_kek(DATASET, 2, &mut rng()));
    let public = vault.current(DATASET).unwrap().public;
    assert!(
        !text.contains(&format!("{:?}", public.as_bytes())) && text.contains("Vault"),
        "{text}"
    );
}
