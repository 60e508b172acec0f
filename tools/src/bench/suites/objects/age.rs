//! `file_encrypt_mb_per_s` and `file_decrypt_mb_per_s`, beside `age`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use client::object::{Decryptor, Encryptor, ObjectContext};
use rand_core::Rng as _;
use ticket_format::report::{Report, exit};

use super::{DEK, PIECE, failed, rate};
use crate::realm::{memory_dir, rng};
use crate::rows::Row;

/// Bytes of the file.
const FILE: usize = 256 << 20;

/// A file, and what encrypts it.
pub(super) struct Bench {
    dir: tempfile::TempDir,
    recipient: String,
    context: ObjectContext,
}

impl Bench {
    /// Writes the file and makes a key for `age`.
    pub(super) fn new() -> Result<Self, Report> {
        let dir = memory_dir()?;
        let identity = dir.path().join("identity");
        run("age-keygen", &["-o".as_ref(), &identity])?;
        let text = std::fs::read_to_string(&identity).map_err(failed)?;
        let recipient = text
            .lines()
            .find_map(|line| line.strip_prefix("# public key: "));
        let recipient = recipient.ok_or_else(|| failed("age-keygen names no public key"))?;
        let mut file = File::create(dir.path().join("plain")).map_err(failed)?;
        let mut piece = vec![0; PIECE];
        for _ in 0..FILE / PIECE {
            rng().fill_bytes(&mut piece);
            file.write_all(&piece).map_err(failed)?;
        }
        Ok(Self {
            recipient: recipient.to_owned(),
            context: ObjectContext::new(b"bench".to_vec()),
            dir,
        })
    }

    /// One round: `age`, then the client.
    pub(super) fn measure(&self, encrypt: &mut Row, decrypt: &mut Row) -> Result<(), Report> {
        let path = |name: &str| self.dir.path().join(name);
        let [plain, aged, ours, back] = ["plain", "aged", "ours", "back"].map(path);
        let recipient: &Path = self.recipient.as_ref();
        let theirs = timed(|| {
            run(
                "age",
                &["-r".as_ref(), recipient, "-o".as_ref(), &aged, &plain],
            )
        })?;
        let mine = timed(|| self.encrypt(&plain, &ours))?;
        encrypt.add(rate(FILE, mine), rate(FILE, theirs));
        let identity = path("identity");
        let theirs = timed(|| {
            let options: [&Path; 3] = ["-d".as_ref(), "-i".as_ref(), &identity];
            run(
                "age",
                &[&options[..], &["-o".as_ref(), &back, &aged]].concat(),
            )
        })?;
        same_length(&back)?;
        let mine = timed(|| self.decrypt(&ours, &back))?;
        same_length(&back)?;
        decrypt.add(rate(FILE, mine), rate(FILE, theirs));
        for path in [aged, ours, back] {
            std::fs::remove_file(path).map_err(failed)?;
        }
        Ok(())
    }

    fn encrypt(&self, from: &Path, to: &Path) -> Result<(), Report> {
        let mut salt = [0; 24];
        rng().fill_bytes(&mut salt);
        let mut out = Vec::with_capacity(2 * PIECE);
        let mut writer = Encryptor::start(&DEK, &self.context, salt, &mut out).map_err(failed)?;
        let mut to = copied(from, to, &mut out, |piece, out| {
            writer.update(piece, out).map_err(failed)
        })?;
        writer.finish(&mut out).map_err(failed)?;
        to.write_all(&out).map_err(failed)
    }

    fn decrypt(&self, from: &Path, to: &Path) -> Result<(), Report> {
        let mut out = Vec::with_capacity(2 * PIECE);
        let mut reader = Decryptor::new(&DEK, &self.context);
        let mut to = copied(from, to, &mut out, |piece, out| {
            reader.update(piece, out).map_err(failed)
        })?;
        reader.finish(&mut out).map_err(failed)?;
        to.write_all(&out).map_err(failed)
    }
}

/// Reads, transforms and writes piece by piece; what `out` holds before the first piece is written with it.
fn copied(
    from: &Path,
    to: &Path,
    out: &mut Vec<u8>,
    mut each: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), Report>,
) -> Result<File, Report> {
    let (mut from, mut to) = (
        File::open(from).map_err(failed)?,
        File::create(to).map_err(failed)?,
    );
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece).map_err(failed)? {
            0 => return Ok(to),
            read => each(&piece[..read], out)?,
        }
        to.write_all(out).map_err(failed)?;
        out.clear();
    }
}

fn same_length(path: &Path) -> Result<(), Report> {
    let len = path.metadata().map_err(failed)?.len();
    match len == FILE as u64 {
        true => Ok(()),
        false => Err(failed(format!("a file came back with {len} bytes"))),
    }
}

fn timed(work: impl FnOnce() -> Result<(), Report>) -> Result<Duration, Report> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

fn run(program: &str, arguments: &[&Path]) -> Result<(), Report> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|error| {
        Report::new(exit::NOT_FOUND, format!("{program} cannot be run"))
            .why(error)
            .next("install it: sudo apt-get install -y age")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Report::new(exit::LOCAL, format!("{program} failed")).why(said.trim()))
}
