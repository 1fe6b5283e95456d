//! What the service manager that started us is told, by the protocol of systemd (`sd_notify(3)`):
//! one datagram a message, lines of `NAME=value`, to the socket that `NOTIFY_SOCKET` names.
//!
//! Nothing is told without that variable, and nobody waits for an answer.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use stemedb_engine::{NodeState, NodeStatus};

use crate::failure::Failure;

/// Pings in the time after which the manager takes us for dead: one that is late does no harm.
const PINGS: u32 = 3;
/// After so many looks without a beat it is said; a process that was stopped may look before it beats.
const MISSED_SAID: u32 = 5;

/// Who started us, if it wants to be told.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// As the variables of this process say.
    pub fn of_this_process() -> Result<Self, Failure> {
        let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::new(named, std::process::id())
    }

    fn new(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Result<Self, Failure> {
        let Some(name) = variable("NOTIFY_SOCKET") else { return Ok(Self::default()) };
        let failed = |error| {
            Failure::error(format!("cannot tell the service manager at NOTIFY_SOCKET={name}"))
                .because(error)
                .hint("unset NOTIFY_SOCKET where nobody listens")
        };
        // A name of the abstract kind is written with `@` for the 0 in front.
        let address = match name.strip_prefix('@') {
            Some(rest) => SocketAddr::from_abstract_name(rest),
            None => SocketAddr::from_pathname(&name),
        };
        let socket = UnixDatagram::unbound().map_err(failed)?;
        // A manager that does not read must not hold us up: it misses a message.
        socket.set_nonblocking(true).map_err(failed)?;
        let number = |name| variable(name).and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|watched| watched == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|_| ours).filter(|micros| *micros > 0);
        Ok(Self {
            socket: Some((socket, address.map_err(failed)?)),
            watchdog: watchdog.map(Duration::from_micros),
        })
    }

    /// Whether somebody is told.
    pub fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// How often it wants to hear that we live, if it does.
    pub fn ping_every(&self) -> Option<Duration> {
        self.watchdog.map(|longest| longest / PINGS)
    }

    /// Sends assignments, a line each.
    pub fn tell(&self, lines: &[String]) {
        let Some((socket, address)) = self.socket.as_ref().filter(|_| !lines.is_empty()) else {
            return;
        };
        let message = lines.join("\n");
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::warn!(%error, message, "the service manager was not told");
        }
    }
}

/// The end has begun.
pub fn stopping() -> String {
    "STOPPING=1".into()
}

/// What we are doing, in words that `systemctl status` shows.
pub fn status(words: &str) -> String {
    // A line break would begin another assignment.
    format!("STATUS={}", words.replace(['\n', '\r'], " "))
}

/// What there is to tell of a node that is looked at again and again.
#[derive(Debug)]
pub struct Report {
    ping_every: Option<Duration>,
    ready: bool,
    words: String,
    pinged: Option<Duration>,
    pulse: u64,
    /// Looks without a beat where a ping was due.
    missed: u32,
}

impl Report {
    /// Nothing is told so far.
    pub fn new(ping_every: Option<Duration>) -> Self {
        Self { ping_every, ready: false, words: String::new(), pinged: None, pulse: 0, missed: 0 }
    }

    /// What is new at `now`, as lines for the manager. `pulse` is the engine's: without a beat since
    /// the last ping there is no further one, and the manager ends and starts us.
    pub fn news(&mut self, node: &NodeStatus, pulse: u64, now: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.ready && !matches!(node.state, NodeState::Starting | NodeState::Recovering) {
            self.ready = true;
            lines.push("READY=1".to_owned());
        }
        let words = words(node);
        if words != self.words {
            lines.push(status(&words));
            self.words = words;
        }
        let Some(every) = self.ping_every else { return lines };
        if self.pinged.is_some_and(|pinged| now.saturating_sub(pinged) < every) {
            return lines;
        }
        // A closed engine has none any more, and the end takes as long as it takes.
        if pulse > self.pulse || node.state == NodeState::Stopped {
            lines.push("WATCHDOG=1".to_owned());
            (self.pinged, self.pulse, self.missed) = (Some(now), pulse, 0);
            return lines;
        }
        self.missed = self.missed.saturating_add(1);
        if self.missed == MISSED_SAID {
            tracing::error!(
                "the engine has no pulse: the service manager is not told that we live"
            );
        }
        lines
    }
}

