//! Datagrams that the server's kernel had no room for: the `drops` of its sockets in `/proc/PID/net/udp` and `udp6`, the network as
//! the server's process sees it.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::error::Error;

/// The tables, for IPv4 and for IPv6 sockets. A socket of the latter may serve both.
const TABLES: [&str; 2] = ["udp", "udp6"];

/// The drops of all sockets on the target's port, since a beginning.
#[derive(Debug)]
pub(super) struct ServerDrops {
    pid: u32,
    port: u16,
    before: u64,
}

impl ServerDrops {
    /// Counts from now on.
    pub(super) fn begin(pid: u32, target: SocketAddr) -> Result<Self, Error> {
        let port = target.port();
        let before = read(pid, port)?;
        Ok(Self { pid, port, before })
    }

    /// How many there were.
    pub(super) fn end(&self) -> Result<u64, Error> {
        // A socket that was closed has taken its count with it.
        Ok(read(self.pid, self.port)?.saturating_sub(self.before))
    }
}

fn read(pid: u32, port: u16) -> Result<u64, Error> {
    let mut drops = 0;
    for table in TABLES {
        let path = PathBuf::from(format!("/proc/{pid}/net/{table}"));
        match fs::read_to_string(&path) {
            Ok(text) => drops += sum(&text, port),
            // A kernel without IPv6.
            Err(error) if error.kind() == ErrorKind::NotFound && table == "udp6" => {}
            Err(error) => return Err(Error::Read(path, error)),
        }
    }
    Ok(drops)
}

/// The drops of all sockets in a table that are bound to `port`.
fn sum(table: &str, port: u16) -> u64 {
    let lines = table.lines().skip(1);
    lines
        .filter_map(drops)
        .filter(|(bound, _)| *bound == port)
        .map(|(_, drops)| drops)
        .sum()
}

/// Port and drops of a line: `sl local_address …`, the address as hexadecimal digits with the port behind a colon; drops come
/// last.
fn drops(line: &str) -> Option<(u16, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((port, fields.next_back()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket;

    #[test]
    fn drops_are_those_of_the_port() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            \n\
            7: 0100007F:5F79 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0000000000000000 12        \n\
            7: 00000000:5F79 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0000000000000000 30        \n\
            9: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0000000000000000 500       \n";
        assert_eq!(sum(table, 24441), 42);
        assert_eq!(sum(table, 53), 500);
        assert_eq!(sum(table, 1), 0);
        assert_eq!(sum("nonsense\nnonsense\n", 1), 0);
    }

    #[test]
    fn what_a_full_queue_drops_is_counted() {
        let server = socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket2::SockRef::from(&server)
            .set_recv_buffer_size(1)
            .unwrap();
        let target = server.local_addr().unwrap();
        let drops = ServerDrops::begin(std::process::id(), target).unwrap();
        let client = socket::connect(target).unwrap();
        for _ in 0..100 {
            client.send(&[0; 500]).unwrap();
        }
        let dropped = u64::from(socket::dropped(&server).unwrap());
        assert!(dropped > 0);
        assert_eq!(drops.end().unwrap(), dropped);
        assert!(ServerDrops::begin(u32::MAX, target).is_err());
    }
}
