//! `object_encrypt_mb_per_s`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use client::object::{BodyError, CHUNK_LEN, Encryptor, ObjectContext};
use rand_core::Rng as _;
use ticket_format::report::Report;

use super::{DEK, PIECE, failed, rate};
use crate::realm::rng;
use crate::rows::Row;

/// Bytes of plaintext.
const OBJECT: usize = 64 << 20;

/// One object, its writer, and the library alone.
pub(super) struct Bench {
    context: ObjectContext,
    plaintext: Vec<u8>,
    out: Vec<u8>,
    key: LessSafeKey,
    chunk: Vec<u8>,
}

impl Bench {
    pub(super) fn new() -> Result<Self, Report> {
        let key = UnboundKey::new(&AES_256_GCM, &DEK).map_err(failed)?;
        Ok(Self {
            context: ObjectContext::new(b"bench".to_vec()),
            plaintext: vec![0x5a; PIECE],
            out: Vec::with_capacity(2 * PIECE),
            key: LessSafeKey::new(key),
            chunk: vec![0; CHUNK_LEN],
        })
    }

    /// One round: the library, then the object, in turn until each had its time.
    pub(super) fn measure(&mut self, span: Duration, row: &mut Row) -> Result<(), Report> {
        let (mut value, mut floor) = (Duration::ZERO, Duration::ZERO);
        let mut bytes = 0;
        while value < span {
            let started = Instant::now();
            self.seal()?;
            floor += started.elapsed();
            let started = Instant::now();
            self.encrypt().map_err(failed)?;
            value += started.elapsed();
            bytes += OBJECT;
        }
        row.add(rate(bytes, value), rate(bytes, floor));
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Report> {
        for _ in 0..OBJECT / PIECE {
            for chunk in self.plaintext.chunks(CHUNK_LEN) {
                self.chunk.copy_from_slice(black_box(chunk));
                let nonce = Nonce::assume_unique_for_key([0; 12]);
                let sealed =
                    self.key
                        .seal_in_place_separate_tag(nonce, Aad::empty(), &mut self.chunk);
                let _ = black_box(sealed.map_err(failed)?);
            }
        }
        Ok(())
    }

    fn encrypt(&mut self) -> Result<(), BodyError> {
        let mut salt = [0; 24];
        rng().fill_bytes(&mut salt);
        self.out.clear();
        let mut encryptor = Encryptor::start(&DEK, &self.context, salt, &mut self.out)?;
        for _ in 0..OBJECT / PIECE {
            self.out.clear();
            encryptor.update(black_box(&self.plaintext), &mut self.out)?;
            black_box(&self.out);
        }
        self.out.clear();
        encryptor.finish(&mut self.out)
    }
}
