//! One exchange on the server: read the message, let the handler answer, deliver the answer
//! (TR-3).

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::time::{Instant, timeout_at};

use crate::budget::Budget;
use crate::code::Code;
use crate::limits::ServerLimits;
use crate::message::{self, ReadFailure};
use crate::metrics::{Limit, Metrics};
use crate::server::Handler;

/// Whether a connection's peer has ever sent a whole request. A peer that has not, holds a place
/// for nothing.
#[derive(Debug, Default)]
pub(crate) struct Spoke(AtomicBool);

impl Spoke {
    /// A request has arrived whole.
    fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn ever(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves one stream to its end. Whatever happens, the stream ends with an answer, with a
/// [`Code`], or in silence when the peer gave up first.
pub(crate) async fn serve<H: Handler>(
    handler: &H,
    state: &H::Connection,
    budget: &Budget,
    limits: &ServerLimits,
    metrics: &Metrics,
    (spoke, stranger): (&Spoke, bool),
    (send, mut recv): (SendStream, RecvStream),
) {
    let mut answer = Answer::new(send);
    // Held until the answer is delivered: the answer to a batch is about as long as the batch.
    let mut reservation = budget.reserve_nothing();
    let deadline = Instant::now() + limits.read_timeout;
    let request = message::read(
        &mut recv,
        limits.longest_of(stranger),
        deadline,
        Some(&mut reservation),
    )
    .await;
    let message = match request {
        Ok(message) => message,
        Err(failure) => {
            let (code, limit) = match failure {
                ReadFailure::TooLarge => (Code::TooLarge, Limit::MessageBytes),
                ReadFailure::TooSlow => (Code::TooSlow, Limit::ReadTimeout),
                ReadFailure::NoMemory => (Code::Busy, Limit::BufferedBytes),
                ReadFailure::Broken(_) => return answer.keep_silent(),
            };
            metrics.limited(limit);
            // Fails only when the peer is done with the stream already.
            let _ = recv.stop(code.varint());
            return answer.refuse(code);
        }
    };
    spoke.now();
    answer.taken();
    let bytes = handler.exchange(state, message).await;
    if !answer.deliver(bytes, limits.write_timeout).await {
        metrics.limited(Limit::WriteTimeout);
    }
}

/// Refuses a stream whose message is not even read.
pub(crate) fn refuse((mut send, mut recv): (SendStream, RecvStream), code: Code) {
    // Both fail only when the peer is done with the stream already.
    let _ = recv.stop(code.varint());
    let _ = send.reset(code.varint());
}

/// The answering half of a stream. Dropped without an answer (the handler panicked, or the grace
/// time is over) it says so, instead of finishing an empty or cut-off answer as QUIC would.
struct Answer {
    stream: SendStream,
    unanswered: Option<Code>,
}

impl Answer {
    fn new(stream: SendStream) -> Self {
        Self {
            stream,
            unanswered: Some(Code::GoingAway),
        }
    }

    /// From here on the handler has the message, so the outcome without an answer is unknown.
    fn taken(&mut self) {
        self.unanswered = Some(Code::Unfinished);
    }

    fn refuse(mut self, code: Code) {
        self.unanswered = Some(code);
    }

    fn keep_silent(mut self) {
        self.unanswered = None;
    }

    /// Sends the answer and waits until the peer has it; false if that took too long. A peer that
    /// no longer wants it, or is gone, is none of our concern.
    async fn deliver(mut self, bytes: Bytes, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        // Resolves when the peer has everything, or wants no more; while the connection's window
        // is used up, QUIC's write alone would not tell of the latter.
        let mut ended = pin!(self.stream.stopped());
        let delivery = async {
            tokio::select! {
                biased;
                written = self.stream.write_chunk(bytes) => {
                    if written.is_ok() && self.stream.finish().is_ok() {
                        let _ = ended.await;
                    }
                }
                _ = &mut ended => {}
            }
        };
        let in_time = timeout_at(deadline, delivery).await.is_ok();
        if in_time {
            self.unanswered = None;
        }
        in_time
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(code) = self.unanswered {
            // Fails only when the stream has ended already.
            let _ = self.stream.reset(code.varint());
        }
    }
}
