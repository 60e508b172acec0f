//! The door: AWS KMS's own interface, answered with the keys of one job (`spec/agent.md`, section 4).

pub mod blob;
pub mod doorway;
pub mod keys;

mod accept;
mod fault;
mod http;
mod members;
mod names;
mod operations;
mod peer;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub use doorway::{Doorway, Token};
pub use keys::{JobDataset, JobKeys, Named};

/// Most doors of one user (DOOR-2).
const DOORS: usize = 256;

/// The places of every user's doors.
#[derive(Debug, Default)]
pub struct Places(Mutex<HashMap<u32, Place>>);

/// One user's.
#[derive(Clone, Debug)]
struct Place {
    doors: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Places {
    fn of(&self, uid: u32) -> Place {
        // rule: DOOR-2
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = || Place {
            doors: Arc::new(Semaphore::new(DOORS)),
            connections: Arc::new(Semaphore::new(http::PLACES)),
        };
        users.entry(uid).or_insert_with(place).clone()
    }
}

/// An open door. Dropped, it is closed, and what is under way at it ends.
#[derive(Debug)]
pub struct Door {
    task: JoinHandle<()>,
    _accepting: accept::Accepting,
}

impl Door {
    /// Opens a door to a job's keys for one user.
    ///
    /// # Errors
    /// The user has too many doors, or there is no thread for another.
    pub fn open<K: JobKeys>(
        doorway: Doorway,
        keys: Arc<K>,
        uid: u32,
        places: &Places,
    ) -> io::Result<Self> {
        let Place { doors, connections } = places.of(uid);
        let threshold = http::Threshold::new(keys, uid, &doorway);
        let full = |_| io::Error::other("the user has as many doors as may be");
        let place = doors.try_acquire_owned().map_err(full)?;
        let (accepting, taken) = accept::start(doorway.into_listener(), place)?;
        Ok(Self {
            task: tokio::spawn(http::serve(taken, threshold, connections)),
            _accepting: accepting,
        })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}
