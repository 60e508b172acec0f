//! RSA PKCS#1 v1.5 with SHA-256, as the signatures of identity documents are verified (IID-5).

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use serde::Deserialize;

use crate::support::{Hex, Tally, Verdict, wycheproof};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Common {
    key_size: usize,
    public_key_asn: Hex,
}

#[derive(Deserialize)]
struct Signed {
    msg: Hex,
    sig: Hex,
}

#[test]
fn wycheproof_rsa_signatures_verify_exactly_if_they_are_valid() {
    // rule: IID-5
    let mut tally = Tally::default();
    for group in wycheproof::<Common, Signed>("rsa_signature_2048_sha256_test.json", 163) {
        assert_eq!(group.common.key_size, 2048);
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &*group.common.public_key_asn)
            .expect("an RSA key of 2048 bits");
        for case in group.tests {
            let accepted = key.verify_sig(&case.data.msg, &case.data.sig).is_ok();
            // The one acceptable case lacks the NULL of the digest's parameters: two encodings of
            // one signature are one too many.
            if case.result == Verdict::Acceptable {
                assert!(case.has("MissingNull"), "{}", case.name());
            }
            assert_eq!(accepted, case.result == Verdict::Valid, "{}", case.name());
            tally.count(accepted);
        }
    }
    let expected = Tally {
        accepted: 6,
        refused: 157,
    };
    assert_eq!(tally, expected);
}
