//! Writing a backup (BAK-1, BAK-2).

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use audit_log::{LogCopy, SideFile};
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use store::files;
use store::sealed::RootKey;
use store::{KeyRange, Snapshot};
use ticket_format::backup::Header;
use zeroize::Zeroizing;

use super::BackupError;
use super::frame::{Frame, PIECE};
use super::seal::Sealer;
use crate::config::{DOOR, INVENTORY, LOG_DIR};
use crate::inventory::InventoryCopy;

/// Name of the side file in the data directory.
pub(super) const SIDE: &str = "audit.side";

/// What a backup is made of: all of one moment.
pub struct Sources {
    /// What it says of itself.
    pub header: Header,
    /// Opens it.
    pub root: Arc<RootKey>,
    /// The store.
    pub snapshot: Snapshot,
    /// What is sealed under the root key: the path that it is sealed for, and the file.
    pub sealed: Vec<(String, Vec<u8>)>,
    /// The seed of the door key; none where there is no door.
    pub door: Option<Zeroizing<Vec<u8>>>,
    /// The log.
    pub log: LogCopy,
    /// The side file, and so many of its bytes.
    pub side: Option<(SideFile, u64)>,
    /// The inventory.
    pub inventory: Option<InventoryCopy>,
}

/// A backup that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Bytes of the file.
    pub size: u64,
    /// Its SHA-256.
    pub digest: [u8; 32],
}

/// Writes a backup to a new file, durably. Blocks, and holds nothing up.
///
/// # Errors
/// Something cannot be read or written; no file is left.
pub fn write(sources: Sources, path: &Path, rng: &mut impl CryptoRng) -> Result<Made, BackupError> {
    // rule: BAK-1
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(BackupError::io(path))?;
    let written = write_to(sources, file, rng, path);
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}

fn write_to(
    sources: Sources,
    file: std::fs::File,
    rng: &mut impl CryptoRng,
    path: &Path,
) -> Result<Made, BackupError> {
    let failed = BackupError::io(path);
    let out = BufWriter::with_capacity(256 * 1024, file);
    let sealer = Sealer::begin(out, sources.header, &sources.root, rng).map_err(&failed)?;
    let mut body = Body {
        out: sealer,
        files: 0,
    };
    let mut entries = 0;
    sources
        .snapshot
        .each(KeyRange::all(), |key, entry| -> Result<(), BackupError> {
            entries += 1;
            let frame = Frame::Entry {
                key,
                value: entry.value,
                revision: entry.revision.0,
            };
            frame.write(&mut body.out).map_err(&failed)
        })?;
    // The engine need not keep that state any longer.
    drop(sources.snapshot);
    body.put(&Frame::StoreEnd(entries)).map_err(&failed)?;
    for (name, sealed) in &sources.sealed {
        body.whole(name.clone(), sealed).map_err(&failed)?;
    }
    if let Some(door) = &sources.door {
        body.whole(DOOR.to_owned(), door).map_err(&failed)?;
    }
    for copied in &sources.log.files {
        let name = format!("{LOG_DIR}/{}", copied.path);
        body.file(name, |each| copied.read(each)).map_err(&failed)?;
    }
    if let Some((side, length)) = &sources.side {
        body.file(SIDE.to_owned(), |each| side.read(*length, each))
            .map_err(&failed)?;
    }
    if let Some(inventory) = &sources.inventory {
        let beside = path.with_extension("inventory");
        let copied = inventory
            .write(&beside)
            .map_err(io::Error::other)
            .and_then(|()| {
                let mut file = std::fs::File::open(&beside)?;
                body.file(INVENTORY.to_owned(), |each| read_all(&mut file, each))
            });
        let _ = std::fs::remove_file(&beside);
        copied.map_err(&failed)?;
    }
    let files = body.files;
    body.put(&Frame::End(files)).map_err(&failed)?;
    let (out, size, digest) = body.out.finish().map_err(&failed)?;
    let file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(&failed)?;
    if let Some(parent) = path.parent() {
        files::sync_dir(parent)?;
    }
    Ok(Made { size, digest })
}

fn read_all(
    file: &mut impl io::Read,
    each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => each(&buffer[..read])?,
        }
    }
}

struct Body<W> {
    out: W,
    files: u64,
}

impl<W: Write> Body<W> {
    fn put(&mut self, frame: &Frame) -> io::Result<()> {
        frame.write(&mut self.out)
    }

    fn whole(&mut self, path: String, bytes: &[u8]) -> io::Result<()> {
        self.file(path, |each| each(bytes))
    }

    fn file(
        &mut self,
        path: String,
        read: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.put(&Frame::File(path))?;
        let (mut digest, out) = (Sha256::new(), &mut self.out);
        read(&mut |bytes| {
            digest.update(bytes);
            for piece in bytes.chunks(PIECE) {
                Frame::Piece(piece.to_vec()).write(out)?;
            }
            Ok(())
        })?;
        self.files += 1;
        self.put(&Frame::FileEnd(digest.finalize().into()))
    }
}
