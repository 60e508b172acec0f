//! The admins of the vectors, the sets that name them, and their signatures in all three forms,
//! made by another path than the code's own.

use sha2::{Digest, Sha256, Sha512};
use ticket_format::cbor::{Encode, Writer};
use ticket_format::ids::{AdminSetDigest, StatementId};
use ticket_format::keys::AdminSecret;
use ticket_format::statement::{
    Act, ActBody, Admin, AdminKeyKind, AdminRole, AdminSet, AdminSetBody, Payload,
    ReceivedStatement,
};

use super::world::{REALM, at, ed25519};

/// An admin's key, and how the set names it.
pub(super) struct AdminKeys {
    pub(super) secret: AdminSecret,
    pub(super) admin: Admin,
}

/// The application of the security key.
pub(super) const APPLICATION: &str = "ssh:postern";
/// What the security key's signatures count.
const COUNTER: u32 = 7;

pub(super) const OPERATOR: &str = "operator";
pub(super) const OWNERS: &[&str] = &["owner", "owner-agent"];
pub(super) const SECURITY: &[&str] = &["security", "security-key"];
pub(super) const ALL: &[&str] = &[
    "operator",
    "owner",
    "owner-agent",
    "security",
    "security-key",
];
/// Who takes the security key's place in the second set.
pub(super) const NEXT: &str = "security-next";

/// Every admin; the last one is not in the first set.
pub(super) fn admins() -> Vec<AdminKeys> {
    use AdminKeyKind::{Agent, File, SecurityKey};
    use AdminRole::{DatasetOwner, Operator, Security};
    [
        (6, OPERATOR, File, Operator),
        (17, "owner", File, DatasetOwner),
        (18, "owner-agent", Agent, DatasetOwner),
        (19, "security", File, Security),
        (20, "security-key", SecurityKey, Security),
        (21, NEXT, File, Security),
    ]
    .into_iter()
    .map(|(seed, name, kind, role)| {
        let secret = AdminSecret::from_seed(&[seed; 32]);
        let admin = Admin {
            name: name.to_owned(),
            kind,
            key: secret.public(),
            roles: vec![role],
            application: (kind == SecurityKey).then(|| APPLICATION.to_owned()),
        };
        AdminKeys { secret, admin }
    })
    .collect()
}

/// The admin of this name.
pub(super) fn named(name: &str) -> AdminKeys {
    // A name of this file.
    #[allow(clippy::expect_used)]
    admins()
        .into_iter()
        .find(|keys| keys.admin.name == name)
        .expect("an admin of the vectors")
}

fn body(version: u64, follows: AdminSetDigest, names: &[&str]) -> AdminSetBody {
    let mut admins: Vec<Admin> = names.iter().map(|name| named(name).admin).collect();
    admins.sort_by_key(|admin| admin.key);
    AdminSetBody {
        version,
        follows,
        admins,
        quorums: AdminSetBody::usual_quorums(2),
    }
}

/// Version 1.
pub(super) fn first_body() -> AdminSetBody {
    body(1, AdminSetBody::NOTHING, ALL)
}

/// Version 2: the security key was lost.
pub(super) fn next_body() -> AdminSetBody {
    let names = ["operator", "owner", "owner-agent", "security", NEXT];
    body(2, AdminSetDigest::of(&first_body().to_cbor()), &names)
}

/// The set in force.
pub(super) fn set() -> AdminSet {
    // Of constants, which the code holds to its rules whenever vectors are made.
    #[allow(clippy::expect_used)]
    AdminSet::new(first_body()).expect("a set that holds to the rules")
}

pub(super) fn first_payload() -> Payload {
    Payload::record(StatementId([0xb1; 16]), REALM, at(0), &first_body())
}

pub(super) fn next_payload() -> Payload {
    Payload::record(StatementId([0xb2; 16]), REALM, at(0), &next_body())
}

/// A record for everyone.
pub(super) fn record<B: ActBody>(id: u8, body: &B) -> Payload {
    Payload::record(StatementId([id; 16]), REALM, at(0), body)
}

/// COSE's Sig_structure (RFC 9052, 4.4) for this signer of a COSE_Sign.
pub(super) fn structure(payload: &[u8], admin: &Admin, alg: i64) -> Vec<u8> {
    let mut body = Writer::new();
    body.map(1).int(16).text("postern-statement");
    let mut header = Writer::new();
    header.map(2).int(1).int(alg);
    header.int(4).bytes(&admin.key.thumbprint().0);
    let mut input = Writer::new();
    input.array(5).text("Signature").bytes(&body.into_bytes());
    input.bytes(&header.into_bytes()).bytes(&[]).bytes(payload);
    input.into_bytes()
}

