use super::*;
use crate::batch::STACK;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use store::locked::on_scratch;
use store::sealed::SealedError;
use ticket_format::Context;
use ticket_format::cbor::Encode;
use ticket_format::keys::ProducerSecret;
use ticket_format::statement::KekState;
use ticket_format::wrapped::WrapError;
use ticket_format::wrapped::public::Upload;

const REALM: &str = "test";
const DATASET: DatasetId = DatasetId([7; 16]);

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn root(byte: u8) -> RootKey {
    RootKey::from_credential(&[byte; 32]).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000)
}

fn make(vault: &Vault, version: u64) -> Pending {
    vault.create_kek(DATASET, version, now(), &mut rng())
}

fn vault() -> Vault {
    let vault = Vault::open(REALM, root(1), []).unwrap();
    vault.install(make(&vault, 1));
    vault
}

/// What a restart finds of a version.
fn kept(pending: &Pending) -> (KekRecord, Option<Vec<u8>>) {
    (pending.record().clone(), Some(pending.sealed.clone()))
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
    open_in(vault, &wrapped, context, producers, &mut Uploads::new())
}

fn open_in(
    vault: &Vault,
    wrapped: &Wrapped<'_>,
    context: &[u8],
    producers: &[ProducerKey],
    uploads: &mut Uploads,
) -> Result<(Dek, Origin), VaultError> {
    on_scratch::<STACK, _>(|scratch| {
        vault.unwrap(scratch, DATASET, wrapped, context, producers, uploads)
    })
}

fn upload(vault: &Vault) -> Upload {
    let kek = vault.current(DATASET).unwrap();
    Upload::begin(REALM, DATASET, kek.id, kek.version, &kek.public, &mut rng()).unwrap()
}

#[test]
fn a_copied_store_without_the_root_key_opens_no_kek() {
    // rule: REST-1
    let pending = make(&Vault::open(REALM, root(1), []).unwrap(), 1);
    assert!(Vault::open(REALM, root(1), [kept(&pending)]).is_ok());
    let other = Vault::open(REALM, root(2), [kept(&pending)]);
    assert_eq!(other.unwrap_err(), LoadError::Sealed(SealedError::Open));
}

#[test]
fn key_material_opens_in_no_other_place_and_no_other_stands_in_its_place() {
    // rule: KEK-5, REST-1
    let vault = Vault::open(REALM, root(1), []).unwrap();
    let (one, two) = (make(&vault, 1), make(&vault, 1));
    let open = |record: KekRecord, sealed: Option<&[u8]>| {
        let opened = Vault::open(REALM, root(1), [(record, sealed.map(<[u8]>::to_vec))]);
        opened.map(drop)
    };
    let record = one.record();
    assert_eq!(open(record.clone(), Some(&one.sealed)), Ok(()));
    let missing = LoadError::File(record.path());
    assert_eq!(open(record.clone(), None), Err(missing.clone()));
    assert_eq!(
        open(record.clone(), Some(&two.sealed)),
        Err(missing.clone())
    );
    let mut damaged = one.sealed.clone();
    damaged[40] ^= 1;
    assert_eq!(open(record.clone(), Some(&damaged)), Err(missing));
    // A record that somebody made to fit the file of another version.
    let moved = KekRecord {
        dataset: DatasetId([8; 16]),
        ..record.clone()
    };
    let refused = Err(LoadError::Sealed(SealedError::Open));
    assert_eq!(open(moved, Some(&one.sealed)), refused);
    let lured = KekRecord {
        public: two.record().public.clone(),
        ..record.clone()
    };
    assert_eq!(open(lured, Some(&one.sealed)), Err(LoadError::Place));
    // What is destroyed has none.
    let gone = record.destroyed(now());
    assert_eq!(open(gone.clone(), None), Ok(()));
    let back = Err(LoadError::File(gone.path()));
    assert_eq!(open(gone, Some(&one.sealed)), back);
}

#[test]
fn a_vault_opens_what_it_wrapped_before_a_restart() {
    let first = Vault::open(REALM, root(1), []).unwrap();
    let pending = make(&first, 1);
    let kept = kept(&pending);
    first.install(pending);
    let dek = Dek::random(&mut rng());
    let wrap = wrap(&first, &dek).unwrap();
    let second = Vault::open(REALM, root(1), [kept]).unwrap();
    assert_eq!(
        open(&second, &wrap, &context("a"), &[]),
        Ok((dek, Origin::Generated))
    );
    assert_eq!(first.current(DATASET), second.current(DATASET));
}

