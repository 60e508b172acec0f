//! `object_decrypt_mb_per_s`.

use std::time::{Duration, Instant};

use client::object::{BodyError, Decryptor, Encryptor, ObjectContext};
use ticket_format::report::{Report, exit};

use crate::floor::Chunks;
use crate::rows::Row;

/// Bytes of plaintext.
const OBJECT: usize = 64 << 20;
/// Bytes that the reader is fed at a time.
const PIECE: usize = 1 << 20;
const DEK: [u8; 32] = [7; 32];

/// One object and its reader.
pub(crate) struct Bench {
    context: ObjectContext,
    body: Vec<u8>,
    out: Vec<u8>,
    chunks: Chunks,
}

impl Bench {
    /// Encrypts the object.
    pub(crate) fn new() -> Result<Self, Report> {
        let context = ObjectContext::new(b"bench".to_vec());
        let body = encrypt(&context).map_err(failed)?;
        Ok(Self {
            context,
            body,
            out: Vec::with_capacity(2 * PIECE),
            chunks: Chunks::new()?,
        })
    }

    /// One round: the floor, then the object, in turn until each had its time.
    pub(crate) fn measure(&mut self, span: Duration, row: &mut Row) -> Result<(), Report> {
        let (mut value, mut floor) = (Duration::ZERO, Duration::ZERO);
        let mut bytes = 0;
        while value < span {
            let started = Instant::now();
            self.chunks.open(OBJECT);
            floor += started.elapsed();
            let started = Instant::now();
            self.decrypt().map_err(failed)?;
            value += started.elapsed();
            bytes += OBJECT;
        }
        #[allow(clippy::cast_precision_loss)] // far below 2^52
        let megabytes = bytes as f64 / 1e6;
        row.add(
            megabytes / value.as_secs_f64(),
            megabytes / floor.as_secs_f64(),
        );
        Ok(())
    }

    fn decrypt(&mut self) -> Result<(), BodyError> {
        let mut decryptor = Decryptor::new(&DEK, &self.context);
        for piece in self.body.chunks(PIECE) {
            self.out.clear();
            decryptor.update(piece, &mut self.out)?;
        }
        self.out.clear();
        decryptor.finish(&mut self.out).map(drop)
    }
}

fn encrypt(context: &ObjectContext) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::with_capacity(OBJECT + OBJECT / 512);
    let mut encryptor = Encryptor::start(&DEK, context, [1; 24], &mut body)?;
    let piece = vec![0x5a; PIECE];
    for _ in 0..OBJECT / PIECE {
        encryptor.update(&piece, &mut body)?;
    }
    encryptor.finish(&mut body)?;
    Ok(body)
}

fn failed(error: BodyError) -> Report {
    Report::new(exit::INTEGRITY, "the object of the bench does not hold").why(error)
}
