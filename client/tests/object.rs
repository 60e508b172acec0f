//! The body of an encrypted object: vectors of another implementation, round trips, attacks.

use client::object::{
    BodyError, BodyHeader, CHUNK_LEN, Decryptor, Encryptor, HEADER_LEN, ObjectContext,
    SEALED_CHUNK_LEN, ciphertext_len, plaintext_len,
};
use proptest::prelude::*;

const DEK: [u8; 32] = [7; 32];
const SALT: [u8; 24] = [9; 24];

fn context() -> ObjectContext {
    ObjectContext::new(b"realm, dataset, dek, context".to_vec())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn encrypt_with(dek: &[u8; 32], context: &ObjectContext, salt: [u8; 24], object: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut encryptor = Encryptor::start(dek, context, salt, &mut body).unwrap();
    encryptor.update(object, &mut body).unwrap();
    encryptor.finish(&mut body).unwrap();
    body
}

fn encrypt(object: &[u8]) -> Vec<u8> {
    encrypt_with(&DEK, &context(), SALT, object)
}

/// The object, or the error together with what had been released before it.
fn decrypt_with(
    dek: &[u8; 32],
    context: &ObjectContext,
    body: &[u8],
) -> Result<Vec<u8>, (BodyError, Vec<u8>)> {
    let mut out = Vec::new();
    let mut decryptor = Decryptor::new(dek, context);
    if let Err(error) = decryptor.update(body, &mut out) {
        let again = decryptor.update(b"", &mut out).unwrap_err();
        assert_eq!(again, error, "an error is final");
        return Err((error, out));
    }
    match decryptor.finish(&mut out) {
        Ok(len) => {
            assert_eq!(len, out.len() as u64);
            Ok(out)
        }
        Err(error) => Err((error, out)),
    }
}

fn decrypt(body: &[u8]) -> Result<Vec<u8>, BodyError> {
    decrypt_with(&DEK, &context(), body).map_err(|(error, _)| error)
}

/// Start of chunk `index`.
fn chunk_at(index: usize) -> usize {
    HEADER_LEN + index * SEALED_CHUNK_LEN
}

mod vectors {
    use super::*;
    use serde_json::Value;
    use sha2::{Digest, Sha256};

    fn all() -> Vec<(String, Value)> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/vectors/object");
        let mut vectors = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "json") {
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                let text = std::fs::read(&path).unwrap();
                vectors.push((name, serde_json::from_slice(&text).unwrap()));
            }
        }
        vectors
    }

    fn hex(vector: &Value, field: &str) -> Vec<u8> {
        let text = vector[field].as_str().unwrap();
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    fn key_and_context(vector: &Value) -> ([u8; 32], ObjectContext) {
        (
            hex(vector, "key").try_into().unwrap(),
            ObjectContext::new(hex(vector, "context")),
        )
    }

    /// rule: OBJ-1
    /// rule: OBJ-2
    /// rule: OBJ-3
    /// rule: OBJ-6
    /// rule: OBJ-7
    #[test]
    fn bodies_of_another_implementation_are_reproduced_to_the_byte_and_open() {
        let mut seen = 0;
        for (name, vector) in all()
            .iter()
            .filter(|(name, _)| !name.starts_with("refused-"))
        {
            let (key, context) = key_and_context(vector);
            let len = vector["plaintext_len"].as_u64().unwrap();
            let object = pattern(len as usize);
            let salt = hex(vector, "salt").try_into().unwrap();
            let body = encrypt_with(&key, &context, salt, &object);
            assert_eq!(body[24..56], hex(vector, "commitment")[..], "{name}");
            assert_eq!(
                body.len() as u64,
                vector["body_len"].as_u64().unwrap(),
                "{name}"
            );
            assert_eq!(ciphertext_len(len), Ok(body.len() as u64), "{name}");
            assert_eq!(
                Sha256::digest(&body)[..],
                hex(vector, "body_sha256")[..],
                "{name}"
            );
            if vector.get("body").is_some() {
                assert_eq!(body, hex(vector, "body"), "{name}");
            }
            assert_eq!(
                decrypt_with(&key, &context, &body).unwrap(),
                object,
                "{name}"
            );
            seen += 1;
        }
        assert!(seen >= 7, "only {seen} vectors found");
    }

    /// rule: OBJ-5
    /// rule: OBJ-6
    /// rule: OBJ-7
    #[test]
    fn each_faulty_vector_is_refused_for_its_own_reason() {
        let mut seen = 0;
        for (name, vector) in all()
            .iter()
            .filter(|(name, _)| name.starts_with("refused-"))
        {
            let (key, context) = key_and_context(vector);
            let (error, released) =
                decrypt_with(&key, &context, &hex(vector, "body")).expect_err(name);
            let said = format!("{error:?}");
            let said = said.split([' ', '{']).next().unwrap();
            assert_eq!(said, vector["expect"].as_str().unwrap(), "{name}");
            assert!(error.is_integrity(), "{name}");
            assert!(released.is_empty(), "{name}");
            seen += 1;
        }
        assert!(seen >= 11, "only {seen} vectors found");
    }
}

