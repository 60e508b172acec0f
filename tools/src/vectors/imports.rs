//! Import and export of KEK versions: the acts, and what both ends compute (`spec/vault.md`, section 6).

use ticket_format::cbor::Encode;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{ImportId, StatementDigest};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::secret::SealingSeed;
use ticket_format::statement::{
    ImportBegin, ImportBegun, ImportHow, KekExport, KekExported, KekImport, Provenance,
    SEALED_SHARE, ShareHolder, ShareRow,
};
use ticket_format::transfer::{self, ExportPlace, Half, ImportPlace, RSA_WRAPPED};

use super::case::Case;
use super::rng::Fixed;
use super::statements::item;
use super::world::{ACT, DATASET, KEK, REALM, World, at};

const IMPORT: ImportId = ImportId([0x33; 16]);

pub(super) fn cases(world: &World) -> Vec<Case> {
    vec![acts(world), keys(world), entries()]
}

/// 32 bytes that count up.
fn material() -> [u8; 32] {
    let mut material = [0x70; 32];
    for (place, byte) in (0_u8..).zip(&mut material) {
        *byte += place;
    }
    material
}

fn acts(world: &World) -> Case {
    let name = || "faces".to_owned();
    let key = world.job_sealing.public();
    let begun = ImportBegun {
        import: IMPORT,
        key: key.clone(),
        rsa: vec![0x63; 550],
        expires: at(86_400),
        dataset: DATASET,
    };
    let commitment = transfer::commitment(&material());
    let import = KekImport {
        name: name(),
        import: IMPORT,
        how: ImportHow::RsaOaep,
        wrapped: vec![0x64; RSA_WRAPPED],
        replaces: KEK,
        expiry: Some(at(365 * 86_400)),
        commitment,
    };
    let provenance = Provenance {
        how: ImportHow::RsaOaep,
        statement: StatementDigest([0x57; 32]),
        commitment,
    };
    let holder = ShareHolder {
        name: "security".to_owned(),
        key: key.clone(),
    };
    let export = KekExport {
        name: name(),
        kek: KEK,
        threshold: 1,
        holders: vec![holder],
    };
    let exported = KekExported {
        dataset: DATASET,
        kek: KEK,
        version: 1,
        sealed: sealed(world),
        threshold: 1,
        shares: vec![ShareRow {
            name: "security".to_owned(),
            key,
            number: 1,
            sealed: vec![0x61; SEALED_SHARE],
        }],
    };
    let case = Case::new(
        "statement/imports",
        "IMP-1, IMP-2, IMP-4: the body and the result of each act of import and export, by their rules' names. RSA key, RSA-OAEP ciphertext and share stand for their lengths alone.",
    )
    .input("keys", "world.json");
    let case = item(case, "import-begin", &ImportBegin { name: name() });
    let case = item(case, "import-begun", &begun);
    let case = item(case, "kek-import", &import);
    let case = item(case, "provenance", &provenance);
    let case = item(case, "kek-export", &export);
    item(case, "kek-exported", &exported)
}

fn place(world: &World) -> ExportPlace<'static> {
    ExportPlace {
        realm: REALM,
        server: world.server_tls.public(),
        dataset: DATASET,
        kek: KEK,
    }
}

fn sealed(world: &World) -> Vec<u8> {
    let [symmetric, seed] = derived();
    let sealed = place(world).seal(&[0x65; 32], &symmetric, &seed);
    sealed.unwrap_or_default()
}

fn derived() -> [[u8; 32]; 2] {
    [Half::Symmetric, Half::Seed].map(|half| {
        let mut key = [0; 32];
        transfer::derive(&material(), REALM, DATASET, half, &mut key);
        key
    })
}

fn keys(world: &World) -> Case {
    let [symmetric, seed] = derived();
    let public = SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes(seed)).public();
    let import = ImportPlace {
        realm: REALM,
        server: world.server_tls.public(),
        dataset: DATASET,
        import: IMPORT,
    };
    let rng = &mut Fixed::new("postern vectors: import");
    let wrapped = import.wrap(&world.job_sealing.public(), &material(), rng);
    Case::new(
        "wrapped/imported",
        "IMP-1, IMP-2, IMP-4: material wrapped to the job's sealing key in world.json, as if that were the import's; the keys that are derived of it; and both sealed under an export's secret, for the KEK of world.json.",
    )
    .input("keys", "world.json")
    .given("material", material())
    .given("import", IMPORT.0)
    .given("export_secret", [0x65; 32])
    .gives("commitment", transfer::commitment(&material()))
    .gives("wrapped", wrapped.unwrap_or_default())
    .gives("symmetric_key", symmetric)
    .gives("xwing_seed", seed)
    .gives("public_key", public.as_bytes())
    .gives("share_info", place(world).info(1))
    .gives("exported", sealed(world))
}

fn entries() -> Case {
    let expired = Entry::new(ACT, Kind::Kek, at(0))
        .dataset(DATASET)
        .kek(KEK)
        .count(1);
    let alarm = Entry::alarm(ACT, Alarm::KekExpired, at(0))
        .dataset(DATASET)
        .kek(KEK)
        .count(1)
        .follows(ACT);
    Case::new(
        "audit/imports",
        "IMP-3: a version that came to its expiry, and the alarm of it.",
    )
    .gives_item("expired", "entry", expired.to_cbor())
    .gives_item("alarm_kek_expired", "entry", alarm.to_cbor())
}
