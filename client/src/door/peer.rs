//! Whose a connection on loopback is, by the kernel's own table of sockets (DOOR-2).

use std::io::{self, BufRead as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

/// The table of this process's network namespace.
const TABLE: &str = "/proc/self/net/tcp";
/// Most rows that are read: a machine with more connections has its door refused rather than its agent held up.
const ROWS: usize = 100_000;

/// The user whose socket is connected from `theirs` to `ours`; none where there is none, or more than one.
pub(super) fn user(theirs: SocketAddrV4, ours: SocketAddrV4) -> io::Result<Option<u32>> {
    user_in(Path::new(TABLE), theirs, ours)
}

fn user_in(table: &Path, theirs: SocketAddrV4, ours: SocketAddrV4) -> io::Result<Option<u32>> {
    let mut lines = io::BufReader::new(std::fs::File::open(table)?).lines();
    let mut found = None;
    for _ in 0..ROWS {
        let Some(line) = lines.next() else {
            return Ok(found);
        };
        let line = line?;
        // sl local_address rem_address st tx:rx tr:when retrnsmt uid …
        let mut columns = line.split_ascii_whitespace();
        let local = columns.nth(1).and_then(address);
        let remote = columns.next().and_then(address);
        if local != Some(theirs) || remote != Some(ours) {
            continue;
        }
        let uid = columns.nth(4).and_then(|uid| uid.parse().ok());
        match (found, uid) {
            (None, Some(uid)) => found = Some(uid),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// `0100007F:1F90`: the address as the machine holds it, the port as people write it.
fn address(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddrV4::new(
        Ipv4Addr::from(address.to_ne_bytes()),
        port,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    #[test]
    fn the_kernel_says_whose_a_connection_is() {
        // rule: DOOR-2
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_accepted, theirs) = listener.accept().unwrap();
        let (theirs, ours) = (v4(theirs), v4(listener.local_addr().unwrap()));
        let me = rustix::process::geteuid().as_raw();
        assert_eq!(user(theirs, ours).unwrap(), Some(me));
        drop(stream);
        let nobody = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        assert_eq!(user(nobody, ours).unwrap(), None);
    }

    #[test]
    fn a_table_that_names_two_or_none_names_nobody() {
        // rule: DOOR-2
        let file = tempfile::NamedTempFile::new().unwrap();
        let row = |uid: &str| {
            format!(
                "   0: 0100007F:0050 0100007F:1F90 01 00000000:00000000 00:00000000 00000000 {uid} 0 1 1\n"
            )
        };
        let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let of = |rows: String| {
            std::fs::write(file.path(), rows).unwrap();
            user_in(file.path(), at(0x50), at(0x1f90)).unwrap()
        };
        assert_eq!(of(row("1000")), Some(1000));
        assert_eq!(of(format!("{}{}", row("1000"), row("1001"))), None);
        assert_eq!(of(row("x")), None);
        assert_eq!(of(String::new()), None);
        assert_eq!(user_in(file.path(), at(0x51), at(0x1f90)).unwrap(), None);
    }
}
