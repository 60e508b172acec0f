//! The door: AWS KMS's own interface, answered with the keys of one job (`spec/agent.md`, section 4).

pub mod blob;
pub mod keys;

mod fault;
mod http;
mod members;
mod names;
mod operations;
mod peer;

use std::io;
use std::sync::Arc;

use tokio::task::JoinHandle;

pub use keys::{JobDataset, JobKeys, Named};

/// An open door. Dropped, it is closed, and what is under way at it ends.
pub struct Door {
    url: zeroize::Zeroizing<String>,
    task: JoinHandle<()>,
}

impl Door {
    /// Opens a door to a job's keys for one user, on 127.0.0.1.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn open<K: JobKeys>(keys: Arc<K>, uid: u32) -> io::Result<Self> {
        let (listener, threshold) = http::bind(keys, uid).await?;
        Ok(Self {
            url: threshold.url().into(),
            task: tokio::spawn(http::serve(listener, threshold)),
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
