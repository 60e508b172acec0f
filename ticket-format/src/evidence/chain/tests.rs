//! Every single lie of a broker or a node, against a real identity document.

use super::*;
use crate::Context;
use crate::ids::{
    AdminSetDigest, DatasetId, NodeId, PolicyDigest, SealingKeyHash, StatementId, TicketId,
};
use crate::keys::{AdminSecret, LaunchSecret, NodeSecret, ProofKey};
use crate::messages::present::Link;
use crate::messages::samples::{key, sealing, secret};
use crate::seal::Kem;
use crate::sign::Proof;
use crate::statement::{Admin, AdminKeyKind, AdminRole, AdminSetBody, Payload};
use crate::ticket::{Action, Actions, Audience, Common};

const REALM: &str = "test";
const SYDNEY: &[u8] = include_bytes!("../../../tests/data/aws/iid/metaphor-2026/rsa2048.b64");
const SEOUL: &[u8] = include_bytes!("../../../tests/data/aws/iid/ansible-2022-a/rsa2048.b64");
/// Sydney's pendingTime.
const LAUNCHED: u64 = 1_771_202_307;
const OPERATOR: u8 = 1;
const OTHER_OPERATOR: u8 = 2;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(LAUNCHED + seconds)
}

fn operator(seed: u8) -> AdminSecret {
    secret(seed)
}

/// Two operators, and two who keep the set.
fn set(operators: &[u8]) -> AdminSet {
    let admin = |seed: u8, role| Admin {
        name: format!("admin-{seed}"),
        kind: AdminKeyKind::File,
        key: key::<crate::keys::roles::Admin>(seed),
        roles: vec![role],
        application: None,
    };
    let mut admins: Vec<Admin> = operators
        .iter()
        .map(|seed| admin(*seed, AdminRole::Operator))
        .chain([11, 12].map(|seed| admin(seed, AdminRole::Security)))
        .chain([13, 14].map(|seed| admin(seed, AdminRole::DatasetOwner)))
        .collect();
    admins.sort_by_key(|admin| admin.key.to_bytes());
    AdminSet::new(AdminSetBody {
        version: 1,
        follows: AdminSetDigest([0; 32]),
        admins,
        quorums: AdminSetBody::usual_quorums(1),
    })
    .unwrap()
}

/// What an honest broker would have let through; each test bends one thing.
struct Case {
    terms: LaunchCreate,
    statement: Vec<u8>,
    evidence: Evidence,
    claims: DatasetClaims,
    set: AdminSet,
    broker: TlsKey,
}

fn terms() -> LaunchCreate {
    LaunchCreate {
        launch: LaunchId([7; 16]),
        key: secret::<crate::keys::roles::Launch>(21).public(),
        accounts: vec!["189292791360".to_owned()],
        regions: vec!["ap-southeast-2".to_owned()],
        images: vec!["ami-0cbde744623b7506b".to_owned()],
        uses: 1,
        group: false,
        from: at(0).minus(60),
        until: at(3_600),
        max_age: 900,
        node_life: 86_400,
        comment: String::new(),
    }
}

fn registered(terms: &LaunchCreate, realm: &str, by: u8) -> Vec<u8> {
    Payload::record(StatementId([5; 16]), realm, at(0), terms)
        .sign(&[&operator(by)])
        .unwrap()
}

fn node_key(number: usize) -> NodeSecret {
    secret(40 + u8::try_from(number).unwrap())
}

/// How a chain is made: in which realm, for which broker, by whose document.
struct Making {
    realm: &'static str,
    broker: TlsKey,
    document: &'static [u8],
    renewals: usize,
}

impl Default for Making {
    fn default() -> Self {
        Self {
            realm: REALM,
            broker: key(90),
            document: SYDNEY,
            renewals: 3,
        }
    }
}

impl Case {
    fn new() -> Self {
        Self::made(&terms(), &Making::default())
    }

