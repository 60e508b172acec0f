//! Speed of the object body beside raw AES-256-GCM of the same library, in the same run.
//!
//! ```text
//! cargo run --release -p postern-client --example object_speed [MIB]
//! ```
#![allow(
    clippy::print_stdout,
    reason = "an example that prints its measurements"
)]

use std::time::Instant;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use client::object::{Decryptor, Encryptor, ObjectContext};

const BUFFER: usize = 1 << 20;

/// The best of five runs, in MB/s.
fn best(bytes: usize, mut run: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    bytes as f64 / best / 1e6
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mib: usize = std::env::args().nth(1).map_or(Ok(256), |arg| arg.parse())?;
    let bytes = mib << 20;
    let context = ObjectContext::new(b"speed".to_vec());
    let dek = [7; 32];
    let plain = vec![0x5a_u8; BUFFER];

    let raw_key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &dek).map_err(|_| "key")?);
    let mut chunk = vec![0x5a_u8; 16 * 1024];
    let raw = best(bytes, || {
        for number in 0..bytes / chunk.len() {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&number.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let _ = raw_key
                .seal_in_place_separate_tag(nonce, Aad::empty(), &mut chunk)
                .unwrap();
        }
    });

    let mut out = Vec::with_capacity(BUFFER + BUFFER / 512);
    let encrypt = best(bytes, || {
        out.clear();
        let mut encryptor = Encryptor::start(&dek, &context, [1; 24], &mut out).unwrap();
        for _ in 0..bytes / BUFFER {
            out.clear();
            encryptor.update(&plain, &mut out).unwrap();
        }
        encryptor.finish(&mut out).unwrap();
    });

    let mut body = Vec::new();
    let mut encryptor = Encryptor::start(&dek, &context, [1; 24], &mut body)?;
    for _ in 0..mib {
        encryptor.update(&plain, &mut body)?;
    }
    encryptor.finish(&mut body)?;
    let decrypt = best(bytes, || {
        let mut decryptor = Decryptor::new(&dek, &context);
        for piece in body.chunks(BUFFER) {
            out.clear();
            decryptor.update(piece, &mut out).unwrap();
        }
        out.clear();
        assert_eq!(decryptor.finish(&mut out).unwrap(), bytes as u64);
    });

    println!("raw AES-256-GCM, 16 KiB in place  {raw:8.0} MB/s");
    println!(
        "encrypt                           {encrypt:8.0} MB/s  ratio {:.2}",
        encrypt / raw
    );
    println!(
        "decrypt                           {decrypt:8.0} MB/s  ratio {:.2}",
        decrypt / raw
    );
    Ok(())
}
