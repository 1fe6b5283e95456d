//! TLS: the certificate, its key, whose certificates callers may show; and all of that anew while the
//! server runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use stemedb_io::{Env, Open};
use stemedb_model::Millis;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::TlsConfig;
use crate::wire::Time;

/// No file of certificates is longer.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why TLS is not as it was configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{key} = {}: {source}", file.display())]
    File {
        /// The setting.
        key: &'static str,
        /// Its value.
        file: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{key} = {}: {problem}", file.display())]
    Content {
        /// The setting.
        key: &'static str,
        /// Its value.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What the files hold does not fit together.
    #[error("TLS: {0}")]
    Other(String),
}

/// When the certificate of a configuration ends to be valid; an error if a server could not use it.
pub fn certificate_ends(env: &Env, config: &TlsConfig) -> Result<Millis, TlsError> {
    load(env, config).map(|loaded| loaded.expires_at)
}

/// What is in force.
struct Loaded {
    server: Arc<ServerConfig>,
    /// When the first certificate of the chain ends to be valid.
    expires_at: Millis,
}

/// The TLS side of a server.
pub(crate) struct Tls {
    env: Env,
    loaded: RwLock<(TlsConfig, Loaded)>,
}

impl Tls {
    pub(crate) fn load(env: &Env, config: &TlsConfig) -> Result<Self, TlsError> {
        let loaded = RwLock::new((config.clone(), load(env, config)?));
        let tls = Self { env: env.clone(), loaded };
        tls.warn();
        Ok(tls)
    }

    /// Takes the certificates anew, for connections that come from now on. If that fails, all stays as
    /// it was.
    pub(crate) fn reload(&self, config: &TlsConfig) -> Result<(), TlsError> {
        let loaded = load(&self.env, config)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = (config.clone(), loaded);
        self.warn();
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&loaded.1.server))
    }

    /// When the certificate ends to be valid.
    pub(crate) fn expires_at(&self) -> Millis {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).1.expires_at
    }

    /// Callers that do not look at dates are served all the same, so it is no reason not to start.
    fn warn(&self) {
        let end = self.expires_at();
        if end.0 <= self.env.clock.now_ms() {
            tracing::error!(end = %Time(end), "the TLS certificate has expired: callers will refuse it");
        }
    }
}

fn load(env: &Env, config: &TlsConfig) -> Result<Loaded, TlsError> {
    let provider = Arc::new(default_provider());
    let other = |error: &dyn std::fmt::Display| TlsError::Other(error.to_string());
    let chain = certificates(env, "tls.certificate", &config.certificate)?;
    let mut expires_at = Millis(i64::MAX);
    for certificate in &chain {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| {
            content("tls.certificate", &config.certificate, &format!("no X.509: {error}"))
        })?;
        let end = parsed.validity().not_after.timestamp().saturating_mul(1_000);
        expires_at = expires_at.min(Millis(end));
    }
    let bytes = read(env, "tls.key", &config.key)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        content("tls.key", &config.key, &format!("no private key in PEM: {error}"))
    })?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| other(&error))?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(env, "tls.client_ca", file)? {
                roots
                    .add(root)
                    .map_err(|error| content("tls.client_ca", file, &error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| content("tls.client_ca", file, &error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder.with_single_cert(chain, key).map_err(|error| {
        let problem = format!("does not go with {}: {error}", config.certificate.display());
        content("tls.key", &config.key, &problem)
    })?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded { server: Arc::new(server), expires_at })
}

fn content(key: &'static str, file: &Path, problem: &str) -> TlsError {
    TlsError::Content { key, file: file.to_owned(), problem: problem.to_owned() }
}

fn certificates(
    env: &Env,
    key: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(env, key, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| content(key, file, &format!("no PEM: {error}")))?;
    if found.is_empty() {
        return Err(content(key, file, "holds no certificate in PEM"));
    }
    Ok(found)
}

fn read(env: &Env, key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::File { key, file: path.to_owned(), source };
    let file = env.vfs.open(path, Open::Read).map_err(failed)?;
    let len = file.len().map_err(failed)?;
    if len > FILE_BYTES_MAX {
        return Err(content(key, path, &format!("is {len} bytes long")));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(bytes)
}
