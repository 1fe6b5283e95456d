//! HTTP: wire types, handlers, limits, error mapping, metrics.
//!
//! [`Server`] puts an [`Engine`](stemedb_engine::Engine) behind HTTP/1.1. Every endpoint is in
//! `handlers`, every error in [`wire::ErrorCode`], every bound in [`Limits`]. The specification is
//! made from the code: [`openapi`].

mod answer;
mod app;
mod audit;
mod auth;
mod body;
mod client;
mod config;
mod crowd;
mod cursor;
mod custodial;
mod error;
mod guard;
mod handlers;
mod learner;
mod limiter;
mod metrics;
mod openapi;
mod question;
mod replica;
mod routes;
mod serve;
mod slots;
mod span;
mod tls;
pub mod wire;

pub use audit::{
    AUDIT_FORMAT, AuditConfig, AuditFile, AuditFinding, AuditReport, audit_dir,
    chain_at as audit_chain_at, verify as verify_audit,
};
pub use auth::{
    KEYS_FORMAT, KeyError, Reset, Token, TrailReport, append_offline, first_key_file, keys_file,
    read_trail, reset_keys, trail_dir,
};
pub use config::{
    AuthConfig, Limits, NotLoopback, Rate, RateLimits, ServerConfig, SigningConfig, TlsConfig,
    check_loopback,
};
pub use custodial::{custodial_dir, open_key, read_key, write_key};
pub use metrics::install_recorder;
pub use replica::{Replica, ReplicaStatus};
pub use routes::openapi;
pub use serve::Server;
pub use span::{Join, join_traces};
pub use tls::{TlsError, certificate_ends};
