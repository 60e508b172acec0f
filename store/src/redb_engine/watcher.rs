//! Watches read the history in the file and wait for the next commit when they have read it all, so
//! a slow one holds nothing in memory and none can miss a commit.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Command, Progress, Shared, reader};
use crate::contract::BoxFuture;
use crate::error::Error;
use crate::types::{KeyRange, Revision};
use crate::watch::{WatchEvent, WatchSource};

pub(super) struct Watcher {
    shared: Arc<Shared>,
    /// Weak, so that a forgotten watch does not keep the store open.
    queue: mpsc::WeakSender<Command>,
    progress: watch::Receiver<Progress>,
    range: KeyRange,
    /// Every event up to here was handed out or is in `ready`.
    position: Revision,
    ready: VecDeque<WatchEvent>,
    ended: bool,
}

impl Watcher {
    pub(super) fn new(
        shared: Arc<Shared>,
        queue: mpsc::WeakSender<Command>,
        range: KeyRange,
        after: Revision,
    ) -> Self {
        let progress = shared.progress.subscribe();
        Self {
            shared,
            queue,
            progress,
            range,
            position: after,
            ready: VecDeque::new(),
            ended: false,
        }
    }

    // Cancel-safe: state changes only where no await follows before the return.
    async fn advance(&mut self) -> Result<Option<WatchEvent>, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.ended |= matches!(event, WatchEvent::Compacted { .. });
                return Ok(Some(event));
            }
            let progress = *self.progress.borrow_and_update();
            if self.ended || progress.closed {
                return Ok(None);
            }
            if progress.revision <= self.position {
                if self.progress.changed().await.is_err() {
                    return Ok(None);
                }
                continue;
            }
            let (range, after) = (self.range.clone(), self.position);
            match self
                .shared
                .read(move |txn| reader::history(txn, &range, after))
                .await
            {
                Ok(piece) => {
                    self.position = piece.until;
                    self.ready = piece.events.into();
                }
                Err(Error::Closed) => return Ok(None),
                Err(error) => {
                    if let (Error::Unavailable { .. }, Some(queue)) = (&error, self.queue.upgrade())
                    {
                        let _ = queue.try_send(Command::Recover);
                    }
                    return Err(error);
                }
            }
        }
    }
}

impl WatchSource for Watcher {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<WatchEvent>, Error>> {
        Box::pin(self.advance())
    }
}
