//! Statements and admin sets.

use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::denial::Selector;
use ticket_format::ids::{DatasetId, StatementId};
use ticket_format::keys::AdminSecret;
use ticket_format::statement::{
    Act, ActBody, Admin, AdminKeyKind, AdminRole, AdminSet, AdminSetBody, Audience, DenyBody,
    Payload, PolicySet, ReceivedStatement,
};
use ticket_format::time::Timestamp;

use super::super::admins::{self, AdminKeys, OPERATOR, SECURITY, enough, named};
use super::super::case::Case;
use super::super::statements::{status_payload, undeny_payload};
use super::super::world::{NOW, POLICY, REALM, World, at};
use super::refused;

pub(super) fn cases(world: &World) -> Vec<Case> {
    let mut all = envelopes(world);
    all.extend(signatures(world));
    all.extend(quorums(world));
    all.extend(sets());
    all.extend(successors());
    all
}

/// A statement that the broker must refuse while `set` is in force.
fn under(
    world: &World,
    set: &AdminSet,
    (path, about): (&str, &str),
    expected: Refusal,
    bytes: &[u8],
) -> Case {
    let broker = world.broker_tls.public();
    let got = ReceivedStatement::parse(bytes)
        .and_then(|received| received.verify(set, REALM, Some(&broker), at(0)))
        .map(|_| ())
        .map_err(|error| (error.refusal(), error.to_string()));
    refused(path, "statement", about, expected, got)
        .given("admin_set", set.body().to_cbor())
        .given("statement", bytes)
        .input("now", NOW)
}

fn envelopes(world: &World) -> Vec<Case> {
    let set = admins::set();
    let check = |path: &str, about: &str, expected, bytes: &[u8]| {
        under(world, &set, (path, about), expected, bytes)
    };
    let payload = status_payload(world, 0x2f);
    let operator = || vec![named(OPERATOR)];
    let good = admins::signed(&payload, &[OPERATOR]);
    let forged =
        |payload: &Payload, signers: &[AdminKeys]| admins::forged(&payload.to_cbor(), signers);
    let with = |edit: &dyn Fn(&mut Payload)| {
        let mut payload = payload.clone();
        edit(&mut payload);
        forged(&payload, &operator())
    };
    assert_eq!(
        forged(&payload, &operator()),
        good,
        "the forge makes good statements of good parts"
    );
    let server = Audience::Server(world.server_tls.public());
    let record = {
        let mut record = world.launch_payload();
        record.expires = at(86_400);
        forged(&record, &operator())
    };
    let mut flipped = good.clone();
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    let (bad, signature) = (Refusal::StatementMalformed, Refusal::StatementSignature);
    vec![
        check(
            "statement-trailing",
            "ENC-1: a byte after the statement.",
            bad,
            &[&good[..], &[0]].concat(),
        ),
        check(
            "statement-signer-unknown",
            "ADM-1: signed by a key that is no admin's.",
            signature,
            &forged(&payload, &[stranger()]),
        ),
        check(
            "statement-signed-twice",
            "ADM-1: two signatures by one admin.",
            signature,
            &forged(&payload, &[named(OPERATOR), named(OPERATOR)]),
        ),
        check(
            "statement-unsigned",
            "ADM-1: no signature.",
            bad,
            &forged(&payload, &[]),
        ),
        check(
            "statement-flipped",
            "ADM-1: one bit of the signature.",
            signature,
            &flipped,
        ),
        check(
            "statement-audience-other",
            "ADM-2: it is for a key server.",
            Refusal::StatementAudience,
            &with(&|payload| payload.audience = server),
        ),
        check(
            "statement-realm-other",
            "ADM-2: it is of another realm.",
            Refusal::StatementAudience,
            &with(&|payload| payload.realm = "other".to_owned()),
        ),
        check(
            "statement-expired",
            "ADM-2: it expired this second.",
            Refusal::StatementExpired,
            &with(&|payload| (payload.not_before, payload.expires) = (at(0).minus(300), at(0))),
        ),
        check(
            "statement-early",
            "ADM-2: it begins 61 seconds from now.",
            Refusal::StatementExpired,
            &with(&|payload| (payload.not_before, payload.expires) = (at(61), at(361))),
        ),
        check(
            "statement-long",
            "ADM-1: a day and a second.",
            bad,
            &with(&|payload| payload.expires = at(86_401)),
        ),
        check(
            "statement-for-everyone",
            "ADM-1: an act that is no record, for everyone.",
            bad,
            &with(&|payload| {
                (payload.audience, payload.expires) = (Audience::Everyone, Timestamp::LAST);
            }),
        ),
        check(
            "statement-record-expires",
            "ADM-1: a record for everyone that expires could not be verified again.",
            bad,
            &record,
        ),
    ]
}

/// Somebody with a good key who is no admin.
fn stranger() -> AdminKeys {
    let mut keys = named(OPERATOR);
    keys.secret = AdminSecret::from_seed(&[0x99; 32]);
    keys.admin.key = keys.secret.public();
    keys
}

