//! Import and export of KEK versions.

use std::process::{Command, Stdio};

use store::root::{Share, join};
use ticket_format::cbor::Encode;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::{DatasetId, ImportId, KekId, StatementDigest};
use ticket_format::messages::RefusalNotice;
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::secret::{Kek, SealingSeed};
use ticket_format::statement::{
    DatasetCreate, DatasetCreated, DatasetSet, DatasetShow, ImportBegin, ImportBegun, ImportHow,
    KekExport, KekExported, KekImport, KekOrigin, KekSet, KekState, Rotation, ShareHolder,
};
use ticket_format::time::Timestamp;
use ticket_format::transfer::{self, ExportPlace, Half, ImportPlace};
use ticket_format::wrapped::{Wrapped, local};
use ticket_format::{Context, Refusal};

use crate::keks::crash;
use crate::rig::{REALM, Rig, World, manager, named, operator, refusal, rig, rng, wanted};

const DAY: u64 = 86_400;

/// 32 bytes that nobody would guess.
pub(crate) fn material(byte: u8) -> [u8; 32] {
    let mut material = [byte; 32];
    material[31] = byte.wrapping_add(1);
    material
}

impl Rig {
    pub(crate) async fn begin(&self) -> ImportBegun {
        let name = "faces".into();
        self.administer(&ImportBegin { name }).await.unwrap()
    }

    /// An import of this material, as the newest version stands.
    pub(crate) async fn brought(&self, begun: &ImportBegun, material: &[u8; 32]) -> KekImport {
        let place = ImportPlace {
            realm: REALM,
            server: self.world.server(),
            dataset: begun.dataset,
            import: begun.import,
        };
        KekImport {
            name: "faces".into(),
            import: begun.import,
            how: ImportHow::Hpke,
            wrapped: place.wrap(&begun.key, material, &mut rng()).unwrap(),
            replaces: self.keks().await[0].kek,
            expiry: None,
            commitment: transfer::commitment(material),
        }
    }

    async fn imported(
        &self,
        byte: u8,
        expiry: Option<Timestamp>,
    ) -> Result<DatasetCreated, RefusalNotice> {
        let begun = self.begin().await;
        let import = self.brought(&begun, &material(byte)).await;
        self.administer(&KekImport { expiry, ..import }).await
    }

    async fn state(&self, version: u64) -> KekState {
        self.version(version).await.state
    }

    pub(crate) async fn export_to(
        &self,
        kek: KekId,
        threshold: u64,
        holders: Vec<ShareHolder>,
    ) -> Result<KekExported, RefusalNotice> {
        let export = KekExport {
            name: "faces".into(),
            kek,
            threshold,
            holders,
        };
        self.administer(&export).await
    }
}

/// Opens a local wrap as somebody does who has the symmetric key, and no key server.
pub(crate) fn opened_without_a_server(wrap: &[u8], context: &Context, key: &[u8; 32]) -> [u8; 32] {
    let Wrapped::Local {
        header,
        origin,
        nonce,
        ciphertext,
    } = Wrapped::parse(wrap).unwrap()
    else {
        panic!("the key server makes local wraps")
    };
    let kek = Kek::from_bytes(*key);
    let context = context.to_cbor();
    let dek = local::unwrap(&kek, REALM, &header, origin, &context, &nonce, &ciphertext);
    *dek.unwrap().expose()
}

