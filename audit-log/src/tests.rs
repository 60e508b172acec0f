//! The writer on a disk that fails.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

use rustix::io::Errno;
use tempfile::TempDir;

use crate::file::{self, LogFile};
use crate::{AppendError, AuditLog, Options, verify};

/// Errors (errno) that the disk gives from now on; 0 for none.
#[derive(Default)]
struct Faults {
    /// Half the bytes are written first, as a full disk does.
    write: AtomicI32,
    /// As `write`, but only for pieces as short as a seal.
    write_short: AtomicI32,
    sync: AtomicI32,
    set_len: AtomicI32,
    /// Whether a sync ever followed a set_len.
    cut_synced: AtomicBool,
}

fn raise(errno: &AtomicI32) -> io::Result<()> {
    match errno.load(SeqCst) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

struct Failing {
    file: Arc<File>,
    faults: Arc<Faults>,
}

impl LogFile for Failing {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut result = raise(&self.faults.write);
        if bytes.len() < 60 {
            result = result.and_then(|()| raise(&self.faults.write_short));
        }
        if result.is_err() {
            LogFile::write_all_at(&self.file, &bytes[..bytes.len() / 2], offset)?;
        }
        result?;
        LogFile::write_all_at(&self.file, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        raise(&self.faults.sync)?;
        self.faults.cut_synced.store(true, SeqCst);
        LogFile::sync_data(&self.file)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        raise(&self.faults.set_len)?;
        self.faults.cut_synced.store(false, SeqCst);
        LogFile::set_len(&self.file, length)
    }
}

struct Bench {
    directory: TempDir,
    faults: Arc<Faults>,
    log: AuditLog,
}

impl Bench {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("log");
        let file = Arc::new(file::open(&path).expect("opens"));
        let faults = Arc::new(Faults::default());
        let failing = Box::new(Failing {
            file: Arc::clone(&file),
            faults: Arc::clone(&faults),
        });
        let (log, torn) =
            AuditLog::start(&path, &Options::default(), file, failing).expect("starts");
        assert_eq!(torn, None);
        Self {
            directory,
            faults,
            log,
        }
    }

    fn entries(&self) -> Vec<Vec<u8>> {
        self.log
            .read(0)
            .map(|record| record.expect("reads").entry)
            .collect()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("log")).expect("reads")
    }
}

fn entry(n: u8) -> Vec<u8> {
    vec![n; 100]
}

#[tokio::test]
async fn a_full_disk_refuses_the_entry_keeps_nothing_of_it_and_recovers_with_room() {
    let bench = Bench::new();
    bench.log.append(entry(0)).await.expect("appends");
    // Closing of the batch is a write of its own; wait for it by another append.
    bench.log.append(entry(1)).await.expect("appends");
    bench
        .faults
        .write
        .store(Errno::NOSPC.raw_os_error(), SeqCst);
    let error = bench
        .log
        .append_once([7; 16], entry(2))
        .await
        .expect_err("is refused");
    assert!(
        matches!(&error, AppendError::NotWritten { reason } if reason.contains("No space left")),
        "{error}"
    );
    assert!(
        bench.faults.cut_synced.load(SeqCst),
        "the cut is durable before the answer"
    );
    let path = bench.directory.path().join("log");
    let summary = verify(&path).expect("verifies");
    assert_eq!((summary.entries, summary.torn), (2, None));

    bench.faults.write.store(0, SeqCst);
    // The act that failed is not taken for recorded.
    let appended = bench
        .log
        .append_once([7; 16], entry(2))
        .await
        .expect("appends");
    assert_eq!((appended.index, appended.repeated), (2, false));
    assert_eq!(bench.entries(), [entry(0), entry(1), entry(2)]);
    bench.log.close().await;
    assert_eq!(verify(&path).expect("verifies").sealed, 3);
}

#[tokio::test]
async fn a_seal_that_does_not_fit_costs_no_entry() {
    let bench = Bench::new();
    bench
        .faults
        .write_short
        .store(Errno::NOSPC.raw_os_error(), SeqCst);
    for n in 0..3 {
        bench.log.append(entry(n)).await.expect("appends");
    }
    assert_eq!(bench.entries(), [entry(0), entry(1), entry(2)]);
    bench.log.close().await;
    let summary = verify(bench.directory.path().join("log")).expect("verifies");
    assert_eq!(
        (summary.entries, summary.sealed, summary.torn),
        (3, 0, None)
    );
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_accepted_until_reopened() {
    let bench = Bench::new();
    bench.log.append(entry(0)).await.expect("appends");
    bench.faults.sync.store(Errno::IO.raw_os_error(), SeqCst);
    let error = bench
        .log
        .append_once([1; 16], entry(1))
        .await
        .expect_err("is refused");
    assert!(
        matches!(&error, AppendError::MustReopen { reason } if reason.contains("Input/output error")),
        "{error}"
    );
    bench.faults.sync.store(0, SeqCst);
    let error = bench.log.append(entry(2)).await.expect_err("is refused");
    assert!(matches!(error, AppendError::MustReopen { .. }), "{error}");
    assert_eq!(bench.entries(), [entry(0)]);
    let path = bench.directory.path().join("log");
    bench.log.close().await;
    drop(bench.log);
    let (log, torn) = AuditLog::open(&path, &Options::default()).expect("opens");
    assert_eq!(torn, None);
    assert_eq!(
        log.append_once([1; 16], entry(1))
            .await
            .expect("appends")
            .index,
        1
    );
    log.close().await;
}

#[tokio::test]
async fn a_disk_that_can_neither_write_nor_cut_is_given_up() {
    let bench = Bench::new();
    bench.log.append(entry(0)).await.expect("appends");
    bench.faults.set_len.store(Errno::IO.raw_os_error(), SeqCst);
    bench
        .faults
        .write
        .store(Errno::NOSPC.raw_os_error(), SeqCst);
    for _ in 0..2 {
        let error = bench.log.append(entry(1)).await.expect_err("is refused");
        assert!(matches!(error, AppendError::MustReopen { .. }), "{error}");
    }
    bench.log.close().await;
    // What is left of the refused entry goes at the next start.
    let before = bench.bytes().len();
    let path = bench.directory.path().join("log");
    drop(bench.log);
    let (log, torn) = AuditLog::open(&path, &Options::default()).expect("opens");
    let torn = torn.expect("is torn");
    assert_eq!((torn.entries, torn.offset + torn.bytes), (1, before as u64));
    log.close().await;
}
