//! A store whose commits are cut off: kept, and answered with an error; and what must hold then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use store::{BoxFuture, Entry, Error, KeyRange, Outcome, Page, RedbStore, Revision, Store};
use store::{Transaction, Watch};
use ticket_format::Refusal;
use ticket_format::entry::Kind;
use ticket_format::ids::StatementDigest;

use crate::rig::{rig, wanted};

/// What the next commit answers, and whether reading fails since then.
#[derive(Clone, Default)]
pub(crate) struct CutOff {
    next: Arc<Mutex<Option<Error>>>,
    broken: Arc<AtomicBool>,
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
        self.0.get(key)
    }

    fn range(&self, range: KeyRange, limit: usize) -> BoxFuture<'_, Result<Page, Error>> {
        self.0.range(range, limit)
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Outcome, Error>> {
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
    assert_eq!(receipt.index + 1, rig.entries().len() as u64);
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