/// The state for people.
fn words(node: &NodeStatus) -> String {
    let state = node.state.as_str();
    let progress = node.progress;
    match (node.state, &node.reason, &node.degraded) {
        (_, Some(reason), _) => format!("{state}: {}: {}", reason.code, reason.detail),
        (NodeState::Recovering, None, _) => {
            format!("{state}: {} of {} records", progress.applied, progress.durable)
        }
        (_, None, Some(degraded)) => format!("{state}, degraded: {degraded}"),
        (_, None, None) => state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use stemedb_engine::{NodeReason, Progress};
    use stemedb_index::Lost;
    use stemedb_log::LogState;
    use stemedb_model::{LogId, Position, Timeline};

    use super::*;

    fn manager(socket: &str, more: &[(&str, &str)]) -> Result<Manager, Failure> {
        let own = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(socket.to_owned()),
            _ => more.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into()),
        };
        Manager::new(own, 7)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 200];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn both_kinds_of_socket_hear_each_message_on_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("stemedb-test-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        for (socket, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
            (UnixDatagram::bind_addr(&by_name).unwrap(), format!("@{abstract_name}")),
        ] {
            let manager = manager(&name, &[]).unwrap();
            manager.tell(&[status("recovering\nREADY=1"), "WATCHDOG=1".into()]);
            manager.tell(&[]);
            manager.tell(&[stopping()]);
            assert_eq!(heard(&socket), "STATUS=recovering READY=1\nWATCHDOG=1");
            assert_eq!(heard(&socket), "STOPPING=1");
        }
    }

    #[test]
    fn pings_are_for_whom_the_manager_watches() {
        let second = Some(Duration::from_secs(1));
        for (variables, every) in [
            (&[("WATCHDOG_USEC", "3000000")][..], second),
            (&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "7")], second),
            (&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "8")], None),
            (&[("WATCHDOG_USEC", "0")], None),
            (&[("WATCHDOG_USEC", "soon")], None),
            (&[], None),
        ] {
            assert_eq!(
                manager("/nowhere", variables).unwrap().ping_every(),
                every,
                "{variables:?}"
            );
        }
    }

    #[test]
    fn without_a_listener_nothing_is_told_and_nothing_breaks() {
        let nobody = Manager::new(|_| None, 7).unwrap();
        assert!(!nobody.listens());
        nobody.tell(&[stopping()]);
        // Named, and gone.
        manager("/nowhere/notify", &[]).unwrap().tell(&[stopping()]);
        assert!(manager(&"x".repeat(200), &[]).is_err());
    }

    fn node(state: NodeState, reason: Option<&str>, degraded: Option<&str>) -> NodeStatus {
        NodeStatus {
            state,
            reason: reason.map(|detail| NodeReason { code: "code", detail: detail.into() }),
            degraded: degraded.map(str::to_owned),
            log: LogState::Ok,
            log_id: LogId([0; 16]),
            timeline: Timeline([0; 16]),
            progress: Progress { applied: Position(3), durable: Position(5) },
            in_flight: 0,
            lost: Lost::default(),
            archive: None,
            rebuild: None,
        }
    }

    #[test]
    fn ready_is_told_once_and_a_state_when_it_changes() {
        let mut report = Report::new(None);
        for (state, reason, degraded, expected) in [
            (NodeState::Starting, None, None, &["STATUS=starting"][..]),
            (NodeState::Recovering, None, None, &["STATUS=recovering: 3 of 5 records"]),
            (NodeState::Recovering, Some("x"), None, &["STATUS=recovering: code: x"]),
            (NodeState::Ready, None, None, &["READY=1", "STATUS=ready"]),
            (NodeState::Ready, None, None, &[]),
            (NodeState::Ready, None, Some("healed"), &["STATUS=ready, degraded: healed"]),
            (NodeState::ReadOnly, Some("x"), None, &["STATUS=read_only: code: x"]),
            (NodeState::Drained, None, None, &["STATUS=drained"]),
            (NodeState::Ready, None, None, &["STATUS=ready"]),
        ] {
            let node = node(state, reason, degraded);
            assert_eq!(report.news(&node, 1, Duration::ZERO), expected, "{node:?}");
        }
    }

    #[test]
    fn it_pings_while_there_is_a_pulse() {
        let second = Duration::from_secs(1);
        let ready = node(NodeState::Ready, None, None);
        let mut report = Report::new(Some(second));
        report.news(&ready, 1, Duration::ZERO);
        let mut pings = |at_ms, pulse, state| {
            let node = node(state, None, None);
            let news = report.news(&node, pulse, Duration::from_millis(at_ms));
            news.contains(&"WATCHDOG=1".to_owned())
        };
        for (at_ms, pulse, state, expected) in [
            (999, 40, NodeState::Ready, false),
            (1_000, 40, NodeState::Ready, true),
            // It beats no more.
            (2_000, 40, NodeState::Ready, false),
            (9_000, 40, NodeState::Drained, false),
            // It was only late.
            (9_100, 41, NodeState::Ready, true),
            // The end is not to be cut short.
            (10_100, 41, NodeState::Stopped, true),
        ] {
            assert_eq!(pings(at_ms, pulse, state), expected, "{at_ms} {pulse} {state:?}");
        }
    }
}
