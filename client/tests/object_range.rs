//! Range reads of an encrypted object: what is fetched, what comes back, what is refused.

use std::ops::Range;

use client::object::{
    BodyError, CHUNK_LEN, Encryptor, HEADER_LEN, ObjectContext, RangePlan, SEALED_CHUNK_LEN,
};
use proptest::prelude::*;

const DEK: [u8; 32] = [7; 32];

fn context() -> ObjectContext {
    ObjectContext::new(b"context".to_vec())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn encrypt(object: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut encryptor = Encryptor::start(&DEK, &context(), [3; 24], &mut body).unwrap();
    encryptor.update(object, &mut body).unwrap();
    encryptor.finish(&mut body).unwrap();
    body
}

fn slice(body: &[u8], range: Range<u64>) -> &[u8] {
    &body[range.start as usize..range.end as usize]
}

fn read(body: &[u8], plan: &RangePlan, piece: usize) -> Result<Vec<u8>, BodyError> {
    let header = slice(body, plan.header());
    let mut out = Vec::new();
    let mut decryptor = plan.open(&DEK, &context(), header, slice(body, plan.tail()))?;
    for piece in slice(body, plan.chunks()).chunks(piece) {
        decryptor.update(piece, &mut out)?;
    }
    decryptor.finish(&mut out)?;
    Ok(out)
}

/// rule: OBJ-9
#[test]
fn ranges_with_ends_at_every_border_come_back() {
    for len in [
        0,
        1,
        CHUNK_LEN - 1,
        CHUNK_LEN,
        CHUNK_LEN + 1,
        3 * CHUNK_LEN,
        3 * CHUNK_LEN + 77,
    ] {
        let object = pattern(len);
        let body = encrypt(&object);
        let ends: Vec<usize> = (0..=4)
            .flat_map(|c| [-1_i64, 0, 1].map(|o| c * CHUNK_LEN as i64 + o))
            .chain([len as i64 - 1, len as i64])
            .filter_map(|e| usize::try_from(e).ok().filter(|e| *e <= len))
            .collect();
        for &start in &ends {
            for &end in ends.iter().filter(|end| **end >= start) {
                let plan = RangePlan::new(body.len() as u64, start as u64..end as u64).unwrap();
                assert_eq!(plan.plaintext_len(), len as u64);
                let got = read(&body, &plan, 5000).unwrap();
                assert_eq!(got, object[start..end], "{start}..{end} of {len}");
            }
        }
    }
}

#[test]
fn a_plan_fetches_no_more_than_the_chunks_touched_beside_header_and_tail() {
    let body = encrypt(&pattern(10 * CHUNK_LEN + 3));
    let chunk = CHUNK_LEN as u64;
    let plan = RangePlan::new(body.len() as u64, 2 * chunk..3 * chunk).unwrap();
    assert_eq!(plan.header(), 0..HEADER_LEN as u64);
    let sealed = SEALED_CHUNK_LEN as u64;
    assert_eq!(plan.chunks(), 56 + 2 * sealed..56 + 3 * sealed);
    assert_eq!(plan.tail(), 56 + 10 * sealed..body.len() as u64);
    let none = RangePlan::new(body.len() as u64, 10 * chunk..10 * chunk + 3).unwrap();
    assert!(none.chunks().is_empty());
    let empty = RangePlan::new(body.len() as u64, 5..5).unwrap();
    assert!(empty.chunks().is_empty());
}

#[test]
fn a_range_outside_the_object_is_refused_before_anything_is_fetched() {
    let body = encrypt(&pattern(100));
    let len = body.len() as u64;
    for (start, end) in [
        (0, 101),
        (101, 101),
        (u64::MAX, u64::MAX),
        (0, u64::MAX),
        (7, 3),
    ] {
        let refused = BodyError::RangeOutside {
            start,
            end,
            len: 100,
        };
        assert!(!refused.is_integrity());
        assert_eq!(RangePlan::new(len, start..end), Err(refused));
    }
    assert_eq!(RangePlan::whole(56), Err(BodyError::Truncated { have: 56 }));
    assert_eq!(
        RangePlan::whole(3),
        Err(BodyError::HeaderTruncated { have: 3 })
    );
}

/// A store that has cut the object, or shows another length, cannot pass the tail off.
///
/// rule: OBJ-9
#[test]
fn a_false_length_is_refused_before_a_byte_is_released() {
    let object = pattern(5 * CHUNK_LEN + 100);
    let body = encrypt(&object);
    for cut in [
        1,
        50,
        101,
        116,
        117,
        SEALED_CHUNK_LEN,
        2 * SEALED_CHUNK_LEN + 10,
    ] {
        let shorter = &body[..body.len() - cut];
        let Ok(plan) = RangePlan::new(shorter.len() as u64, 0..10) else {
            continue;
        };
        let error = read(shorter, &plan, 5000).unwrap_err();
        assert!(
            matches!(error, BodyError::ChunkRefused { .. }),
            "{cut} bytes cut: {error}"
        );
    }
    let mut longer = body.clone();
    longer.extend_from_slice(&[0; 20]);
    let plan = RangePlan::new(longer.len() as u64, 0..10).unwrap();
    assert_eq!(
        read(&longer, &plan, 5000),
        Err(BodyError::ChunkRefused { index: 5 })
    );
}

#[test]
fn an_altered_header_tail_or_chunk_of_a_range_is_refused() {
    let body = encrypt(&pattern(3 * CHUNK_LEN + 100));
    let plan = RangePlan::new(body.len() as u64, 20_000..40_000).unwrap();
    let at = |place: usize| {
        let mut altered = body.clone();
        altered[place] ^= 4;
        read(&altered, &plan, 100_000)
    };
    assert_eq!(at(0), Err(BodyError::WrongCommitment));
    assert_eq!(at(55), Err(BodyError::WrongCommitment));
    assert_eq!(
        at(body.len() - 1),
        Err(BodyError::ChunkRefused { index: 3 })
    );
    assert_eq!(
        at(plan.chunks().start as usize),
        Err(BodyError::ChunkRefused { index: 1 })
    );
    assert_eq!(
        at(plan.chunks().end as usize - 1),
        Err(BodyError::ChunkRefused { index: 2 })
    );
    // Chunk 0 is not part of this range, so nothing is said about it.
    assert!(at(HEADER_LEN).is_ok());
}

#[test]
fn chunks_of_the_wrong_place_are_refused_in_a_range() {
    let body = encrypt(&pattern(3 * CHUNK_LEN + 100));
    let plan = RangePlan::new(body.len() as u64, 0..10).unwrap();
    let other = RangePlan::new(body.len() as u64, 20_000..20_010).unwrap();
    let header = slice(&body, plan.header());
    let mut decryptor = plan
        .open(&DEK, &context(), header, slice(&body, plan.tail()))
        .unwrap();
    let mut out = Vec::new();
    let error = decryptor
        .update(slice(&body, other.chunks()), &mut out)
        .unwrap_err();
    assert_eq!(error, BodyError::ChunkRefused { index: 0 });
    assert!(out.is_empty());
    assert_eq!(
        decryptor.update(slice(&body, plan.chunks()), &mut out),
        Err(error.clone())
    );
    assert_eq!(decryptor.finish(&mut out), Err(error));
}

#[test]
fn too_few_and_too_many_bytes_for_a_range_are_refused() {
    let body = encrypt(&pattern(3 * CHUNK_LEN + 100));
    let plan = RangePlan::new(body.len() as u64, 0..10).unwrap();
    let (header, tail) = (slice(&body, plan.header()), slice(&body, plan.tail()));
    let want = SEALED_CHUNK_LEN as u64;
    let mut out = Vec::new();
    let mut short = plan.open(&DEK, &context(), header, tail).unwrap();
    short
        .update(&slice(&body, plan.chunks())[1..], &mut out)
        .unwrap();
    let refused = short.finish(&mut out);
    assert_eq!(
        refused,
        Err(BodyError::RangeLength {
            want,
            have: want - 1
        })
    );
    let mut long = plan.open(&DEK, &context(), header, tail).unwrap();
    let chunks = plan.chunks();
    let refused = long.update(slice(&body, chunks.start..chunks.end + 1), &mut out);
    assert_eq!(
        refused,
        Err(BodyError::RangeLength {
            want,
            have: want + 1
        })
    );
    assert!(out.is_empty());
    let cut = plan.open(&DEK, &context(), header, &tail[1..]).unwrap_err();
    assert!(matches!(
        cut,
        BodyError::RangeLength {
            want: 116,
            have: 115
        }
    ));
    let cut = plan.open(&DEK, &context(), &header[1..], tail).unwrap_err();
    assert!(matches!(cut, BodyError::RangeLength { want: 56, have: 55 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_range_of_any_object_in_any_pieces_comes_back(
        len in 0_usize..80_000, a in 0_usize..80_001, b in 0_usize..80_001,
        piece in 1_usize..50_000,
    ) {
        let (a, b) = (a.min(len), b.min(len));
        let (start, end) = (a.min(b), a.max(b));
        let object = pattern(len);
        let body = encrypt(&object);
        let plan = RangePlan::new(body.len() as u64, start as u64..end as u64).unwrap();
        prop_assert_eq!(read(&body, &plan, piece).unwrap(), &object[start..end]);
    }
}
