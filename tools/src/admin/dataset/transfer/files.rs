//! What is carried between a key server and who brings or gets key material: each a file of one CBOR array
//! that begins with what it is. Nothing in them is secret but a share.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use store::files::{self, FileError};
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::{ImportId, KekId, ProofHash, StatementId};
use ticket_format::keys::TlsKey;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{Act, ImportBegun, ImportHow, KekExported, SHARE};
use ticket_format::transfer::{HPKE_WRAPPED, RSA_WRAPPED};
use zeroize::Zeroizing;

/// Most bytes of any of them: an export for 16 recipients has about 40,000.
const LIMIT: u64 = 64 * 1_024;

/// A file of this kind.
trait Kind: Sized {
    /// What it begins with.
    const MARK: &'static str;
    /// What it is called.
    const WORD: &'static str;
    /// Where it comes from.
    const NEXT: &'static str;
    /// Members, without the mark.
    const MEMBERS: usize;

    fn write(&self, writer: &mut Writer);
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// The keys that material is wrapped to, and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ImportFile {
    pub(super) realm: String,
    pub(super) server: TlsKey,
    pub(super) begun: ImportBegun,
}

impl Kind for ImportFile {
    const MARK: &'static str = "postern import/1";
    const WORD: &'static str = "keys of an import";
    const NEXT: &'static str = "give --key FILE, as `postern-admin dataset import begin` wrote it";
    const MEMBERS: usize = 3;

    fn write(&self, writer: &mut Writer) {
        writer.text(&self.realm);
        self.server.encode(writer);
        self.begun.encode(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            realm: reader.text(1..=limits::NAME)?.to_owned(),
            server: TlsKey::decode(reader)?,
            begun: ImportBegun::decode(reader)?,
        })
    }
}

/// Material, wrapped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrappedFile {
    pub(super) import: ImportId,
    pub(super) how: ImportHow,
    pub(super) commitment: [u8; 32],
    pub(super) wrapped: Vec<u8>,
}

impl Kind for WrappedFile {
    const MARK: &'static str = "postern import wrapped/1";
    const WORD: &'static str = "wrapped material";
    const NEXT: &'static str =
        "give --wrapped FILE, as `postern-admin dataset import wrap` or openssl wrote it";
    const MEMBERS: usize = 4;

    fn write(&self, writer: &mut Writer) {
        self.import.encode(writer);
        self.how.encode(writer);
        writer.bytes(&self.commitment).bytes(&self.wrapped);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            import: ImportId::decode(reader)?,
            how: ImportHow::decode(reader)?,
            commitment: reader.array_of()?,
            wrapped: reader.bytes(RSA_WRAPPED..=HPKE_WRAPPED)?.to_vec(),
        })
    }
}

/// What an export gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExportFile {
    pub(super) realm: String,
    pub(super) server: TlsKey,
    pub(super) exported: KekExported,
}

impl Kind for ExportFile {
    const MARK: &'static str = "postern export/1";
    const WORD: &'static str = "export";
    const NEXT: &'static str =
        "give the file that `postern-admin dataset export make` or `approve` wrote";
    const MEMBERS: usize = 3;

    fn write(&self, writer: &mut Writer) {
        writer.text(&self.realm);
        self.server.encode(writer);
        self.exported.encode(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            realm: reader.text(1..=limits::NAME)?.to_owned(),
            server: TlsKey::decode(reader)?,
            exported: KekExported::decode(reader)?,
        })
    }
}

/// One share of an export, opened: a secret.
pub(super) struct ShareFile {
    pub(super) kek: KekId,
    pub(super) share: Zeroizing<[u8; SHARE]>,
}

impl Kind for ShareFile {
    const MARK: &'static str = "postern export share/1";
    const WORD: &'static str = "opened share of an export";
    const NEXT: &'static str =
        "give --share FILE, as `postern-admin dataset export share` wrote it";
    const MEMBERS: usize = 2;

    fn write(&self, writer: &mut Writer) {
        self.kek.encode(writer);
        writer.bytes(&self.share[..]);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kek = KekId::decode(reader)?;
        let mut share = Zeroizing::new([0; SHARE]);
        share.copy_from_slice(reader.bytes(SHARE..=SHARE)?);
        Ok(Self { kek, share })
    }
}

