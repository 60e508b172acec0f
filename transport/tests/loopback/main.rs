//! The QUIC layer over real sockets on the loopback interface: our server against our client, and
//! each against hostile peers made of the bare QUIC library.

mod exchanges;
mod handshake;
mod hostile;
mod limits;
mod places;
mod raw;
mod rig;
mod shutdown;
