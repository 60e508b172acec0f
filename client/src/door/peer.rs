//! Whose a connection on loopback is, as the kernel says of that one socket (DOOR-2).
//!
//! By `sock_diag(7)`, which looks one socket up in the kernel's own index. `/proc/net/tcp` would take longer with
//! every connection of the machine, and a row of it can be left out while others come and go.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

/// Longest answer about one socket.
const ANSWER: usize = 4 * 1_024;
/// No cookie: the socket is named by its addresses alone.
const NO_COOKIE: [u8; 8] = [0xff; 8];
/// The state of a socket whose connection stands, as the kernel numbers them.
const ESTABLISHED: u8 = 1;

/// The user whose socket is connected from `theirs` to `ours`; none where there is no such connection, or it is
/// over: then it is nobody's.
pub(super) fn user(theirs: SocketAddrV4, ours: SocketAddrV4) -> io::Result<Option<u32>> {
    // rule: DOOR-2
    Ok(socket(theirs, ours)?
        .filter(|found| found.header.state == ESTABLISHED)
        .map(|found| found.header.uid))
}

/// The inode of the socket that listens at an address. Of one that is there, none says that the kernel does not tell
/// of sockets at all: asked about connections, a kernel without `tcp_diag` says the same as of one that is not there.
pub(super) fn listening(at: SocketAddrV4) -> io::Result<Option<u32>> {
    let anywhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    Ok(socket(at, anywhere)?.map(|found| found.header.inode))
}

/// What the kernel says of the socket at `local` whose other end is `remote`.
fn socket(local: SocketAddrV4, remote: SocketAddrV4) -> io::Result<Option<Box<InetResponse>>> {
    let mut asking = Socket::new(NETLINK_SOCK_DIAG)?;
    asking.bind_auto()?;
    // The kernel answers before it returns from the question.
    asking.set_non_blocking(true)?;
    let kernel = SocketAddr::new(0, 0);
    asking.send_to(&question(local, remote), &kernel, 0)?;
    let mut answer = Vec::with_capacity(ANSWER);
    let (_, from) = asking.recv_from(&mut answer, 0)?;
    // Another process could send to this socket, too.
    if from.port_number() != kernel.port_number() {
        return Err(io::Error::other("another than the kernel answered"));
    }
    let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&answer);
    match answer.map_err(io::Error::other)?.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found))
            if is(&found, local, remote) =>
        {
            Ok(Some(found))
        }
        NetlinkPayload::Error(error) if error.to_io().kind() == io::ErrorKind::NotFound => Ok(None),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        other => Err(io::Error::other(format!(
            "asked for one socket, the kernel said {other:?}"
        ))),
    }
}

fn question(local: SocketAddrV4, remote: SocketAddrV4) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let question = SockDiagMessage::InetRequest(InetRequest {
        family: AF_INET,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: local.port(),
            destination_port: remote.port(),
            source_address: (*local.ip()).into(),
            destination_address: (*remote.ip()).into(),
            interface_id: 0,
            cookie: NO_COOKIE,
        },
    });
    let mut question = NetlinkMessage::new(header, question.into());
    question.finalize();
    let mut bytes = vec![0; question.buffer_len()];
    question.serialize(&mut bytes);
    bytes
}

/// Whether it is the socket that was asked for. A socket of IPv6 reaches 127.0.0.1 under an address that is mapped
/// (RFC 4291, section 2.5.5.2); the SDKs of Java and .NET have such.
fn is(found: &InetResponse, local: SocketAddrV4, remote: SocketAddrV4) -> bool {
    let id = &found.header.socket_id;
    let at = |address: IpAddr, port| (address.to_canonical(), port);
    at(id.source_address, id.source_port) == (IpAddr::V4(*local.ip()), local.port())
        && at(id.destination_address, id.destination_port)
            == (IpAddr::V4(*remote.ip()), remote.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{self, TcpListener, TcpStream};

    fn v4(address: net::SocketAddr) -> SocketAddrV4 {
        match address {
            net::SocketAddr::V4(address) => address,
            net::SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn the_kernel_says_whose_a_connection_is() {
        // rule: DOOR-2
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = v4(listener.local_addr().unwrap());
        let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
        assert_eq!(listening(ours).unwrap().map(u64::from), Some(inode));
        let _stream = TcpStream::connect(ours).unwrap();
        let (_accepted, theirs) = listener.accept().unwrap();
        assert_eq!(user(v4(theirs), ours).unwrap(), Some(me()));
        let nobody = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        assert_eq!(user(nobody, ours).unwrap(), None);
        // A socket that listens is no connection.
        let anywhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        assert_eq!(user(ours, anywhere).unwrap(), None);
    }

    #[test]
    fn it_is_the_user_who_made_the_socket() {
        // rule: DOOR-2
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = v4(listener.local_addr().unwrap());
        // By a socket of the other kind, as Java's are; by another user, where this one may become one.
        let other = if me() == 0 { 7_531 } else { me() };
        let python = "import os, socket, sys\n\
                      if os.geteuid() == 0: os.setuid(int(sys.argv[2]))\n\
                      s = socket.socket(socket.AF_INET6)\n\
                      s.connect(('::ffff:127.0.0.1', int(sys.argv[1])))\nsys.stdin.read()";
        let mut program = std::process::Command::new("python3")
            .args(["-c", python, &ours.port().to_string(), &other.to_string()])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (_accepted, theirs) = listener.accept().unwrap();
        assert_eq!(user(v4(theirs), ours).unwrap(), Some(other));
        drop(program.stdin.take());
        program.wait().unwrap();
        // Over, it is nobody's, though its addresses are taken for a minute.
        assert_eq!(user(v4(theirs), ours).unwrap(), None);
    }

    #[test]
    fn many_that_come_and_go_hide_none() {
        // rule: DOOR-2
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = v4(listener.local_addr().unwrap());
        let _stream = TcpStream::connect(ours).unwrap();
        let (_accepted, theirs) = listener.accept().unwrap();
        let come_and_go = std::thread::spawn(move || {
            for _ in 0..2_000 {
                let _ = TcpStream::connect(ours).unwrap();
                let _ = listener.accept().unwrap();
            }
        });
        while !come_and_go.is_finished() {
            assert_eq!(user(v4(theirs), ours).unwrap(), Some(me()));
        }
        come_and_go.join().unwrap();
    }

    #[test]
    fn an_answer_about_another_socket_is_none() {
        // rule: DOOR-2
        let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = v4(listener.local_addr().unwrap());
        let stream = TcpStream::connect(ours).unwrap();
        let theirs = v4(stream.local_addr().unwrap());
        let found = socket(theirs, ours).unwrap().unwrap();
        assert!(is(&found, theirs, ours));
        for (local, remote) in [(ours, theirs), (at(1), ours), (theirs, at(1))] {
            assert!(!is(&found, local, remote), "{local} {remote}");
        }
    }
}
