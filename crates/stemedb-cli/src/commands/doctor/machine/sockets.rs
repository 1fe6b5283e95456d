//! Who listens on a port. Reads tables; connects to nobody.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::processes::{Process, process};
use super::text;

/// A socket that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    inode: u64,
}

/// Sockets that keep `wanted` from being listened on: the same address and port, or one of the two
/// is every address. `None` where the kernel's table cannot be read.
pub(crate) fn in_the_way(wanted: SocketAddr) -> Option<Vec<Listener>> {
    let mut found = parse(&text("/proc/net/tcp")?);
    // There may be no version 6.
    found.extend(parse(&text("/proc/net/tcp6").unwrap_or_default()));
    found.retain(|one| meet(one.address, wanted));
    Some(found)
}

fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    let plain = |address: SocketAddr| address.ip().to_canonical();
    let (a_ip, b_ip) = (plain(a), plain(b));
    let every = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && (a_ip == b_ip || every)
}

/// The columns: number, local address, remote address, state (`0A` listens), queues, timers, resent,
/// user, timeout, inode.
fn parse(table: &str) -> Vec<Listener> {
    let listener = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
        let address = (*state == "0A").then(|| address(local))??;
        Some(Listener { address, inode: inode.parse().ok()? })
    };
    table.lines().filter_map(listener).collect()
}

/// Words of four bytes in hex, each in the machine's order, then `:PORT`.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Whose socket that is, as far as this user may see.
pub(crate) fn owner(listener: &Listener) -> Option<Process> {
    let wanted = format!("socket:[{}]", listener.inode);
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find_map(|pid| {
        let mut files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let is_it = |file: std::fs::DirEntry| {
            std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        };
        files.any(is_it).then(|| process(pid))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_meet_if_they_are_the_same_or_one_is_every_address() {
        for (a, b, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "10.0.0.1:1", false),
            ("0.0.0.0:1", "10.0.0.1:1", true),
            ("[::]:1", "10.0.0.1:1", true),
            ("[::1]:1", "127.0.0.1:1", false),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
        ] {
            assert_eq!(meet(a.parse().unwrap(), b.parse().unwrap()), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_listener_of_this_process_is_seen_and_owned() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no version 6.
            let Ok(socket) = TcpListener::bind(address) else { continue };
            let bound = socket.local_addr().unwrap();
            let found = in_the_way(bound).unwrap();
            let [one] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!(one.address, bound);
            assert_eq!(owner(one).unwrap().pid, std::process::id());
            drop(socket);
            assert_eq!(in_the_way(bound), Some(Vec::new()));
        }
    }

    #[test]
    fn other_states_and_garbage_are_passed_over() {
        let table = "  sl  local_address rem_address   st\n\
            0: 0100007F:4704 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 7 1\n\
            1: 0100007F:4705 0100007F:0001 01 00000000:00000000 00:00000000 00000000 0 0 8 1\n\
            2: 01:4704 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 9 1\n";
        let found = parse(table);
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((one.address.port(), one.inode), (0x4704, 7));
    }
}
