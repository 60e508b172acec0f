use super::*;
use crate::ids::StatementDigest;
use crate::messages::samples::{at, key, node, secret};
use crate::ticket::Action;

#[test]
fn evidence_of_a_login_verifies_for_its_key_realm_broker_and_content_only() {
    // rule: LOG-10, SIG-1
    let launch: LaunchSecret = secret(1);
    let broker = key(9);
    let evidence = LoginEvidence {
        launch: LaunchId([1; 16]),
        launch_digest: StatementDigest([2; 32]),
        iid_proof: ProofHash([3; 32]),
        node_key: key(4),
        proof_key: key(5),
        sealing_key: SealingKeyHash([8; 32]),
    };
    let proof = evidence.sign(&launch, "realm", &broker);
    assert_eq!(
        evidence.verify(&launch.public(), "realm", &broker, &proof),
        Ok(())
    );
    assert!(evidence.verify(&key(2), "realm", &broker, &proof).is_err());
    assert!(
        evidence
            .verify(&launch.public(), "other", &broker, &proof)
            .is_err()
    );
    assert!(
        evidence
            .verify(&launch.public(), "realm", &key(8), &proof)
            .is_err()
    );
    for changed in [
        LoginEvidence {
            launch: LaunchId([9; 16]),
            ..evidence
        },
        LoginEvidence {
            launch_digest: StatementDigest([9; 32]),
            ..evidence
        },
        LoginEvidence {
            iid_proof: ProofHash([9; 32]),
            ..evidence
        },
        LoginEvidence {
            node_key: key(6),
            ..evidence
        },
        LoginEvidence {
            proof_key: key(6),
            ..evidence
        },
        LoginEvidence {
            sealing_key: SealingKeyHash([9; 32]),
            ..evidence
        },
    ] {
        assert!(
            changed
                .verify(&launch.public(), "realm", &broker, &proof)
                .is_err(),
            "{changed:?}"
        );
    }
}

#[test]
fn evidence_of_a_renewal_and_of_an_issue_verify_and_are_never_taken_for_one_another() {
    // rule: REN-6, ISS-2
    let sealing_key = SealingKeyHash([8; 32]);
    let (node, required) = (node(), Context::named("a").unwrap());
    let signer: NodeSecret = secret(1);
    let broker = key(9);
    let renew = RenewEvidence {
        node: &node,
        old_key: signer.public(),
        new_key: key(2),
        proof_key: key(3),
        sealing_key,
        chain: EvidenceHash([1; 32]),
    };
    let issue = IssueEvidence {
        dataset: "maps",
        actions: Actions::new(&[Action::Decrypt]).unwrap(),
        required: &required,
        proof_key: key(4),
        kem: Kem::XWing,
        sealing_key,
        expires: at(0),
        chain: EvidenceHash([1; 32]),
    };
    let (renewed, issued) = (
        renew.sign(&signer, "r", &broker),
        issue.sign(&signer, "r", &broker),
    );
    assert_eq!(
        renew.verify(&signer.public(), "r", &broker, &renewed),
        Ok(())
    );
    assert_eq!(
        issue.verify(&signer.public(), "r", &broker, &issued),
        Ok(())
    );
    assert!(
        renew
            .verify(&signer.public(), "r", &broker, &issued)
            .is_err()
    );
    assert!(
        RenewEvidence {
            chain: EvidenceHash([2; 32]),
            ..renew
        }
        .verify(&signer.public(), "r", &broker, &renewed)
        .is_err()
    );
    let wider = Actions::new(&[Action::Decrypt, Action::Rewrap]).unwrap();
    assert!(
        IssueEvidence {
            actions: wider,
            ..issue
        }
        .verify(&signer.public(), "r", &broker, &issued)
        .is_err()
    );
    assert!(
        IssueEvidence {
            expires: at(1),
            ..issue
        }
        .verify(&signer.public(), "r", &broker, &issued)
        .is_err()
    );
    assert!(
        IssueEvidence {
            kem: Kem::X25519,
            ..issue
        }
        .verify(&signer.public(), "r", &broker, &issued)
        .is_err()
    );
    assert!(
        IssueEvidence {
            dataset: "other",
            ..issue
        }
        .verify(&signer.public(), "r", &broker, &issued)
        .is_err()
    );
}

#[test]
fn a_link_depends_on_the_one_before_the_body_and_the_signature() {
    // rule: TKT-8
    let proof = crate::messages::samples::proof();
    let other = Proof {
        value: vec![4; 64],
        ..proof.clone()
    };
    let first = link(None, b"body", &proof);
    assert_ne!(first, link(Some(EvidenceHash([0; 32])), b"body", &proof));
    assert_ne!(first, link(None, b"bodies", &proof));
    assert_ne!(first, link(None, b"body", &other));
    assert_eq!(first, link(None, b"body", &proof));
}