    /// A node that logs in, renews and has a ticket issued, as an honest client does.
    fn made(terms: &LaunchCreate, making: &Making) -> Self {
        let document = iid::verify(making.document, &RegionKeys::built_in()).unwrap();
        let attributes = attributes(&document).unwrap();
        let statement = registered(terms, making.realm, OPERATOR);
        let (realm, broker) = (making.realm, &making.broker);
        let session = |number: usize| {
            let number = u8::try_from(number).unwrap();
            (
                key::<crate::keys::roles::Proof>(number),
                SealingKeyHash([number; 32]),
            )
        };
        let (proof_key, sealing_key) = session(200);
        let login = LoginEvidence {
            launch: terms.launch,
            launch_digest: StatementDigest::of(&statement),
            iid_proof: ProofHash(*document.proof_hash()),
            node_key: node_key(0).public(),
            proof_key,
            sealing_key,
        };
        let proof = login.sign(&secret(21), realm, broker);
        let mut chain = login.link(None, &proof);
        let login = link(&login.node_key, proof_key, sealing_key, proof);
        let mut renewals = Vec::new();
        for number in 1..=making.renewals {
            let (proof_key, sealing_key) = session(number);
            let body = RenewEvidence {
                node: &attributes.node,
                old_key: node_key(number - 1).public(),
                new_key: node_key(number).public(),
                proof_key,
                sealing_key,
                chain,
            };
            let proof = body.sign(&node_key(number - 1), realm, broker);
            chain = body.link(Some(chain), &proof);
            renewals.push(link(&body.new_key, proof_key, sealing_key, proof));
        }
        let required = Context::named("a").unwrap();
        let sealing_key = sealing(Kem::XWing);
        let body = IssueEvidence {
            dataset: "faces",
            actions: Actions::new(&[Action::Decrypt]).unwrap(),
            required: &required,
            proof_key: key(30),
            kem: Kem::XWing,
            sealing_key: sealing_key.hash(),
            expires: at(7_200),
            chain,
        };
        let proof = body.sign(&node_key(making.renewals), realm, broker);
        let evidence = body.link(Some(chain), &proof);
        let (actions, proof_key) = (body.actions, body.proof_key);
        let claims = DatasetClaims {
            common: Common {
                realm: realm.to_owned(),
                audience: Audience::KeyServer(key(91)),
                expires: at(7_000),
                issued: at(3_400),
                id: TicketId([1; 16]),
                proof_key,
                sealing_key,
                launch: terms.launch,
                attributes,
                evidence,
            },
            dataset: DatasetId([2; 16]),
            dataset_name: "faces".to_owned(),
            actions,
            required,
            budget: 100,
            policy: PolicyDigest([3; 32]),
            parent: TicketId([4; 16]),
        };
        Self {
            terms: terms.clone(),
            statement: statement.clone(),
            evidence: Evidence {
                launch: statement,
                iid_proof: making.document.to_vec(),
                login,
                renewals,
                issue: (at(7_200), proof),
            },
            claims,
            set: set(&[OPERATOR, OTHER_OPERATOR]),
            broker: making.broker,
        }
    }

    fn check(&self) -> Result<Proven, EvidenceError> {
        let trust = Trust {
            realm: REALM,
            broker: key(90),
            admins: &self.set,
            regions: &RegionKeys::built_in(),
            now: at(3_500),
        };
        verify(&self.evidence, &self.claims, "faces", &trust)
    }

    /// The broker lies along: the ticket names the end of whatever chain is brought.
    fn relinked(mut self) -> Self {
        let regions = RegionKeys::built_in();
        let document = iid::verify(&self.evidence.iid_proof, &regions).unwrap();
        let trust = Trust {
            realm: REALM,
            broker: self.broker,
            admins: &self.set,
            regions: &regions,
            now: at(0),
        };
        let received = ReceivedStatement::parse(&self.evidence.launch).unwrap();
        let end = Chain {
            evidence: &self.evidence,
            claims: &self.claims,
            trust: &trust,
            launch: &self.terms,
            digest: received.digest(),
            proof: ProofHash(*document.proof_hash()),
        }
        .end()
        .unwrap();
        self.claims.common.evidence = end;
        self
    }