fn written<K: Kind>(file: &K) -> Zeroizing<Vec<u8>> {
    // Room for all of a share: a buffer that grows leaves a copy behind.
    let mut writer = Writer::with_capacity(256);
    writer.array(1 + K::MEMBERS).text(K::MARK);
    file.write(&mut writer);
    Zeroizing::new(writer.into_bytes())
}

fn parsed<K: Kind>(bytes: &[u8]) -> Result<K, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.array(1 + K::MEMBERS..=1 + K::MEMBERS)?;
    if reader.text(0..=64)? != K::MARK {
        return Err(DecodeError::OutOfRange("kind of file"));
    }
    let file = K::read(&mut reader)?;
    reader.finish()?;
    Ok(file)
}

fn unusable<K: Kind>(path: &Path, why: impl std::fmt::Display) -> Report {
    let what = format!("{} holds no {}", path.display(), K::WORD);
    Report::new(exit::CONFIG, what).why(why).next(K::NEXT)
}

fn read_as<K: Kind>(path: &Path, bytes: Result<Vec<u8>, FileError>) -> Result<K, Report> {
    let bytes = Zeroizing::new(bytes.map_err(|error| unusable::<K>(path, error))?);
    parsed(&bytes).map_err(|error| unusable::<K>(path, error))
}

impl ImportFile {
    pub(super) fn open(path: &Path) -> Result<Self, Report> {
        read_as(path, files::read_bounded(path, LIMIT))
    }

    /// What people compare before they wrap anything to it.
    pub(super) fn digest(&self) -> ProofHash {
        ProofHash(Sha256::digest(&written(self)[..]).into())
    }

    /// Writes it, and its RSA key beside it for openssl: `FILE.der`.
    pub(super) fn create(&self, path: &Path) -> Result<PathBuf, Report> {
        let mut der = path.to_owned().into_os_string();
        der.push(".der");
        let der = PathBuf::from(der);
        create(path, &written(self))?;
        create(&der, &self.begun.rsa)?;
        Ok(der)
    }
}

impl WrappedFile {
    /// What `import wrap` wrote, or none where it is what another tool did: exactly an RSA ciphertext.
    pub(super) fn open(path: &Path) -> Result<Result<Self, Vec<u8>>, Report> {
        let bytes = files::read_bounded(path, LIMIT);
        let bytes = bytes.map_err(|error| unusable::<Self>(path, error))?;
        if bytes.len() == RSA_WRAPPED {
            return Ok(Err(bytes));
        }
        read_as(path, Ok(bytes)).map(Ok)
    }

    pub(super) fn create(&self, path: &Path) -> Result<(), Report> {
        create(path, &written(self))
    }
}

impl ExportFile {
    pub(super) fn open(path: &Path) -> Result<Self, Report> {
        read_as(path, files::read_bounded(path, LIMIT))
    }

    pub(super) fn create(&self, path: &Path) -> Result<(), Report> {
        create(path, &written(self))
    }
}

impl ShareFile {
    pub(super) fn open(path: &Path) -> Result<Self, Report> {
        read_as(path, files::read_private(path, LIMIT))
    }

    pub(super) fn create(&self, path: &Path) -> Result<(), Report> {
        create(path, &written(self))
    }
}

/// Writes a new file, for this user alone.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<(), Report> {
    files::create_private(path, bytes).map_err(|error| {
        let code = match error {
            FileError::Exists(_) => exit::CONFLICT,
            _ => exit::LOCAL,
        };
        Report::new(code, format!("{} was not written", path.display()))
            .why(error)
            .next("give another file")
    })
}

/// A file that must not be there yet: asked before something is done whose result goes there.
pub(crate) fn free(path: &Path) -> Result<(), Report> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(
        Report::new(exit::CONFLICT, format!("{} exists already", path.display()))
            .why("it is not written over")
            .next("give another --out"),
    )
}

