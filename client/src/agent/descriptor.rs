//! One open socket, handed from a caller to the agent beside the first bytes of a message (`unix(7)`, SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Room for one descriptor; the kernel's alignment lets two in.
const SPACE: usize = rustix::cmsg_space!(ScmRights(1));

/// Writes some of the bytes, and the descriptor with them; says how many of the bytes.
pub(super) async fn send(
    to: &UnixStream,
    bytes: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<usize> {
    let written = to.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let bytes = [IoSlice::new(bytes)];
        Ok(sendmsg(to, &bytes, &mut control, SendFlags::NOSIGNAL)?)
    });
    written.await
}

/// What came with a byte: a descriptor, none, or more than there may be; then all were closed.
pub(super) type Brought = Result<Option<OwnedFd>, TooMany>;

/// More than one descriptor.
#[derive(Debug)]
pub(super) struct TooMany;

/// Reads one byte, and what came with it; none where the other side has ended.
pub(super) async fn first(from: &UnixStream) -> io::Result<Option<(u8, Brought)>> {
    let read = from.async_io(Interest::READABLE, || {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut byte)];
        let said = recvmsg(from, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        // rule: AGT-10
        let brought = match descriptors.len() > 1 || said.flags.contains(ReturnFlags::CTRUNC) {
            true => Err(TooMany),
            false => Ok(descriptors.pop()),
        };
        Ok((said.bytes > 0).then_some((byte[0], brought)))
    });
    read.await
}