/// What OpenSSH's `PROTOCOL.sshsig` signs of a message, in our namespace.
fn sshsig(message: &[u8]) -> Vec<u8> {
    let mut blob = b"SSHSIG".to_vec();
    let hash = Sha512::digest(message);
    for part in [b"postern-statement".as_slice(), b"", b"sha512", &hash] {
        blob.extend_from_slice(&(part.len() as u32).to_be_bytes());
        blob.extend_from_slice(part);
    }
    blob
}

/// What the key itself signs: for a security key the hash of what the agent is given, its own flags
/// and counter, and its application.
pub(super) fn input(structure: &[u8], kind: AdminKeyKind, application: &str, flags: u8) -> Vec<u8> {
    match kind {
        AdminKeyKind::File => structure.to_vec(),
        AdminKeyKind::Agent => sshsig(structure),
        AdminKeyKind::SecurityKey => [
            &Sha256::digest(application)[..],
            &[flags],
            &COUNTER.to_be_bytes(),
            &Sha256::digest(sshsig(structure)),
        ]
        .concat(),
    }
}

/// A signature in this form, whatever the set says of the key.
pub(super) fn sign_as(
    keys: &AdminKeys,
    payload: &[u8],
    kind: AdminKeyKind,
    application: &str,
    flags: u8,
) -> Vec<u8> {
    let structure = structure(payload, &keys.admin, kind.alg());
    let mut value = ed25519(
        &keys.secret.seed(),
        &input(&structure, kind, application, flags),
    );
    if kind == AdminKeyKind::SecurityKey {
        value.push(flags);
        value.extend_from_slice(&COUNTER.to_be_bytes());
    }
    value
}

/// The signature that this admin's key makes.
pub(super) fn signature(keys: &AdminKeys, payload: &[u8]) -> Vec<u8> {
    sign_as(keys, payload, keys.admin.kind, APPLICATION, 1)
}

/// The statement, signed by the admins of these names.
#[allow(clippy::expect_used)]
pub(super) fn signed(payload: &Payload, names: &[&str]) -> Vec<u8> {
    let bytes = payload.to_cbor();
    names
        .iter()
        .fold(None, |statement: Option<Vec<u8>>, name| {
            let keys = named(name);
            let (signer, value) = (keys.admin.signer(), signature(&keys, &bytes));
            // The code verifies what was signed by another path than its own.
            let next = match statement {
                None => payload.signed(&signer, &value),
                Some(bytes) => ReceivedStatement::parse(&bytes)
                    .expect("a statement of constants")
                    .add(&signer, &value),
            };
            Some(next.expect("a statement of constants"))
        })
        .unwrap_or_default()
}

/// A statement as COSE_Sign makes it of its parts (RFC 9052, 4.1), whether or not it would be accepted.
pub(super) fn unchecked(payload: &[u8], signatures: &[(&Admin, AdminKeyKind, Vec<u8>)]) -> Vec<u8> {
    let mut body = Writer::new();
    body.map(1).int(16).text("postern-statement");
    let mut writer = Writer::new();
    writer.tag(98).array(4).bytes(&body.into_bytes()).map(0);
    writer.bytes(payload).array(signatures.len());
    for (admin, kind, value) in signatures {
        let mut header = Writer::new();
        header.map(2).int(1).int(kind.alg());
        header.int(4).bytes(&admin.key.thumbprint().0);
        writer.array(3).bytes(&header.into_bytes()).map(0);
        writer.bytes(value);
    }
    writer.into_bytes()
}

/// The same with a good signature of each of these.
pub(super) fn forged(payload: &[u8], signers: &[AdminKeys]) -> Vec<u8> {
    let signatures: Vec<_> = signers
        .iter()
        .map(|keys| (&keys.admin, keys.admin.kind, signature(keys, payload)))
        .collect();
    unchecked(payload, &signatures)
}

/// Who may sign this act, as many as must.
pub(super) fn enough(act: Act) -> Vec<&'static str> {
    match act.role() {
        None | Some(AdminRole::Operator) => vec![OPERATOR],
        Some(AdminRole::DatasetOwner) => OWNERS.to_vec(),
        Some(AdminRole::Security) => SECURITY.to_vec(),
    }
}
