//! Names, checkpoints and their signatures.

use super::*;

#[test]
fn a_log_is_named_by_realm_role_and_key() {
    let key = crate::messages::samples::key(1);
    let origin = Origin::new("a realm+/x", crate::statement::Role::KeyServer, &key);
    assert!(
        origin
            .to_string()
            .starts_with("a%20realm%2B%2Fx/key-server/")
    );
    assert_eq!(origin.to_string().parse(), Ok(origin.clone()));
    let long = Origin::new(&"é".repeat(64), crate::statement::Role::Broker, &key);
    assert_eq!(long.to_string().parse(), Ok(long));
    let shard = origin.shard(12);
    assert_eq!(shard.to_string().parse(), Ok(shard));
    for wrong in ["", "a b", "a+b", "a\n", "é", &"a".repeat(201)] {
        assert!(wrong.parse::<Origin>().is_err(), "{wrong:?}");
    }
    for wrong in [
        "a",
        "a/",
        "a/0",
        "a/01",
        "a/-1",
        "a/x",
        "/1",
        "a/99999999999999999999",
    ] {
        assert!(wrong.parse::<ShardName>().is_err(), "{wrong:?}");
    }
}

#[test]
fn a_checkpoint_needs_both_signatures_of_its_own_log() {
    // rule: TLOG-2
    let secret = log_secret();
    let signed = secret.sign(&checkpoint(7), at(5));
    let verified = secret.key().verify(signed.note()).unwrap();
    assert_eq!(
        (verified.checkpoint(), verified.time()),
        (&checkpoint(7), at(5))
    );
    let (text, lines) = signed.note().split_once("\n\n").unwrap();
    let lines: Vec<&str> = lines.split_inclusive('\n').collect();
    let (ed25519, ml_dsa) = (lines[0], lines[1]);
    let verify = |note: String| secret.key().verify(&note).map(drop);
    assert_eq!(verify(format!("{text}\n\n{ml_dsa}{ed25519}")), Ok(()));
    assert_eq!(
        verify(format!("{text}\n\n{ed25519}")),
        Err(CheckpointError::Missing("ML-DSA-44"))
    );
    assert_eq!(
        verify(format!("{text}\n\n{ml_dsa}")),
        Err(CheckpointError::Missing("Ed25519"))
    );
    // Lines of strangers do not matter; a line that claims to be the log's does.
    let stranger = "\u{2014} stranger.example AAAAAAE=\n";
    assert_eq!(
        verify(format!("{text}\n\n{ed25519}{stranger}{ml_dsa}")),
        Ok(())
    );
    let other = secret.sign(&checkpoint(8), at(5));
    let foreign = other.note().split_inclusive('\n').nth(4).unwrap();
    assert_eq!(
        verify(format!("{text}\n\n{ed25519}{ml_dsa}{foreign}")),
        Err(CheckpointError::Bad("Ed25519"))
    );
    assert!(matches!(
        verify(format!("{text}\nextension\n\n{ed25519}{ml_dsa}")),
        Err(CheckpointError::Note(_))
    ));
    // The same keys under another name, or another shard's, are another log.
    let renamed =
        LogSecret::from_seeds("other/broker/0".parse().unwrap(), &[21; 32], &[22; 32]).unwrap();
    assert_eq!(
        renamed.key().verify(signed.note()),
        Err(CheckpointError::OtherLog)
    );
    let shard = signed.note().replace("/1\n", "/2\n");
    assert!(secret.key().verify(&shard).is_err());
    let swapped = LogSecret::from_seeds(secret.key().origin.clone(), &[21; 32], &[23; 32]).unwrap();
    assert!(swapped.key().verify(signed.note()).is_err());
}

#[test]
fn every_damaged_byte_of_a_checkpoint_and_of_its_cosignatures_is_noticed() {
    // rule: TLOG-2, TLOG-8
    let (secret, witness) = (log_secret(), witness(1));
    let signed = secret.sign(&checkpoint(7), at(5));
    let lines = witness.cosign(signed.checkpoint(), at(6));
    let policy = policy_of(&[&witness], "all");
    let whole = signed.with_cosignatures(lines.split_inclusive('\n'));
    assert_eq!(policy.check(&whole), Ok(()));
    let good = whole.note();
    for at in 0..good.len() {
        let mut bytes = good.as_bytes().to_vec();
        bytes[at] ^= 1 << (at % 7);
        let Ok(note) = String::from_utf8(bytes) else {
            continue;
        };
        let taken = secret
            .key()
            .verify(&note)
            .is_ok_and(|note| policy.check(&note).is_ok());
        assert!(!taken, "byte {at} of {}", good.len());
    }
}

#[test]
fn secrets_of_logs_and_witnesses_print_nothing_of_themselves() {
    let printed = format!("{:?} {:?}", log_secret(), witness(1));
    assert_eq!(
        printed,
        "LogSecret(test/broker/0101010101010101, ..) WitnessSecret(witness.example/w1, ..)"
    );
}
