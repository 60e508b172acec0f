//! A share key's two files (`spec/admin-key.md`): the secret one, sealed by a passphrase, and beside it
//! the line that its holder hands over.

use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use store::files;
use ticket_format::ids::SealingKeyHash;
use ticket_format::report::{Report, exit};
use ticket_format::seal::{Kem, SealingKey, SealingSecret};
use ticket_format::secret::SealingSeed;
use ticket_format::share_key;

use crate::admin::seed_file::{Kind, SeedFile};

/// An X-Wing seed that opens shares of root keys, and does nothing else (ROOT-3).
const SHARE_KEY: Kind = Kind {
    path: "share-key",
    word: "the share key",
    comment: "A Postern share key, sealed by a passphrase: it opens this admin's shares of key servers' root keys. Keep a copy.",
    next: "give --share-key FILE, as `postern-admin share-key new` wrote it",
};

/// The public file of a share key: beside the secret one.
#[must_use]
pub fn public_file(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".pub");
    name.into()
}

/// Makes a share key and writes both its files, neither of which may exist.
///
/// # Errors
/// The passphrase is too short or too long, or a file exists or cannot be written.
pub fn create(
    path: &Path,
    realm: &str,
    passphrase: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<SealingKey, Report> {
    let beside = public_file(path);
    if beside.symlink_metadata().is_ok() {
        return Err(Report::new(
            exit::CONFLICT,
            format!("{} exists already", beside.display()),
        )
        .why("a share key is never overwritten")
        .next("give another file, or use what is there"));
    }
    let secret = SealingSecret::generate(Kem::XWing, rng);
    let public = secret.public();
    let name = public.hash().to_string();
    let seed = secret.seed().expose();
    // The secret first: a line that nobody can open shares for must not be handed over.
    SHARE_KEY.create(path, realm, &name, seed, passphrase, rng)?;
    let line = share_key::write(&public);
    files::create_private(&beside, line.as_bytes()).map_err(|error| {
        Report::new(exit::LOCAL, "the share key's public file was not written")
            .why(error)
            .next(format!(
                "remove {} too, nobody has its public key, and make a share key anew",
                path.display()
            ))
    })?;
    Ok(public)
}

/// What the secret file says, without opening it: the realm, and the public key's hash.
///
/// # Errors
/// The file cannot be used.
pub fn look(path: &Path) -> Result<(String, SealingKeyHash), Report> {
    let file = SHARE_KEY.read(path)?;
    let hash = hash_of(&file)?;
    Ok((file.realm, hash))
}

fn hash_of(file: &SeedFile) -> Result<SealingKeyHash, Report> {
    let hash = file.public.parse();
    hash.map_err(|error| file.unusable(format!("public-key: {error}")))
}

/// A share key's file that is to be opened.
#[derive(Debug)]
pub struct Locked {
    file: SeedFile,
    public: SealingKeyHash,
}

impl Locked {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be used, or is of another realm.
    pub fn read(path: &Path, realm: &str) -> Result<Self, Report> {
        let file = SHARE_KEY.read(path)?.of_realm(realm)?;
        let public = hash_of(&file)?;
        Ok(Self { file, public })
    }

    /// The secret; none when the passphrase is another one, or the file was changed.
    ///
    /// # Errors
    /// That cannot be the passphrase.
    pub fn open(&self, passphrase: &[u8]) -> Result<Option<SealingSecret>, Report> {
        let Some(seed) = self.file.seed(passphrase)? else {
            return Ok(None);
        };
        let secret = SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes(*seed));
        Ok((secret.public().hash() == self.public).then_some(secret))
    }

    /// A report that it does not open.
    #[must_use]
    pub fn wrong(&self) -> Report {
        self.file
            .wrong()
            .next("give its own passphrase: --share-passphrase-file FILE")
    }
}

/// Reads a share key's public file.
///
/// # Errors
/// It cannot be read, or is none.
pub fn public(path: &Path) -> Result<SealingKey, Report> {
    let unusable = |why: String| {
        Report::new(
            exit::CONFIG,
            format!("{} holds no share key", path.display()),
        )
        .why(why)
        .next("give the .pub file, as `postern-admin share-key new` wrote it")
    };
    let bytes =
        files::read_bounded(path, share_key::FILE).map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not text".to_owned()))?;
    share_key::read(&text).map_err(|error| unusable(error.to_string()))
}
