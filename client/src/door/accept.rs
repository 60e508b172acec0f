//! Takes a door's connections, on a thread of its own.
//!
//! The job has the listening socket too (AGT-12). Whether an accept waits is a property of the socket, not of one
//! process's descriptor: a job could take a connection away and have the accept wait for the next one. So nothing of
//! the agent's but this thread may do it.

use std::io::{self, PipeReader, PipeWriter};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::thread::Builder;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Connections that were taken and wait for a place.
const WAITING: usize = 16;
/// A thread that does nothing but this needs little.
const STACK: usize = 128 * 1_024;
/// Before another try where the machine has no descriptor or memory left.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// A connection, and its other end.
pub(super) type Taken = (TcpStream, SocketAddrV4);

/// Ends the thread when it is dropped.
#[derive(Debug)]
pub(super) struct Accepting(#[expect(dead_code, reason = "to be dropped")] PipeWriter);

/// Takes connections until what is returned first is dropped, or the socket does not listen any more.
pub(super) fn start(
    listener: TcpListener,
    place: OwnedSemaphorePermit,
) -> io::Result<(Accepting, mpsc::Receiver<Taken>)> {
    let (ended, held) = io::pipe()?;
    let (sender, taken) = mpsc::channel(WAITING);
    let thread = Builder::new().name("door".to_owned()).stack_size(STACK);
    thread.spawn(move || {
        // One that a job keeps waiting keeps its place.
        let _place = place;
        if let Err(error) = take(&listener, &ended, &sender) {
            tracing::warn!(%error, "a door takes no connections any more");
        }
    })?;
    Ok((Accepting(held), taken))
}

fn take(
    listener: &TcpListener,
    ended: &PipeReader,
    sender: &mpsc::Sender<Taken>,
) -> io::Result<()> {
    loop {
        if over(Some(listener), ended, None)? {
            return Ok(());
        }
        let (stream, theirs) = match listener.accept() {
            Ok((stream, SocketAddr::V4(theirs))) => (stream, theirs),
            Ok((_, SocketAddr::V6(_))) => continue,
            Err(error) => match Errno::from_io_error(&error) {
                // Somebody else took it, or its other end has gone.
                Some(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => continue,
                // Out of descriptors: somebody closes one before long.
                Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    tracing::warn!(%error, "a door cannot be answered");
                    if over(None, ended, Some(&PAUSE))? {
                        return Ok(());
                    }
                    continue;
                }
                _ => return Err(error),
            },
        };
        stream.set_nonblocking(true)?;
        if sender.blocking_send((stream, theirs)).is_err() {
            return Ok(());
        }
    }
}

/// Waits for a connection, so long; says whether the door was closed.
fn over(
    listener: Option<&TcpListener>,
    ended: &PipeReader,
    wait: Option<&Timespec>,
) -> io::Result<bool> {
    let mut watched = vec![PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)];
    watched
        .extend(listener.map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)));
    match poll(&mut watched, wait) {
        Ok(_) => Ok(!watched[0].revents().is_empty()),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
