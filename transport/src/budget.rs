//! The memory that requests may take while they are read and handled.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Request bytes of the whole server, and of one source within it.
pub(crate) struct Budget {
    whole: Arc<Semaphore>,
    source: Arc<Semaphore>,
}

impl Budget {
    pub(crate) fn new(whole: &Arc<Semaphore>, source: &Arc<Semaphore>) -> Self {
        Self {
            whole: Arc::clone(whole),
            source: Arc::clone(source),
        }
    }

    pub(crate) fn reserve_nothing(&self) -> Reservation {
        Reservation {
            whole: Arc::clone(&self.whole),
            source: Arc::clone(&self.source),
            held: None,
        }
    }
}

/// Bytes taken from a budget, given back on drop.
pub(crate) struct Reservation {
    whole: Arc<Semaphore>,
    source: Arc<Semaphore>,
    held: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Reservation {
    /// Waits until `bytes` more can be had. The source's own share comes first, so that who has
    /// used his up does not wait while holding what others need. Never fails: nobody closes these
    /// semaphores; were one closed, the caller's deadline would end the wait.
    pub(crate) async fn grow(&mut self, bytes: u32) {
        let (Ok(source), Ok(whole)) = (
            Arc::clone(&self.source).acquire_many_owned(bytes).await,
            Arc::clone(&self.whole).acquire_many_owned(bytes).await,
        ) else {
            return std::future::pending().await;
        };
        match &mut self.held {
            Some((held_source, held_whole)) => {
                held_source.merge(source);
                held_whole.merge(whole);
            }
            None => self.held = Some((source, whole)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_reserved_comes_back_on_drop() {
        let (whole, source) = (Arc::new(Semaphore::new(100)), Arc::new(Semaphore::new(50)));
        let budget = Budget::new(&whole, &source);
        let mut reservation = budget.reserve_nothing();
        reservation.grow(20).await;
        reservation.grow(30).await;
        assert_eq!(
            (whole.available_permits(), source.available_permits()),
            (50, 0)
        );
        drop(reservation);
        assert_eq!(
            (whole.available_permits(), source.available_permits()),
            (100, 50)
        );
    }
}