/// Keeps what an act gave whose last signature somebody else made: in this file, or in one here by the
/// statement's id.
/// None of an act whose result nobody has to keep.
///
/// # Errors
/// The result is none of the act's, or the file cannot be written.
pub(crate) fn keep_result(
    realm: &str,
    server: TlsKey,
    (act, statement): (Act, StatementId),
    out: Option<&Path>,
    result: &[u8],
) -> Result<Option<PathBuf>, Report> {
    let none = |error: DecodeError| {
        Report::new(
            exit::INTEGRITY,
            format!("the key server's answer to {act} is none"),
        )
        .why(error)
    };
    let realm = realm.to_owned();
    let here = |end| PathBuf::from(format!("{statement}.{end}"));
    let path = |end| out.map_or_else(|| here(end), Path::to_owned);
    match act {
        Act::ImportBegin => {
            let begun = ImportBegun::from_cbor(result, limits::MESSAGE).map_err(none)?;
            let (path, file) = (
                path("import"),
                ImportFile {
                    realm,
                    server,
                    begun,
                },
            );
            file.create(&path)?;
            Ok(Some(path))
        }
        Act::KekExport => {
            let exported = KekExported::from_cbor(result, limits::MESSAGE).map_err(none)?;
            let (path, file) = (
                path("export"),
                ExportFile {
                    realm,
                    server,
                    exported,
                },
            );
            file.create(&path)?;
            Ok(Some(path))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use ticket_format::ids::DatasetId;
    use ticket_format::keys::TlsSecret;
    use ticket_format::seal::{Kem, SealingSecret};
    use ticket_format::secret::SealingSeed;
    use ticket_format::time::Timestamp;

    use super::*;

    fn import() -> ImportFile {
        let key = SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([1; 32]));
        ImportFile {
            realm: "test".to_owned(),
            server: TlsSecret::from_seed(&[1; 32]).public(),
            begun: ImportBegun {
                import: ImportId([2; 16]),
                key: key.public(),
                rsa: vec![3; 550],
                expires: Timestamp::from_seconds(9),
                dataset: DatasetId([4; 16]),
            },
        }
    }

    #[test]
    fn each_file_is_read_as_it_was_written_and_none_for_another() {
        // rule: IMP-1
        let dir = tempfile::tempdir().unwrap();
        let (keys, wrapped) = (dir.path().join("keys"), dir.path().join("wrapped"));
        let der = import().create(&keys).unwrap();
        assert_eq!(std::fs::read(der).unwrap(), vec![3; 550]);
        assert_eq!(ImportFile::open(&keys).unwrap(), import());
        let file = WrappedFile {
            import: ImportId([2; 16]),
            how: ImportHow::Hpke,
            commitment: [5; 32],
            wrapped: vec![6; HPKE_WRAPPED],
        };
        file.create(&wrapped).unwrap();
        assert_eq!(WrappedFile::open(&wrapped).unwrap(), Ok(file));
        assert_eq!(ImportFile::open(&wrapped).unwrap_err().exit, exit::CONFIG);
        assert!(ExportFile::open(&keys).is_err() && WrappedFile::open(&keys).is_err());
        let raw = dir.path().join("raw");
        std::fs::write(&raw, [7; RSA_WRAPPED]).unwrap();
        assert_eq!(WrappedFile::open(&raw).unwrap(), Err(vec![7; RSA_WRAPPED]));
        let again = import().create(&keys).unwrap_err();
        assert_eq!(again.exit, exit::CONFLICT);
        let mut long = std::fs::read(&keys).unwrap();
        long.push(0);
        std::fs::write(&raw, long).unwrap();
        assert!(ImportFile::open(&raw).is_err());
    }

    #[test]
    fn what_is_compared_changes_with_each_key_and_place() {
        // rule: IMP-1
        let digest = import().digest().to_string();
        let mut other = import();
        other.begun.rsa[9] ^= 1;
        assert_ne!(other.digest().to_string(), digest);
        let other = ImportFile {
            realm: "other".to_owned(),
            ..import()
        };
        assert_ne!(other.digest().to_string(), digest);
        assert_eq!(import().digest().to_string(), digest);
    }
}
