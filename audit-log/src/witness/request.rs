//! The body of an add-checkpoint request (C2SP tlog-witness):
//!
//! ```text
//! old <size>
//! <hash in base64>        no more than 63 of these
//!
//! <checkpoint: a signed note>
//! ```

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ticket_format::tlog::Hash;

/// Most lines of a consistency proof: no tree of 2^64 leaves needs more.
pub(crate) const PROOF_LINES: usize = 63;
/// Longest checkpoint, in bytes. A log's own two signatures take 3.5 KiB; witnesses' lines may follow.
pub(crate) const MAX_NOTE: usize = ticket_format::limits::NOTE;
/// Longest body, in bytes: the old size, the proof, the empty line, the checkpoint.
pub const MAX_BODY: usize = "old \n".len() + 20 + PROOF_LINES * 45 + 1 + MAX_NOTE;

/// What a log asks of a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint<'a> {
    /// Size of the checkpoint that the proof begins at.
    pub old: u64,
    /// The consistency proof.
    pub proof: Vec<Hash>,
    /// The signed checkpoint, not looked into.
    pub note: &'a str,
}

/// Why a body is not an add-checkpoint request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// More than [`MAX_BODY`] bytes.
    #[error("the request has more than {MAX_BODY} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("the request is not UTF-8 text")]
    NotText,
    /// The first line.
    #[error("the first line is not `old` and a size in decimal digits without leading zeroes")]
    Old,
    /// A line between the first and the empty one.
    #[error("line {0} is not a hash of 32 bytes in base64")]
    Hash(usize),
    /// More proof lines than [`PROOF_LINES`].
    #[error("the consistency proof has more than {PROOF_LINES} lines")]
    TooManyHashes,
    /// No empty line, or nothing behind it.
    #[error("no empty line and checkpoint stand behind the consistency proof")]
    NoCheckpoint,
}

impl<'a> AddCheckpoint<'a> {
    /// Reads a body; the checkpoint in it is left as it is.
    ///
    /// # Errors
    /// [`RequestError`]: the first thing that does not hold.
    pub fn parse(body: &'a [u8]) -> Result<Self, RequestError> {
        if body.len() > MAX_BODY {
            return Err(RequestError::TooLong);
        }
        let text = std::str::from_utf8(body).map_err(|_| RequestError::NotText)?;
        let (first, mut rest) = text.split_once('\n').ok_or(RequestError::Old)?;
        let old = first
            .strip_prefix("old ")
            .and_then(decimal)
            .ok_or(RequestError::Old)?;
        let mut proof = Vec::new();
        loop {
            let (line, behind) = rest.split_once('\n').ok_or(RequestError::NoCheckpoint)?;
            rest = behind;
            if line.is_empty() {
                break;
            }
            if proof.len() == PROOF_LINES {
                return Err(RequestError::TooManyHashes);
            }
            proof.push(hash(line).ok_or(RequestError::Hash(proof.len() + 2))?);
        }
        if rest.is_empty() {
            return Err(RequestError::NoCheckpoint);
        }
        Ok(Self {
            old,
            proof,
            note: rest,
        })
    }

    /// The body, as a log sends it.
    #[must_use]
    pub fn to_body(&self) -> String {
        let mut body = String::with_capacity(32 + self.proof.len() * 45 + self.note.len());
        // Writing to a string does not fail.
        let _ = writeln!(body, "old {}", self.old);
        for hash in &self.proof {
            let _ = writeln!(body, "{}", STANDARD.encode(hash));
        }
        body.push('\n');
        body.push_str(self.note);
        body
    }
}

/// A size as the protocol writes it: decimal digits, no sign, no leading zero.
#[must_use]
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || text.is_empty() || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}

