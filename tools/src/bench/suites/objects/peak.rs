//! `object_peak_mib`: this program again, as a process that streams one object.

use std::process::{Command, Stdio};

use client::object::{BodyError, Decryptor, Encryptor, ObjectContext};
use ticket_format::report::Report;

use super::{DEK, PIECE, failed};
use crate::cpu;
use crate::rows::Row;

/// Bytes of the object.
const LONG: u64 = 5 << 30;
/// Bytes of the one beside it.
const SHORT: u64 = 1 << 20;

/// One round.
pub(super) fn measure(row: &mut Row) -> Result<(), Report> {
    row.add(in_a_process(LONG)?, in_a_process(SHORT)?);
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
fn in_a_process(bytes: u64) -> Result<f64, Report> {
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("--stream-object").arg(bytes.to_string());
    let output = command.stdin(Stdio::null()).output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let peak: Option<u64> = said.trim().parse().ok();
    match peak {
        Some(kib) if output.status.success() => Ok(kib as f64 / 1_024.0),
        _ => Err(failed(String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Encrypts and decrypts so many bytes, and gives the KiB of memory that the process held at most.
pub(crate) fn stream(bytes: u64) -> Result<u64, Report> {
    let back = through(bytes).map_err(failed)?;
    if back != bytes {
        return Err(failed(format!("{back} of {bytes} bytes came back")));
    }
    Ok(cpu::own()?.peak)
}

fn through(bytes: u64) -> Result<u64, BodyError> {
    let context = ObjectContext::new(b"bench".to_vec());
    let (mut sealed, mut opened) = (Vec::new(), Vec::new());
    let mut writer = Encryptor::start(&DEK, &context, [1; 24], &mut sealed)?;
    let mut reader = Decryptor::new(&DEK, &context);
    let piece = vec![0x5a; PIECE];
    let (mut left, mut back) = (bytes, 0);
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        writer.update(&piece[..len], &mut sealed)?;
        reader.update(&sealed, &mut opened)?;
        back += opened.len() as u64;
        sealed.clear();
        opened.clear();
        left -= len as u64;
    }
    writer.finish(&mut sealed)?;
    reader.update(&sealed, &mut opened)?;
    reader.finish(&mut opened)?;
    Ok(back + opened.len() as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_streamed_comes_back_whole() {
        assert!(super::stream((3 << 20) + 5).unwrap() > 0);
    }
}
