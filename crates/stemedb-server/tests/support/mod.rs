//! A real server on a loopback port, over a log in memory and an index in a scratch folder.
#![allow(dead_code, unreachable_pub, reason = "shared by test files; each uses a part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use stemedb_engine::{Engine, EngineConfig};
use stemedb_index::{Index, IndexConfig};
use stemedb_io::Env;
use stemedb_log::{Log, MemoryLog};
use stemedb_model::{
    Body, Genesis, LogId, Millis, Principal, Record, Signed, SigningKey, Space, Timeline,
};
use stemedb_server::wire::AnyRecord;
use stemedb_server::{Server, ServerConfig};

pub const LOG_ID: LogId = LogId([0x1d; 16]);

pub fn root() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

pub fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

/// The JSON of a record signed by `key`.
pub fn signed(body: Body, key: &SigningKey, at: i64) -> Value {
    let bound = !matches!(body, Body::Assertion(_) | Body::Cosign(_));
    let record = Record {
        space: Space::default(),
        agent: key.agent_id(),
        at: Millis(at),
        log_id: bound.then_some(LOG_ID),
        body,
    };
    let signed = Signed::seal(record, key).unwrap();
    let any = AnyRecord::of(signed.record(), signed.id(), signed.signature());
    serde_json::to_value(any).unwrap()
}

pub struct Running {
    pub address: SocketAddr,
    pub engine: Arc<Engine>,
    /// To have it take another configuration.
    pub server: Server,
    /// Lets this many more groups into the log; the next fails like a failed sync.
    pub breaker: Box<dyn Fn(u64) + Send + Sync>,
    agent: ureq::Agent,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

pub fn start() -> Running {
    start_with(|_, _| ())
}

/// A server whose custodial agent is registered.
pub fn start_with(change: impl FnOnce(&mut ServerConfig, &mut EngineConfig)) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let mut log = MemoryLog::new(LOG_ID, Timeline([0x7e; 16]), Arc::clone(&env.clock));
    let record = Record {
        space: Space::default(),
        agent: root().agent_id(),
        at: Millis(1_700_000_000_000),
        log_id: Some(LOG_ID),
        body: Body::Genesis(Genesis { format: 1, root: root().agent_id() }),
    };
    let genesis = Signed::seal(record, &root()).unwrap();
    Engine::genesis(&mut log, &genesis, Principal::parse("root").unwrap()).unwrap();
    let breaker = Box::new(log.breaker());
    let index =
        Index::open(&IndexConfig::new(dir.path().join("index")), log.reader().identity()).unwrap();
    let mut engine_config = EngineConfig::default();
    let mut config = ServerConfig::new(dir.path());
    config.auth.enabled = false;
    config.limits.at_least_timeout = Duration::from_millis(50);
    change(&mut config, &mut engine_config);
    stemedb_server::install_recorder();
    let engine = Engine::open(engine_config, env.clone(), Box::new(log), index).unwrap();
    engine.wait_ready(|_| ()).unwrap();
    let server = Server::new(Arc::clone(&engine), &env, config).unwrap();
    server.register_custodial(&root()).unwrap();
    let serving = server.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let socket = dir.path().join("admin.sock");
    let (tell, address) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let socket = tokio::net::UnixListener::bind(&socket).unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            serving
                .serve(listener, Some(socket), async {
                    let _ = stopped.await;
                })
                .await
                .unwrap();
        });
    });
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .max_redirects(0)
        .build()
        .new_agent();
    Running {
        address: address.recv().unwrap(),
        engine,
        server,
        breaker,
        agent,
        stop: Some(stop),
        thread: Some(thread),
        _dir: dir,
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.engine.close(Duration::from_secs(5));
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn lines(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Running {
    pub fn data_dir(&self) -> &std::path::Path {
        self._dir.path()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        answer(self.agent.get(self.url(path)).call().unwrap())
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = self.agent.get(self.url(path));
        let request = headers.iter().fold(request, |to, (key, value)| to.header(*key, *value));
        answer(request.call().unwrap())
    }

    pub fn get_json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, body, &[])
    }

    pub fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        self.send("POST", path, "application/json", body.to_string().as_bytes(), headers)
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, "application/json", body.to_string().as_bytes(), &[])
    }

    pub fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> Answer {
        let url = self.url(path);
        let mut request = match method {
            "POST" => self.agent.post(url),
            "PUT" => self.agent.put(url),
            "PATCH" => self.agent.patch(url),
            _ => panic!("{method}"),
        };
        if !content_type.is_empty() {
            request = request.header("Content-Type", content_type);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body).unwrap())
    }

    pub fn import(&self, lines: &str) -> Vec<Value> {
        let answer = self.send("POST", "/v1/import", "application/x-ndjson", lines.as_bytes(), &[]);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.lines()
    }

    /// Sends bytes as they are; the status and body of the answer, if there was one.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request).unwrap();
        read_answer(&mut stream)
    }

    /// A claim by the custodial agent; its id and position.
    pub fn claim(&self, body: Value) -> (String, u64) {
        let answer = self.post("/v1/assert", &body);
        assert_eq!(answer.status, 201, "{}", answer.text);
        let json = answer.json();
        (json["id"].as_str().unwrap().to_owned(), json["position"].as_u64().unwrap())
    }
}

/// Reads until the other side closes.
pub fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A connection that is reset after the answer has still answered.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or("0");
    Answer {
        status: status.parse().unwrap(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        text: body.to_owned(),
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    Answer {
        status: response.status().as_u16(),
        headers: response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        text: response.body_mut().with_config().limit(1 << 30).read_to_string().unwrap(),
    }
}
