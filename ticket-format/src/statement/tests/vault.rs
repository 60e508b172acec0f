//! Acts on KEK versions and on a key server's root key, member by member.

use super::*;
use crate::ids::{AttemptId, DekId, ImportId, ItemDigest, RootId, StatementDigest};
use crate::pairs::Context;
use crate::statement::keks::{FEWEST_WRAPS, SHORTEST_AGE, WRAP_ROWS};
use crate::statement::roots::SEALED_SHARE;
use crate::transfer::{EXPORTED, HPKE_WRAPPED, RSA_WRAPPED};

const KEK: KekId = KekId([1; 16]);

fn name() -> String {
    "maps".to_owned()
}

fn row() -> KekRow {
    KekRow {
        kek: KEK,
        version: 3,
        state: KekState::PendingDestruction,
        origin: KekOrigin::Generated,
        created: at(0),
        public_key: Some(sealing(Kem::XWing)),
        wraps: 2,
        dependants: [3; 32],
        last_used: Some(at(1)),
        destroyed: Some(at(60)),
        since: Some(at(2)),
        provenance: Some(provenance()),
        expiry: Some(at(90)),
    }
}

fn provenance() -> Provenance {
    Provenance {
        how: ImportHow::Hpke,
        statement: StatementDigest([8; 32]),
        commitment: [9; 32],
    }
}

/// Whether a changed body is still one.
fn read<T: Encode + Decode>(body: &T) -> bool {
    T::from_cbor(&body.to_cbor(), usize::MAX).is_ok()
}

#[test]
fn acts_on_kek_versions_hold_to_their_shapes() {
    // rule: ENC-3, KEK-1, KEK-2, KEK-4, INV-1
    let rotate = KekRotate {
        name: name(),
        replaces: KEK,
    };
    strict(&rotate, &[], &[]);
    let set = KekSet {
        name: name(),
        kek: KEK,
        usable: true,
    };
    strict(&set, &[], &[]);
    strict(&KekList { name: name() }, &[], &[]);
    strict(&row(), &[], &[]);
    let gone = KekRow {
        state: KekState::Destroyed,
        public_key: None,
        last_used: None,
        ..row()
    };
    assert_eq!(KekRow::from_cbor(&gone.to_cbor(), usize::MAX), Ok(gone));
    strict(&KekRows { rows: vec![row()] }, &[], &[1]);
    let destroy = KekDestroy {
        name: name(),
        kek: KEK,
        days: 30,
        wraps: 2,
        dependants: [3; 32],
    };
    strict(&destroy, &[], &[]);
    for (days, fits) in [(6, false), (7, true), (90, true), (91, false)] {
        let other = KekDestroy {
            days,
            ..destroy.clone()
        };
        assert_eq!(read(&other), fits, "{days} days");
    }
    let keep = KekKeep {
        name: name(),
        kek: KEK,
    };
    strict(&keep, &[], &[]);
    let list = WrapList {
        name: name(),
        kek: KEK,
        after: Some(ItemDigest([4; 32])),
        rows: WRAP_ROWS,
    };
    strict(&list, &[], &[]);
    for rows in [0, WRAP_ROWS + 1] {
        let other = WrapList {
            rows,
            ..list.clone()
        };
        assert!(!read(&other), "{rows} rows");
    }
    let wrap = WrapRow {
        digest: ItemDigest([4; 32]),
        seen: at(1),
        dek: Some(DekId([5; 16])),
        context: Some(Context::named("a.jpg").unwrap()),
    };
    strict(&wrap, &[], &[4]);
    let forgotten = WrapRow {
        dek: None,
        context: None,
        ..wrap.clone()
    };
    strict(&forgotten, &[], &[]);
    let page = WrapPage {
        rows: vec![wrap, forgotten],
        more: true,
    };
    strict(&page, &[], &[1]);
}

#[test]
fn acts_of_import_and_export_hold_to_their_shapes() {
    // rule: ENC-3, IMP-1, IMP-2, IMP-4
    strict(&ImportBegin { name: name() }, &[], &[]);
    let begun = ImportBegun {
        import: ImportId([2; 16]),
        key: sealing(Kem::XWing),
        rsa: vec![1; 550],
        expires: at(60),
        dataset: DatasetId([3; 16]),
    };
    strict(&begun, &[], &[]);
    let import = KekImport {
        name: name(),
        import: ImportId([2; 16]),
        how: ImportHow::RsaOaep,
        wrapped: vec![1; RSA_WRAPPED],
        replaces: KEK,
        expiry: Some(at(90)),
        commitment: [9; 32],
    };
    strict(&import, &[], &[]);
    for (length, fits) in [
        (511, false),
        (HPKE_WRAPPED, true),
        (HPKE_WRAPPED + 1, false),
    ] {
        let other = KekImport {
            wrapped: vec![1; length],
            ..import.clone()
        };
        assert_eq!(read(&other), fits, "{length} bytes");
    }
    strict(&provenance(), &[], &[]);
    assert!(ImportHow::from_cbor(&[0], 8).is_err() && ImportHow::from_cbor(&[3], 8).is_err());
    let holder = ShareHolder {
        name: "zoe".to_owned(),
        key: sealing(Kem::XWing),
    };
    let export = KekExport {
        name: name(),
        kek: KEK,
        threshold: 1,
        holders: vec![holder],
    };
    strict(&export, &[], &[4]);
    for threshold in [0, 17] {
        let other = KekExport {
            threshold,
            ..export.clone()
        };
        assert!(!read(&other), "{threshold} shares");
    }
    let exported = KekExported {
        dataset: DatasetId([3; 16]),
        kek: KEK,
        version: 3,
        sealed: vec![1; EXPORTED],
        threshold: 1,
        shares: vec![ShareRow {
            name: "zoe".to_owned(),
            key: sealing(Kem::XWing),
            number: 1,
            sealed: vec![1; SEALED_SHARE],
        }],
    };
    strict(&exported, &[], &[6]);
}