fn wrap(vault: &Vault, dek: &Dek) -> Result<Vec<u8>, VaultError> {
    let (id, origin) = (DekId([1; 16]), Origin::Generated);
    let wrapping = vault.wrapping(DATASET)?;
    on_scratch::<STACK, _>(|scratch| {
        wrapping.wrap(scratch, id, origin, &context("a"), dek, &mut rng())
    })
}

#[test]
fn a_wrap_opens_with_its_own_context_only() {
    // rule: RED-3
    let vault = vault();
    let dek = Dek::random(&mut rng());
    let wrap = wrap(&vault, &dek).unwrap();
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
    let local = wrap(&vault, &dek).unwrap();
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
                open_in(
                    &vault,
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
        let opened = open_in(
            &vault,
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
fn a_version_does_what_its_state_allows_and_nothing_else() {
    // rule: KEK-1
    let vault = vault();
    let record = vault.versions(DATASET).remove(0);
    let dek = Dek::random(&mut rng());
    let wrapped = wrap(&vault, &dek).unwrap();
    let opens = |vault: &Vault| open(vault, &wrapped, &context("a"), &[]).map(drop);
    let (state, pending) = (Err(VaultError::State), Err(VaultError::Pending));
    let expected = [
        (KekState::Enabled, Ok(()), Ok(())),
        (KekState::DecryptOnly, state, Ok(())),
        (KekState::Disabled, state, state),
        (KekState::PendingDestruction, pending, pending),
        (KekState::Enabled, Ok(()), Ok(())),
    ];
    for (to, wraps, may_open) in expected {
        vault.update(&record.in_state(to));
        assert_eq!(vault.may_wrap(DATASET), wraps, "{to:?}");
        assert_eq!(wrap(&vault, &dek).map(drop), wraps, "{to:?}");
        assert_eq!(vault.may_open(DATASET, record.kek), may_open, "{to:?}");
        assert_eq!(opens(&vault), may_open, "{to:?}");
    }
    assert_eq!(
        vault.may_open(DatasetId([9; 16]), record.kek),
        Err(VaultError::Unknown)
    );
}

#[test]
fn the_newest_version_wraps_and_the_others_open_until_they_are_destroyed() {
    // rule: KEK-1, KEK-2
    let vault = vault();
    let first = vault.versions(DATASET).remove(0);
    let dek = Dek::random(&mut rng());
    let old = wrap(&vault, &dek).unwrap();
    let second = make(&vault, 2);
    let newest = second.record().kek;
    vault.install(second);
    vault.update(&first.in_state(KekState::DecryptOnly));
    let new = wrap(&vault, &dek).unwrap();
    let under = |wrap: &[u8]| Wrapped::parse(wrap).unwrap().header().kek;
    assert_eq!((under(&old), under(&new)), (first.kek, newest));
    for wrap in [&old, &new] {
        assert!(open(&vault, wrap, &context("a"), &[]).is_ok());
    }
    let numbers: Vec<_> = vault
        .versions(DATASET)
        .iter()
        .map(|kek| kek.version)
        .collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(vault.current(DATASET).unwrap().id, newest);
    vault.update(&first.pending(now().plus(9)));
    assert_eq!(vault.due(now().plus(8)), []);
    assert_eq!(vault.due(now().plus(9)), [first.pending(now().plus(9))]);
    vault.update(&first.destroyed(now()));
    assert_eq!(vault.due(now().plus(10)), []);
    assert_eq!(
        open(&vault, &old, &context("a"), &[]),
        Err(VaultError::State)
    );
    // Nothing brings key material back that is gone.
    vault.update(&first.in_state(KekState::Enabled));
    assert_eq!(
        open(&vault, &old, &context("a"), &[]),
        Err(VaultError::State)
    );
    assert!(open(&vault, &new, &context("a"), &[]).is_ok());
}

#[test]
fn a_vault_prints_no_key() {
    let vault = vault();
    let text = format!("{vault:?} {:?}", make(&vault, 2));
    let public = vault.current(DATASET).unwrap().public;
    assert!(
        !text.contains(&format!("{:?}", public.as_bytes())) && text.contains("Vault"),
        "{text}"
    );
}
