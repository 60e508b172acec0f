//! The test suite of the contract: every engine runs it, by [`engine_tests!`](crate::engine_tests).
//!
//! Functions panic when the engine breaks the contract.

mod commits;
mod model;
mod reads;
mod watches;

use std::sync::Arc;

use crate::{BoxFuture, Outcome, Revision, Store, Transaction};

pub use commits::*;
pub use model::follows_the_model;
pub use reads::*;
pub use watches::*;

/// Where the suite finds an engine: one store's data, empty at first.
pub trait Place: Send + Sync {
    /// Opens the store with a history of the last `keep` commits. Called again after
    /// [`Store::close`], it gives the same data.
    fn open(&self, keep: u64) -> BoxFuture<'_, Arc<dyn Store>>;
}

/// History long enough that nothing in a test is compacted.
pub const LONG: u64 = 10_000;

/// Commits and demands success.
pub(crate) async fn commit(store: &Arc<dyn Store>, transaction: Transaction) -> Revision {
    match store.commit(transaction).await {
        Ok(Outcome::Committed(revision)) => revision,
        other => panic!("a commit that must succeed gave {other:?}"),
    }
}

/// Puts one value and demands success.
pub(crate) async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> Revision {
    commit(store, Transaction::new().put(key, value)).await
}

/// Makes one `#[tokio::test]` of each function of the suite. Takes an expression that makes a fresh
/// [`Place`](crate::suite::Place).
#[macro_export]
macro_rules! engine_tests {
    ($place:expr) => {
        $crate::engine_tests!(@ $place;
            an_empty_store_is_at_revision_zero
            a_put_is_read_back_with_its_revision
            a_range_is_ordered_bounded_and_pages_to_the_end
            a_page_ends_early_when_it_holds_many_bytes
            bounds_are_refused_before_anything_is_tried
            the_largest_transaction_that_is_allowed_commits
            each_compare_holds_exactly_when_it_should
            a_conflict_names_the_first_key_and_writes_nothing
            one_of_a_hundred_parallel_claims_succeeds
            a_hundred_parallel_increments_lose_none
            a_commit_that_changes_nothing_keeps_the_revision
            reopening_keeps_everything
            a_closed_store_says_so
            closing_under_load_serves_or_refuses_each
            a_watch_gives_commits_whole_and_in_order
            a_watch_from_the_past_misses_nothing
            a_watch_survives_reopening
            a_watch_of_compacted_history_says_resync
            a_watch_after_a_revision_not_reached_is_refused
            a_dropped_wait_loses_no_event
            closing_ends_the_watches
            a_page_and_a_watch_after_it_leave_no_gap
            a_snapshot_stays_as_it_was_while_others_commit
            a_snapshot_after_the_end_is_refused
        );
        #[test]
        fn follows_the_model() {
            $crate::suite::follows_the_model(|| $place);
        }
    };
    (@ $place:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let place = $place;
                $crate::suite::$name(&place).await;
            }
        )*
    };
}
