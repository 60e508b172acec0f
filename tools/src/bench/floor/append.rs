//! The least that a durable append costs: what waits together is written and synced together.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use tokio::sync::{mpsc, oneshot};

use super::Work;

/// A file that is appended to, one `fdatasync` for all that waits.
pub(crate) struct GroupCommit {
    queue: mpsc::UnboundedSender<(Vec<u8>, oneshot::Sender<bool>)>,
}

/// The append did not become durable.
#[derive(Debug)]
pub(crate) struct NotDurable;

impl GroupCommit {
    /// Makes a new file and a thread that writes it; the thread ends with this.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Self::with(path, Box::new(|| ()))
    }

    /// The same, with work to be done once for all that waits, before it is written.
    pub(crate) fn with(path: &Path, each: Work) -> io::Result<Self> {
        let file = File::create_new(path)?;
        let (queue, waiting) = mpsc::unbounded_channel();
        std::thread::spawn(move || write(file, waiting, &each));
        Ok(Self { queue })
    }

    /// Appends; returns when it is durable.
    pub(crate) async fn append(&self, record: Vec<u8>) -> Result<(), NotDurable> {
        let (done, durable) = oneshot::channel();
        self.queue.send((record, done)).map_err(|_| NotDurable)?;
        match durable.await {
            Ok(true) => Ok(()),
            _ => Err(NotDurable),
        }
    }
}

fn write(
    mut file: File,
    mut waiting: mpsc::UnboundedReceiver<(Vec<u8>, oneshot::Sender<bool>)>,
    each: &Work,
) {
    let (mut bytes, mut waiters) = (Vec::new(), Vec::new());
    while let Some((record, waiter)) = waiting.blocking_recv() {
        bytes.extend_from_slice(&record);
        waiters.push(waiter);
        while let Ok((record, waiter)) = waiting.try_recv() {
            bytes.extend_from_slice(&record);
            waiters.push(waiter);
        }
        each();
        let durable = file
            .write_all(&bytes)
            .and_then(|()| file.sync_data())
            .is_ok();
        bytes.clear();
        for waiter in waiters.drain(..) {
            // A waiter that is gone needs no word.
            let _ = waiter.send(durable);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_appended_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = GroupCommit::create(&path).unwrap();
        log.append(b"one".to_vec()).await.unwrap();
        log.append(b"two".to_vec()).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"onetwo");
    }
}
