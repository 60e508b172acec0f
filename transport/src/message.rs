//! Reading one message to its end, under a limit that holds before anything is decoded (TR-5).

use bytes::Bytes;
use quinn::{ReadError, RecvStream};
use tokio::time::{Instant, timeout_at};

use crate::budget::Reservation;

/// Most bytes taken from QUIC at once, and so the step in which memory is reserved.
const STEP_BYTES: usize = 64 * 1024;

/// Why no whole message came.
#[derive(Debug)]
pub(crate) enum ReadFailure {
    /// More bytes than allowed.
    TooLarge,
    /// Not whole before the deadline.
    TooSlow,
    /// No memory to be had before the deadline.
    NoMemory,
    /// The peer broke off, or the connection is gone.
    Broken(ReadError),
}

/// Reads until the peer finishes the stream.
///
/// Bytes are copied out of the packets as they come: keeping slices of them would let a peer that
/// sends one byte per packet hold a whole packet's memory for each byte that it is counted for.
pub(crate) async fn read(
    stream: &mut RecvStream,
    limit: usize,
    deadline: Instant,
    mut reservation: Option<&mut Reservation>,
) -> Result<Bytes, ReadFailure> {
    let mut message = Vec::new();
    loop {
        let chunk = match timeout_at(deadline, stream.read_chunk(STEP_BYTES, true)).await {
            Err(_) => return Err(ReadFailure::TooSlow),
            Ok(Err(error)) => return Err(ReadFailure::Broken(error)),
            Ok(Ok(None)) => return Ok(Bytes::from(message)),
            Ok(Ok(Some(chunk))) => chunk.bytes,
        };
        if chunk.len() > limit.saturating_sub(message.len()) {
            return Err(ReadFailure::TooLarge);
        }
        if let Some(reservation) = reservation.as_deref_mut() {
            // A chunk is never longer than a step, so the length fits.
            let bytes = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            if timeout_at(deadline, reservation.grow(bytes)).await.is_err() {
                return Err(ReadFailure::NoMemory);
            }
        }
        message.extend_from_slice(&chunk);
    }
}
