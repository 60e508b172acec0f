//! A broker that lies in the tickets it signs, at a dataset that wants evidence and at one that does
//! not (EVD-1, EVD-2). The identity documents are AWS's own.

use ticket_format::Refusal;
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::evidence::{self, IssueEvidence, LoginEvidence, RenewEvidence};
use ticket_format::ids::{
    EvidenceHash, LaunchId, NodeId, ProofHash, SealingKeyHash, StatementDigest, StatementId,
};
use ticket_format::iid::{self, RegionKeys};
use ticket_format::keys::{AdminSecret, LaunchSecret, NodeSecret, ProofSecret};
use ticket_format::messages::present::{Evidence, LINKS, Link};
use ticket_format::seal::Kem;
use ticket_format::sign::Proof;
use ticket_format::statement::{
    AdminRole, AdminSetBody, Canary, DatasetCreated, DatasetSet, LaunchCreate, Payload, Witnessing,
};
use ticket_format::ticket::{Action, Actions, Attributes, DatasetClaims};
use ticket_format::time::Timestamp;

use crate::job::Job;
use crate::rig::{
    MANAGES, REALM, Rig, START, World, admin, broker_identity, first_digest, manager, operator,
    pairs, refusal, rng, set_statement, wanted,
};

const SYDNEY: &[u8] =
    include_bytes!("../../../ticket-format/tests/data/aws/iid/metaphor-2026/rsa2048.b64");
const SEOUL: &[u8] =
    include_bytes!("../../../ticket-format/tests/data/aws/iid/ansible-2022-a/rsa2048.b64");
/// Lets in what Sydney's document says, and nothing else of any node.
const ONLY_SYDNEY: &str = r#"@id("only") permit (principal, action, resource) when {
    principal.account == "189292791360" && principal.image == "ami-0cbde744623b7506b" };"#;

/// A server with two datasets of the same policy: `strict` wants evidence, `plain` does not.
struct Datasets {
    rig: Rig,
    strict: DatasetCreated,
    plain: DatasetCreated,
}

async fn datasets() -> Datasets {
    let rig = World::new().start().await;
    let mut strict = wanted("strict");
    (strict.policy, strict.evidence) = (ONLY_SYDNEY.to_owned(), true);
    let mut plain = wanted("plain");
    plain.policy = ONLY_SYDNEY.to_owned();
    let (strict, plain) = (
        rig.administer(&strict).await.unwrap(),
        rig.administer(&plain).await.unwrap(),
    );
    Datasets { rig, strict, plain }
}

/// A node that logged in and renewed honestly.
struct Node {
    launch: LaunchId,
    attributes: Attributes,
    statement: Vec<u8>,
    document: &'static [u8],
    login: Link,
    renewals: Vec<Link>,
    key: NodeSecret,
    chain: EvidenceHash,
}

fn link(body: (NodeSecret, &ProofSecret, u8), proof: Proof) -> (NodeSecret, Link) {
    let (key, session, sealing) = body;
    let link = Link {
        node_key: key.public(),
        proof_key: session.public(),
        sealing_key: SealingKeyHash([sealing; 32]),
        proof,
    };
    (key, link)
}

impl Node {
    fn boot(document: &'static [u8], renewals: usize) -> Self {
        Self::let_in(document, renewals, &operator(), |_| {})
    }

