//! A connection to a server whose log is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ticket_format::messages::Receipt;
use ticket_format::tlog::{LogKey, Logged, Verifier};
use tokio::sync::OnceCell;

use super::{Log, Logs};
use crate::error::Error;
use crate::link::{Link, Server};

/// So many checkpoints may be left for the next connection to tie.
const LEFT: usize = 8;

/// An open connection to a pinned server with a log. Nothing of an answer is used before the server has
/// proven that its log goes on from what is remembered of it ([`proven`](Self::proven)), and no answer
/// without a receipt that its log's keys verify ([`believe`](Self::believe)). Clones share the connection.
#[derive(Clone, Debug)]
pub struct LoggedLink {
    link: Link,
    log: Arc<Log>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    proven: OnceCell<()>,
    /// Whether something that this connection showed was written down.
    kept: AtomicBool,
}

impl LoggedLink {
    /// Connects to the first address that answers with the pinned key.
    ///
    /// # Errors
    /// As [`Link::connect`].
    pub async fn connect(
        server: &Server,
        key: &LogKey,
        logs: &Logs,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let link = Link::connect(server, timeout).await?;
        Ok(Self::over(link, logs.log(server.word, key)))
    }

    /// Takes over a connection that is open already.
    #[must_use]
    pub fn over(link: Link, log: Arc<Log>) -> Self {
        Self {
            link,
            log,
            state: Arc::default(),
        }
    }

    /// The connection.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Whether it is checked by the log that is pinned for this purpose, and by no other: whoever makes a
    /// connection names a log, and what is asked over it wants a certain one.
    pub(crate) fn is_of(&self, pinned: &LogKey) -> Result<(), Error> {
        // rule: TLOG-5
        if self.log.key() == pinned {
            return Ok(());
        }
        let why = "the connection is not checked by the log that is pinned";
        Err(Error::answer(self.link.word(), why))
    }

    /// Has the server prove, once on a connection, that its log goes on from what is remembered of it.
    /// Nothing remembered, nothing asked: what comes first is believed.
    ///
    /// # Errors
    /// It does not, or cannot be asked ([`Error::Log`] is an integrity failure).
    pub async fn proven(&self) -> Result<(), Error> {
        // rule: TLOG-6
        let proven = &self.state.proven;
        proven
            .get_or_try_init(|| self.log.begin(&self.link))
            .await
            .copied()
    }

    /// Believes a receipt: inclusion, both signatures of the log, and with a `policy` the cosignatures of
    /// as many witnesses. Its checkpoint is remembered durably before this returns the first time on
    /// a connection, then once a second and when it ends.
    ///
    /// # Errors
    /// [`Error::Receipt`], [`Error::Log`]; the checkpoint cannot be written down.
    pub async fn believe(
        &self,
        receipt: &Receipt,
        policy: Option<&Verifier>,
    ) -> Result<Logged, Error> {
        // rule: TLOG-5
        self.proven().await?;
        let verifier = policy.unwrap_or(self.log.verifier());
        let logged = verifier.verify(receipt).map_err(|source| Error::Receipt {
            server: self.link.word(),
            source,
        })?;
        self.log.take(&logged.checkpoint).await?;
        self.log.go_on(&self.link).await?;
        if !self.state.kept.load(Ordering::Acquire) || self.log.write_is_due() {
            self.log.keep().await?;
            self.state.kept.store(true, Ordering::Release);
        }
        Ok(logged)
    }

    /// Ends the connection and tells the server; first writes down what it has shown, and where that is
    /// much has it proven of one log.
    ///
    /// # Errors
    /// It was shown to be no one log ([`Error::Log`]), or could not be written down.
    pub async fn close(self) -> Result<(), Error> {
        let proven = if self.log.untied() > LEFT && self.link.is_open() {
            match self.log.end(&self.link).await {
                // The next connection begins with it.
                Err(error) if error.worth_retrying() => Ok(()),
                other => other,
            }
        } else {
            Ok(())
        };
        let kept = self.log.keep().await;
        self.link.close().await;
        proven.and(kept)
    }
}