fn signatures(world: &World) -> Vec<Case> {
    let set = admins::set();
    let payload = status_payload(world, 0x30);
    let bytes = payload.to_cbor();
    let check = |path: &str, about: &str, name: &str, kind, made_as, application: &str, flags| {
        let keys = named(name);
        let value = admins::sign_as(&keys, &bytes, made_as, application, flags);
        let statement = admins::unchecked(&bytes, &[(&keys.admin, kind, value)]);
        let signature = Refusal::StatementSignature;
        under(world, &set, (path, about), signature, &statement)
    };
    let (file, agent, security) = (
        AdminKeyKind::File,
        AdminKeyKind::Agent,
        AdminKeyKind::SecurityKey,
    );
    let mut moved = payload.clone();
    moved.id = StatementId([0x31; 16]);
    let keys = named(OPERATOR);
    let value = admins::signature(&keys, &moved.to_cbor());
    let moved = admins::unchecked(&bytes, &[(&keys.admin, file, value)]);
    let ssh = admins::APPLICATION;
    vec![
        check(
            "statement-form-other",
            "SET-7: the set says that an agent holds the key; the signature is a file's.",
            "owner-agent",
            file,
            file,
            ssh,
            1,
        ),
        check(
            "statement-form-agent",
            "SET-7: the set says that a file holds the key; the signature is an agent's.",
            "owner",
            agent,
            agent,
            ssh,
            1,
        ),
        check(
            "statement-form-lies",
            "SET-7: the header says agent; what was signed is the bare Sig_structure.",
            "owner-agent",
            agent,
            file,
            ssh,
            1,
        ),
        check(
            "statement-untouched",
            "SET-7: nobody touched the security key: the user-presence flag is not set.",
            "security-key",
            security,
            security,
            ssh,
            0,
        ),
        check(
            "statement-application-other",
            "SET-7: the security key signed for another application.",
            "security-key",
            security,
            security,
            "ssh:",
            1,
        ),
        under(
            world,
            &set,
            (
                "statement-signature-moved",
                "ADM-1: the operator's signature over another statement.",
            ),
            Refusal::StatementSignature,
            &moved,
        ),
    ]
}

fn quorums(world: &World) -> Vec<Case> {
    let set = admins::set();
    let undeny = undeny_payload(world);
    let check = |path: &str, about: &str, set: &AdminSet, payload: &Payload, names: &[&str]| {
        let statement = admins::signed(payload, names);
        under(world, set, (path, about), Refusal::Quorum, &statement)
    };
    let deny = DenyBody {
        selector: Selector::dataset(DatasetId([0x32; 16])),
        reason: String::new(),
    };
    let deny = broker_act(world, 0x33, &deny);
    let policy = PolicySet {
        text: POLICY.to_owned(),
        replaces: None,
    };
    let policy = broker_act(world, 0x34, &policy);
    let without = {
        let mut body = admins::first_body();
        body.quorums.remove(&Act::PolicySet);
        checked(body)
    };
    let next = checked(admins::next_body());
    let removed = admins::signed(&undeny, SECURITY);
    vec![
        check(
            "quorum-one-of-two",
            "SET-2: a lifting that one of security signed; two must.",
            &set,
            &undeny,
            &["security"],
        ),
        check(
            "quorum-other-role",
            "SET-2: a lifting that one of security and an operator signed.",
            &set,
            &undeny,
            &["security", OPERATOR],
        ),
        check(
            "quorum-manager-denies",
            "SET-2: a denial that an owner of datasets signed.",
            &set,
            &deny,
            &["owner"],
        ),
        check(
            "quorum-no-number",
            "SET-2: the set has no number for policy-set: nobody may.",
            &without,
            &policy,
            &enough(Act::PolicySet),
        ),
        under(
            world,
            &next,
            (
                "quorum-removed-admin",
                "SET-2: the lifting that the first set's security signed, under the second set.",
            ),
            Refusal::StatementSignature,
            &removed,
        ),
    ]
}

fn broker_act<B: ActBody>(world: &World, id: u8, body: &B) -> Payload {
    let broker = world.broker_tls.public();
    Payload::act(StatementId([id; 16]), REALM, broker, at(0), 300, body)
}

#[allow(clippy::expect_used)]
fn checked(body: AdminSetBody) -> AdminSet {
    AdminSet::new(body).expect("a set that holds to the rules")
}