    /// The launch that is brought is another.
    fn with_terms(mut self, change: impl FnOnce(&mut LaunchCreate)) -> Self {
        change(&mut self.terms);
        self.statement = registered(&self.terms, REALM, OPERATOR);
        self.evidence.launch = self.statement.clone();
        self
    }
}

fn link(key: &NodeKey, proof_key: ProofKey, sealing_key: SealingKeyHash, proof: Proof) -> Link {
    Link {
        node_key: *key,
        proof_key,
        sealing_key,
        proof,
    }
}

fn bent(change: impl FnOnce(&mut Case)) -> Case {
    let mut case = Case::new();
    change(&mut case);
    case
}

#[test]
fn an_honest_chain_proves_what_the_document_says() {
    // rule: EVD-1, TKT-8
    let case = Case::new();
    let proven = case.check().unwrap();
    assert_eq!(proven.attributes, case.claims.common.attributes);
    assert_eq!(proven.attributes.node.account(), "189292791360");
    assert_eq!(proven.launch, case.terms.launch);
    for renewals in [0, 1, LINKS] {
        let making = Making {
            renewals,
            ..Making::default()
        };
        assert!(Case::made(&terms(), &making).check().is_ok(), "{renewals}");
    }
}

#[test]
fn every_claim_that_the_broker_alters_is_found_although_it_signs_the_ticket() {
    // rule: EVD-1
    type Lie = (&'static str, EvidenceError, fn(&mut DatasetClaims));
    let attribute = EvidenceError::Attribute;
    let lies: [Lie; 17] = [
        ("realm", EvidenceError::Realm, |c| {
            c.common.realm = "other".into();
        }),
        ("dataset", EvidenceError::Dataset, |c| {
            c.dataset_name = "voices".into();
        }),
        ("expiry", EvidenceError::Expiry, |c| {
            c.common.expires = at(7_201);
        }),
        ("launch", EvidenceError::OtherLaunch, |c| {
            c.common.launch = LaunchId([8; 16]);
        }),
        ("account", attribute("account"), |c| {
            c.common.attributes.node =
                NodeId::new("123456789012", "ap-southeast-2", "i-0c5541936caf78c12").unwrap();
        }),
        ("region", attribute("region"), |c| {
            c.common.attributes.node =
                NodeId::new("189292791360", "eu-west-1", "i-0c5541936caf78c12").unwrap();
        }),
        ("instance", attribute("instance"), |c| {
            c.common.attributes.node =
                NodeId::new("189292791360", "ap-southeast-2", "i-0c5541936caf78c13").unwrap();
        }),
        ("zone", attribute("availability zone"), |c| {
            c.common.attributes.availability_zone = "ap-southeast-2b".into();
        }),
        ("image", attribute("image"), |c| {
            c.common.attributes.image = "ami-0123456789abcdef0".into();
        }),
        ("type", attribute("instance type"), |c| {
            c.common.attributes.instance_type = "p5.48xlarge".into();
        }),
        ("launch time", attribute("launch time"), |c| {
            c.common.attributes.launched_at = at(1);
        }),
        ("actions", EvidenceError::Issue, |c| {
            c.actions = Actions::new(&[Action::Decrypt, Action::Rewrap]).unwrap();
        }),
        ("pairs", EvidenceError::Issue, |c| {
            c.required = Context::default();
        }),
        ("proof key", EvidenceError::Issue, |c| {
            c.common.proof_key = key(31);
        }),
        ("sealing key", EvidenceError::Issue, |c| {
            c.common.sealing_key = crate::seal::SealingSecret::from_seed(
                Kem::XWing,
                crate::secret::SealingSeed::from_bytes([10; 32]),
            )
            .public();
        }),
        ("KEM", EvidenceError::Issue, |c| {
            c.common.sealing_key = sealing(Kem::X25519);
        }),
        ("end", EvidenceError::End, |c| {
            c.common.evidence = EvidenceHash([6; 32]);
        }),
    ];
    for (what, expected, lie) in lies {
        let plain = bent(|case| lie(&mut case.claims)).check().unwrap_err();
        if expected == EvidenceError::Issue {
            assert_eq!(plain, EvidenceError::End, "{what}");
        } else {
            assert_eq!(plain, expected, "{what}");
        }
        if expected != EvidenceError::End {
            let relinked = bent(|case| lie(&mut case.claims)).relinked();
            assert_eq!(relinked.check().unwrap_err(), expected, "{what}, relinked");
        }
    }
}

#[test]
fn a_link_that_is_dropped_swapped_doubled_added_or_altered_breaks_the_chain() {
    // rule: EVD-1, REN-6
    type Bend = (&'static str, EvidenceError, fn(&mut Evidence));
    let bends: [Bend; 13] = [
        ("first dropped", EvidenceError::Renewal(1), |e| {
            e.renewals.remove(0);
        }),
        ("middle dropped", EvidenceError::Renewal(2), |e| {
            e.renewals.remove(1);
        }),
        ("last dropped", EvidenceError::Issue, |e| {
            e.renewals.pop();
        }),
        ("all dropped", EvidenceError::Issue, |e| e.renewals.clear()),
        ("swapped", EvidenceError::Renewal(1), |e| {
            e.renewals.swap(0, 1);
        }),
        ("doubled", EvidenceError::Renewal(2), |e| {
            e.renewals.insert(1, e.renewals[0].clone());
        }),
        ("node key", EvidenceError::Renewal(2), |e| {
            e.renewals[1].node_key = key(33);
        }),
        ("proof key", EvidenceError::Renewal(2), |e| {
            e.renewals[1].proof_key = key(33);
        }),
        ("sealing key", EvidenceError::Renewal(3), |e| {
            e.renewals[2].sealing_key = SealingKeyHash([1; 32]);
        }),
        ("algorithm", EvidenceError::Renewal(1), |e| {
            e.renewals[0].proof.alg = 5;
        }),
        ("signature", EvidenceError::Renewal(3), |e| {
            e.renewals[2].proof.value[9] ^= 1;
        }),
        ("login's signature", EvidenceError::Login, |e| {
            e.login.proof.value[9] ^= 1;
        }),
        ("issue's signature", EvidenceError::Issue, |e| {
            e.issue.1.value[9] ^= 1;
        }),
    ];
    for (what, expected, bend) in bends {
        if what != "algorithm" {
            let plain = bent(|case| bend(&mut case.evidence)).check().unwrap_err();
            assert_eq!(plain, EvidenceError::End, "{what}");
        }
        let relinked = bent(|case| bend(&mut case.evidence)).relinked();
        assert_eq!(relinked.check().unwrap_err(), expected, "{what}, relinked");
    }
}

#[test]
fn a_login_with_other_keys_is_not_what_the_launch_key_signed() {
    // rule: EVD-1, LOG-10
    type Bend = fn(&mut Link);
    let bends: [Bend; 3] = [
        |link| link.node_key = key(33),
        |link| link.proof_key = key(33),
        |link| link.sealing_key = SealingKeyHash([1; 32]),
    ];
    for bend in bends {
        let relinked = bent(|case| bend(&mut case.evidence.login)).relinked();
        assert_eq!(relinked.check().unwrap_err(), EvidenceError::Login);
    }
}

#[test]
fn a_longer_expiry_than_the_node_signed_is_found() {
    // rule: EVD-1, ISS-4
    let longer = || {
        bent(|case| {
            case.evidence.issue.0 = at(9_000);
            case.claims.common.expires = at(9_000);
        })
    };
    assert_eq!(longer().check().unwrap_err(), EvidenceError::End);
    assert_eq!(
        longer().relinked().check().unwrap_err(),
        EvidenceError::Issue
    );
    let shorter = bent(|case| case.claims.common.expires = at(3_600));
    assert!(shorter.check().is_ok());
}

#[test]
fn a_chain_of_another_realm_or_broker_is_refused() {
    // rule: EVD-1, SIG-1
    let elsewhere = Making {
        broker: key(92),
        ..Making::default()
    };
    let case = Case::made(&terms(), &elsewhere);
    assert_eq!(case.check().unwrap_err(), EvidenceError::Login);
    let elsewhere = Making {
        realm: "other",
        ..Making::default()
    };
    let mut case = Case::made(&terms(), &elsewhere);
    assert_eq!(case.check().unwrap_err(), EvidenceError::Realm);
    case.claims.common.realm = REALM.into();
    assert_eq!(
        case.check().unwrap_err(),
        EvidenceError::Launch(StatementRefusal::Realm)
    );
    // Even a launch of this realm makes nothing of signatures made in the other.
    case.evidence.launch = registered(&terms(), REALM, OPERATOR);
    assert_eq!(case.relinked().check().unwrap_err(), EvidenceError::Login);
}

#[test]
fn a_launch_that_no_admin_in_force_signed_proves_nothing() {
    // rule: EVD-1, SET-2
    let stranger = bent(|case| {
        case.evidence.launch = registered(&case.terms, REALM, 77);
    });
    let refused = |case: &Case| match case.check() {
        Err(EvidenceError::Launch(refusal)) => refusal.refusal().number(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&stranger), 71);
    // An operator who was removed since.
    let removed = bent(|case| case.set = set(&[OTHER_OPERATOR]));
    assert_eq!(refused(&removed), 71);
    // One who keeps the set but lets nobody in.
    let security = bent(|case| {
        case.evidence.launch = registered(&case.terms, REALM, 11);
    });
    assert_eq!(refused(&security), 78);
    // Another act, for everyone as well.
    let statement = bent(|case| case.evidence.launch = vec![0xd8, 98, 0x80]);
    assert_eq!(refused(&statement), 70);
}

#[test]
fn a_launch_other_than_the_one_that_the_launch_key_signed_for_is_refused() {
    // rule: EVD-1
    let other = || Case::new().with_terms(|terms| terms.launch = LaunchId([9; 16]));
    assert_eq!(other().check().unwrap_err(), EvidenceError::OtherLaunch);
    let mut other = other();
    other.claims.common.launch = LaunchId([9; 16]);
    assert_eq!(other.relinked().check().unwrap_err(), EvidenceError::Login);
    // The same launch with wider terms: its digest is another.
    let wider = || Case::new().with_terms(|terms| terms.images.clear());
    assert_eq!(wider().check().unwrap_err(), EvidenceError::End);
    assert_eq!(
        wider().relinked().check().unwrap_err(),
        EvidenceError::Login
    );
    // Another key for the same id.
    let stolen: LaunchSecret = secret(22);
    let rekeyed = || Case::new().with_terms(|terms| terms.key = stolen.public());
    assert_eq!(
        rekeyed().relinked().check().unwrap_err(),
        EvidenceError::Login
    );
}

#[test]
fn another_instances_document_is_refused() {
    // rule: EVD-1
    let swapped = bent(|case| case.evidence.iid_proof = SEOUL.to_vec());
    assert_eq!(
        swapped.check().unwrap_err(),
        EvidenceError::Attribute("account")
    );
    // The broker says what that document says: the launch does not let it in.
    let seoul = Making {
        document: SEOUL,
        ..Making::default()
    };
    let case = Case::made(&terms(), &seoul);
    assert_eq!(
        case.check().unwrap_err(),
        EvidenceError::NotLetIn("account")
    );
    // Nor was it this document that the launch key signed, whatever the launch lets in.
    let sydney = Case::made(
        &LaunchCreate {
            accounts: vec!["189292791360".into(), "707811555388".into()],
            regions: Vec::new(),
            images: Vec::new(),
            max_age: 10 * 365 * 86_400,
            ..terms()
        },
        &Making::default(),
    );
    assert!(sydney.check().is_ok());
    let mut lie = sydney;
    lie.evidence.iid_proof = SEOUL.to_vec();
    lie.claims.common.attributes = case.claims.common.attributes;
    assert_eq!(lie.check().unwrap_err(), EvidenceError::End);
    assert_eq!(lie.relinked().check().unwrap_err(), EvidenceError::Login);
}

#[test]
fn a_document_that_aws_did_not_sign_is_refused() {
    // rule: EVD-1, IID-3
    let forged = bent(|case| case.evidence.iid_proof[200] ^= 1);
    assert!(matches!(
        forged.check().unwrap_err(),
        EvidenceError::Identity(_)
    ));
}

#[test]
fn a_launch_that_does_not_let_the_node_in_is_refused() {
    // rule: EVD-2
    type Change = fn(&mut LaunchCreate);
    let cases: [(EvidenceError, Change); 9] = [
        (EvidenceError::NotLetIn("account"), |terms| {
            terms.accounts = vec!["123456789012".into()];
        }),
        (EvidenceError::NotLetIn("region"), |terms| {
            terms.regions = vec!["eu-west-1".into()];
        }),
        (EvidenceError::NotLetIn("image"), |terms| {
            terms.images = vec!["ami-00000000".into()];
        }),
        (EvidenceError::Window, |terms| terms.from = at(901)),
        (EvidenceError::Window, |terms| {
            (terms.from, terms.until) = (at(0).minus(900), at(0).minus(60));
        }),
        (EvidenceError::Window, |terms| {
            (terms.group, terms.from) = (true, at(1));
        }),
        (EvidenceError::Window, |terms| {
            (terms.group, terms.from, terms.until) = (true, at(0).minus(60), at(0));
        }),
        (EvidenceError::NodeLife, |terms| terms.node_life = 3_399),
        (EvidenceError::NodeLife, |terms| {
            (terms.until, terms.node_life) = (at(100), 6_899);
        }),
    ];
    for (expected, change) in cases {
        let mut terms = terms();
        change(&mut terms);
        let case = Case::made(&terms, &Making::default());
        assert_eq!(case.check().unwrap_err(), expected, "{terms:?}");
    }
    let allowed: [Change; 6] = [
        |terms| (terms.regions, terms.images) = (Vec::new(), Vec::new()),
        |terms| terms.from = at(900),
        |terms| (terms.from, terms.until) = (at(0).minus(900), at(0).minus(59)),
        |terms| (terms.group, terms.from) = (true, at(0)),
        |terms| (terms.group, terms.until) = (true, at(1)),
        |terms| terms.node_life = 3_400,
    ];
    for change in allowed {
        let mut terms = terms();
        change(&mut terms);
        assert!(
            Case::made(&terms, &Making::default()).check().is_ok(),
            "{terms:?}"
        );
    }
}

#[test]
fn a_chain_of_too_many_links_is_refused_before_it_is_walked() {
    // rule: EVD-1
    let long = bent(|case| {
        case.evidence.renewals = vec![case.evidence.renewals[0].clone(); LINKS + 1];
    });
    assert_eq!(long.check().unwrap_err(), EvidenceError::TooLong(LINKS + 1));
}

#[test]
fn what_only_the_broker_knows_is_not_looked_at() {
    // rule: EVD-2
    let free = bent(|case| {
        let claims = &mut case.claims;
        claims.budget = 1;
        claims.common.id = TicketId([9; 16]);
        claims.parent = TicketId([9; 16]);
        claims.common.issued = at(3_000);
    });
    assert!(free.check().is_ok());
}