mod round_trips {
    use super::*;

    /// rule: OBJ-6
    #[test]
    fn objects_of_every_size_around_a_chunk_border_come_back() {
        for chunks in [0, 1, 2, 5] {
            for off in -2_i64..=2 {
                let Ok(len) = usize::try_from(chunks * CHUNK_LEN as i64 + off) else {
                    continue;
                };
                let object = pattern(len);
                let body = encrypt(&object);
                assert_eq!(ciphertext_len(len as u64), Ok(body.len() as u64));
                assert_eq!(plaintext_len(body.len() as u64), Ok(len as u64));
                assert_eq!(decrypt(&body).unwrap(), object, "{len} bytes");
            }
        }
    }

    #[test]
    fn an_empty_object_is_a_header_and_one_tag() {
        let body = encrypt(b"");
        assert_eq!(body.len(), 72);
        assert_eq!(decrypt(&body).unwrap(), b"");
    }

    #[test]
    fn the_header_given_to_a_producer_is_the_header_written() {
        let mut body = Vec::new();
        let encryptor = Encryptor::start(&DEK, &context(), SALT, &mut body).unwrap();
        assert_eq!(BodyHeader::from_bytes(&body), Ok(*encryptor.header()));
        assert_eq!(encryptor.header().to_bytes()[..], body);
        assert_eq!(encryptor.header().salt, SALT);
    }

    /// rule: OBJ-8
    #[test]
    fn a_chunk_is_released_as_soon_as_it_is_complete() {
        let body = encrypt(&pattern(CHUNK_LEN + 1));
        let mut out = Vec::new();
        let mut decryptor = Decryptor::new(&DEK, &context());
        decryptor
            .update(&body[..chunk_at(1) - 1], &mut out)
            .unwrap();
        assert_eq!(out.len(), 0);
        decryptor
            .update(&body[chunk_at(1) - 1..chunk_at(1)], &mut out)
            .unwrap();
        assert_eq!(out.len(), CHUNK_LEN);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_object_cut_into_any_pieces_comes_back(
            object in proptest::collection::vec(any::<u8>(), 0..60_000),
            pieces in proptest::collection::vec(1_usize..40_000, 1..12),
            salt in any::<[u8; 24]>(),
        ) {
            let mut body = Vec::new();
            let mut encryptor = Encryptor::start(&DEK, &context(), salt, &mut body).unwrap();
            let mut rest = &object[..];
            for piece in pieces.iter().cycle() {
                let (head, tail) = rest.split_at((*piece).min(rest.len()));
                encryptor.update(head, &mut body).unwrap();
                rest = tail;
                if rest.is_empty() { break }
            }
            encryptor.finish(&mut body).unwrap();
            prop_assert_eq!(&body, &encrypt_with(&DEK, &context(), salt, &object));

            let mut back = Vec::new();
            let mut decryptor = Decryptor::new(&DEK, &context());
            let mut rest = &body[..];
            for piece in pieces.iter().rev().cycle() {
                let (head, tail) = rest.split_at((*piece).min(rest.len()));
                decryptor.update(head, &mut back).unwrap();
                rest = tail;
                if rest.is_empty() { break }
            }
            decryptor.finish(&mut back).unwrap();
            prop_assert_eq!(back, object);
        }
    }
}