#[test]
fn a_rotation_rule_rotates_neither_too_often_nor_after_too_few_wraps() {
    // rule: ENC-3, KEK-3
    let rotation = Rotation {
        age: Some(SHORTEST_AGE),
        wraps: Some(FEWEST_WRAPS),
        on_denial: true,
    };
    strict(&rotation, &[1, 2], &[]);
    strict(&Rotation::default(), &[], &[]);
    let often = Rotation {
        age: Some(SHORTEST_AGE - 1),
        ..rotation
    };
    let few = Rotation {
        wraps: Some(FEWEST_WRAPS - 1),
        ..rotation
    };
    assert!(!read(&often) && !read(&few));
}

#[test]
fn every_state_of_a_kek_version_has_its_number_and_no_other_is_one() {
    // rule: KEK-1
    let numbers: Vec<u64> = KekState::ALL.iter().map(|state| state.number()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert!(KekState::from_cbor(&[0], 8).is_err() && KekState::from_cbor(&[6], 8).is_err());
    assert!(KekOrigin::from_cbor(&[0], 8).is_err() && KekOrigin::from_cbor(&[3], 8).is_err());
}

fn attempt() -> Attempt {
    Attempt {
        id: AttemptId([6; 16]),
        key: sealing(Kem::XWing),
        shares: 1,
    }
}

#[test]
fn acts_on_a_root_key_hold_to_their_shapes() {
    // rule: ENC-3, ROOT-1, ROOT-3, ROOT-4
    strict(&RootShow {}, &[], &[]);
    let share = ShareRow {
        name: "operator-1".into(),
        key: sealing(Kem::XWing),
        number: 1,
        sealed: vec![7; SEALED_SHARE],
    };
    strict(&share, &[], &[]);
    for number in [0, limits::ADMINS as u64 + 1] {
        let other = ShareRow {
            number,
            ..share.clone()
        };
        assert!(!read(&other), "share {number}");
    }
    for length in [SEALED_SHARE - 1, SEALED_SHARE + 1] {
        let other = ShareRow {
            sealed: vec![7; length],
            ..share.clone()
        };
        assert!(!read(&other), "a sealed share of {length} bytes");
    }
    strict(&attempt(), &[], &[]);
    let sealed = RootView {
        sealed: true,
        root: RootId([5; 16]),
        auto: AutoKind::Tpm2,
        wrong: "no TPM".into(),
        threshold: 2,
        shares: vec![share],
        unseal: Some(attempt()),
        drill: None,
    };
    strict(&sealed, &[], &[4]);
    let open = RootView {
        sealed: false,
        wrong: String::new(),
        unseal: None,
        drill: Some(attempt()),
        ..sealed.clone()
    };
    strict(&open, &[], &[]);
    for threshold in [0, limits::ADMINS as u64 + 1] {
        let other = RootView {
            threshold,
            ..sealed.clone()
        };
        assert!(!read(&other), "{threshold} shares open it");
    }
}

#[test]
fn giving_shares_sealing_and_rekeying_hold_to_their_shapes() {
    // rule: ENC-3, ROOT-4, ROOT-5, ROOT-6, ROOT-7
    let give = ShareGive {
        attempt: AttemptId([6; 16]),
        purpose: SharePurpose::Drill,
        number: 2,
        sealed: vec![7; SEALED_SHARE],
    };
    strict(&give, &[], &[]);
    let short = ShareGive {
        sealed: vec![7; SEALED_SHARE - 1],
        ..give
    };
    assert!(!read(&short));
    let seal = SealServer {
        root: RootId([5; 16]),
    };
    strict(&seal, &[], &[]);
    let holder = ShareHolder {
        name: "operator-1".into(),
        key: sealing(Kem::XWing),
    };
    strict(&holder, &[], &[]);
    let rekey = Rekey {
        replaces: RootId([5; 16]),
        threshold: 1,
        holders: vec![holder.clone()],
    };
    strict(&rekey, &[], &[]);
    let crowd = Rekey {
        holders: vec![holder.clone(); limits::ADMINS + 1],
        ..rekey.clone()
    };
    assert!(!read(&crowd));
    let x25519 = ShareHolder {
        key: sealing(Kem::X25519),
        ..holder
    };
    assert!(
        !read(&x25519),
        "a share key that a quantum computer would open"
    );
}
