//! The server at the other end of the client commands.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::RequestBuilder;
use ureq::http::{HeaderMap, StatusCode};
use ureq::tls::{
    Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem,
};
use ureq::typestate::WithoutBody;

use crate::failure::Failure;
use crate::files;
use crate::socket::SocketConnector;

/// Longest answer that is kept in memory; imports and exports are streams.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// Connecting to a server that is there takes no time; one that is not should not cost much.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which server to ask.
#[derive(Debug, Clone, Args)]
pub struct RemoteArgs {
    /// Address of the server.
    #[arg(
        long,
        env = "STEMEDB_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:18180",
        help_heading = "Server"
    )]
    pub url: String,
    /// Admin socket of a node on this machine, instead of --url: no key needed, but the right to open
    /// the file. The same as --url unix:FILE.
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub socket: Option<PathBuf>,
    /// API key, if the server wants one; better given in the environment.
    #[arg(
        long,
        env = "STEMEDB_API_KEY",
        value_name = "KEY",
        hide_env_values = true,
        help_heading = "Server"
    )]
    pub api_key: Option<String>,
    /// File with the API key, as `stemedb admin keys create --out FILE` writes it; used where no key
    /// itself is given.
    #[arg(
        long,
        env = "STEMEDB_API_KEY_FILE",
        value_name = "FILE",
        hide_env_values = true,
        help_heading = "Server"
    )]
    pub api_key_file: Option<PathBuf>,
    /// Certificates in PEM that are trusted to sign that of an https:// server, instead of the system's.
    #[arg(
        long,
        env = "STEMEDB_CA_FILE",
        value_name = "FILE",
        hide_env_values = true,
        help_heading = "Server"
    )]
    pub ca_file: Option<PathBuf>,
    /// Certificate in PEM to show to a server that asks for one.
    #[arg(
        long,
        env = "STEMEDB_CLIENT_CERTIFICATE",
        value_name = "FILE",
        hide_env_values = true,
        requires = "client_key",
        help_heading = "Server"
    )]
    pub client_certificate: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(
        long,
        env = "STEMEDB_CLIENT_KEY",
        value_name = "FILE",
        hide_env_values = true,
        requires = "client_certificate",
        help_heading = "Server"
    )]
    pub client_key: Option<PathBuf>,
}

/// A connection, kept open between requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Remote {
    base: String,
    /// The address as people know it.
    shown: String,
    api_key: Option<String>,
    agent: ureq::Agent,
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// What came with it.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl RemoteArgs {
    /// Makes the connection; nothing is sent yet.
    pub fn connect(&self) -> Result<Remote, Failure> {
        self.connect_with(None)
    }

    /// The same; every question fails that is not answered within this time.
    pub fn connect_patiently(&self, patience: Duration) -> Result<Remote, Failure> {
        self.connect_with(Some(patience))
    }

    fn connect_with(&self, patience: Option<Duration>) -> Result<Remote, Failure> {
        let key = match (&self.api_key, &self.api_key_file) {
            (None, Some(file)) => Some(files::read_private(file)?.trim().to_owned()),
            (key, _) => key.clone(),
        };
        match &self.socket {
            Some(socket) => Ok(Remote::socket(socket.clone(), patience)),
            None if self.url.starts_with("https://") => {
                let agent = config(Some(self.tls()?), patience).new_agent();
                Ok(Remote::over_http(&self.url, key, agent))
            }
            None => Remote::at(&self.url, key, patience),
        }
    }

    /// Whom to trust, and whom to be.
    fn tls(&self) -> Result<TlsConfig, Failure> {
        let wrong = |file: &Path, error: ureq::Error| {
            Failure::error(format!("{} holds no PEM that can be used", file.display()))
                .because(error)
        };
        let roots = match &self.ca_file {
            None => RootCerts::PlatformVerifier,
            Some(file) => RootCerts::new_with_certs(&certificates(file)?),
        };
        let client = match (&self.client_certificate, &self.client_key) {
            (Some(certificate), Some(key)) => {
                let text = files::read_private(key)?;
                let key = PrivateKey::from_pem(text.as_bytes());
                let key = key.map_err(|error| wrong(certificate, error))?;
                Some(ClientCert::new_with_certs(&certificates(certificate)?, key))
            }
            _ => None,
        };
        Ok(tls(roots, client))
    }
}

