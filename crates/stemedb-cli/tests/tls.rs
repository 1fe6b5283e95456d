//! The commands of the TLS guide, as they stand there.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and reads what people read"
)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal};

const STEMEDB: &str = env!("CARGO_BIN_EXE_stemedb");
const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations/tls.md");

/// The shell blocks of the guide that are marked as ours, with their steps, for a port that is free
/// here.
fn blocks(port: u16) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(GUIDE).unwrap().replace("18443", &port.to_string());
    let blocks = text.split("```sh ").skip(1).map(|block| block.split("```").next().unwrap());
    let marked = blocks.filter_map(|block| {
        let (mark, script) = block.split_once('\n').unwrap();
        Some((mark.strip_suffix(": tls")?.to_owned(), script.to_owned()))
    });
    marked.collect()
}

fn bash(dir: &Path, script: &str) -> Command {
    let bin = Path::new(STEMEDB).parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-ec", script]).current_dir(dir).env("PATH", path).stdin(Stdio::null());
    command
}

fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_guide_works_as_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let blocks = blocks(port);
    // As `xtask` holds the marks of the page against them.
    let steps: Vec<&str> = blocks.iter().map(|(step, _)| step.as_str()).collect();
    assert_eq!(steps, ["make", "serve", "ask"]);
    let [(_, make), (_, serve), (_, ask)] = blocks.as_slice() else { panic!("{steps:?}") };
    done(&bash(dir, make).output().unwrap());
    let serve = format!("exec env {}", serve.replace("\\\n", " "));
    let mut child = bash(dir, &serve).stderr(Stdio::piped()).spawn().unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap());
    let server = Server(child);
    let mut line = String::new();
    while !line.starts_with("listening on https://") {
        line.clear();
        assert_ne!(words.read_line(&mut line).unwrap(), 0, "it ended");
    }
    let told = done(&bash(dir, ask).output().unwrap());
    assert!(told.contains("created") && told.contains("rare"), "{told}");
    // Without the root the certificate is a stranger's, and without TLS there is no answer.
    let ask_without = ask.replace("STEMEDB_CA_FILE=root.pem", "STEMEDB_CA_FILE=node.pem");
    let refused = bash(dir, &ask_without).output().unwrap();
    assert!(!refused.status.success());
    let plain = bash(dir, &ask.replace("https://", "http://")).output().unwrap();
    assert!(!plain.status.success());
    // Another certificate, by another root, at SIGHUP.
    done(&bash(dir, make).output().unwrap());
    assert!(!bash(dir, ask).output().unwrap().status.success(), "the old certificate is served");
    rustix::process::kill_process(Pid::from_child(&server.0), Signal::HUP).unwrap();
    while !line.contains("is read anew") {
        line.clear();
        assert_ne!(words.read_line(&mut line).unwrap(), 0, "it ended");
    }
    let told = done(&bash(dir, ask).output().unwrap());
    assert!(told.contains("exists") || told.contains("created"), "{told}");
}
