//! Keys in an OpenSSH agent: the real `ssh-agent`, and one of the test's own that speaks for a security
//! key. What is signed verifies by the admin set, and by OpenSSH's own `ssh-keygen`.

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value;
use sha2::{Digest as _, Sha256};
use support::{PASSPHRASE, Place, Said, now, said};
use ticket_format::keys::AdminSecret;
use ticket_format::statement::{AdminKeyKind, AdminSet, AdminSetBody, ReceivedStatement};

/// A tool of OpenSSH's.
fn openssh(tool: &str) -> Command {
    let found = Command::new(tool).arg("-?").stdin(Stdio::null()).output();
    assert!(
        found.is_ok(),
        "{tool} is missing; install it with: apt-get install openssh-client"
    );
    Command::new(tool)
}

/// A process that ends with the test.
struct Agent(Child, PathBuf);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    /// OpenSSH's agent, holding a fresh Ed25519 key.
    fn start(place: &Place) -> Self {
        let socket = place.path("agent");
        let child = openssh("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let agent = Self(child, socket);
        let made = openssh("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "admin", "-f"])
            .arg(place.path("id"))
            .status()
            .unwrap();
        assert!(made.success());
        // The agent makes its socket before it serves; ssh-add is asked until it is there.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while UnixStream::connect(&agent.1).is_err() {
            assert!(
                std::time::Instant::now() < until,
                "ssh-agent does not start"
            );
            std::thread::yield_now();
        }
        let added = openssh("ssh-add")
            .arg("-q")
            .arg(place.path("id"))
            .env("SSH_AUTH_SOCK", &agent.1)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(added.success());
        agent
    }
}

/// A command with an agent.
fn with(place: &Place, socket: &Path, arguments: &[&str]) -> Said {
    said(
        place
            .command()
            .args(arguments)
            .env("SSH_AUTH_SOCK", socket)
            .write_stdin(""),
    )
}

const INIT: [&str; 8] = [
    "init", "--agent", "--realm", "example", "--name", "ann", "--out", "ann",
];

/// The ceremony with `ann` in the agent and two admins in files; the signed first set.
fn ceremony(place: &Place, socket: &Path, card: &str) -> Vec<u8> {
    let other = |seed: u8| AdminSecret::from_seed(&[seed; 32]);
    let file = |name: &str, seed: u8| {
        format!(
            "--admin=postern-admin-card/1:{name}:file:{}=",
            other(seed).public()
        )
    };
    let (ann, ben, ops) = (
        format!("--admin={card}=dataset-owner,security"),
        file("ben", 2) + "dataset-owner,security",
        file("ops", 3) + "operator",
    );
    let draft = [
        "admin-set",
        "draft",
        "--config=ann/admin.toml",
        "--quorum=2",
        "--out=set",
        &ann,
        &ben,
        &ops,
    ];
    let drafted = with(place, socket, &draft);
    assert_eq!(drafted.code, 0, "{}", drafted.err);
    let mut statement = std::fs::read(place.path("set")).unwrap();
    for seed in [2, 3] {
        let received = ReceivedStatement::parse(&statement).unwrap();
        statement = received.add_by(&other(seed)).unwrap();
    }
    statement
}