fn hash(line: &str) -> Option<Hash> {
    // 44 characters make 32 bytes; the engine refuses missing padding and stray bits.
    if line.len() != 44 {
        return None;
    }
    STANDARD.decode(line).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn lines(count: usize) -> String {
        format!("{HASH}\n").repeat(count)
    }

    #[test]
    fn a_request_reads_back_as_it_was_written() {
        for (old, count) in [(0, 0), (1, 1), (20_852_014, 4), (u64::MAX, 63)] {
            let asked = AddCheckpoint {
                old,
                proof: vec![std::array::from_fn(|at| at as u8); count],
                note: "origin\n1\nroot\n\n— a b\n",
            };
            let body = asked.to_body();
            assert!(body.starts_with(&format!("old {old}\n{}\norigin", lines(count))));
            assert_eq!(AddCheckpoint::parse(body.as_bytes()), Ok(asked));
        }
    }

    #[test]
    fn every_departure_from_the_form_is_refused_with_its_own_reason() {
        let long = format!("old 1\n\n{}", "x".repeat(MAX_BODY));
        let many = format!("old 1\n{}\nnote\n", lines(64));
        let bits = HASH.replace("8=", "9=");
        let cases: Vec<(Vec<u8>, RequestError)> = vec![
            (long.into_bytes(), RequestError::TooLong),
            (b"old 1\n\n\xff\n".to_vec(), RequestError::NotText),
            (b"".to_vec(), RequestError::Old),
            (b"old 1".to_vec(), RequestError::Old),
            (b"\nold 1\n\nnote\n".to_vec(), RequestError::Old),
            (b"old 01\n\nnote\n".to_vec(), RequestError::Old),
            (b"old 00\n\nnote\n".to_vec(), RequestError::Old),
            (b"old +1\n\nnote\n".to_vec(), RequestError::Old),
            (b"old -1\n\nnote\n".to_vec(), RequestError::Old),
            (b"old  1\n\nnote\n".to_vec(), RequestError::Old),
            (b"old 1 \n\nnote\n".to_vec(), RequestError::Old),
            (b"old \n\nnote\n".to_vec(), RequestError::Old),
            (b"old 1\r\n\r\nnote\r\n".to_vec(), RequestError::Old),
            (b"Old 1\n\nnote\n".to_vec(), RequestError::Old),
            (b"size 1\n\nnote\n".to_vec(), RequestError::Old),
            (
                b"old 18446744073709551616\n\nnote\n".to_vec(),
                RequestError::Old,
            ),
            ("old ١\n\nnote\n".into(), RequestError::Old),
            (many.into_bytes(), RequestError::TooManyHashes),
            (b"old 1\nAAAA\n\nnote\n".to_vec(), RequestError::Hash(2)),
            (
                format!("old 1\n{HASH}\n{HASH} \n\nnote\n").into_bytes(),
                RequestError::Hash(3),
            ),
            (
                format!("old 1\n{HASH}\r\n\r\nnote\n").into_bytes(),
                RequestError::Hash(2),
            ),
            (
                format!("old 1\n{bits}\n\nnote\n").into_bytes(),
                RequestError::Hash(2),
            ),
            (
                format!("old 1\n{}\n\nnote\n", HASH.replace('=', "A")).into_bytes(),
                RequestError::Hash(2),
            ),
            (
                format!("old 1\n{}\n\nnote\n", HASH.replace('8', "-")).into_bytes(),
                RequestError::Hash(2),
            ),
            (b"old 1\n".to_vec(), RequestError::NoCheckpoint),
            (
                format!("old 1\n{HASH}\n").into_bytes(),
                RequestError::NoCheckpoint,
            ),
            (b"old 1\n\n".to_vec(), RequestError::NoCheckpoint),
        ];
        for (body, error) in cases {
            assert_eq!(
                AddCheckpoint::parse(&body),
                Err(error),
                "{:?}",
                String::from_utf8_lossy(&body[..body.len().min(80)])
            );
        }
    }

    #[test]
    fn the_longest_request_that_the_form_allows_fits_the_bound() {
        let note = "n".repeat(MAX_NOTE);
        let asked = AddCheckpoint {
            old: u64::MAX,
            proof: vec![[7; 32]; PROOF_LINES],
            note: &note,
        };
        let body = asked.to_body();
        assert_eq!(body.len(), MAX_BODY);
        assert_eq!(AddCheckpoint::parse(body.as_bytes()), Ok(asked));
    }
}
