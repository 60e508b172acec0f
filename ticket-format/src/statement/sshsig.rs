//! What an OpenSSH agent's key signs (SET-7): OpenSSH's PROTOCOL.sshsig around the message, and for a
//! security key PROTOCOL.u2f around that.

use sha2::{Digest, Sha256, Sha512};

use crate::keys::AdminKey;
use crate::sign::BadProof;

/// The namespace: a signature that was made for another use, git's or a file's, is none of ours.
pub const NAMESPACE: &str = "postern-statement";
/// The hash of the message.
pub const HASH: &str = "sha512";
/// What stands before everything that is signed in this form.
const MAGIC: &[u8] = b"SSHSIG";
/// Flag of a security key's signature: somebody touched it.
const USER_PRESENT: u8 = 0x01;
/// Bytes of a security key's signature: Ed25519's, flags, counter.
const SECURITY_KEY_SIGNATURE: usize = 64 + 1 + 4;

/// SSH's string (RFC 4251, 5): a length and bytes.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    // What is written here is a name or a hash, far below 4 GiB.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// What the agent is given to sign: `SSHSIG`, namespace, nothing, hash, and the hash of `message`.
#[must_use]
pub fn blob(message: &[u8]) -> Vec<u8> {
    // rule: SET-7
    let mut out = MAGIC.to_vec();
    string(&mut out, NAMESPACE.as_bytes());
    string(&mut out, b"");
    string(&mut out, HASH.as_bytes());
    string(&mut out, &Sha512::digest(message));
    out
}

/// Verifies a signature of an agent's `ssh-ed25519` key over `message`.
pub(crate) fn verify(key: &AdminKey, message: &[u8], signature: &[u8]) -> Result<(), BadProof> {
    key.verify_raw(&blob(message), signature)
}

/// What a security key signs: the application's hash, flags, counter, and the blob's hash.
fn security_key_input(application: &str, flags_and_counter: &[u8], message: &[u8]) -> Vec<u8> {
    let mut input = Sha256::digest(application.as_bytes()).to_vec();
    input.extend_from_slice(flags_and_counter);
    input.extend_from_slice(&Sha256::digest(blob(message)));
    input
}

/// Verifies a signature of a security key over `message`: 64 bytes, flags, counter (big-endian).
/// Somebody must have touched the key.
pub(crate) fn verify_security_key(
    key: &AdminKey,
    application: &str,
    message: &[u8],
    value: &[u8],
) -> Result<(), BadProof> {
    // rule: SET-7
    if value.len() != SECURITY_KEY_SIGNATURE {
        return Err(BadProof);
    }
    let (signature, flags_and_counter) = value.split_at(64);
    if flags_and_counter[0] & USER_PRESENT == 0 {
        return Err(BadProof);
    }
    key.verify_raw(
        &security_key_input(application, flags_and_counter, message),
        signature,
    )
}
