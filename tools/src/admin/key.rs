//! The admin's key at rest: its Ed25519 seed sealed under a key that Argon2id derives from a
//! passphrase (`spec/admin-key.md`). There is no form without a passphrase.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use store::files;
use store::sealed::{RootKey, SALT_BYTES, SealedError};
use ticket_format::ids::StatementId;
use ticket_format::keys::{AdminKey, AdminSecret};
use ticket_format::report::{Report, exit};

/// Format of the file.
const FORMAT: u64 = 1;
/// Most bytes of the file; it has about 400.
const LIMIT: u64 = 4_096;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    format: u64,
    realm: String,
    public_key: String,
    salt: String,
    sealed: String,
}

/// What the seed is sealed for: a key file cannot be passed off as another realm's or key's.
fn path_of(realm: &str, public: &AdminKey) -> String {
    format!("admin-key/{realm}/{public}")
}

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
    let mut salt = [0; SALT_BYTES];
    rng.fill_bytes(&mut salt);
    let root = RootKey::from_passphrase(passphrase, &salt).map_err(no_passphrase)?;
    let secret = AdminSecret::generate(rng);
    let public = secret.public();
    let sealed = root.seal(&path_of(realm, &public), secret.seed().as_slice(), rng);
    let file = File {
        format: FORMAT,
        realm: realm.to_owned(),
        public_key: public.to_string(),
        salt: StatementId(salt).to_string(),
        sealed: BASE64URL.encode(sealed),
    };
    let text = toml::to_string(&file)
        .map_err(|error| Report::new(exit::LOCAL, "cannot write the key").why(error))?;
    let text = format!(
        "# A Postern admin's key, sealed by a passphrase. Keep a copy; without it the realm cannot be administered.\n{text}"
    );
    files::create_private(path, text.as_bytes()).map_err(|error| {
        let code = if matches!(error, files::FileError::Exists(_)) {
            exit::CONFLICT
        } else {
            exit::LOCAL
        };
        Report::new(code, "the admin's key was not written").why(error)
    })?;
    Ok(public)
}

/// Opens a key file.
///
/// # Errors
/// The file cannot be used, is of another realm, or does not open with this passphrase.
pub fn open(path: &Path, realm: &str, passphrase: &[u8]) -> Result<AdminSecret, Report> {
    let unusable = |why: String| {
        Report::new(
            exit::CONFIG,
            format!("the admin's key {} cannot be used", path.display()),
        )
        .why(why)
        .next("give --admin-key FILE, as `postern-admin init` wrote it")
    };
    let bytes = files::read_private(path, LIMIT).map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not text".to_owned()))?;
    let file: File =
        toml::from_str(&text).map_err(|error| unusable(error.message().replace('\n', " ")))?;
    if file.format != FORMAT {
        return Err(unusable(format!(
            "it has format {}, this program reads format {FORMAT}",
            file.format
        )));
    }
    if file.realm != realm {
        return Err(unusable(format!(
            "it is of realm {:?}, and realm {realm:?} is administered here",
            file.realm
        )));
    }
    let public: AdminKey = file
        .public_key
        .parse()
        .map_err(|error| unusable(format!("public-key: {error}")))?;
    let salt: StatementId = file
        .salt
        .parse()
        .map_err(|error| unusable(format!("salt: {error}")))?;
    let sealed = BASE64URL
        .decode(&file.sealed)
        .map_err(|error| unusable(format!("sealed: {error}")))?;
    let root = RootKey::from_passphrase(passphrase, &salt.0).map_err(no_passphrase)?;
    let wrong = || {
        Report::new(
            exit::LOCAL,
            format!("the admin's key {} does not open", path.display()),
        )
        .why("the passphrase is another one, or the file was changed")
        .next("try again with the right passphrase")
    };
    let seed = root
        .open(&path_of(realm, &public), &sealed)
        .map_err(|_| wrong())?;
    let seed = <&[u8; 32]>::try_from(seed.as_slice()).map_err(|_| wrong())?;
    let secret = AdminSecret::from_seed(seed);
    if secret.public() == public {
        Ok(secret)
    } else {
        Err(wrong())
    }
}

fn no_passphrase(error: SealedError) -> Report {
    Report::new(exit::USAGE, "that cannot be the passphrase").why(error)
}