    /// `change` alters the launch before its admin signs it.
    fn let_in(
        document: &'static [u8],
        renewals: usize,
        admin: &AdminSecret,
        change: impl FnOnce(&mut LaunchCreate),
    ) -> Self {
        let (rng, broker) = (&mut rng(), broker_identity());
        let verified = iid::verify(document, &RegionKeys::built_in()).unwrap();
        let attributes = evidence::attributes(&verified).unwrap();
        let secret = LaunchSecret::generate(rng);
        let now = Timestamp::from_seconds(START);
        let mut terms = LaunchCreate {
            launch: LaunchId::random(rng),
            key: secret.public(),
            accounts: vec![attributes.node.account().to_owned()],
            regions: Vec::new(),
            images: vec![attributes.image.clone()],
            uses: 1,
            group: false,
            from: now.minus(60),
            until: now.plus(3_600),
            max_age: 10 * 365 * 86_400,
            node_life: 30 * 86_400,
            comment: String::new(),
        };
        change(&mut terms);
        let payload = Payload::record(StatementId::random(rng), REALM, now, &terms);
        let statement = payload.sign(&[admin]).unwrap();
        let (key, session) = (NodeSecret::generate(rng), ProofSecret::generate(rng));
        let body = LoginEvidence {
            launch: terms.launch,
            launch_digest: StatementDigest::of(&statement),
            iid_proof: ProofHash(*verified.proof_hash()),
            node_key: key.public(),
            proof_key: session.public(),
            sealing_key: SealingKeyHash([1; 32]),
        };
        let proof = body.sign(&secret, REALM, &broker);
        let chain = body.link(None, &proof);
        let (key, login) = link((key, &session, 1), proof);
        let mut node = Self {
            launch: terms.launch,
            attributes,
            statement,
            document,
            login,
            renewals: Vec::new(),
            key,
            chain,
        };
        (0..renewals).for_each(|_| node.renew());
        node
    }

    fn renew(&mut self) {
        let (next, session) = (
            NodeSecret::generate(&mut rng()),
            ProofSecret::generate(&mut rng()),
        );
        let body = RenewEvidence {
            node: &self.attributes.node,
            old_key: self.key.public(),
            new_key: next.public(),
            proof_key: session.public(),
            sealing_key: SealingKeyHash([2; 32]),
            chain: self.chain,
        };
        let proof = body.sign(&self.key, REALM, &broker_identity());
        self.chain = body.link(Some(self.chain), &proof);
        let (key, link) = link((next, &session, 2), proof);
        self.key = key;
        self.renewals.push(link);
    }

    /// A job of this node: what it signed, and the ticket that the broker made of it, which says what
    /// `lie` makes it say.
    fn job(
        &self,
        rig: &Rig,
        dataset: (&DatasetCreated, &str),
        lie: impl FnOnce(&mut DatasetClaims),
    ) -> (Job, Evidence) {
        let mut issue = None;
        let job = rig.job_of(Kem::XWing, |claims| {
            claims.dataset = dataset.0.dataset;
            claims.dataset_name = dataset.1.to_owned();
            claims.common.attributes = self.attributes.clone();
            claims.common.launch = self.launch;
            claims.actions = Actions::new(&[Action::Decrypt, Action::Encrypt]).unwrap();
            claims.required = pairs(&[("study", "a")]);
            let expires = claims.common.expires.plus(60);
            let body = IssueEvidence {
                dataset: &claims.dataset_name,
                actions: claims.actions,
                required: &claims.required,
                proof_key: claims.common.proof_key,
                kem: claims.common.sealing_key.kem(),
                sealing_key: claims.common.sealing_key.hash(),
                expires,
                chain: self.chain,
            };
            let proof = body.sign(&self.key, REALM, &broker_identity());
            claims.common.evidence = body.link(Some(self.chain), &proof);
            issue = Some((expires, proof));
            lie(claims);
        });
        let evidence = Evidence {
            launch: self.statement.clone(),
            iid_proof: self.document.to_vec(),
            login: self.login.clone(),
            renewals: self.renewals.clone(),
            issue: issue.unwrap(),
        };
        (job, evidence)
    }
}

