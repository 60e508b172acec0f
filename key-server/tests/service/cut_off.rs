//! A store whose commits are cut off: kept, and answered with an error; and what must hold then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use store::{BoxFuture, Entry, Error, KeyRange, Outcome, Page, RedbStore, Revision, Store};
use store::{Snapshot, Transaction, Watch};
use ticket_format::Refusal;
use ticket_format::entry::Kind;
use ticket_format::ids::StatementDigest;

use crate::rig::{place, rig, wanted};

/// What the next commit answers, and whether reading fails since then.
#[derive(Clone, Default)]
pub(crate) struct CutOff {
    next: Arc<Mutex<Option<Error>>>,
    broken: Arc<AtomicBool>,
    /// So many commits are kept still; none after them.
    left: Arc<Mutex<Option<u64>>>,
    meanwhile: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
    after_snapshot: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
}

impl CutOff {
    /// The machine dies after so many commits more; none: it lives on.
    pub(crate) fn die_after(&self, commits: Option<u64>) {
        *self.left.lock().unwrap() = commits;
    }

    /// The next commit is kept and answered with an error; then nothing can be read.
    pub(crate) fn keep_and_break(&self) {
        *self.next.lock().unwrap() = Some(must_reopen());
    }

    /// The store can be read again.
    pub(crate) fn mend(&self) {
        self.broken.store(false, Ordering::SeqCst);
    }

    /// Does this while the next reader waits for the store.
    pub(crate) fn meanwhile(&self, what: impl Future<Output = ()> + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::pin(what));
    }

    /// Does this when the next snapshot is taken, before its taker has it.
    pub(crate) fn after_snapshot(&self, what: impl Future<Output = ()> + Send + 'static) {
        *self.after_snapshot.lock().unwrap() = Some(Box::pin(what));
    }
}

/// The real store, but for that.
pub(crate) struct CutOffStore(pub(crate) RedbStore, pub(crate) CutOff);

fn must_reopen() -> Error {
    let reason = "cut off".into();
    Error::MustReopen { reason }
}

impl Store for CutOffStore {
    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Entry>, Error>> {
        if self.1.broken.load(Ordering::SeqCst) {
            return Box::pin(async { Err(must_reopen()) });
        }
        let (meanwhile, key) = (self.1.meanwhile.lock().unwrap().take(), key.to_vec());
        Box::pin(async move {
            if let Some(meanwhile) = meanwhile {
                meanwhile.await;
            }
            self.0.get(&key).await
        })
    }

    fn range(&self, range: KeyRange, limit: usize) -> BoxFuture<'_, Result<Page, Error>> {
        self.0.range(range, limit)
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, Error>> {
        Box::pin(async move {
            let snapshot = self.0.snapshot().await;
            let what = self.1.after_snapshot.lock().unwrap().take();
            if let Some(what) = what {
                what.await;
            }
            snapshot
        })
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Outcome, Error>> {
        if let Some(left) = &mut *self.1.left.lock().unwrap() {
            let Some(fewer) = left.checked_sub(1) else {
                return Box::pin(async { Err(must_reopen()) });
            };
            *left = fewer;
        }
        Box::pin(async move {
            let outcome = self.0.commit(transaction).await;
            match self.1.next.lock().unwrap().take() {
                None => outcome,
                Some(error) => {
                    let broken = matches!(error, Error::MustReopen { .. });
                    self.1.broken.store(broken, Ordering::SeqCst);
                    Err(error)
                }
            }
        })
    }

    fn watch(&self, prefix: &[u8], after: Revision) -> BoxFuture<'_, Result<Watch, Error>> {
        self.0.watch(prefix, after)
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
        self.0.revision()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_whose_commit_was_cut_off_is_read_back_and_done() {
    // rule: AUD-2
    let rig = rig().await;
    let statement = rig.statement(&wanted("voices"));
    let reason = "cut off".into();
    *rig.world.cut_off.next.lock().unwrap() = Some(Error::OutcomeUnknown { reason });
    let (_, receipt) = rig.send_statement(&statement).await.unwrap();
    assert_eq!(place(&receipt) + 1, rig.entries().len() as u64);
    assert_eq!(rig.service.state.datasets.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_that_may_be_committed_is_never_recorded_as_refused() {
    // rule: AUD-2
    let rig = rig().await;
    let statement = rig.statement(&wanted("voices"));
    let proof = Some(StatementDigest::of(&statement).0);
    *rig.world.cut_off.next.lock().unwrap() = Some(must_reopen());
    let before = rig.entries().len();
    let notice = rig.send_statement(&statement).await.unwrap_err();
    assert_eq!(notice.refusal, Refusal::StoreUnavailable);
    assert!(notice.detail.unwrap().contains("may be"));
    assert_eq!(rig.entries().len(), before, "its entry waits in the outbox");
    // The outbox is drained once the store can be read again, without a restart too.
    rig.world.cut_off.broken.store(false, Ordering::SeqCst);
    rig.service.each_minute().await;
    let entries = rig.entries();
    let of_the_act: Vec<_> = entries
        .iter()
        .filter(|entry| entry.proof == proof)
        .map(|entry| (entry.kind, entry.outcome))
        .collect();
    assert_eq!(of_the_act, [(Kind::Statement, Ok(()))]);
}
