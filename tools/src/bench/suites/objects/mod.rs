//! Suite `objects`: object bodies in memory, as files beside `age`, in S3, and the memory that a long one takes.

mod age;
mod body;
pub(crate) mod peak;
mod s3;

pub(crate) use s3::serve as moto;

use ticket_format::report::{Report, exit};

use super::{Rows, Run, Suite};
use crate::rows::{Row, RowInfo};

pub(crate) static SUITE: Suite = Suite {
    name: "objects",
    about: "object bodies in memory, as files beside age, in S3, and the memory that a long one takes",
    rows: &[
        RowInfo {
            name: "object_encrypt_mb_per_s",
            unit: "MB/s",
            what: "An object body of 64 MiB encrypted in memory by the client's streaming writer, fed in pieces of 1 \
                   MiB, on one core. MB are 10^6 bytes of plaintext. Decryption alike is object_decrypt_mb_per_s of \
                   suite main.",
            floor: "AES-256-GCM sealing of chunks of 16 KiB by aws-lc-rs into a buffer that is used again, on one core.",
        },
        RowInfo {
            name: "file_encrypt_mb_per_s",
            unit: "MB/s",
            what: "A file of 256 MiB encrypted into another, in memory where there is such a directory: read in pieces \
                   of 1 MiB, encrypted by the client's streaming writer with a key that is there, written.",
            floor: "no floor but another's work on the same file: `age` to an X25519 recipient, its process started anew.",
        },
        RowInfo {
            name: "file_decrypt_mb_per_s",
            unit: "MB/s",
            what: "The file decrypted alike by the client's streaming reader.",
            floor: "no floor but another's work: `age --decrypt` of its own file.",
        },
        RowInfo {
            name: "s3_put_mb_per_s",
            unit: "MB/s",
            what: "An object of 64 MiB encrypted and put by the client's streaming uploader, in parts, to an S3 \
                   server on loopback that keeps objects in memory; with a key that is there.",
            floor: "the same bytes in the clear by the same uploader to the same server.",
        },
        RowInfo {
            name: "s3_get_mb_per_s",
            unit: "MB/s",
            what: "That object got and decrypted.",
            floor: "the one in the clear got from the same server.",
        },
        RowInfo {
            name: "object_peak_mib",
            unit: "MiB",
            what: "The most memory that a process held (VmHWM) which encrypted an object of 5 GiB, made as it went, \
                   and decrypted it again piece by piece: client's streaming writer and reader.",
            floor: "the same for an object of 1 MiB: the program itself.",
        },
    ],
    run,
};

fn run(run: &Run) -> Rows<'_> {
    Box::pin(measure(run))
}

async fn measure(run: &Run) -> Result<Vec<Row>, Report> {
    let mut rows: Vec<Row> = SUITE.rows.iter().map(Row::new).collect();
    let wanted: Vec<bool> = SUITE.rows.iter().map(|row| run.wants(row)).collect();
    let [encrypt, file_encrypt, file_decrypt, put, get, peak] = rows.as_mut_slice() else {
        return Ok(rows);
    };
    let mut bodies = body::Bench::new()?;
    let files = match wanted[1] || wanted[2] {
        true => Some(age::Bench::new()?),
        false => None,
    };
    let s3 = match wanted[3] || wanted[4] {
        true => Some(s3::Bench::start().await?),
        false => None,
    };
    for round in 0..run.rounds {
        run.begins(round);
        if wanted[0] {
            bodies.measure(run.span, encrypt)?;
        }
        if let Some(files) = &files {
            files.measure(file_encrypt, file_decrypt)?;
        }
        if let Some(s3) = &s3 {
            s3.measure(run.span, put, get).await?;
        }
        if wanted[5] {
            peak::measure(peak)?;
        }
    }
    Ok(rows)
}

/// The key of every object here: keys are what the other suites measure.
const DEK: [u8; 32] = [7; 32];
/// Bytes that writer and reader are fed at a time.
const PIECE: usize = 1 << 20;

fn failed(error: impl std::fmt::Display) -> Report {
    Report::new(exit::LOCAL, "the objects cannot be measured").why(error)
}

/// Megabytes in a second.
#[allow(clippy::cast_precision_loss)] // far below 2^52
fn rate(bytes: usize, took: std::time::Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}