pub(crate) fn derived(dataset: DatasetId, material: &[u8; 32], half: Half) -> [u8; 32] {
    let mut key = [0; 32];
    transfer::derive(material, REALM, dataset, half, &mut key);
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn material_that_an_owner_brings_becomes_the_next_version_and_he_opens_its_wraps_alone() {
    // rule: IMP-1, IMP-2, KEK-2, KEK-5
    let rig = rig().await;
    let (job, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let old = rig.wraps(&opened, &context, 1).await.remove(0);
    let begun = rig.begin().await;
    assert_eq!(begun.dataset, rig.dataset().dataset);
    let import = rig.brought(&begun, &material(7)).await;
    let statement = rig.statement(&import);
    rig.send_statement(&statement).await.unwrap();
    let row = rig.version(2).await;
    assert_eq!(
        (row.state, row.origin, row.expiry),
        (KekState::Enabled, KekOrigin::Imported, None)
    );
    let provenance = row.provenance.clone().unwrap();
    assert_eq!(provenance.how, ImportHow::Hpke);
    assert_eq!(provenance.statement, StatementDigest::of(&statement));
    assert_eq!(provenance.commitment, transfer::commitment(&material(7)));
    assert_eq!(rig.state(1).await, KekState::DecryptOnly);
    let seed = derived(begun.dataset, &material(7), Half::Seed);
    let seed = SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes(seed));
    assert_eq!(row.public_key, Some(seed.public()));
    let new = rig.wraps(&opened, &context, 1).await.remove(0);
    let key = derived(begun.dataset, &material(7), Half::Symmetric);
    assert_eq!(opened_without_a_server(&new.0, &context, &key), new.1);
    let rig = rig.restart().await;
    let kept = rig.version(2).await;
    assert_eq!(
        (kept.kek, kept.origin, kept.provenance),
        (row.kek, row.origin, row.provenance)
    );
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let items = [(&*old.0, &context), (&*new.0, &context)];
    let got = rig.redeem(&opened, &items).await.unwrap();
    assert_eq!(*got.deks, [old.1, new.1].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn material_comes_from_openssl_as_from_an_hsm() {
    // rule: IMP-1
    let rig = rig().await;
    let begun = rig.begin().await;
    let dir = tempfile::tempdir().unwrap();
    let (key, plain) = (dir.path().join("key.der"), dir.path().join("material"));
    std::fs::write(&key, &begun.rsa).unwrap();
    std::fs::write(&plain, material(9)).unwrap();
    let openssl = Command::new("openssl")
        .args(["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey"])
        .arg(&key)
        .arg("-in")
        .arg(&plain)
        .args(["-pkeyopt", "rsa_padding_mode:oaep"])
        .args(["-pkeyopt", "rsa_oaep_md:sha256"])
        .stderr(Stdio::inherit())
        .output()
        .expect("openssl: apt-get install openssl");
    assert!(openssl.status.success());
    let import = KekImport {
        how: ImportHow::RsaOaep,
        wrapped: openssl.stdout,
        ..rig.brought(&begun, &material(9)).await
    };
    rig.administer(&import).await.unwrap();
    let row = rig.version(2).await;
    assert_eq!(row.provenance.unwrap().how, ImportHow::RsaOaep);
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let wrap = rig.wraps(&opened, &context, 1).await.remove(0);
    let key = derived(begun.dataset, &material(9), Half::Symmetric);
    assert_eq!(opened_without_a_server(&wrap.0, &context, &key), wrap.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_its_owners_and_names_the_version_that_it_follows() {
    // rule: IMP-1, IMP-2, SET-4, SET-5, ADM-5
    let rig = rig().await;
    let name = "faces".to_owned();
    let by_others = [&operator(), &manager(2)];
    for signer in by_others {
        let begin = ImportBegin { name: name.clone() };
        let refused = rig.administer_by(&begin, &[signer]).await;
        assert_eq!(refusal(refused), Refusal::Quorum);
    }
    let begin = ImportBegin { name };
    let begun = rig.administer_by(&begin, &[&manager(0)]).await.unwrap();
    let import = rig.brought(&begun, &material(1)).await;
    let alone = rig.administer_by(&import, &[&manager(0)]).await;
    assert_eq!(refusal(alone), Refusal::Quorum);
    let foreign = rig
        .administer_by(&import, &[&manager(0), &manager(2)])
        .await;
    assert_eq!(refusal(foreign), Refusal::Quorum);
    let stale = KekImport {
        replaces: KekId([9; 16]),
        ..import.clone()
    };
    assert_eq!(refusal(rig.administer(&stale).await), Refusal::Stale);
    let late = KekImport {
        expiry: Some(rig.now()),
        ..import.clone()
    };
    assert_eq!(refusal(rig.administer(&late).await), Refusal::Invalid);
    // None of these used the import up.
    let both = [&manager(0), &manager(1)];
    rig.administer_by(&import, &both).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_used_once_and_replaced_by_the_next_and_forgotten_by_a_restart() {
    // rule: IMP-1
    let rig = rig().await;
    let first = rig.begin().await;
    let old = rig.brought(&first, &material(1)).await;
    let second = rig.begin().await;
    unknown(&rig, &old).await;
    let import = rig.brought(&second, &material(2)).await;
    rig.administer(&import).await.unwrap();
    unknown(&rig, &rig.brought(&second, &material(3)).await).await;
    let third = rig.begin().await;
    let never = KekImport {
        import: ImportId([1; 16]),
        ..rig.brought(&third, &material(4)).await
    };
    unknown(&rig, &never).await;
    // It is over after a day.
    rig.world.clock.set(DAY);
    unknown(&rig, &rig.brought(&third, &material(4)).await).await;
    let fourth = rig.begin().await;
    let import = rig.brought(&fourth, &material(5)).await;
    let rig = rig.restart().await;
    unknown(&rig, &import).await;
    assert_eq!(rig.keks().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_open_or_is_other_material_makes_no_version() {
    // rule: IMP-1, IMP-2
    let rig = rig().await;
    let begun = rig.begin().await;
    let import = rig.brought(&begun, &material(1)).await;
    let mut damaged = import.clone();
    damaged.wrapped[1_150] ^= 1;
    for _ in 0..3 {
        assert_eq!(refusal(rig.administer(&damaged).await), Refusal::Invalid);
    }
    // The third try was the last.
    let refused = rig.administer(&import).await;
    assert_eq!(refusal(refused), Refusal::ImportUnknown);
    // 31 and 33 bytes, wrapped by hand.
    for length in [31_usize, 33] {
        let begun = rig.begin().await;
        let import = KekImport {
            how: ImportHow::RsaOaep,
            wrapped: wrapped_by_hand(&begun.rsa, &vec![3; length]),
            ..rig.brought(&begun, &material(1)).await
        };
        assert_eq!(refusal(rig.administer(&import).await), Refusal::Invalid);
    }
    let begun = rig.begin().await;
    let other = KekImport {
        commitment: [1; 32],
        ..rig.brought(&begun, &material(1)).await
    };
    assert_eq!(refusal(rig.administer(&other).await), Refusal::Invalid);
    for guessable in [[0; 32], [5; 32]] {
        let begun = rig.begin().await;
        let import = rig.brought(&begun, &guessable).await;
        assert_eq!(refusal(rig.administer(&import).await), Refusal::Invalid);
    }
    assert_eq!(rig.keks().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrapped_for_one_place_or_one_dataset_is_brought_to_no_other() {
    // rule: IMP-1
    let rig = rig().await;
    let maps = rig.administer(&wanted("maps")).await.unwrap();
    let begun = rig.begin().await;
    let right = ImportPlace {
        realm: REALM,
        server: rig.world.server(),
        dataset: begun.dataset,
        import: begun.import,
    };
    let elsewhere = [
        ImportPlace {
            dataset: maps.dataset,
            ..right.clone()
        },
        ImportPlace {
            realm: "other",
            ..right.clone()
        },
    ];
    let import = rig.brought(&begun, &material(1)).await;
    for place in elsewhere {
        let wrapped = place.wrap(&begun.key, &material(1), &mut rng()).unwrap();
        let import = KekImport {
            wrapped,
            ..import.clone()
        };
        assert_eq!(refusal(rig.administer(&import).await), Refusal::Invalid);
    }
    // The owners are the same, the import is another dataset's.
    let other = KekImport {
        name: "maps".into(),
        replaces: maps.kek,
        ..import.clone()
    };
    unknown(&rig, &other).await;
    rig.administer(&import).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_version_names_the_statement_that_renewed_it() {
    // rule: IMP-2, IMP-3
    let rig = rig().await;
    rig.imported(1, Some(rig.now().plus(DAY))).await.unwrap();
    let begun = rig.begin().await;
    let import = KekImport {
        how: ImportHow::RsaOaep,
        wrapped: wrapped_by_hand(&begun.rsa, &material(1)),
        ..rig.brought(&begun, &material(1)).await
    };
    let statement = rig.statement(&import);
    rig.send_statement(&statement).await.unwrap();
    let rig = rig.restart().await;
    let row = rig.version(2).await;
    let provenance = row.provenance.unwrap();
    assert_eq!(provenance.statement, StatementDigest::of(&statement));
    assert_eq!((provenance.how, row.expiry), (ImportHow::RsaOaep, None));
}

async fn unknown(rig: &Rig, import: &KekImport) {
    let refused = rig.administer(import).await;
    assert_eq!(refusal(refused), Refusal::ImportUnknown);
}

fn wrapped_by_hand(spki: &[u8], plain: &[u8]) -> Vec<u8> {
    use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
    let key = PublicEncryptingKey::from_der(spki).unwrap();
    let key = OaepPublicEncryptingKey::new(key).unwrap();
    let mut wrapped = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA256_MGF1SHA256, plain, &mut wrapped, None)
        .unwrap();
    wrapped
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_expiry_a_version_is_disabled_with_an_alarm_until_its_material_is_brought_again() {
    // rule: IMP-3
    let rig = rig().await;
    let expiry = Some(rig.now().plus(2 * DAY));
    rig.imported(1, expiry).await.unwrap();
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let wrap = rig.wraps(&opened, &context, 1).await.remove(0).0;
    rig.world.clock.set(2 * DAY - 1);
    rig.service.each_minute().await;
    assert_eq!(rig.state(2).await, KekState::Enabled);
    rig.world.clock.set(2 * DAY);
    // By hand it is not kept in use either, before the server does it.
    let kek = rig.version(2).await.kek;
    let usable = |usable| KekSet {
        name: "faces".into(),
        kek,
        usable,
    };
    assert_eq!(
        refusal(rig.administer(&usable(true)).await),
        Refusal::Invalid
    );
    // Missed while the server was off.
    let rig = rig.restart().await;
    assert_eq!(rig.state(2).await, KekState::Disabled);
    rig.service.each_minute().await;
    let mut entries = rig.entries();
    entries.retain(|entry| entry.kek == Some(kek) && entry.items.is_none());
    let kinds: Vec<_> = entries
        .iter()
        .map(|entry| (entry.kind, entry.alarm, entry.count))
        .collect();
    assert_eq!(
        kinds,
        [
            (Kind::Kek, None, Some(2)),
            (Kind::Alarm, Some(Alarm::KekExpired), Some(2))
        ],
        "once"
    );
    assert_eq!(entries[1].follows, Some(entries[0].act));
    let (_, opened) = rig.opened(|_| {}).await;
    let got = rig.redeem(&opened, &[(&wrap, &context)]).await.unwrap();
    assert_eq!(got.refusals()[0], Some(Refusal::KekState));
    assert_eq!(
        refusal(rig.administer(&usable(true)).await),
        Refusal::Invalid
    );
    // The same material renews it.
    let expiry = Some(rig.now().plus(DAY));
    let renewed = rig.imported(1, expiry).await.unwrap();
    assert_eq!((renewed.kek, renewed.kek_version), (kek, 2));
    let row = rig.version(2).await;
    assert_eq!((row.state, row.expiry), (KekState::Enabled, expiry));
    assert_eq!(rig.keks().await.len(), 2);
    let got = rig.redeem(&opened, &[(&wrap, &context)]).await.unwrap();
    assert_eq!(got.refusals()[0], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_commit_of_an_expiry_leaves_it_done_and_its_alarm_raised_once() {
    // rule: IMP-3, AUD-2
    for commits in 0..4 {
        let rig = rig().await;
        rig.imported(1, Some(rig.now().plus(DAY))).await.unwrap();
        rig.world.clock.set(DAY);
        let rig = crash(rig, commits, |service| async move {
            service.each_minute().await;
        })
        .await;
        assert_eq!(rig.state(2).await, KekState::Disabled, "{commits}");
        let entries = rig.entries();
        let count = |kind| entries.iter().filter(|entry| entry.kind == kind).count();
        assert_eq!((count(Kind::Kek), count(Kind::Alarm)), (1, 1), "{commits}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_is_renewed_to_open_only_and_one_that_owners_disabled_stays_so() {
    // rule: IMP-3, KEK-1
    let rig = rig().await;
    let soon = Some(rig.now().plus(DAY));
    rig.imported(1, soon).await.unwrap();
    rig.imported(2, None).await.unwrap();
    rig.world.clock.set(DAY);
    rig.service.each_minute().await;
    assert_eq!(rig.state(2).await, KekState::Disabled);
    rig.imported(1, None).await.unwrap();
    assert_eq!(rig.state(2).await, KekState::DecryptOnly);
    let kek = rig.version(2).await.kek;
    let name = "faces".to_owned();
    let disabled = KekSet {
        name,
        kek,
        usable: false,
    };
    rig.administer(&disabled).await.unwrap();
    rig.imported(1, Some(rig.now().plus(DAY))).await.unwrap();
    assert_eq!(rig.state(2).await, KekState::Disabled);
    // Also when its expiry comes and goes while it is disabled.
    rig.world.clock.set(3 * DAY);
    rig.service.each_minute().await;
    rig.imported(1, None).await.unwrap();
    assert_eq!(rig.state(2).await, KekState::Disabled);
    // What waits for its destruction, and what was destroyed, is not renewed.
    rig.administer(&rig.destruction(2, 7).await).await.unwrap();
    assert_eq!(refusal(rig.imported(1, None).await), Refusal::KekState);
    rig.world.clock.set(11 * DAY);
    rig.service.each_minute().await;
    assert_eq!(rig.state(2).await, KekState::Destroyed);
    assert_eq!(refusal(rig.imported(1, None).await), Refusal::Invalid);
    assert_eq!(rig.keks().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_version_is_followed_by_itself_by_none() {
    // rule: IMP-3, KEK-3
    let mut rig = World::new().start().await;
    let create = DatasetCreate {
        rotation: Rotation {
            age: Some(DAY),
            ..Rotation::default()
        },
        ..wanted("faces")
    };
    rig.dataset = Some(rig.administer(&create).await.unwrap());
    rig.imported(1, None).await.unwrap();
    rig.world.clock.set(3 * DAY);
    rig.service.each_minute().await;
    assert_eq!(rig.keks().await.len(), 2);
    // People may.
    rig.rotate().await.unwrap();
    assert_eq!(rig.version(3).await.origin, KekOrigin::Generated);
    rig.world.clock.set(5 * DAY);
    rig.service.each_minute().await;
    assert_eq!(rig.keks().await.len(), 4);
}

pub(crate) fn holder(byte: u8) -> (ShareHolder, SealingSecret) {
    let secret = SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([byte; 32]));
    let holder = ShareHolder {
        name: format!("holder-{byte}"),
        key: secret.public(),
    };
    (holder, secret)
}

async fn exportable() -> Rig {
    let mut rig = World::new().start().await;
    let create = DatasetCreate {
        exportable: true,
        ..wanted("faces")
    };
    rig.dataset = Some(rig.administer(&create).await.unwrap());
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_opens_for_as_many_of_its_recipients_as_it_says_and_opens_every_wrap() {
    // rule: IMP-4
    let rig = exportable().await;
    let (_, opened) = rig.opened(|_| {}).await;
    let context = named("a");
    let wrap = rig.wraps(&opened, &context, 1).await.remove(0);
    let (row, three) = (rig.version(1).await, [1, 2, 3].map(holder));
    let holders = three.iter().map(|(holder, _)| holder.clone()).collect();
    let exported = rig.export_to(row.kek, 2, holders).await.unwrap();
    assert_eq!(
        (exported.kek, exported.version, exported.threshold),
        (row.kek, 1, 2)
    );
    assert_eq!(rig.service.metrics.exports(), 1);
    let place = ExportPlace {
        realm: REALM,
        server: rig.world.server(),
        dataset: exported.dataset,
        kek: row.kek,
    };
    let share = |n: usize| {
        let row = &exported.shares[n];
        Share::open_for(row, &three[n].1, &place.info(row.number)).unwrap()
    };
    let secret = join(&[share(0), share(2)], 2).unwrap();
    let both = place.open(&secret, &exported.sealed).unwrap();
    let (symmetric, seed) = both.split_at(32);
    let dek = opened_without_a_server(&wrap.0, &context, symmetric.try_into().unwrap());
    assert_eq!(dek, wrap.1);
    let seed = SealingSeed::from_bytes(seed.try_into().unwrap());
    let public = SealingSecret::from_seed(Kem::XWing, seed).public();
    assert_eq!(Some(public), row.public_key);
    // One share opens nothing, and no share opens for another.
    assert!(join(&[share(0)], 2).is_err());
    let other = Share::open_for(&exported.shares[0], &three[1].1, &place.info(1));
    assert!(other.is_err());
    let recorded = rig.entries();
    let last = recorded.last().unwrap();
    assert_eq!(
        (last.kind, last.dataset, last.proof.is_some()),
        (Kind::Statement, Some(exported.dataset), true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_exported_of_a_dataset_that_was_not_made_for_it_nor_by_few() {
    // rule: IMP-4, SET-4
    let rig = rig().await;
    let kek = rig.dataset().kek;
    let alice = || vec![holder(1).0];
    assert_eq!(
        refusal(rig.export_to(kek, 1, alice()).await),
        Refusal::Invalid
    );
    // Options do not change it.
    let show = DatasetShow {
        name: "faces".into(),
    };
    let view = rig.administer(&show).await.unwrap();
    assert_eq!(view.exportable, Some(false));
    let set = DatasetSet {
        name: "faces".into(),
        max_budget: view.max_budget,
        max_life: view.max_life,
        kems: view.kems,
        lease: view.lease,
        evidence: view.evidence,
        canary: view.canary.unwrap(),
        witnessing: view.witnessing,
        rotation: Rotation::default(),
        class: view.class,
    };
    let view = rig.administer(&set).await.unwrap();
    assert_eq!(view.exportable, Some(false));

    let rig = exportable().await;
    let kek = rig.dataset().kek;
    let export = KekExport {
        name: "faces".into(),
        kek,
        threshold: 1,
        holders: alice(),
    };
    let alone = rig.administer_by(&export, &[&manager(0)]).await;
    assert_eq!(refusal(alone), Refusal::Quorum);
    assert_eq!(
        refusal(rig.export_to(kek, 2, alice()).await),
        Refusal::Invalid
    );
    let twice = vec![holder(1).0, holder(1).0];
    assert_eq!(
        refusal(rig.export_to(kek, 1, twice).await),
        Refusal::Invalid
    );
    let unknown = rig.export_to(KekId([9; 16]), 1, alice()).await;
    assert_eq!(refusal(unknown), Refusal::KekUnknown);
    rig.rotate().await.unwrap();
    rig.administer(&rig.destruction(1, 7).await).await.unwrap();
    assert_eq!(
        refusal(rig.export_to(kek, 1, alice()).await),
        Refusal::KekState
    );
    rig.world.clock.set(8 * DAY);
    rig.service.each_minute().await;
    assert_eq!(
        refusal(rig.export_to(kek, 1, alice()).await),
        Refusal::KekState
    );
    assert_eq!(rig.service.metrics.exports(), 0);
}
