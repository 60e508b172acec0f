//! The door: AWS KMS's own interface, answered with the keys of one job (`spec/agent.md`, section 4).

pub mod blob;
pub mod keys;

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

pub use keys::{JobDataset, JobKeys, Named};

/// The places of every user's doors.
#[derive(Debug, Default)]
pub struct Places(Mutex<HashMap<u32, Arc<Semaphore>>>);

impl Places {
    fn of(&self, uid: u32) -> Arc<Semaphore> {
        // rule: DOOR-2
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let places = || Arc::new(Semaphore::new(http::PLACES));
        Arc::clone(users.entry(uid).or_insert_with(places))
    }
}

/// An open door. Dropped, it is closed, and what is under way at it ends.
pub struct Door {
    url: zeroize::Zeroizing<String>,
    task: JoinHandle<()>,
}

impl Door {
    /// Opens a door to a job's keys for one user, on 127.0.0.1.
    ///
    /// # Errors
    /// No port could be had, or the kernel does not say whose a connection is.
    pub async fn open<K: JobKeys>(keys: Arc<K>, uid: u32, places: &Places) -> io::Result<Self> {
        let (listener, threshold) = http::bind(keys, uid).await?;
        Ok(Self {
            url: threshold.url().into(),
            task: tokio::spawn(http::serve(listener, threshold, places.of(uid))),
        })
    }

    /// Where it is: whoever of the user's programs knows it may come in.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Without its address, which is a secret.
impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door(..)")
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}
