//! Whose a connection on loopback is, by the kernel's own table of sockets (DOOR-2).

use std::io::{self, BufRead as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

/// The tables of this process's network namespace. Sockets of the second kind reach 127.0.0.1 too, under an
/// address that is mapped; the SDKs of Java and .NET have such.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/// Most rows that are read of one: a machine with more connections has its door refused rather than its agent
/// held up.
const ROWS: usize = 1_000_000;
/// A connection that stands; one that is over is nobody's.
const ESTABLISHED: &str = "01";
/// How a mapped address begins (RFC 4291, section 2.5.5.2), as the machine holds it.
const MAPPED: [u32; 3] = [0, 0, 0xffff_u32.to_be()];

/// The user whose socket is connected from `theirs` to `ours`; none where there is none, or more than one.
pub(super) fn user(theirs: SocketAddrV4, ours: SocketAddrV4) -> io::Result<Option<u32>> {
    for table in TABLES {
        let user = match user_in(Path::new(table), theirs, ours) {
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            user => user?,
        };
        if user.is_some() {
            return Ok(user);
        }
    }
    Ok(None)
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
        if local != Some(theirs) || remote != Some(ours) || columns.next() != Some(ESTABLISHED) {
            continue;
        }
        let uid = columns.nth(3).and_then(|uid| uid.parse().ok());
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
    let address = match address.len() {
        8 => address,
        // Four words.
        32 => {
            let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
            let begins = [word(0)?, word(8)?, word(16)?];
            (begins == MAPPED).then(|| address.get(24..))??
        }
        _ => return None,
    };
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
        // By a socket of the other kind, as Java's are.
        let python = "import socket, sys\ns = socket.socket(socket.AF_INET6)\n\
                      s.connect(('::ffff:127.0.0.1', int(sys.argv[1])))\nsys.stdin.read()";
        let mut other = std::process::Command::new("python3")
            .args(["-c", python, &ours.port().to_string()])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (_accepted, theirs) = listener.accept().unwrap();
        assert_eq!(user(v4(theirs), ours).unwrap(), Some(me));
        drop(other.stdin.take());
        other.wait().unwrap();
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
        // One that is over, as it stands there for a minute.
        assert_eq!(of(row("0").replace(" 01 ", " 06 ")), None);
        assert_eq!(of(String::new()), None);
        assert_eq!(user_in(file.path(), at(0x51), at(0x1f90)).unwrap(), None);
    }
}