/// Sets that hold to the shape and not to SET-4.
fn sets() -> Vec<Case> {
    let check = |path: &str, about: &str, edit: &dyn Fn(&mut AdminSetBody)| {
        let mut body = admins::first_body();
        edit(&mut body);
        let bytes = body.to_cbor();
        let got = AdminSet::pinned(&bytes)
            .map(|_| ())
            .map_err(|error| (error.refusal(), error.to_string()));
        refused(path, "admin-set", about, Refusal::Invalid, got).given("admin_set", bytes)
    };
    let operator = named(OPERATOR).admin.key;
    let edit_operator = |body: &mut AdminSetBody, edit: &dyn Fn(&mut Admin)| {
        body.admins
            .iter_mut()
            .filter(|admin| admin.key == operator)
            .for_each(edit);
    };
    vec![
        check(
            "admin-set-key-twice",
            "SET-4: one key stands there under two names.",
            &|body| {
                let mut second = body.admins[0].clone();
                "again".clone_into(&mut second.name);
                body.admins.insert(1, second);
            },
        ),
        check(
            "admin-set-name-twice",
            "SET-4: two keys have one name.",
            &|body| body.admins[1].name = body.admins[0].name.clone(),
        ),
        check(
            "admin-set-unordered",
            "SET-4: the admins are not in the order of their keys.",
            &|body| body.admins.swap(0, 1),
        ),
        check(
            "admin-set-overlap",
            "SET-4: an operator who is security as well.",
            &|body| {
                edit_operator(body, &|admin| {
                    admin.roles = vec![AdminRole::Operator, AdminRole::Security];
                });
            },
        ),
        check(
            "admin-set-floor",
            "SET-4: one admin would be enough for a lifting.",
            &|body| _ = body.quorums.insert(Act::Undeny, 1),
        ),
        check(
            "admin-set-deny-slow",
            "SET-4: a denial would have to wait for a second operator.",
            &|body| _ = body.quorums.insert(Act::Deny, 2),
        ),
        check(
            "admin-set-deny-nobody",
            "SET-4: there is no number for deny.",
            &|body| _ = body.quorums.remove(&Act::Deny),
        ),
        check(
            "admin-set-unmeetable",
            "SET-4: three of security must sign a policy, and there are two.",
            &|body| _ = body.quorums.insert(Act::PolicySet, 3),
        ),
        check(
            "admin-set-reading",
            "SET-4: a number for an act that changes nothing.",
            &|body| _ = body.quorums.insert(Act::Status, 1),
        ),
        check(
            "admin-set-application",
            "SET-7: a key in a file with an application.",
            &|body| {
                edit_operator(body, &|admin| admin.application = Some("ssh:".to_owned()));
            },
        ),
        check(
            "admin-set-start",
            "SET-3: version 2 that follows nothing.",
            &|body| body.version = 2,
        ),
    ]
}

/// Sets that may not take the place of the one before, or may not be the first.
fn successors() -> Vec<Case> {
    let said = |result: Result<AdminSet, ticket_format::statement::AdminSetRefusal>| {
        result
            .map(|_| ())
            .map_err(|error| (error.refusal(), error.to_string()))
    };
    let first = |path: &str, about: &str, expected, bytes: &[u8]| {
        let got = said(AdminSet::first(bytes, REALM, at(0)));
        refused(path, "admin-set-first", about, expected, got)
            .given("statement", bytes)
            .input("now", NOW)
    };
    let next = |path: &str, about: &str, expected, bytes: &[u8]| {
        let set = admins::set();
        let got = said(set.next(bytes, REALM, at(0)));
        refused(path, "admin-set-next", about, expected, got)
            .given("admin_set", set.body().to_cbor())
            .given("statement", bytes)
            .input("now", NOW)
    };
    let edited = |edit: &dyn Fn(&mut AdminSetBody)| {
        let mut body = admins::next_body();
        edit(&mut body);
        admins::signed(&admins::record(0x35, &body), SECURITY)
    };
    let lower = |body: &mut AdminSetBody| _ = body.quorums.insert(Act::AdminSet, 1);
    vec![
        first(
            "admin-set-first-not-all",
            "SET-3: the first set, which one of its admins did not sign.",
            Refusal::Quorum,
            &admins::signed(
                &admins::first_payload(),
                &["operator", "owner", "owner-agent", "security"],
            ),
        ),
        next(
            "admin-set-next-one",
            "SET-3: the second set, signed by one of the first one's security.",
            Refusal::Quorum,
            &admins::signed(&admins::next_payload(), &["security"]),
        ),
        next(
            "admin-set-next-self",
            "SET-3: the second set, signed by an admin whom only it names.",
            Refusal::StatementSignature,
            &admins::signed(&admins::next_payload(), &["security", admins::NEXT]),
        ),
        next(
            "admin-set-next-stale",
            "ADM-5: it follows another set than the one in force.",
            Refusal::Stale,
            &edited(&|body| body.follows.0[0] ^= 1),
        ),
        next(
            "admin-set-next-skips",
            "SET-3: it follows the right set with version 3.",
            Refusal::Invalid,
            &edited(&|body| body.version = 3),
        ),
        next(
            "admin-set-next-lowers",
            "SET-4: it lowers the number for admin-set to 1.",
            Refusal::Invalid,
            &edited(&lower),
        ),
    ]
}