mod attacks {
    use super::*;

    /// rule: OBJ-5
    /// rule: OBJ-7
    #[test]
    fn every_flipped_bit_of_a_small_object_is_refused() {
        let body = encrypt(b"sixteen and more bytes");
        for byte in 0..body.len() {
            for bit in 0..8 {
                let mut altered = body.clone();
                altered[byte] ^= 1 << bit;
                let (error, released) = decrypt_with(&DEK, &context(), &altered).unwrap_err();
                let expected = if byte < HEADER_LEN {
                    BodyError::WrongCommitment
                } else {
                    BodyError::ChunkRefused { index: 0 }
                };
                assert_eq!(error, expected, "byte {byte} bit {bit}");
                assert!(released.is_empty());
            }
        }
    }

    /// rule: OBJ-7
    /// rule: OBJ-8
    #[test]
    fn one_flipped_bit_in_any_chunk_is_refused_and_only_earlier_chunks_are_released() {
        let object = pattern(3 * CHUNK_LEN + 10);
        let body = encrypt(&object);
        for index in 0..4 {
            for place in [0, 9] {
                let mut altered = body.clone();
                altered[chunk_at(index) + place] ^= 1;
                let (error, released) = decrypt_with(&DEK, &context(), &altered).unwrap_err();
                assert_eq!(
                    error,
                    BodyError::ChunkRefused {
                        index: index as u64
                    }
                );
                assert_eq!(released, object[..index * CHUNK_LEN]);
            }
        }
    }

    /// rule: OBJ-6
    #[test]
    fn every_truncation_of_a_small_object_is_refused() {
        let body = encrypt(b"sixteen and more bytes");
        for len in 0..body.len() {
            let error = decrypt(&body[..len]).unwrap_err();
            assert!(error.is_integrity(), "{len} bytes: {error}");
        }
    }

    /// rule: OBJ-6
    #[test]
    fn truncation_at_and_around_each_chunk_border_is_refused() {
        let body = encrypt(&pattern(3 * CHUNK_LEN));
        for index in 0..=3 {
            for off in -17_i64..=16 {
                let len = (chunk_at(index) as i64 + off) as usize;
                if len < body.len() {
                    assert!(decrypt(&body[..len]).is_err(), "{len} bytes");
                }
            }
            let at_border = decrypt(&body[..chunk_at(index)]);
            assert_eq!(
                at_border,
                Err(BodyError::Truncated {
                    have: chunk_at(index) as u64
                })
            );
        }
    }

    #[test]
    fn every_extension_is_refused() {
        for len in [0, 5, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1] {
            let body = encrypt(&pattern(len));
            for extra in [1, 15, 16, 17, SEALED_CHUNK_LEN] {
                let mut longer = body.clone();
                longer.resize(body.len() + extra, 0);
                assert!(decrypt(&longer).is_err(), "{len} bytes and {extra} more");
            }
        }
    }

    #[test]
    fn a_body_followed_by_its_own_last_chunk_or_by_itself_is_refused() {
        let body = encrypt(&pattern(CHUNK_LEN + 5));
        let tail = &body[chunk_at(1)..];
        assert!(decrypt(&[&body, tail].concat()).is_err());
        assert!(decrypt(&[&body[..], &body[..]].concat()).is_err());
    }

