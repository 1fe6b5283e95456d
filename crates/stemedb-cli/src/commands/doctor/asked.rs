//! What the node says when it is asked: at its admin socket, which needs no key and tells its state, and
//! at the address of the configuration, where another database may listen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::de::DeserializeOwned;
use stemedb_model::LogId;
use stemedb_server::wire::{Health, Node};

use super::finding::quoted;
use crate::config::Config;
use crate::failure::Failure;
use crate::remote::{Answer, Remote, RemoteArgs};

/// A node that is well answers in milliseconds; one that is not should not keep a doctor waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the node says of itself.
#[derive(Debug)]
pub(crate) struct Answers {
    /// Where it was asked.
    pub(crate) address: String,
    /// How a command reaches it: ` --socket FILE` or ` --url URL`.
    pub(crate) flag: String,
    /// Its state, or why there is none.
    pub(crate) node: Result<Node, String>,
    /// `/v1/health`, or why there is none: it may take a key.
    pub(crate) health: Result<Health, String>,
    /// The text of `/metrics`, or why there is none.
    pub(crate) metrics: Result<String, String>,
}

/// What was found when the node was asked.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It answered.
    Answered(Box<Answers>),
    /// Another database answered at the address that this one is to have.
    Another { address: String, log_id: LogId },
    /// Nothing answered; each place that was tried, and why not.
    Silent(Vec<String>),
}

impl Asked {
    /// Asks; over HTTP with `keys`. `nobody` has the log open, as far as can be seen;
    /// `known` is the database that belongs here.
    pub(super) fn at(
        keys: &RemoteArgs,
        config: &Config,
        nobody: bool,
        known: Option<LogId>,
    ) -> Self {
        let mut tried = Vec::new();
        let scheme = if config.tls.certificate.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", local(config.server.listen));
        let over_http = RemoteArgs { url: url.clone(), ..keys.clone() };
        if let Some(socket) = config.admin_socket().filter(|socket| socket.exists()) {
            let flag = format!(" --socket {}", quoted(&socket));
            let on_socket = RemoteArgs { socket: Some(socket), ..keys.clone() };
            match at_socket(&on_socket, &over_http, flag) {
                Ok(answers) => return Self::Answered(Box::new(answers)),
                Err(why) => tried.push(why),
            }
        }
        let answers = match over_tcp(&over_http, format!(" --url {url}")) {
            Ok(answers) => answers,
            Err(why) => {
                tried.push(why);
                return Self::Silent(tried);
            }
        };
        match &answers.node {
            // If nobody has our log open, it is not our node that listens there.
            Ok(node) if known.map_or(nobody, |known| known != node.log_id.0) => {
                Self::Another { address: url, log_id: node.log_id.0 }
            }
            Err(why) if nobody => {
                tried.push(format!("{url}: another program answers, {why}"));
                Self::Silent(tried)
            }
            _ => Self::Answered(Box::new(answers)),
        }
    }

    /// The answers, if there are any.
    pub(crate) fn answers(&self) -> Option<&Answers> {
        match self {
            Self::Answered(answers) => Some(answers),
            Self::Another { .. } | Self::Silent(_) => None,
        }
    }

    /// Whether the node has taken the log off its file system.
    pub(super) fn detached(&self) -> bool {
        let node = self.answers().and_then(|answers| answers.node.as_ref().ok());
        node.is_some_and(|node| node.wal == "detached")
    }
}

/// Asks for the state at the socket and for the rest at the address; `Err` if nothing answers at the
/// socket.
fn at_socket(
    on_socket: &RemoteArgs,
    over_http: &RemoteArgs,
    flag: String,
) -> Result<Answers, String> {
    let remote = on_socket.connect_patiently(PATIENCE).map_err(told)?;
    let node = ask::<Node>(&remote, "/v1/admin/node")?;
    let metrics = metrics(&remote);
    let over = |remote: Remote| ask::<Health>(&remote, "/v1/health");
    let health = match over_http.connect_patiently(PATIENCE).map_err(told).and_then(over) {
        Ok(Ok(health)) if node.as_ref().is_ok_and(|node| node.log_id == health.node.log_id) => {
            Ok(health)
        }
        Ok(Ok(_)) => Err(format!("{}: another database answers", over_http.url)),
        Ok(Err(why)) | Err(why) => Err(why),
    };
    Ok(Answers { address: remote.url().to_owned(), flag, node, health, metrics })
}

/// Asks for everything at the address; `Err` if nothing answers there.
fn over_tcp(target: &RemoteArgs, flag: String) -> Result<Answers, String> {
    let remote = target.connect_patiently(PATIENCE).map_err(told)?;
    let health = ask::<Health>(&remote, "/v1/health")?;
    let node = health.as_ref().map(|health| health.node.clone()).map_err(String::clone);
    let metrics = metrics(&remote);
    Ok(Answers { address: remote.url().to_owned(), flag, node, health, metrics })
}

fn metrics(remote: &Remote) -> Result<String, String> {
    remote.get("/metrics", &[]).and_then(Answer::ok).map_err(told)
}

/// An answer, also of a node that is not well, which comes with status 503. The outer error: nothing
/// answers. The inner one: what answers does not say that.
fn ask<T: DeserializeOwned>(remote: &Remote, path: &str) -> Result<Result<T, String>, String> {
    let answer = remote.get(path, &[]).map_err(told)?;
    if let Ok(read) = serde_json::from_str(&answer.text) {
        return Ok(Ok(read));
    }
    let status = answer.status;
    Ok(Err(match answer.ok() {
        Ok(_) => format!("its answer ({status}) is none of a node"),
        Err(failure) => told(failure),
    }))
}

/// A failure in one line, without what to type.
fn told(failure: Failure) -> String {
    let report = failure.report();
    let lines = report.lines().filter(|line| !line.starts_with("hint: ")).map(str::trim);
    let lines: Vec<&str> = lines.collect();
    lines.join(", ").trim_start_matches("error: ").trim_start_matches("no: ").to_owned()
}

/// An address that this machine can connect to: "every address" is none.
fn local(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_asked_on_this_machine() {
        for (listen, expected) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(local(listen.parse().unwrap()), expected.parse().unwrap());
        }
    }

    #[test]
    fn failures_are_told_in_one_line() {
        let cause = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let failure = Failure::error("no answer from x").because(cause).hint("is it running?");
        assert_eq!(told(failure), "no answer from x, because: no such file");
        assert_eq!(told(Failure::no("x")), "x");
    }
}
