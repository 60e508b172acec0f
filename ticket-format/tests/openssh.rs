//! SSHSIG against OpenSSH's own `ssh-keygen`, both ways: what it signs is verified here, and what is
//! made here, with a security key's form too, it verifies (SET-7). Needs `ssh-keygen` (openssh-client).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use ticket_format::ids::StatementId;
use ticket_format::keys::{AdminKey, AdminSecret, TlsSecret};
use ticket_format::statement::{AdminSigner, Payload, ReceivedStatement, StatusShow, sshsig};
use ticket_format::time::Timestamp;

const SECURITY_KEY: &str = "sk-ssh-ed25519@openssh.com";

fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn ssh_keygen(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("ssh-keygen");
    command.current_dir(directory).args(arguments);
    command
}

fn done(mut command: Command) -> bool {
    let output = command.output();
    let output = output.expect("this test needs ssh-keygen: install openssh-client");
    output.status.success()
}

/// SSH's string (RFC 4251, 5).
fn string(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes()[..], bytes].concat()
}

fn take<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (len, after) = rest.split_at(4);
    let len = u32::from_be_bytes(len.try_into().unwrap());
    let (bytes, after) = after.split_at(len as usize);
    *rest = after;
    bytes
}

fn payload() -> Payload {
    let server = TlsSecret::from_seed(&[9; 32]).public();
    let now = Timestamp::from_seconds(1_795_372_800);
    Payload::act(
        StatementId([1; 16]),
        "realm",
        server,
        now,
        600,
        &StatusShow {},
    )
}

/// The file of `ssh-keygen -Y sign`: PROTOCOL.sshsig's armour around key, namespace, hash, signature.
fn armoured(public_key: &[u8], signature: &[u8]) -> String {
    let mut blob = b"SSHSIG".to_vec();
    blob.extend_from_slice(&1u32.to_be_bytes());
    for part in [
        public_key,
        sshsig::NAMESPACE.as_bytes(),
        b"",
        sshsig::HASH.as_bytes(),
        signature,
    ] {
        blob.extend(string(part));
    }
    let text = BASE64.encode(blob);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(70)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
        lines.join("\n")
    )
}

/// Whether `ssh-keygen -Y verify` takes the signature over `message` in our namespace.
fn openssh_takes(
    directory: &Path,
    kind: &str,
    public_key: &[u8],
    signature: &[u8],
    message: &[u8],
) -> bool {
    let key = BASE64.encode(public_key);
    fs::write(directory.join("allowed"), format!("admin {kind} {key}\n")).unwrap();
    fs::write(directory.join("sig"), armoured(public_key, signature)).unwrap();
    fs::write(directory.join("message"), message).unwrap();
    let mut command = ssh_keygen(
        directory,
        &[
            "-Y",
            "verify",
            "-f",
            "allowed",
            "-I",
            "admin",
            "-n",
            sshsig::NAMESPACE,
            "-s",
            "sig",
        ],
    );
    command.stdin(Stdio::from(
        fs::File::open(directory.join("message")).unwrap(),
    ));
    done(command)
}

#[test]
fn a_statement_that_ssh_keygen_signs_is_taken() {
    // rule: SET-7
    let directory = directory("openssh-signs");
    assert!(done(ssh_keygen(
        &directory,
        &["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", "key"]
    )));
    let line = fs::read_to_string(directory.join("key.pub")).unwrap();
    let blob = BASE64.decode(line.split(' ').nth(1).unwrap().trim());
    let blob = blob.unwrap();
    let mut rest = &blob[..];
    assert_eq!(take(&mut rest), b"ssh-ed25519");
    let key = AdminKey::from_bytes(take(&mut rest).try_into().unwrap()).unwrap();

    // What `-Y sign` signs is a message; an agent is given the blob around the same message. The
    // structure is what a key in a file would sign, under the agent's number.
    let signer = AdminSigner::agent(key);
    let structure = structure_of(&payload(), &signer);
    assert_eq!(
        sshsig::blob(&structure),
        payload().signature_input(&signer),
        "the test's structure is the code's"
    );
    fs::write(directory.join("message"), &structure).unwrap();
    assert!(done(ssh_keygen(
        &directory,
        &[
            "-q",
            "-Y",
            "sign",
            "-n",
            sshsig::NAMESPACE,
            "-f",
            "key",
            "message"
        ]
    )));
    let text = fs::read_to_string(directory.join("message.sig")).unwrap();
    let text: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let blob = BASE64.decode(text).unwrap();
    let mut rest = &blob[10..];
    for _ in 0..4 {
        take(&mut rest);
    }
    let mut signature = take(&mut rest);
    assert_eq!(take(&mut signature), b"ssh-ed25519");
    let value = take(&mut signature);
    let bytes = payload().signed(&signer, value).unwrap();
    assert!(ReceivedStatement::parse(&bytes).is_ok());
}

/// COSE's Sig_structure (RFC 9052, 4.4), by hand.
fn structure_of(payload: &Payload, signer: &AdminSigner) -> Vec<u8> {
    use ticket_format::cbor::{Encode, Writer};
    let mut header = Writer::new();
    header.map(2).int(1).int(signer.kind.alg());
    header.int(4).bytes(&signer.key.thumbprint().0);
    let mut body = Writer::new();
    body.map(1).int(16).text("postern-statement");
    let mut input = Writer::new();
    input.array(5).text("Signature").bytes(&body.into_bytes());
    input.bytes(&header.into_bytes()).bytes(b"");
    input.bytes(&payload.to_cbor());
    input.into_bytes()
}

/// What a security key answers: Ed25519 over the application's hash, flags, counter and the blob's hash.
fn as_security_key(
    key: &AdminSecret,
    application: &str,
    flags: u8,
    counter: u32,
    message: &[u8],
) -> Vec<u8> {
    let tail = [&[flags][..], &counter.to_be_bytes()].concat();
    let application = Sha256::digest(application);
    let blob = Sha256::digest(sshsig::blob(message));
    let input = [&application[..], &tail, &blob].concat();
    let signature = SigningKey::from_bytes(&key.seed()).sign(&input);
    [signature.to_vec(), tail].concat()
}

#[test]
fn ssh_keygen_takes_what_a_security_key_signs_here_and_nothing_near_it() {
    // rule: SET-7
    let directory = directory("openssh-verifies");
    let secret = AdminSecret::from_seed(&[5; 32]);
    let application = "ssh:postern";
    let public_key = [
        string(SECURITY_KEY.as_bytes()),
        string(&secret.public().to_bytes()),
        string(application.as_bytes()),
    ]
    .concat();
    let signer = AdminSigner::security_key(secret.public(), application);
    let message = structure_of(&payload(), &signer);
    let signed = |flags| {
        let value = as_security_key(&secret, application, flags, 7, &message);
        let wire = [
            string(SECURITY_KEY.as_bytes()),
            string(&value[..64]),
            value[64..].to_vec(),
        ];
        (wire.concat(), value)
    };
    let takes = |wire: &[u8], message: &[u8]| {
        openssh_takes(&directory, SECURITY_KEY, &public_key, wire, message)
    };
    let (touched, value) = signed(1);
    assert!(takes(&touched, &message));
    assert!(payload().signed(&signer, &value).is_ok());

    assert!(!takes(&touched, b"another message"));
    // OpenSSH leaves it to who verifies whether somebody must have touched the key: here it must be.
    let (untouched, value) = signed(0);
    assert!(takes(&untouched, &message));
    assert!(payload().signed(&signer, &value).is_err());
}