    /// rule: OBJ-7
    #[test]
    fn reordered_doubled_and_missing_chunks_are_refused() {
        let body = encrypt(&pattern(3 * CHUNK_LEN + 5));
        let (head, [a, b, c, tail]) = (
            &body[..HEADER_LEN],
            [0, 1, 2, 3].map(|i| &body[chunk_at(i)..body.len().min(chunk_at(i + 1))]),
        );
        let refused = |parts: &[&[u8]], index| {
            let altered = parts.concat();
            assert_eq!(decrypt(&altered), Err(BodyError::ChunkRefused { index }));
        };
        refused(&[head, b, a, c, tail], 0);
        refused(&[head, a, c, b, tail], 1);
        refused(&[head, a, a, b, c, tail], 1);
        refused(&[head, a, b, tail], 2);
        refused(&[head, tail], 0);
        assert!(decrypt(&[head, a, b, c, tail].concat()).is_ok());
    }

    /// rule: OBJ-3
    /// rule: OBJ-7
    #[test]
    fn a_chunk_of_another_object_is_refused_even_under_the_same_data_key() {
        let mine = encrypt(&pattern(2 * CHUNK_LEN));
        let other_salt = encrypt_with(&DEK, &context(), [8; 24], &pattern(2 * CHUNK_LEN));
        let mut mixed = mine.clone();
        mixed[chunk_at(1)..chunk_at(2)].copy_from_slice(&other_salt[chunk_at(1)..chunk_at(2)]);
        assert_eq!(decrypt(&mixed), Err(BodyError::ChunkRefused { index: 1 }));
    }

    /// rule: OBJ-5
    #[test]
    fn cve_2020_8912_a_swapped_header_is_refused() {
        let mine = encrypt(b"mine");
        // Same key, another salt: the header is genuine, but for other chunks.
        let sibling = encrypt_with(&DEK, &context(), [8; 24], b"mine");
        let swapped = [&sibling[..HEADER_LEN], &mine[HEADER_LEN..]].concat();
        assert_eq!(decrypt(&swapped), Err(BodyError::ChunkRefused { index: 0 }));
        // Another key: the commitment tells.
        let foreign = encrypt_with(&[1; 32], &context(), SALT, b"mine");
        let swapped = [&foreign[..HEADER_LEN], &mine[HEADER_LEN..]].concat();
        assert_eq!(decrypt(&swapped), Err(BodyError::WrongCommitment));
        // Salt and commitment from two headers.
        let mixed = [&mine[..24], &sibling[24..56], &mine[56..]].concat();
        assert_eq!(decrypt(&mixed), Err(BodyError::WrongCommitment));
    }

    /// rule: OBJ-4
    #[test]
    fn cve_2025_14764_a_body_under_another_context_or_data_key_is_refused_by_the_commitment() {
        let body = encrypt(b"mine");
        for other in [
            &b""[..],
            b"realm, dataset, dek, contexu",
            b"realm, dataset, dek, context\0",
        ] {
            let other = ObjectContext::new(other.to_vec());
            let (error, _) = decrypt_with(&DEK, &other, &body).unwrap_err();
            assert_eq!(error, BodyError::WrongCommitment);
        }
        for byte in 0..32 {
            let mut dek = DEK;
            dek[byte] ^= 0x80;
            let (error, _) = decrypt_with(&dek, &context(), &body).unwrap_err();
            assert_eq!(error, BodyError::WrongCommitment);
        }
    }

    /// AES-GCM alone does not commit to its key: a body can be crafted whose chunk opens under two
    /// keys. Such a body names one commitment, so whatever its chunk does, one key is refused
    /// before the first chunk is looked at. The chunk here is the genuine one of the second key.
    ///
    /// rule: OBJ-5
    #[test]
    fn an_object_made_to_open_under_two_keys_opens_under_one() {
        let second = [2; 32];
        let under_second = encrypt_with(&second, &context(), SALT, b"second meaning");
        let mut crafted = under_second.clone();
        crafted[24..56].copy_from_slice(&encrypt(b"")[24..56]);
        // The chunk is good under the second key, yet the commitment names the first.
        let (error, released) = decrypt_with(&second, &context(), &crafted).unwrap_err();
        assert_eq!(error, BodyError::WrongCommitment);
        assert!(released.is_empty());
        assert!(decrypt(&crafted).is_err());
    }
}
