//! The admin's key at rest (`spec/admin-key.md`).

use std::path::Path;

use rand_core::CryptoRng;
use ticket_format::keys::{AdminKey, AdminSecret};
use ticket_format::report::Report;

use super::seed_file::Kind;

/// An Ed25519 seed that signs statements.
const ADMIN_KEY: Kind = Kind {
    path: "admin-key",
    word: "the admin's key",
    comment: "A Postern admin's key, sealed by a passphrase. Keep a copy; without it the realm cannot be administered.",
    next: "give --admin-key FILE, as `postern-admin init` wrote it",
};

/// Makes a key and writes its file, which must not exist.
///
/// # Errors
/// The passphrase is too short or too long, or the file exists or cannot be written.
pub fn create(
    path: &Path,
    realm: &str,
    passphrase: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<AdminKey, Report> {
    let secret = AdminSecret::generate(rng);
    let public = secret.public();
    let seed = secret.seed();
    ADMIN_KEY.create(path, realm, &public.to_string(), &seed, passphrase, rng)?;
    Ok(public)
}

/// Opens a key file.
///
/// # Errors
/// The file cannot be used, is of another realm, or does not open with this passphrase.
pub fn open(path: &Path, realm: &str, passphrase: &[u8]) -> Result<AdminSecret, Report> {
    let file = ADMIN_KEY.read(path)?.of_realm(realm)?;
    let public: AdminKey = file
        .public
        .parse()
        .map_err(|error| file.unusable(format!("public-key: {error}")))?;
    let seed = file.seed(passphrase)?.ok_or_else(|| file.wrong())?;
    let secret = AdminSecret::from_seed(&seed);
    if secret.public() == public {
        Ok(secret)
    } else {
        Err(file.wrong())
    }
}
