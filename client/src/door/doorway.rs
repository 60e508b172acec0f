//! Where a door stands: the socket on which it listens, and its token (DOOR-1).
//!
//! Whoever asks for a door makes both and keeps the socket, so that its port is nobody else's while a process of the
//! job lives, whatever becomes of the agent (AGT-12).

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use getrandom::SysRng;
use rand_core::TryRng as _;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::peer;

/// What a door's path begins with: who says it comes from the job.
#[derive(Clone)]
pub struct Token(Zeroizing<[u8; Token::LEN]>);

impl Token {
    /// Its bytes.
    pub const LEN: usize = 32;

    /// One that was chosen elsewhere.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes: for the agent alone.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// As it stands in a URL.
    pub(super) fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.0))
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for Token {}

/// Without the token, which is a secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A socket that listens on 127.0.0.1, and a token.
#[derive(Debug)]
pub struct Doorway {
    listener: TcpListener,
    address: SocketAddrV4,
    token: Token,
}

impl Doorway {
    /// A new one, on a port that the kernel chooses.
    ///
    /// # Errors
    /// No port or no random bytes could be had.
    pub fn make() -> io::Result<Self> {
        // rule: DOOR-1
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut token = Zeroizing::new([0; Token::LEN]);
        let filled = SysRng.try_fill_bytes(&mut *token);
        filled.map_err(|error| io::Error::other(error.to_string()))?;
        Self::of(listener, Token(token))
    }

    /// One that somebody made, who may have handed over any descriptor.
    ///
    /// # Errors
    /// It is no socket of TCP that listens on 127.0.0.1, as the kernel says of this network namespace.
    pub fn handed(socket: OwnedFd, token: Token) -> io::Result<Self> {
        Self::of(socket.into(), token)
    }

    fn of(listener: TcpListener, token: Token) -> io::Result<Self> {
        // rule: AGT-10, DOOR-1
        let address = match listener.local_addr() {
            Ok(SocketAddr::V4(address)) if *address.ip() == Ipv4Addr::LOCALHOST => address,
            _ => return Err(wrong("the door's socket is not at 127.0.0.1")),
        };
        // Not one at the same address of another network namespace, of whose connections nothing would be told; and
        // where the kernel does not tell of sockets at all, no door stands.
        // rule: AGT-10, DOOR-2
        let inode = rustix::fs::fstat(&listener)?.st_ino;
        if peer::listening(address)?.map(u64::from) != Some(inode) {
            return Err(wrong(
                "the kernel does not tell of the door's socket as one of TCP that listens; see that the job is in the \
                 agent's network namespace, and that the kernel's module tcp_diag is loaded",
            ));
        }
        // Of the socket, not of this process's descriptor alone: whoever shares it can change it again.
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            address,
            token,
        })
    }

    /// Where the door is: whoever of the job's user knows it may come in.
    #[must_use]
    pub fn url(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("http://{}/{}/", self.address, *self.token.text()))
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    pub(super) fn address(&self) -> SocketAddrV4 {
        self.address
    }

    pub(super) fn into_listener(self) -> TcpListener {
        self.listener
    }
}

impl AsFd for Doorway {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
