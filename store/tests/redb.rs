//! The suite over the embedded engine.

use std::sync::Arc;

use store::suite::Place;
use store::{BoxFuture, History, Options, RedbStore, Store};
use tempfile::TempDir;

struct Directory(TempDir);

impl Place for Directory {
    fn open(&self, keep: u64) -> BoxFuture<'_, Arc<dyn Store>> {
        let options = Options {
            history: History {
                revisions: keep,
                ..History::default()
            },
        };
        let store = RedbStore::open(self.0.path().join("store"), options).expect("opens");
        Box::pin(async { Arc::new(store) as Arc<dyn Store> })
    }
}

store::engine_tests!(Directory(TempDir::new().expect("a directory")));
