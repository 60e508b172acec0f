//! The side file: AUD-5.

use std::os::unix::fs::MetadataExt;

use super::*;

fn record(n: u32) -> (SideHash, Vec<u8>) {
    let mut hash = [7; 32];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    // [hash, null, {"name": n}]
    let mut record = vec![0x83, 0x58, 0x20];
    record.extend_from_slice(&hash);
    record.extend_from_slice(&[0xf6, 0xa1, 0x64]);
    record.extend_from_slice(b"name");
    let name = format!("{n:020}");
    record.push(0x60 + u8::try_from(name.len()).unwrap());
    record.extend_from_slice(name.as_bytes());
    (hash, record)
}

/// Length of a record's frame.
fn framed(record: &[u8]) -> usize {
    let mut bytes = Vec::new();
    frame::put(&mut bytes, record);
    bytes.len()
}

const LONG: Duration = Duration::from_secs(60);

fn open(path: &Path) -> (SideFile, Option<SideLoss>) {
    SideFile::open(path, &SideOptions::default()).unwrap()
}

#[tokio::test]
async fn a_record_is_found_by_its_hash_stands_once_and_outlives_a_restart() {
    // rule: AUD-5
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("side");
    let (side, loss) = open(&path);
    assert_eq!(loss, None);
    let records: Vec<_> = (0..100).map(record).collect();
    assert!(side.put_all(records.clone()).wait(LONG).await);
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(side.put_all(records.clone()).wait(LONG).await);
    let twice = vec![record(7), record(7)];
    assert!(side.put_all(twice).wait(LONG).await);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    side.close().await;
    let (side, loss) = open(&path);
    assert_eq!((loss, side.lost()), (None, 0));
    for (hash, record) in &records {
        assert_eq!(side.get(hash).unwrap().as_ref(), Some(record));
    }
    assert_eq!(side.get(&[9; 32]).unwrap(), None);
    assert_eq!(side.missing([&records[3].0, &[9; 32]]), [[9; 32]]);
    assert!(matches!(
        SideFile::open(&path, &SideOptions::default()),
        Err(OpenError::InUse { .. })
    ));
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_what_stands_before_it_is_kept() {
    // rule: AUD-5
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("side");
    let (side, _) = open(&path);
    side.put_all((0..3).map(record).collect()).wait(LONG).await;
    side.close().await;
    drop(side);
    let whole = std::fs::read(&path).unwrap();
    let third = whole.len() - (framed(&record(2).1));
    for cut in third + 1..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let (side, loss) = open(&path);
        let torn = (cut - third) as u64;
        assert_eq!(loss, Some(SideLoss { torn, damaged: 0 }));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), third as u64);
        assert!(side.get(&record(1).0).unwrap().is_some());
        assert_eq!(side.get(&record(2).0).unwrap(), None);
        side.close().await;
    }
    // A tail of zeros, as a power failure leaves it; and it goes on from there.
    let mut zeros = whole[..third].to_vec();
    zeros.resize(third + 5_000, 0);
    std::fs::write(&path, &zeros).unwrap();
    let (side, loss) = open(&path);
    assert_eq!(loss.map(|loss| loss.torn), Some(5_000));
    let (hash, bytes) = record(2);
    assert!(side.put(hash, bytes).wait(LONG).await);
    side.close().await;
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[tokio::test]
async fn damage_between_records_costs_those_and_no_others() {
    // rule: AUD-5
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("side");
    let (side, _) = open(&path);
    side.put_all((0..3).map(record).collect()).wait(LONG).await;
    side.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let frame = framed(&record(0).1);
    let place = HEADER.len() + frame + frame - 2;
    bytes[place] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (side, loss) = open(&path);
    let damaged = frame as u64;
    assert_eq!(loss, Some(SideLoss { torn: 0, damaged }));
    let found = side
        .get_all(&[record(0).0, record(1).0, record(2).0])
        .unwrap();
    assert_eq!(found.len(), 2);
    assert!(!found.contains_key(&record(1).0));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes.len() as u64);
}

#[tokio::test]
async fn the_index_is_bounded_and_what_it_forgot_is_found_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("side");
    let options = SideOptions { indexed: 8 };
    let check = |side: &SideFile| {
        {
            let index = side.shared.index();
            assert!(index.young.len() + index.old.len() <= 8);
        }
        let hashes: Vec<_> = (0..40_u32).map(|n| record(n * 50).0).collect();
        assert_eq!(side.get_all(&hashes).unwrap().len(), 40);
    };
    let (side, _) = SideFile::open(&path, &options).unwrap();
    for chunk in 0..20_u32 {
        let records = (chunk * 100..chunk * 100 + 100).map(record).collect();
        side.put_all(records).wait(LONG).await;
    }
    check(&side);
    side.close().await;
    let (side, _) = SideFile::open(&path, &options).unwrap();
    check(&side);
}

#[tokio::test]
async fn a_record_that_is_none_is_lost_and_counted_and_holds_up_nothing() {
    // rule: AUD-5
    let dir = tempfile::tempdir().unwrap();
    let (side, _) = open(&dir.path().join("side"));
    let (hash, _) = record(1);
    assert!(
        !side.put(hash, record(2).1).wait(LONG).await,
        "of another hash"
    );
    let mut long = record(1).1;
    long.resize(MAX_SIDE_RECORD + 1, 0);
    assert!(!side.put(hash, long).wait(LONG).await);
    assert_eq!(side.lost(), 2);
    side.close().await;
    let (hash, bytes) = record(3);
    assert!(!side.put(hash, bytes).wait(LONG).await, "it is closed");
    assert_eq!(side.lost(), 3);
}

#[test]
fn a_frame_holds_any_record_in_its_shortest_form() {
    // rule: ENC-1
    for length in [35, 36, 255, 256, 5_000, MAX_SIDE_RECORD] {
        let mut record = record(1).1;
        record.resize(length, 0);
        let mut bytes = Vec::new();
        frame::put(&mut bytes, &record);
        assert_eq!(frame::parse(&bytes), Some((record.as_slice(), bytes.len())));
        assert_eq!(bytes[10], if length < 256 { 0x58 } else { 0x59 });
        assert_eq!(frame::parse(&bytes[..bytes.len() - 1]), None);
    }
}

#[test]
fn another_file_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("side");
    std::fs::write(&path, b"something else entirely").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = SideFile::open(&path, &SideOptions::default());
    assert!(matches!(refused, Err(OpenError::NotALog { .. })));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = SideFile::open(&path, &SideOptions::default());
    assert!(matches!(refused, Err(OpenError::NotPrivate { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"something else entirely");
}