/// TLS with these roots.
pub(crate) fn tls(roots: RootCerts, client: Option<ClientCert>) -> TlsConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(roots)
        .client_cert(client)
        .unversioned_rustls_crypto_provider(provider)
        .build()
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let text = files::read_text(file)?;
    let items = parse_pem(text.as_bytes()).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    let found: Result<Vec<_>, _> = items.collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Failure::error(format!("{} holds no certificate in PEM", file.display()))),
        Err(error) => Err(Failure::error(format!("{} is not PEM", file.display())).because(error)),
    }
}

impl Remote {
    /// A server at `http://HOST:PORT`, or behind a socket.
    pub fn new(url: &str, api_key: Option<String>) -> Result<Self, Failure> {
        Self::at(url, api_key, None)
    }

    fn at(url: &str, api_key: Option<String>, patience: Option<Duration>) -> Result<Self, Failure> {
        if let Some(path) = url.strip_prefix("unix:") {
            return Ok(Self::socket(path.into(), patience));
        }
        let base = url.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") {
            return Err(Failure::error(format!("`{url}` is no address of a server"))
                .hint("it is written http://HOST:PORT, https://HOST:PORT or unix:FILE"));
        }
        Ok(Self::over_http(url, api_key, config(None, patience).new_agent()))
    }

    fn over_http(url: &str, api_key: Option<String>, agent: ureq::Agent) -> Self {
        let base = url.trim_end_matches('/').to_owned();
        Self { shown: base.clone(), base, api_key, agent }
    }

    /// The admin socket of a node.
    fn socket(path: PathBuf, patience: Option<Duration>) -> Self {
        let shown = format!("unix:{}", path.display());
        let resolver = ureq::unversioned::resolver::DefaultResolver::default();
        let agent =
            ureq::Agent::with_parts(config(None, patience), SocketConnector(path), resolver);
        Self { shown, base: "http://127.0.0.1".into(), api_key: None, agent }
    }

    /// The address.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Asks; any status is an answer.
    pub fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Answer, Failure> {
        self.read(self.getting(path, query).call())
    }

    fn getting(&self, path: &str, query: &[(&str, String)]) -> RequestBuilder<WithoutBody> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in query {
            request = request.query(name, value);
        }
        if let Some(key) = &self.api_key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        request
    }

    /// Sends a body of this content type; any status is an answer.
    pub fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Answer, Failure> {
        let mut request =
            self.agent.post(format!("{}{path}", self.base)).header("Content-Type", content_type);
        if let Some(key) = &self.api_key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        self.read(request.send(body))
    }

    /// Asks that something be gone; any status is an answer.
    pub fn delete(&self, path: &str) -> Result<Answer, Failure> {
        let mut request = self.agent.delete(format!("{}{path}", self.base));
        if let Some(key) = &self.api_key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        self.read(request.call())
    }

    /// Sends JSON; any status is an answer.
    pub fn post_json(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.post(path, "application/json", body.to_string().as_bytes())
    }

    /// Opens a stream of bytes.
    pub fn stream(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Box<dyn std::io::Read>, Failure> {
        self.open(self.getting(path, query))
    }

    /// Opens a stream of events, behind the one with this id.
    pub fn events(
        &self,
        path: &str,
        query: &[(&str, String)],
        last: &str,
    ) -> Result<Box<dyn std::io::Read>, Failure> {
        let request = self.getting(path, query).header("Accept", "text/event-stream");
        self.open(request.header("Last-Event-ID", last))
    }

    fn open(
        &self,
        request: RequestBuilder<WithoutBody>,
    ) -> Result<Box<dyn std::io::Read>, Failure> {
        let response = request.call().map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            return Ok(Box::new(response.into_body().into_reader()));
        }
        let answer = self.read(Ok(response))?;
        Err(answer.ok().err().unwrap_or_else(|| Failure::error("the server sent no stream")))
    }

    fn read(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Answer, Failure> {
        let mut response = response.map_err(|error| self.unreachable(error))?;
        let text = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()
            .map_err(|error| self.unreachable(error))?;
        let headers = std::mem::take(response.headers_mut());
        Ok(Answer { status: response.status(), headers, text })
    }

    fn unreachable(&self, error: ureq::Error) -> Failure {
        let failure = Failure::error(format!("no answer from {}", self.shown)).because(error);
        failure.hint("is it running? `stemedb serve --data-dir ./stemedb-data` starts one")
    }
}

