//! Where a request comes from: the other end of the connection, or what a proxy that is trusted says.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

/// Where a request comes from; set by whoever accepts the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// The other end of the connection.
    Peer(SocketAddr),
    /// The address that a trusted proxy was asked from.
    Behind(IpAddr),
    /// A program on this machine that may open the admin socket.
    Socket,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(address) => address.fmt(f),
            Self::Behind(address) => address.fmt(f),
            Self::Socket => f.write_str("socket"),
        }
    }
}

impl Client {
    /// Who asked the proxies that are trusted: the last address of `X-Forwarded-For` that is not one of
    /// theirs. Whoever is not trusted may write into that header what it likes.
    pub(crate) fn through(self, trusted: &[IpNet], headers: &HeaderMap) -> Self {
        let Self::Peer(peer) = self else { return self };
        let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
        if !is_trusted(&peer.ip().to_canonical()) {
            return self;
        }
        let mut found = self;
        let lines: Vec<&[u8]> =
            headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes).collect();
        for hop in lines.iter().flat_map(|line| line.split(|byte| *byte == b',')).rev() {
            // What cannot be read was not written by a proxy of ours, nor was anything before it.
            let text = std::str::from_utf8(hop).ok();
            let Some(address) = text.and_then(|text| address(text.trim())) else { break };
            found = Self::Behind(address);
            if !is_trusted(&address) {
                break;
            }
        }
        found
    }
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    plain.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_trusted_proxies_say_counts() {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "::1/128"].iter().map(|text| text.parse().unwrap()).collect();
        for (peer, lines, expected) in [
            ("10.0.0.1:5", &["1.2.3.4"][..], "1.2.3.4"),
            ("[::ffff:10.0.0.1]:5", &["1.2.3.4"], "1.2.3.4"),
            ("[::1]:5", &["[2001:db8::1]:443"], "2001:db8::1"),
            // Forged in front of what the proxy added.
            ("10.0.0.1:5", &["9.9.9.9, 1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1:5", &["9.9.9.9", "1.2.3.4, 10.0.0.2"], "1.2.3.4"),
            ("10.0.0.1:5", &["9.9.9.9, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1:5", &["9.9.9.9", "é, 1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1:5", &["9.9.9.9", "é, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1:5", &["9.9.9.9", "1.2.3.4é"], "10.0.0.1:5"),
            ("10.0.0.1:5", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1:5", &["nonsense"], "10.0.0.1:5"),
            ("10.0.0.1:5", &[], "10.0.0.1:5"),
            // Not a proxy of ours.
            ("11.0.0.1:5", &["1.2.3.4"], "11.0.0.1:5"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
                headers.append("x-forwarded-for", line);
            }
            let client = Client::Peer(peer.parse().unwrap());
            assert_eq!(
                client.through(&trusted, &headers).to_string(),
                expected,
                "{peer} {lines:?}"
            );
        }
        assert_eq!(Client::Socket.through(&trusted, &HeaderMap::new()), Client::Socket);
    }
}
