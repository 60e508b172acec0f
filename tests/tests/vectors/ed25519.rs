//! Ed25519 signatures as Postern verifies them: a key that is a point and not of small order
//! (`ticket_format::keys`), then `verify_strict` (SIG-2).

use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use ticket_format::keys::NodeKey;

use crate::support::{Hex, Tally, Verdict, read, wycheproof};

/// What `ticket_format` does with a key, a message and a signature from outside.
pub(crate) fn verifies(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Some(key) = key
        .try_into()
        .ok()
        .and_then(|k| NodeKey::from_bytes(k).ok())
    else {
        return false;
    };
    let key = VerifyingKey::from_bytes(&key.to_bytes()).expect("it is a point");
    Signature::from_slice(signature)
        .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Common {
    public_key: Key,
}

#[derive(Deserialize)]
struct Key {
    pk: Hex,
}

#[derive(Deserialize)]
struct Signed {
    msg: Hex,
    sig: Hex,
}

#[test]
fn wycheproof_signatures_verify_exactly_if_they_are_valid() {
    // rule: SIG-2
    let mut tally = Tally::default();
    for group in wycheproof::<Common, Signed>("ed25519_test.json", 94) {
        for case in group.tests {
            let accepted = verifies(&group.common.public_key.pk, &case.data.msg, &case.data.sig);
            assert_eq!(accepted, case.result == Verdict::Valid, "{}", case.name());
            tally.count(accepted);
        }
    }
    let expected = Tally {
        accepted: 53,
        refused: 41,
    };
    assert_eq!(tally, expected);
}

#[derive(Deserialize)]
struct Check {
    index: usize,
    message: Hex,
    pub_key: Hex,
    signature: Hex,
}

#[test]
fn of_the_disputed_signatures_the_strict_verifier_accepts_the_one_that_is_beyond_dispute() {
    // rule: SIG-2
    let checks: Vec<Check> = read("ed25519/speccheck.json");
    let accepted: Vec<usize> = checks
        .iter()
        .filter(|check| verifies(&check.pub_key, &check.message, &check.signature))
        .map(|check| check.index)
        .collect();
    assert_eq!((checks.len(), accepted), (8, vec![3]));
}

#[derive(Deserialize, Debug)]
struct EdgeCase {
    index: usize,
    key: Hex,
    sig: Hex,
    msg: String,
    flags: Option<Vec<String>>,
}

#[test]
fn of_the_edge_cases_only_mixed_order_points_without_a_residue_are_accepted() {
    // rule: SIG-2
    let mut tally = Tally::default();
    for case in read::<Vec<EdgeCase>>("ed25519/cctv.json") {
        // A or R may have a part of low order, as long as the equation holds without clearing the
        // cofactor. Low order, another encoding, or a residue: refused.
        let tolerable = case.flags.iter().flatten().all(|flag| {
            ["low_order_component_A", "low_order_component_R"].contains(&flag.as_str())
        });
        let accepted = verifies(&case.key, case.msg.as_bytes(), &case.sig);
        assert_eq!(accepted, tolerable, "{case:?}");
        assert!(case.index < 914);
        tally.count(accepted);
    }
    let expected = Tally {
        accepted: 21,
        refused: 569,
    };
    assert_eq!(tally, expected);
}