fn config(tls: Option<TlsConfig>, patience: Option<Duration>) -> ureq::config::Config {
    let builder = ureq::Agent::config_builder();
    let builder = match tls {
        Some(tls) => builder.tls_config(tls).https_only(true),
        None => builder,
    };
    builder
        .http_status_as_error(false)
        .timeout_global(patience)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .user_agent(concat!("stemedb/", env!("CARGO_PKG_VERSION")))
        .build()
}

impl Answer {
    /// The text of a good answer; a problem becomes a failure that says what the server said.
    pub fn ok(self) -> Result<String, Failure> {
        if self.status.is_success() { Ok(self.text) } else { Err(problem(self.status, &self.text)) }
    }

    /// A good answer, read.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let text = self.ok()?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::error("the server's answer is not what this version expects").because(error)
        })
    }
}

/// A failure from `application/problem+json`, or from whatever came instead.
fn problem(status: StatusCode, text: &str) -> Failure {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let field = |name| body.get(name).and_then(Value::as_str);
    let title = field("title").or(status.canonical_reason()).unwrap_or("refused");
    let code = field("code").unwrap_or_default();
    let mut what = format!("{title} ({} {code}", status.as_u16());
    what.truncate(what.trim_end().len());
    what.push(')');
    if let Some(detail) = field("detail") {
        what = format!("{what}: {detail}");
    }
    if let Some(outcome) = field("outcome") {
        what = format!("{what} (outcome: {outcome})");
    }
    match (status, field("code")) {
        (_, Some("api_key_missing")) => {
            Failure::error(what).hint("export STEMEDB_API_KEY_FILE=<data_dir>/node/first-admin.key")
        }
        (_, Some("api_key_unknown" | "api_key_expired")) => {
            Failure::error(what).hint("an administrator makes keys: stemedb admin keys create")
        }
        (_, Some("role_too_low" | "space_forbidden" | "agent_not_bound")) => {
            Failure::error(what).hint("what a key may do is shown by `stemedb admin keys list`")
        }
        (StatusCode::NOT_FOUND, _) => Failure::no(what),
        (StatusCode::FORBIDDEN, _) => Failure::error(what)
            .hint("sign with a key that has the right: --key <data_dir>/node/root.key"),
        (StatusCode::SERVICE_UNAVAILABLE, _) => Failure::error(what).hint("stemedb admin status"),
        _ => Failure::error(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_say_what_the_server_said() {
        for (status, text, expected) in [
            (
                404,
                r#"{"title":"Not found","code":"not_found","detail":"no record ab"}"#,
                "no: Not found (404 not_found): no record ab\n",
            ),
            (400, "{}", "error: Bad Request (400)\n"),
            (502, "<html>", "error: Bad Gateway (502)\n"),
            (
                500,
                r#"{"title":"Log","code":"wal_unavailable","outcome":"indeterminate"}"#,
                "error: Log (500 wal_unavailable) (outcome: indeterminate)\n",
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(problem(status, text).report(), expected);
        }
    }

    #[test]
    fn addresses() {
        for (url, good) in [
            ("http://127.0.0.1:18180", true),
            ("http://127.0.0.1:18180/", true),
            ("unix:/run/stemedb/admin.sock", true),
            ("https://x", false),
            ("127.0.0.1:18180", false),
        ] {
            assert_eq!(Remote::new(url, None).is_ok(), good, "{url}");
        }
    }
}
