//! The imports that are open: which there are, for how long, and how often they were tried (IMP-1).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ticket_format::ids::{DatasetId, ImportId};
use ticket_format::time::Timestamp;

use tokio::sync::OwnedMutexGuard;

use crate::vault::import::ImportKeys;

/// Most imports that are open at one time.
pub const IMPORTS: usize = 16;
/// After so many wraps that do not open an import is over: nobody learns of its keys by trying.
pub const FAILURES: u8 = 3;

struct Open {
    keys: Arc<ImportKeys>,
    failures: u8,
}

/// The imports that are open, one of a dataset.
#[derive(Default)]
pub struct Imports {
    open: Mutex<HashMap<DatasetId, Open>>,
    making: Arc<tokio::sync::Mutex<()>>,
}

/// Whose turn it is to begin an import, until it is committed or given up.
#[derive(Debug)]
pub struct Turn {
    _held: OwnedMutexGuard<()>,
}

impl Imports {
    /// The turn to begin one, if nobody else has it.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        let held = Arc::clone(&self.making).try_lock_owned().ok()?;
        Some(Turn { _held: held })
    }

    /// Whether there is room for one of this dataset; those that are over are forgotten.
    #[must_use]
    pub fn have_room(&self, dataset: DatasetId, now: Timestamp) -> bool {
        // rule: IMP-1
        let mut open = self.lock();
        open.retain(|_, open| !open.keys.over(now));
        open.contains_key(&dataset) || open.len() < IMPORTS
    }

    /// Takes these in place of those that the dataset had.
    pub fn put(&self, keys: Arc<ImportKeys>) {
        // rule: IMP-1
        let fresh = Open {
            failures: 0,
            keys: Arc::clone(&keys),
        };
        self.lock().insert(keys.dataset(), fresh);
    }

    /// The keys of this import of this dataset, if it is open.
    #[must_use]
    pub fn find(
        &self,
        dataset: DatasetId,
        import: ImportId,
        now: Timestamp,
    ) -> Option<Arc<ImportKeys>> {
        // rule: IMP-1
        let open = self.lock();
        let keys = &open.get(&dataset)?.keys;
        (keys.id() == import && !keys.over(now)).then(|| Arc::clone(keys))
    }

    /// A wrap did not open: too many of these end the import.
    pub fn failed(&self, keys: &ImportKeys) {
        // rule: IMP-1
        let mut all = self.lock();
        if let Some(open) = all
            .get_mut(&keys.dataset())
            .filter(|open| open.keys.id() == keys.id())
        {
            open.failures += 1;
            if open.failures >= FAILURES {
                all.remove(&keys.dataset());
            }
        }
    }

    /// A wrap opened: the import is used.
    pub fn spent(&self, keys: &ImportKeys) {
        // rule: IMP-1
        let mut all = self.lock();
        if all
            .get(&keys.dataset())
            .is_some_and(|open| open.keys.id() == keys.id())
        {
            all.remove(&keys.dataset());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DatasetId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Imports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Imports({})", self.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: DatasetId = DatasetId([1; 16]);

    #[test]
    fn an_import_is_found_until_it_is_used_replaced_tried_too_often_or_over() {
        // rule: IMP-1
        let now = Timestamp::default();
        let keys = |dataset| Arc::new(ImportKeys::cheap(dataset, now.plus(9)));
        let imports = Imports::default();
        let (first, second) = (keys(MAPS), keys(MAPS));
        let found = |keys: &ImportKeys, at| imports.find(MAPS, keys.id(), at).is_some();
        let turn = imports.turn();
        assert!(turn.is_some() && imports.turn().is_none(), "one at a time");
        drop(turn);
        assert!(imports.turn().is_some());
        imports.put(Arc::clone(&first));
        assert!(found(&first, now.plus(8)) && !found(&first, now.plus(9)));
        let elsewhere = imports.find(DatasetId([2; 16]), first.id(), now);
        assert!(elsewhere.is_none());
        imports.put(Arc::clone(&second));
        assert!(!found(&first, now) && found(&second, now));
        imports.spent(&first);
        imports.failed(&first);
        for _ in 1..FAILURES {
            imports.failed(&second);
            assert!(found(&second, now));
        }
        imports.failed(&second);
        assert!(!found(&second, now));
        imports.put(Arc::clone(&first));
        imports.spent(&first);
        assert!(!found(&first, now));
    }

    #[test]
    fn so_many_datasets_have_an_import_and_the_room_of_one_that_is_over_is_free() {
        // rule: IMP-1
        let now = Timestamp::default();
        let imports = Imports::default();
        for dataset in 0..IMPORTS {
            let dataset = DatasetId([u8::try_from(dataset).unwrap(); 16]);
            assert!(imports.have_room(dataset, now));
            imports.put(Arc::new(ImportKeys::cheap(dataset, now.plus(9))));
        }
        let another = DatasetId([99; 16]);
        assert!(!imports.have_room(another, now) && imports.have_room(MAPS, now));
        assert!(imports.have_room(another, now.plus(9)));
    }
}