fn alarms(rig: &Rig) -> Vec<Entry> {
    let mut entries = rig.entries();
    entries.retain(|entry| entry.kind == Kind::Alarm);
    entries
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_its_evidence_bears_out_opens_here_and_again_after_a_restart() {
    // rule: EVD-1
    let Datasets { rig, strict, .. } = datasets().await;
    for renewals in [0, 3, LINKS] {
        let node = Node::boot(SYDNEY, renewals);
        let (job, evidence) = node.job(&rig, (&strict, "strict"), |_| {});
        for connection in 1..3 {
            let connection = rig.connect(connection);
            let opened = rig.present_showing(&connection, &job, &evidence).await;
            let wraps = rig
                .wraps(&opened.unwrap(), &pairs(&[("study", "a")]), 2)
                .await;
            assert_eq!(wraps.len(), 2, "{renewals} renewals");
        }
    }
    let rig = rig.restart().await;
    let node = Node::boot(SYDNEY, 1);
    let (job, evidence) = node.job(&rig, (&strict, "strict"), |_| {});
    let opened = rig.present_showing(&rig.connect(1), &job, &evidence).await;
    assert!(opened.is_ok());
    assert!(alarms(&rig).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_evidence_is_refused_where_it_is_wanted_and_not_looked_at_elsewhere() {
    // rule: EVD-1
    let Datasets { rig, strict, plain } = datasets().await;
    let node = Node::boot(SYDNEY, 1);
    let (job, mut evidence) = node.job(&rig, (&strict, "strict"), |_| {});
    let notice = rig
        .present(&rig.connect(1), &job)
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(notice.refusal, Refusal::Evidence);
    assert!(notice.detail.unwrap().contains("wants evidence"));
    assert!(alarms(&rig).is_empty(), "nobody lied");
    evidence.renewals.clear();
    let (job, _) = node.job(&rig, (&plain, "plain"), |_| {});
    assert!(rig.present(&rig.connect(2), &job).await.is_ok());
    let beside = rig.present_showing(&rig.connect(3), &job, &evidence).await;
    assert!(beside.is_ok());
}

type Lie = (&'static str, fn(&mut DatasetClaims));

/// What a broker could say of a node, each alone.
const LIES: [Lie; 13] = [
    ("instance", |claims| {
        claims.common.attributes.node =
            NodeId::new("189292791360", "ap-southeast-2", "i-0123456789abcdef0").unwrap();
    }),
    ("region", |claims| {
        claims.common.attributes.node =
            NodeId::new("189292791360", "eu-west-1", "i-0c5541936caf78c12").unwrap();
    }),
    ("zone", |claims| {
        claims.common.attributes.availability_zone = "ap-southeast-2c".into();
    }),
    ("instance type", |claims| {
        claims.common.attributes.instance_type = "p5.48xlarge".into();
    }),
    ("launch time", |claims| {
        let at = &mut claims.common.attributes.launched_at;
        *at = at.plus(3_600);
    }),
    ("launch", |claims| {
        claims.common.launch = LaunchId([0x11; 16]);
    }),
    ("actions", |claims| {
        claims.actions = Actions::new(&Action::ALL).unwrap();
    }),
    ("required pairs", |claims| claims.required = pairs(&[])),
    ("expiry", |claims| {
        claims.common.expires = claims.common.expires.plus(120);
    }),
    ("evidence hash", |claims| {
        claims.common.evidence = EvidenceHash([7; 32]);
    }),
    ("image and account, both allowed by the policy", |claims| {
        claims.common.attributes.node =
            NodeId::new("189292791360", "ap-southeast-2", "i-0ffffffffffffffff").unwrap();
        claims.common.attributes.image = "ami-0cbde744623b7506b".into();
    }),
    ("actions alone", |claims| {
        claims.actions = Actions::new(&[Action::Encrypt]).unwrap();
    }),
    ("sooner launch", |claims| {
        claims.common.attributes.launched_at = Timestamp::from_seconds(1);
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lies_in_a_ticket_opens_nothing_where_evidence_is_wanted() {
    // rule: EVD-1
    let Datasets { rig, strict, plain } = datasets().await;
    let node = Node::boot(SYDNEY, 2);
    for (number, (what, lie)) in LIES.into_iter().enumerate() {
        rig.service.each_minute().await;
        let before = alarms(&rig).len();
        let number = u8::try_from(number).unwrap();
        let (job, evidence) = node.job(&rig, (&strict, "strict"), lie);
        let connection = rig.connect(number);
        let notice = rig.present_showing(&connection, &job, &evidence).await;
        let notice = notice.map(drop).unwrap_err();
        assert_eq!(notice.refusal, Refusal::Evidence, "{what}");
        assert!(connection.is_empty(), "{what}");
        let alarms = alarms(&rig);
        assert_eq!(alarms.len(), before + 1, "{what}");
        let alarm = alarms.last().unwrap();
        assert_eq!(alarm.alarm, Some(Alarm::Evidence), "{what}");
        assert_eq!(alarm.dataset, Some(strict.dataset));
        assert_eq!(alarm.ticket, Some(job.claims.common.id));
        // The same ticket, but for the dataset, is all that another dataset asks for.
        let (job, _) = node.job(&rig, (&plain, "plain"), lie);
        assert!(
            rig.present(&rig.connect(number), &job).await.is_ok(),
            "{what}"
        );
    }
    // The honest ticket of the same node opens.
    let (job, evidence) = node.job(&rig, (&strict, "strict"), |_| {});
    let opened = rig.present_showing(&rig.connect(99), &job, &evidence).await;
    assert!(opened.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dresses_a_node_up_as_another_gets_keys_only_where_nobody_wants_evidence() {
    // rule: EVD-1, EVD-2, PRE-3
    let Datasets { rig, strict, plain } = datasets().await;
    // A node in another account, with an honest chain of its own and all that the broker can add.
    let node = Node::boot(SEOUL, 1);
    let sydney = Node::boot(SYDNEY, 0).attributes;
    let dress = |claims: &mut DatasetClaims| claims.common.attributes = sydney.clone();
    let (job, evidence) = node.job(&rig, (&plain, "plain"), dress);
    let opened = rig.present_showing(&rig.connect(1), &job, &evidence).await;
    let wraps = rig
        .wraps(&opened.unwrap(), &pairs(&[("study", "a")]), 1)
        .await;
    assert_eq!(wraps.len(), 1, "the policy sees what the broker says");
    let (job, evidence) = node.job(&rig, (&strict, "strict"), dress);
    let shown = rig.present_showing(&rig.connect(2), &job, &evidence).await;
    assert_eq!(refusal(shown.map(drop)), Refusal::Evidence);
    // With Sydney's document, which anybody may hold, it is no better.
    let mut stolen = evidence.clone();
    stolen.iid_proof = SYDNEY.to_vec();
    let shown = rig.present_showing(&rig.connect(3), &job, &stolen).await;
    assert_eq!(refusal(shown.map(drop)), Refusal::Evidence);
    // Told as it is, the node is refused by the policy.
    let (job, evidence) = node.job(&rig, (&strict, "strict"), |_| {});
    let shown = rig.present_showing(&rig.connect(4), &job, &evidence).await;
    assert_eq!(refusal(shown.map(drop)), Refusal::Policy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_only_the_broker_made_lets_nobody_in() {
    // rule: EVD-1, EVD-2
    let Datasets { rig, strict, .. } = datasets().await;
    let invented = AdminSecret::generate(&mut rng());
    let nodes = [
        Node::let_in(SYDNEY, 0, &invented, |_| {}),
        Node::let_in(SYDNEY, 0, &manager(0), |_| {}),
        Node::let_in(SYDNEY, 0, &operator(), |terms| {
            terms.accounts = vec!["123456789012".to_owned()];
        }),
        Node::let_in(SYDNEY, 0, &operator(), |terms| terms.max_age = 900),
        Node::let_in(SYDNEY, 0, &operator(), |terms| {
            (terms.until, terms.node_life) = (terms.from.plus(61), 60);
        }),
    ];
    for (number, node) in nodes.iter().enumerate() {
        let (job, evidence) = node.job(&rig, (&strict, "strict"), |_| {});
        let shown = rig.present_showing(&rig.connect(1), &job, &evidence).await;
        assert_eq!(refusal(shown.map(drop)), Refusal::Evidence, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_joined_to_another_dataset_than_the_node_signed_for_is_refused() {
    // rule: EVD-1
    let Datasets { rig, strict, plain } = datasets().await;
    let node = Node::boot(SYDNEY, 0);
    // The node signed for `plain`; the ticket has the id of `strict`.
    let (job, evidence) = node.job(&rig, (&plain, "plain"), |claims| {
        claims.dataset = strict.dataset;
    });
    let shown = rig.present_showing(&rig.connect(1), &job, &evidence).await;
    assert_eq!(refusal(shown.map(drop)), Refusal::Evidence);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_presented_before_evidence_was_wanted_is_presented_again_with_it() {
    // rule: EVD-1, RED-2
    let Datasets { rig, plain, .. } = datasets().await;
    let node = Node::boot(SYDNEY, 1);
    let (job, evidence) = node.job(&rig, (&plain, "plain"), |_| {});
    let opened = rig.present(&rig.connect(1), &job).await.unwrap();
    let context = pairs(&[("study", "a")]);
    assert_eq!(rig.wraps(&opened, &context, 1).await.len(), 1);
    rig.administer(&DatasetSet {
        rotation: Default::default(),
        class: Default::default(),
        name: "plain".to_owned(),
        max_budget: 10_000,
        max_life: 7_200,
        kems: vec![Kem::XWing],
        lease: 5,
        evidence: true,
        canary: Canary::No,
        witnessing: Witnessing::none(),
    })
    .await
    .unwrap();
    let asked = rig.generate(&opened, &[&context], true).await;
    assert_eq!(refusal(asked), Refusal::HandleUnknown);
    let again = rig.present(&rig.connect(2), &job).await;
    assert_eq!(refusal(again.map(drop)), Refusal::Evidence);
    let again = rig.present_showing(&rig.connect(3), &job, &evidence).await;
    assert_eq!(rig.wraps(&again.unwrap(), &context, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_ticket_is_proven_again_when_the_admin_set_changes() {
    // rule: EVD-1, SET-2
    let Datasets { rig, strict, .. } = datasets().await;
    let node = Node::boot(SYDNEY, 1);
    let (job, evidence) = node.job(&rig, (&strict, "strict"), |_| {});
    let opened = rig.present_showing(&rig.connect(1), &job, &evidence).await;
    let opened = opened.unwrap();
    // The ticket is proven: its chain is not walked again.
    let mut damaged = evidence.clone();
    damaged.login.proof.value[0] ^= 1;
    let again = rig.present_showing(&rig.connect(2), &job, &damaged).await;
    assert!(again.is_ok());
    // Another operator takes the place of the one who signed the launch.
    let mut admins = vec![admin(
        "another",
        AdminSecret::from_seed(&[0x5a; 32]).public(),
        &[AdminRole::Operator],
    )];
    for number in 0..3 {
        let name = format!("manager-{number}");
        admins.push(admin(&name, manager(number).public(), &MANAGES));
    }
    admins.sort_by_key(|admin| admin.key);
    let next = AdminSetBody {
        version: 2,
        follows: first_digest(),
        admins,
        quorums: AdminSetBody::usual_quorums(2),
    };
    let statement = set_statement(&next, &[&manager(0), &manager(1)]);
    rig.send_statement(&statement).await.unwrap();
    let context = pairs(&[("study", "a")]);
    let asked = rig.generate(&opened, &[&context], true).await;
    assert_eq!(refusal(asked), Refusal::HandleUnknown);
    for (connection, shown) in [(3, &damaged), (4, &evidence)] {
        let connection = rig.connect(connection);
        let again = rig.present_showing(&connection, &job, shown).await;
        let notice = again.map(drop).unwrap_err();
        assert_eq!(notice.refusal, Refusal::Evidence);
    }
}
