//! A 32-byte seed at rest: sealed under a key that Argon2id derives from a passphrase
//! (`spec/admin-key.md`). There is no form without a passphrase.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use store::files;
use store::sealed::{RootKey, SALT_BYTES, SealedError};
use ticket_format::ids::StatementId;
use ticket_format::report::{Report, exit};
use zeroize::Zeroizing;

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

/// What a seed is for. No file can be passed off as one of another kind, realm or key.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// First part of the path that the seed is sealed for.
    pub path: &'static str,
    /// Its word in messages.
    pub word: &'static str,
    /// First line of the file.
    pub comment: &'static str,
    /// What to do about a file that cannot be used.
    pub next: &'static str,
}

impl Kind {
    fn sealed_for(&self, realm: &str, public: &str) -> String {
        format!("{}/{realm}/{public}", self.path)
    }

    /// Writes a seed's file, which must not exist.
    ///
    /// # Errors
    /// The passphrase is too short or too long, or the file exists or cannot be written.
    pub fn create(
        &self,
        path: &Path,
        realm: &str,
        public: &str,
        seed: &[u8; 32],
        passphrase: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<(), Report> {
        let mut salt = [0; SALT_BYTES];
        rng.fill_bytes(&mut salt);
        let root = RootKey::from_passphrase(passphrase, &salt).map_err(no_passphrase)?;
        let sealed = root.seal(&self.sealed_for(realm, public), seed, rng);
        let file = File {
            format: FORMAT,
            realm: realm.to_owned(),
            public_key: public.to_owned(),
            salt: StatementId(salt).to_string(),
            sealed: BASE64URL.encode(sealed),
        };
        let text = toml::to_string(&file)
            .map_err(|error| Report::new(exit::LOCAL, "cannot write the key").why(error))?;
        let text = format!("# {}\n{text}", self.comment);
        files::create_private(path, text.as_bytes()).map_err(|error| {
            let code = if matches!(error, files::FileError::Exists(_)) {
                exit::CONFLICT
            } else {
                exit::LOCAL
            };
            Report::new(code, format!("{} was not written", self.word)).why(error)
        })
    }

    /// Reads a seed's file, without opening the seed.
    ///
    /// # Errors
    /// It is missing, open to others, or has not its shape.
    pub fn read(&self, path: &Path) -> Result<SeedFile, Report> {
        let unusable = |why: String| self.unusable(path, why);
        let bytes =
            files::read_private(path, LIMIT).map_err(|error| unusable(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| unusable("it is not text".to_owned()))?;
        let file: File =
            toml::from_str(&text).map_err(|error| unusable(error.message().replace('\n', " ")))?;
        if file.format != FORMAT {
            return Err(unusable(format!(
                "it has format {}, this program reads format {FORMAT}",
                file.format
            )));
        }
        let salt: StatementId = file
            .salt
            .parse()
            .map_err(|error| unusable(format!("salt: {error}")))?;
        let sealed = BASE64URL
            .decode(&file.sealed)
            .map_err(|error| unusable(format!("sealed: {error}")))?;
        Ok(SeedFile {
            kind: *self,
            path: path.to_owned(),
            realm: file.realm,
            public: file.public_key,
            salt: salt.0,
            sealed,
        })
    }

    fn unusable(&self, path: &Path, why: String) -> Report {
        Report::new(
            exit::CONFIG,
            format!("{} {} cannot be used", self.word, path.display()),
        )
        .why(why)
        .next(self.next)
    }
}

/// A seed's file as it was read.
#[derive(Debug)]
pub struct SeedFile {
    kind: Kind,
    path: PathBuf,
    /// The realm that it says it is of.
    pub realm: String,
    /// The public key that it says it is of, as text.
    pub public: String,
    salt: [u8; SALT_BYTES],
    sealed: Vec<u8>,
}

impl SeedFile {
    /// Holds that it is of this realm.
    ///
    /// # Errors
    /// It is of another.
    pub fn of_realm(self, realm: &str) -> Result<Self, Report> {
        if self.realm == realm {
            return Ok(self);
        }
        let why = format!(
            "it is of realm {:?}, and realm {realm:?} is administered here",
            self.realm
        );
        Err(self.unusable(why))
    }

    /// A report that the file cannot be used.
    #[must_use]
    pub fn unusable(&self, why: String) -> Report {
        self.kind.unusable(&self.path, why)
    }

    /// A report that the seed does not open.
    #[must_use]
    pub fn wrong(&self) -> Report {
        Report::new(
            exit::LOCAL,
            format!("{} {} does not open", self.kind.word, self.path.display()),
        )
        .why("the passphrase is another one, or the file was changed")
        .next("try again with the right passphrase")
    }

    /// Opens the seed; none when it does not open with this passphrase. The caller holds its public key
    /// against [`SeedFile::public`].
    ///
    /// # Errors
    /// The passphrase is too short or too long.
    pub fn seed(&self, passphrase: &[u8]) -> Result<Option<Zeroizing<[u8; 32]>>, Report> {
        let root = RootKey::from_passphrase(passphrase, &self.salt).map_err(no_passphrase)?;
        let opened = root.open(
            &self.kind.sealed_for(&self.realm, &self.public),
            &self.sealed,
        );
        let Ok(opened) = opened else {
            return Ok(None);
        };
        let mut seed = Zeroizing::new([0; 32]);
        if opened.len() != seed.len() {
            return Ok(None);
        }
        seed.copy_from_slice(&opened);
        Ok(Some(seed))
    }
}

fn no_passphrase(error: SealedError) -> Report {
    Report::new(exit::USAGE, "that cannot be the passphrase").why(error)
}