/// What was signed, by COSE's rules (RFC 9052, 4.4), and the signature, of the statement's signer at
/// this place.
fn signed(statement: &[u8], which: usize) -> (Vec<u8>, Vec<u8>) {
    let Value::Tag(98, cose) = ciborium::from_reader(statement).unwrap() else {
        panic!("not a COSE_Sign");
    };
    let [body, _, payload, signatures] =
        <[Value; 4]>::try_from(cose.into_array().unwrap()).unwrap();
    let signature = signatures.into_array().unwrap().swap_remove(which);
    let [signer, _, value] = <[Value; 3]>::try_from(signature.into_array().unwrap()).unwrap();
    let structure = Value::Array(vec![
        Value::Text("Signature".to_owned()),
        body,
        signer,
        Value::Bytes(Vec::new()),
        payload,
    ]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&structure, &mut bytes).unwrap();
    (bytes, value.into_bytes().unwrap())
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Whether OpenSSH accepts the signature over the message, in this namespace. `key` is the line of a
/// .pub file.
fn openssh_accepts(
    place: &Place,
    key: &str,
    namespace: &str,
    message: &[u8],
    value: &[u8],
) -> bool {
    let (algorithm, encoded) = key.split_once(' ').unwrap();
    let blob = STANDARD.decode(encoded.split(' ').next().unwrap()).unwrap();
    let mut signature = Vec::new();
    string(&mut signature, algorithm.as_bytes());
    string(&mut signature, &value[..64]);
    signature.extend_from_slice(&value[64..]);
    let mut whole = b"SSHSIG\0\0\0\x01".to_vec();
    string(&mut whole, &blob);
    string(&mut whole, namespace.as_bytes());
    string(&mut whole, b"");
    string(&mut whole, b"sha512");
    string(&mut whole, &signature);
    let armored = format!(
        "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
        STANDARD.encode(whole)
    );
    place.write("signature", armored);
    place.write("allowed", format!("ann {key}\n"));
    let mut verify = openssh("ssh-keygen")
        .args(["-Y", "verify", "-I", "ann", "-n", namespace, "-f"])
        .arg(place.path("allowed"))
        .arg("-s")
        .arg(place.path("signature"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It may end before it has read everything.
    let _ = verify.stdin.take().unwrap().write_all(message);
    verify.wait().unwrap().success()
}

#[test]
fn a_key_in_the_real_agent_signs_statements_and_nothing_of_it_comes_here() {
    // rule: SET-7
    let place = Place::new();
    let agent = Agent::start(&place);
    let made = with(&place, &agent.1, &INIT);
    assert_eq!(made.code, 0, "{}", made.err);
    let card = made.out.trim();
    assert!(
        card.starts_with("postern-admin-card/1:ann:agent:"),
        "{card}"
    );
    assert!(!place.path("ann/admin-key").exists());
    let statement = ceremony(&place, &agent.1, card);
    let set = AdminSet::first(&statement, "example", now()).unwrap();
    assert_eq!(set.by_name("ann").unwrap().kind, AdminKeyKind::Agent);
    let key = std::fs::read_to_string(place.path("id.pub")).unwrap();
    let (message, value) = signed(&statement, 0);
    assert!(openssh_accepts(
        &place,
        key.trim(),
        "postern-statement",
        &message,
        &value
    ));
    assert!(!openssh_accepts(
        &place,
        key.trim(),
        "file",
        &message,
        &value
    ));
    // Without the agent, or without its key, nothing is signed.
    let approve = [
        "approve",
        "set",
        "--yes",
        "--config=ann/admin.toml",
        "--out=other",
    ];
    place.write("set", &statement);
    let body: AdminSetBody = ReceivedStatement::parse(&statement)
        .unwrap()
        .body()
        .unwrap();
    assert_eq!(body.version, 1);
    let draft = |socket: &Path| {
        let ann = format!("--admin={card}=dataset-owner,security");
        let ben = format!(
            "--admin=postern-admin-card/1:ben:file:{}=dataset-owner,security",
            AdminSecret::from_seed(&[2; 32]).public()
        );
        let ops = format!(
            "--admin=postern-admin-card/1:ops:file:{}=operator",
            AdminSecret::from_seed(&[3; 32]).public()
        );
        with(
            &place,
            socket,
            &[
                "admin-set",
                "draft",
                "--config=ann/admin.toml",
                "--quorum=2",
                "--out=more",
                &ann,
                &ben,
                &ops,
            ],
        )
    };
    let absent = draft(&place.path("absent"));
    assert_eq!(
        (absent.code, absent.out.as_str()),
        (10, ""),
        "{}",
        absent.err
    );
    let removed = openssh("ssh-add")
        .args(["-q", "-D"])
        .env("SSH_AUTH_SOCK", &agent.1)
        .stderr(Stdio::null())
        .status();
    assert!(removed.unwrap().success());
    let without = draft(&agent.1);
    assert_eq!(
        (without.code, without.out.as_str()),
        (1, ""),
        "{}",
        without.err
    );
    assert!(!place.path("more").exists());
    let again = with(&place, &agent.1, &approve);
    assert!(again.err.contains("signed it already"), "{}", again.err);
    let none = with(&place, &agent.1, &[&INIT[..7], &["none"]].concat());
    assert_eq!(none.code, 10, "the agent holds no key: {}", none.err);
}

/// An agent that answers for a security key, as PROTOCOL.u2f says.
fn security_key(listener: UnixListener, key: AdminSecret, line: String, flags: u8) {
    let encoded = line.split(' ').nth(1).unwrap().to_owned();
    let blob = STANDARD.decode(encoded).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut length = [0; 4];
        while stream.read_exact(&mut length).is_ok() {
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).unwrap();
            let mut answer = Vec::new();
            match request[0] {
                11 => {
                    answer.extend_from_slice(&[12, 0, 0, 0, 1]);
                    string(&mut answer, &blob);
                    string(&mut answer, b"token");
                }
                13 => {
                    let data = &request[1 + 4 + blob.len() + 4..request.len() - 4];
                    let mut input = Sha256::digest(b"ssh:").to_vec();
                    input.extend_from_slice(&[flags, 0, 0, 0, 7]);
                    input.extend_from_slice(&Sha256::digest(data));
                    let mut signature = Vec::new();
                    string(&mut signature, b"sk-ssh-ed25519@openssh.com");
                    string(&mut signature, &ed25519(&key, &input));
                    signature.extend_from_slice(&[flags, 0, 0, 0, 7]);
                    answer.push(14);
                    string(&mut answer, &signature);
                }
                _ => answer.push(5),
            }
            let mut framed = Vec::new();
            string(&mut framed, &answer);
            stream.write_all(&framed).unwrap();
        }
    }
}

fn ed25519(key: &AdminSecret, input: &[u8]) -> [u8; 64] {
    use ed25519_dalek::Signer as _;
    ed25519_dalek::SigningKey::from_bytes(&key.seed())
        .sign(input)
        .to_bytes()
}

/// An agent of the test's own with a security key, and the key's public line.
fn token(place: &Place, socket: &str, flags: u8) -> (PathBuf, String) {
    let key = AdminSecret::from_seed(&[9; 32]);
    let mut blob = Vec::new();
    string(&mut blob, b"sk-ssh-ed25519@openssh.com");
    string(&mut blob, &key.public().to_bytes());
    string(&mut blob, b"ssh:");
    let line = format!("sk-ssh-ed25519@openssh.com {}", STANDARD.encode(blob));
    let path = place.path(socket);
    let listener = UnixListener::bind(&path).unwrap();
    let told = line.clone();
    std::thread::spawn(move || security_key(listener, key, told, flags));
    (path, line)
}

#[test]
fn a_security_key_signs_by_its_agent_when_it_is_touched() {
    // rule: SET-7
    let place = Place::new();
    let (socket, line) = token(&place, "token", 1);
    let made = with(
        &place,
        &socket,
        &[&INIT[..], &["--agent-key", &line]].concat(),
    );
    assert_eq!(made.code, 0, "{}", made.err);
    let card = made.out.trim();
    assert!(
        card.starts_with("postern-admin-card/1:ann:security-key:") && card.ends_with(":ssh:"),
        "{card}"
    );
    let statement = ceremony(&place, &socket, card);
    let set = AdminSet::first(&statement, "example", now()).unwrap();
    let ann = set.by_name("ann").unwrap();
    assert_eq!(
        (ann.kind, ann.application.as_deref()),
        (AdminKeyKind::SecurityKey, Some("ssh:"))
    );
    let (message, value) = signed(&statement, 0);
    assert_eq!(value.len(), 69);
    assert!(openssh_accepts(
        &place,
        &line,
        "postern-statement",
        &message,
        &value
    ));
    assert!(!openssh_accepts(
        &place,
        &line,
        "postern-statement",
        b"other",
        &value
    ));
    // One that nobody touched is not taken, although its signature holds.
    let (untouched, _) = token(&place, "untouched", 0);
    let ann = format!("--admin={card}=dataset-owner,security");
    let ben = format!(
        "--admin=postern-admin-card/1:ben:file:{}=dataset-owner,security",
        AdminSecret::from_seed(&[2; 32]).public()
    );
    let ops = format!(
        "--admin=postern-admin-card/1:ops:file:{}=operator",
        AdminSecret::from_seed(&[3; 32]).public()
    );
    let refused = with(
        &place,
        &untouched,
        &[
            "admin-set",
            "draft",
            "--config=ann/admin.toml",
            "--quorum=2",
            "--out=more",
            &ann,
            &ben,
            &ops,
        ],
    );
    assert_eq!(
        (refused.code, refused.out.as_str()),
        (1, ""),
        "{}",
        refused.err
    );
    assert!(!PASSPHRASE.is_empty() && !place.path("more").exists());
}
