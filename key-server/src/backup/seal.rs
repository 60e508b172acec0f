//! The body of a backup as chunks under a key of its own (BAK-2).

use std::io::{self, Read, Write};

use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use store::sealed::RootKey;
use ticket_format::backup::{Beginning, CHUNK, FILE_KEY, Header, SEALED};
use zeroize::Zeroizing;

use super::BackupError;

/// Writes a file: the beginning, then what is written to it, in chunks.
pub(super) struct Sealer<W, R> {
    out: W,
    rng: R,
    header: Header,
    key: RootKey,
    buffer: Zeroizing<Vec<u8>>,
    number: u64,
    size: u64,
    digest: Sha256,
}

impl<W: Write, R: CryptoRng> Sealer<W, R> {
    pub(super) fn begin(out: W, header: Header, root: &RootKey, mut rng: R) -> io::Result<Self> {
        // rule: BAK-2
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut());
        let key = RootKey::from_bytes(*bytes);
        let sealed = root.seal(&header.key_path(), bytes.as_slice(), &mut rng);
        let file_key = <[u8; FILE_KEY]>::try_from(sealed);
        let file_key = file_key.map_err(|_| io::Error::other("the file key is not sealed"))?;
        let mut sealer = Self {
            out,
            rng,
            key,
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK)),
            number: 0,
            size: 0,
            digest: Sha256::new(),
            header: header.clone(),
        };
        sealer.put(&Beginning { header, file_key }.to_bytes())?;
        Ok(sealer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn chunk(&mut self, last: bool) -> io::Result<()> {
        // rule: BAK-2
        let path = self.header.chunk_path(self.number, last);
        let sealed = self.key.seal(&path, &self.buffer, &mut self.rng);
        self.number += 1;
        self.buffer.clear();
        self.put(&sealed)
    }

    /// Writes the last chunk; gives the file back, its size and its SHA-256.
    pub(super) fn finish(mut self) -> io::Result<(W, u64, [u8; 32])> {
        self.chunk(true)?;
        self.out.flush()?;
        Ok((self.out, self.size, self.digest.finalize().into()))
    }
}

impl<W: Write, R: CryptoRng> Write for Sealer<W, R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A chunk is sealed when there is more: the last one may be full.
        if self.buffer.len() == CHUNK && !bytes.is_empty() {
            self.chunk(false)?;
        }
        let room = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..room]);
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the chunks of a file. What it gives was sealed as this chunk of this backup.
pub(super) struct Opener<F> {
    file: F,
    header: Header,
    key: RootKey,
    /// The chunk after the one that is read: none is left when it is empty.
    ahead: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    at: usize,
    number: u64,
}

impl<F: Read> Opener<F> {
    /// Goes on behind the beginning.
    pub(super) fn new(
        mut file: F,
        beginning: &Beginning,
        root: &RootKey,
    ) -> Result<Self, BackupError> {
        // rule: BAK-2
        let path = beginning.header.key_path();
        let key = root.open(&path, &beginning.file_key);
        let key = key.map_err(|_| BackupError::Key)?;
        let key = <[u8; 32]>::try_from(key.as_slice()).map(Zeroizing::new);
        let key = RootKey::from_bytes(*key.map_err(|_| BackupError::Key)?);
        let ahead = sealed_chunk(&mut file)?;
        Ok(Self {
            file,
            header: beginning.header.clone(),
            key,
            ahead,
            plain: Zeroizing::default(),
            at: 0,
            number: 0,
        })
    }

    /// Fills `out`; false at the end of the body.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<bool, BackupError> {
        let mut filled = 0;
        while filled < out.len() {
            let rest = &self.plain[self.at..];
            if rest.is_empty() {
                if !self.next()? {
                    if filled == 0 {
                        return Ok(false);
                    }
                    return Err(BackupError::Shape("it ends in a frame"));
                }
                continue;
            }
            let more = rest.len().min(out.len() - filled);
            out[filled..filled + more].copy_from_slice(&rest[..more]);
            (filled, self.at) = (filled + more, self.at + more);
        }
        Ok(true)
    }

    fn next(&mut self) -> Result<bool, BackupError> {
        if self.ahead.is_empty() {
            // A file that ends before its first chunk was cut.
            return if self.number == 0 {
                Err(BackupError::Chunk(0))
            } else {
                Ok(false)
            };
        }
        let sealed = std::mem::take(&mut self.ahead);
        self.ahead = sealed_chunk(&mut self.file)?;
        // rule: BAK-2
        let path = self.header.chunk_path(self.number, self.ahead.is_empty());
        let plain = self.key.open(&path, &sealed);
        self.plain = plain.map_err(|_| BackupError::Chunk(self.number))?;
        (self.at, self.number) = (0, self.number + 1);
        Ok(true)
    }

    pub(super) fn into_inner(self) -> F {
        self.file
    }
}

/// As much as one chunk has, or what is left.
fn sealed_chunk(file: &mut impl Read) -> Result<Vec<u8>, BackupError> {
    let most = (CHUNK + SEALED) as u64;
    let mut sealed = Vec::with_capacity(CHUNK + SEALED);
    file.take(most)
        .read_to_end(&mut sealed)
        .map_err(BackupError::io(std::path::Path::new("the backup")))?;
    Ok(sealed)
}

/// Counts what is read of a file, and hashes it.
pub(super) struct Hashing<F> {
    file: F,
    digest: Sha256,
}

impl<F: Read> Hashing<F> {
    pub(super) fn new(file: F) -> Self {
        Self {
            file,
            digest: Sha256::new(),
        }
    }

    pub(super) fn digest(self) -> [u8; 32] {
        self.digest.finalize().into()
    }
}

impl<F: Read> Read for Hashing<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(out)?;
        self.digest.update(&out[..read]);
        Ok(read)
    }
}
