//! TLS over real connections: who is believed, what is spoken, and other certificates while it runs.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits for a real server"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use stemedb_server::{ServerConfig, TlsConfig};
use support::{Running, start_with};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// Whoever signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, year: i32) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate, key }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

impl Identity {
    fn put(&self, dir: &Path) {
        std::fs::write(dir.join("node.pem"), self.certificate.pem()).unwrap();
        std::fs::write(dir.join("node.key"), self.key.serialize_pem()).unwrap();
    }
}

fn files(dir: &Path) -> TlsConfig {
    TlsConfig { certificate: dir.join("node.pem"), key: dir.join("node.key"), client_ca: None }
}

struct Client {
    roots: RootCertStore,
    identity: Option<Identity>,
    versions: Vec<&'static SupportedProtocolVersion>,
    /// What it offers to speak.
    protocols: Vec<&'static str>,
}

impl Client {
    fn of(authority: &Authority) -> Self {
        Self {
            roots: authority.roots(),
            identity: None,
            versions: vec![&TLS13, &TLS12],
            protocols: vec!["http/1.1"],
        }
    }

    fn config(self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(self.roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = vec![CertificateDer::from(certificate)];
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols =
            self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// Status and body of `GET path`; what went wrong if there is no answer.
    fn get(self, server: &Running, path: &str) -> Result<(u16, String), String> {
        let (address, path) = (server.address, path.to_owned());
        let config = Arc::new(self.config());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ask = async move {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let stream = TlsConnector::from(config)
                .connect(name, stream)
                .await
                .map_err(|error| error.to_string())?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = TokioIo::new(stream);
            let url = match http2 {
                true => format!("https://localhost:{}{path}", address.port()),
                false => path,
            };
            let request = Request::get(url);
            let request = match http2 {
                true => request,
                false => request.header("Host", "localhost"),
            };
            let request = request.body(Body::empty()).unwrap();
            let failed = |error: hyper::Error| error.to_string();
            let response = match http2 {
                true => {
                    let (mut sender, connection) =
                        http2::handshake(TokioExecutor::new(), stream).await.map_err(failed)?;
                    tokio::spawn(connection);
                    sender.send_request(request).await.map_err(failed)?
                }
                false => {
                    let (mut sender, connection) =
                        http1::handshake(stream).await.map_err(failed)?;
                    tokio::spawn(connection);
                    sender.send_request(request).await.map_err(failed)?
                }
            };
            let version = response.version();
            assert_eq!(version == hyper::Version::HTTP_2, http2);
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map_err(failed)?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        runtime.block_on(async {
            let bounded = tokio::time::timeout(Duration::from_secs(20), ask);
            bounded.await.map_err(|_| "no answer".to_owned())?
        })
    }
}

fn secured(tls: TlsConfig) -> Running {
    start_with(|config, _| {
        config.tls = Some(tls);
        config.limits.head_timeout = Duration::from_millis(500);
    })
}

#[test]
fn both_protocols_and_both_versions_are_spoken_and_nothing_older() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.sign(2099).put(dir.path());
    let server = secured(files(dir.path()));
    for (name, version) in [("1.3", &TLS13), ("1.2", &TLS12)] {
        for protocols in [vec!["h2", "http/1.1"], vec!["http/1.1"], vec![]] {
            let versions = vec![version];
            let client =
                Client { versions, protocols: protocols.clone(), ..Client::of(&authority) };
            let (status, text) = client.get(&server, "/v1/health").unwrap();
            assert_eq!(status, 200, "{name} {protocols:?}: {text}");
        }
    }
    let metrics = Client::of(&authority).get(&server, "/metrics").unwrap().1;
    // 2099-01-01.
    let expiry = "stemedb_tls_certificate_expiry_timestamp_seconds 4070908800";
    assert!(metrics.contains(expiry), "{metrics}");
    // A stranger's certificate, and no TLS at all.
    let stranger = Client::of(&Authority::new()).get(&server, "/livez").unwrap_err();
    assert!(stranger.contains("certificate"), "{stranger}");
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // TLS 1.1 and 1.0, as a hello says it.
    for minor in [2, 1] {
        let mut old = TcpStream::connect(server.address).unwrap();
        old.write_all(&hello(minor)).unwrap();
        let mut alert = Vec::new();
        let _ = old.read_to_end(&mut alert);
        assert_eq!(alert.first(), Some(&21), "TLS 1.{}: {alert:?}", minor - 1);
        // Fatal, for the version or for what the two cannot agree on.
        let fatal = matches!(alert.get(5..7), Some([2, 70 | 40]));
        assert!(fatal, "TLS 1.{}: {alert:?}", minor - 1);
    }
    assert_eq!(Client::of(&authority).get(&server, "/livez").unwrap().0, 200);
}

/// The first message of a client that knows nothing newer than TLS 1.(minor - 1).
fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // No session; TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA; no compression; no extensions.
    body.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let length = u8::try_from(body.len()).unwrap();
    let mut message = vec![1, 0, 0, length];
    message.extend(body);
    let mut record = vec![22, 3, minor, 0, length + 4];
    record.extend(message);
    record
}

#[test]
fn callers_show_certificates_where_that_is_asked() {
    let (dir, authority, ours) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    authority.sign(2099).put(dir.path());
    let ca = dir.path().join("clients.pem");
    std::fs::write(&ca, ours.0.pem()).unwrap();
    let server = secured(TlsConfig { client_ca: Some(ca), ..files(dir.path()) });
    let with = |identity| Client { identity, ..Client::of(&authority) }.get(&server, "/livez");
    assert!(with(None).is_err());
    assert!(with(Some(authority.sign(2099))).is_err(), "signed by somebody else");
    assert!(with(Some(ours.sign(2001))).is_err(), "expired");
    assert_eq!(with(Some(ours.sign(2099))).unwrap().0, 200);
}

#[test]
fn certificates_are_changed_while_it_runs() {
    let (dir, before, after) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    before.sign(2098).put(dir.path());
    let config = |tls: Option<TlsConfig>| {
        let mut config = ServerConfig::new(dir.path());
        config.auth.enabled = false;
        config.tls = tls;
        config
    };
    let server = secured(files(dir.path()));
    let asks = |authority: &Authority| Client::of(authority).get(&server, "/livez").is_ok();
    assert!(asks(&before) && !asks(&after));
    // What does not fit is refused by name, and changes nothing.
    let stranger = before.sign(2099);
    std::fs::write(dir.path().join("node.key"), stranger.key.serialize_pem()).unwrap();
    let problem = server.server.reload(&config(Some(files(dir.path())))).unwrap_err();
    assert!(problem.contains("tls.key") && problem.contains("node.pem"), "{problem}");
    for (broken, problem) in [
        (TlsConfig { certificate: "/nowhere.pem".into(), ..files(dir.path()) }, "tls.certificate"),
        (
            TlsConfig { certificate: dir.path().join("node.key"), ..files(dir.path()) },
            "tls.certificate",
        ),
        (TlsConfig { key: dir.path().join("node.pem"), ..files(dir.path()) }, "tls.key"),
    ] {
        let told = server.server.reload(&config(Some(broken))).unwrap_err();
        assert!(told.contains(problem), "{told}");
    }
    assert!(server.server.reload(&config(None)).unwrap_err().contains("restart"));
    assert!(asks(&before) && !asks(&after));
    // A connection that is open goes on, new ones get the new certificate.
    after.sign(2097).put(dir.path());
    server.server.reload(&config(Some(files(dir.path())))).unwrap();
    assert!(!asks(&before) && asks(&after));
    let metrics = Client::of(&after).get(&server, "/metrics").unwrap().1;
    // 2097-01-01.
    assert!(metrics.contains("stemedb_tls_certificate_expiry_timestamp_seconds 4007836800"));
}

/// Whoever connects and says nothing, or never ends its hello, holds no place for ever.
#[test]
fn a_handshake_has_its_time() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.sign(2099).put(dir.path());
    let server = secured(files(dir.path()));
    for beginning in [&[][..], &hello(3)[..20]] {
        let mut slow = TcpStream::connect(server.address).unwrap();
        slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        slow.write_all(beginning).unwrap();
        assert_eq!(slow.read(&mut [0; 64]).unwrap_or(0), 0, "closed");
    }
    assert_eq!(Client::of(&authority).get(&server, "/livez").unwrap().0, 200);
}

/// Of one connection as of many: a question over HTTP/2 is bounded as over HTTP/1.1.
#[test]
fn the_bounds_on_heads_hold_over_http_2() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.sign(2099).put(dir.path());
    let server = secured(files(dir.path()));
    let over = || Client { protocols: vec!["h2"], ..Client::of(&authority) };
    let long = format!("/v1/query?subject={}", "x".repeat(9_000));
    let (status, text) = over().get(&server, &long).unwrap();
    assert_eq!(status, 414, "{text}");
    let longer = format!("/v1/query?subject={}", "x".repeat(60_000));
    assert!(over().get(&server, &longer).map_or(true, |(status, _)| status >= 400));
    assert_eq!(over().get(&server, "/livez").unwrap().0, 200);
}
