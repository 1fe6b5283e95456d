//! From what a person typed to one record at the server.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value};
use stemedb_model::{Kind, LogId, Millis, Signed, SigningKey};
use stemedb_server::wire;

use crate::context::Context;
use crate::failure::Failure;
use crate::remote::{Remote, RemoteArgs};
use crate::{keys, time};

/// Who writes, where and when.
#[derive(Debug, Clone, Args)]
pub struct AuthorArgs {
    /// Sign here with this key file; without it the server signs for its caller.
    #[arg(
        long,
        env = "STEMEDB_KEY",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Author"
    )]
    pub key: Option<PathBuf>,
    /// When it is said to have been made: a day, RFC 3339 or milliseconds. Now if not given.
    #[arg(long, value_name = "TIME", value_parser = time::parse, help_heading = "Author")]
    pub at: Option<Millis>,
    /// The namespace.
    #[arg(
        long,
        env = "STEMEDB_SPACE",
        hide_env_values = true,
        default_value = "default",
        help_heading = "Author"
    )]
    pub space: String,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// The fields of a record as JSON.
#[derive(Debug, Clone, Default)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Sets one if there is something to say.
    #[must_use]
    pub fn maybe<T: Into<Value>>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self,
        }
    }

    /// Sets a list if it is not empty.
    #[must_use]
    pub fn list<T: Into<Value>>(self, name: &str, values: Vec<T>) -> Self {
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        if values.is_empty() { self } else { self.set(name, values) }
    }

    /// The JSON object.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

/// The path that takes records of this kind.
fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Assertion => "/v1/assert",
        Kind::Cosign => "/v1/cosign",
        Kind::Vote => "/v1/vote",
        Kind::Epoch => "/v1/epoch",
        Kind::Source => "/v1/source",
        Kind::Retract => "/v1/retract",
        Kind::Supersede => "/v1/supersede",
        Kind::Predicate => "/v1/predicate",
        Kind::Alias => "/v1/alias",
        Kind::Agent => "/v1/agent",
        Kind::Lens => "/v1/lens",
        Kind::Gold => "/v1/gold",
        Kind::TrustSnapshot => "/v1/trust_snapshot",
        Kind::Lifecycle => "/v1/lifecycle",
        // Written by the server itself; asking gives its own answer.
        Kind::Genesis => "/v1/genesis",
    }
}

/// Sends one record, signed here if there is a key, and prints what became of it.
pub fn send(
    context: &Context,
    author: &AuthorArgs,
    kind: Kind,
    fields: Fields,
) -> Result<(), Failure> {
    let remote = author.remote.connect()?;
    let ack = post(context, &remote, author, kind, fields)?;
    report(context, &ack)
}

/// Sends one record, signed here if there is a key.
pub fn post(
    context: &Context,
    remote: &Remote,
    author: &AuthorArgs,
    kind: Kind,
    fields: Fields,
) -> Result<wire::Ack, Failure> {
    let at = author.at.unwrap_or(Millis(context.env.clock.now_ms()));
    let mut fields = fields.set("kind", kind.name()).set("at", at.0);
    if author.space != "default" {
        fields = fields.set("space", author.space.as_str());
    }
    let body = match &author.key {
        None => fields.into_value(),
        Some(file) => {
            let key = keys::load(file)?;
            let log_id = match kind {
                // These mean the same in every database.
                Kind::Assertion | Kind::Cosign => LogId([0; LogId::LEN]),
                _ => log_id(remote)?,
            };
            to_json(&seal(&fields.into_value(), &key, at, log_id)?)
        }
    };
    remote.post_json(path(kind), &body)?.read()
}

/// The name of the server's database.
pub fn log_id(remote: &Remote) -> Result<LogId, Failure> {
    let health: wire::Health = remote.get("/v1/health", &[])?.read()?;
    Ok(health.node.log_id.0)
}

/// Builds and signs the record that these fields describe.
pub fn seal(
    fields: &Value,
    key: &SigningKey,
    at: Millis,
    log_id: LogId,
) -> Result<Signed, Failure> {
    let record = wire::AnyRecord::parse(fields.to_string().as_bytes())
        .and_then(wire::AnyRecord::draft)
        .map_err(|error| Failure::error(error.to_string()))?
        .record(key.agent_id(), at, log_id);
    Signed::seal(record, key).map_err(|error| Failure::error(error.to_string()))
}

/// A signed record as the server takes it.
pub fn to_json(signed: &Signed) -> Value {
    let any = wire::AnyRecord::of(signed.record(), signed.id(), signed.signature());
    serde_json::to_value(any).unwrap_or_default()
}

fn report(context: &Context, ack: &wire::Ack) -> Result<(), Failure> {
    if context.json {
        return context.print_json(ack);
    }
    let status = match ack.status {
        wire::AckStatus::Created => "created",
        wire::AckStatus::Exists => "exists",
    };
    context.print(&format!("{status}  {}  position {}\n", ack.id.0, ack.position))?;
    if let Some(excluded) = &ack.excluded {
        context.say(&format!("it takes no part in answers now: {}", excluded.reason));
    }
    Ok(())
}
