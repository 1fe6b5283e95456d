//! A folder, or S3, Google Cloud Storage, Azure, and what speaks like them.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectStore as Objects, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
};
use tokio::runtime::{Builder, Runtime};

use super::folder::Folder;
use super::{Listed, Put, Store, StoreError};
use crate::encrypt::EncryptionKeys;

/// How patient a store is, and what it is told besides its address.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// A request that takes longer has failed.
    pub timeout: Duration,
    /// How often a request is made again before its failure is told.
    pub retries: usize,
    /// Settings by the names of the environment in lower case, as `aws_endpoint`; they come before
    /// those of the environment.
    pub settings: BTreeMap<String, String>,
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.settings.keys().collect();
        f.debug_struct("StoreOptions")
            .field("timeout", &self.timeout)
            .field("retries", &self.retries)
            .field("settings", &names)
            .finish()
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), retries: 2, settings: BTreeMap::new() }
    }
}

/// A variable of the environment by which a store is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreVariable {
    /// Its name, as the clouds have it.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

/// The variables that are enough to reach a store. There are more: whatever `object_store` takes.
pub const STORE_VARIABLES: [StoreVariable; 7] = [
    StoreVariable { name: "AWS_ACCESS_KEY_ID", meaning: "S3: who asks." },
    StoreVariable { name: "AWS_SECRET_ACCESS_KEY", meaning: "S3: the secret of that key." },
    StoreVariable {
        name: "AWS_REGION",
        meaning: "S3: where the bucket is, not this machine; `us-east-1` if not set.",
    },
    StoreVariable {
        name: "AWS_ENDPOINT",
        meaning: "S3: where a store is that is not Amazon's, as `https://minio.example:9000`. `http` is \
                  spoken with this machine only.",
    },
    StoreVariable {
        name: "GOOGLE_SERVICE_ACCOUNT",
        meaning: "Google Cloud Storage: the file of the service account's key, in JSON.",
    },
    StoreVariable {
        name: "AZURE_STORAGE_ACCOUNT_NAME",
        meaning: "Azure: the account that the container is of.",
    },
    StoreVariable { name: "AZURE_STORAGE_ACCOUNT_KEY", meaning: "Azure: its key." },
];

/// A store at an address.
///
/// | address | what | credentials |
/// |---|---|---|
/// | `/path`, `file:///path` | a folder of this machine | |
/// | `s3://bucket/prefix` | S3 and what speaks like it | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT`, `AWS_REGION`, … |
/// | `gs://bucket/prefix` | Google Cloud Storage | `GOOGLE_SERVICE_ACCOUNT`, … |
/// | `az://container/prefix` | Azure | `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, … |
pub struct ObjectStore {
    /// Not yet, for a folder that is not there.
    objects: OnceLock<Arc<dyn Objects>>,
    folder: Option<Folder>,
    prefix: String,
    place: String,
    runtime: Runtime,
}

impl std::fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectStore").field("place", &self.place).finish_non_exhaustive()
    }
}

impl ObjectStore {
    /// Opens the store at `address`. Asks nothing of it yet. The folder of a local one is made by the
    /// first put: one that is only read may be mistyped, or not mounted.
    pub fn open(address: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let refused = |problem: String| StoreError::Refused { place: address.into(), problem };
        let built = |error: Error| refused(error.to_string());
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| refused(format!("cannot start threads: {error}")))?;
        // For reqwest; the process may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ClientOptions::new().with_timeout(options.timeout);
        let retry = RetryConfig {
            max_retries: options.retries,
            retry_timeout: options.timeout,
            ..RetryConfig::default()
        };
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if address.starts_with('/') => ("file", address),
            None => return Err(refused(WHAT_IS_AN_ADDRESS.into())),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (objects, prefix): (Arc<dyn Objects>, &str) = match scheme {
            "file" => {
                let path = FilePath::new(rest);
                if !path.is_absolute() {
                    return Err(refused(format!("{rest} is not an absolute path")));
                }
                return Ok(Self {
                    objects: OnceLock::new(),
                    folder: Some(Folder::new(path)),
                    prefix: String::new(),
                    place: address.into(),
                    runtime,
                });
            }
            _ if bucket.is_empty() => return Err(refused(WHAT_IS_AN_ADDRESS.into())),
            "s3" => {
                let mut builder = object_store::aws::AmazonS3Builder::from_env();
                for (name, value) in &options.settings {
                    builder = builder.with_config(name.parse().map_err(built)?, value);
                }
                let endpoint =
                    builder.get_config_value(&object_store::aws::AmazonS3ConfigKey::Endpoint);
                // Plain HTTP to this machine, as tests and sidecars speak it.
                let client = client.with_allow_http(endpoint.is_some_and(|url| is_loopback(&url)));
                let builder = builder
                    .with_bucket_name(bucket)
                    .with_client_options(client)
                    .with_conditional_put(object_store::aws::S3ConditionalPut::ETagMatch)
                    .with_retry(retry);
                (Arc::new(builder.build().map_err(built)?), prefix)
            }
            "gs" => {
                let mut builder = object_store::gcp::GoogleCloudStorageBuilder::from_env();
                for (name, value) in &options.settings {
                    builder = builder.with_config(name.parse().map_err(built)?, value);
                }
                let builder =
                    builder.with_bucket_name(bucket).with_client_options(client).with_retry(retry);
                (Arc::new(builder.build().map_err(built)?), prefix)
            }
            "az" => {
                let mut builder = object_store::azure::MicrosoftAzureBuilder::from_env();
                for (name, value) in &options.settings {
                    builder = builder.with_config(name.parse().map_err(built)?, value);
                }
                let builder = builder
                    .with_container_name(bucket)
                    .with_client_options(client)
                    .with_retry(retry);
                (Arc::new(builder.build().map_err(built)?), prefix)
            }
            _ => return Err(refused(WHAT_IS_AN_ADDRESS.into())),
        };
        let prefix = prefix.trim_matches('/').to_owned();
        let objects = OnceLock::from(objects);
        Ok(Self { objects, folder: None, prefix, place: address.into(), runtime })
    }

    /// What is asked; `None` for a folder that is not there, unless it is to be made. A folder that is
    /// another one than before is not asked.
    fn objects(&self, make: bool) -> Result<Option<&Arc<dyn Objects>>, StoreError> {
        let Some(local) = &self.folder else { return Ok(self.objects.get()) };
        let failed =
            |problem| StoreError::Unavailable { act: "use", name: self.place.clone(), problem };
        local.check().map_err(failed)?;
        if self.objects.get().is_none() && (make || local.path().is_dir()) {
            let opened = folder(local.path()).map_err(failed)?;
            let _ = self.objects.set(Arc::new(opened));
        }
        Ok(self.objects.get())
    }

    fn saw(&self, name: &str) {
        if let Some(local) = &self.folder {
            local.saw(name);
        }
    }

    fn path(&self, name: &str) -> Path {
        if self.prefix.is_empty() {
            Path::from(name)
        } else {
            Path::from(format!("{}/{name}", self.prefix))
        }
    }

    fn name(&self, path: &Path) -> String {
        let path = path.as_ref();
        let below = path.strip_prefix(&self.prefix).unwrap_or(path);
        below.trim_start_matches('/').to_owned()
    }

    fn failed(&self, act: &'static str, name: &str, error: Error) -> StoreError {
        let text = chain(&error);
        // Only what is read may be missing; else the place is, and will be.
        if text.contains(NO_BUCKET) || (act != "get" && matches!(error, Error::NotFound { .. })) {
            let problem = format!(
                "cannot {act} {name}: {text}; is there a bucket or container of this name?"
            );
            return StoreError::Refused { place: self.place.clone(), problem };
        }
        match error {
            Error::NotFound { .. } => StoreError::Missing { name: name.into() },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreError::Refused {
                place: self.place.clone(),
                problem: format!("cannot {act} {name}: {error}; check the credentials"),
            },
            _ => StoreError::Unavailable { act, name: name.into(), problem: text },
        }
    }
}

const WHAT_IS_AN_ADDRESS: &str = "not an address of a store: expected /path, s3://bucket/prefix, \
                                  gs://bucket/prefix or az://container/prefix";

/// What S3 answers for a bucket that is not there.
const NO_BUCKET: &str = "NoSuchBucket";

fn folder(path: &FilePath) -> Result<object_store::local::LocalFileSystem, String> {
    std::fs::create_dir_all(path).map_err(|error| format!("cannot make the folder: {error}"))?;
    let folder = object_store::local::LocalFileSystem::new_with_prefix(path);
    // An object counts as there once it survives a loss of power; a folder without one is none.
    folder
        .map(|folder| folder.with_fsync(true).with_automatic_cleanup(true))
        .map_err(|error| error.to_string())
}

fn is_loopback(url: &str) -> bool {
    let host = url.strip_prefix("http://").unwrap_or(url);
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|local| {
        host.strip_prefix(local).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

impl Store for ObjectStore {
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let payload = bytes.to_vec().into();
        let path = self.path(name);
        let Some(objects) = self.objects(true)? else {
            return Err(StoreError::Missing { name: self.place.clone() });
        };
        let put = objects.put_opts(&path, payload, options);
        match self.runtime.block_on(put) {
            Ok(_) => {
                self.saw(name);
                Ok(Put::Created)
            }
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::Exists),
            Err(error) => Err(self.failed("put", name, error)),
        }
    }

    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name);
        let Some(objects) = self.objects(false)? else {
            return Err(StoreError::Missing { name: name.into() });
        };
        let bytes = self.runtime.block_on(async {
            let got = objects.get(&path).await?;
            let found = got.meta.size;
            if found > most { Ok(Err(found)) } else { got.bytes().await.map(Ok) }
        });
        match bytes {
            Ok(Ok(bytes)) => {
                self.saw(name);
                Ok(bytes.to_vec())
            }
            Ok(Err(found)) => Err(StoreError::TooLong { name: name.into(), found, most }),
            Err(error) => Err(self.failed("get", name, error)),
        }
    }

    fn list(&self, folder: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        let path = self.path(folder);
        let Some(objects) = self.objects(false)? else { return Ok(Vec::new()) };
        let objects = if after.is_empty() {
            objects.list(Some(&path))
        } else {
            objects.list_with_offset(Some(&path), &self.path(after))
        };
        let objects: Result<Vec<_>, _> = self.runtime.block_on(objects.try_collect());
        let objects = objects.map_err(|error| self.failed("list", folder, error))?;
        let mut listed: Vec<_> = objects
            .into_iter()
            .map(|object| Listed {
                name: self.name(&object.location),
                bytes: object.size,
                modified_ms: object.last_modified.timestamp_millis(),
            })
            .collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let path = self.path(folder);
        let Some(objects) = self.objects(false)? else { return Ok(Vec::new()) };
        let listed = self.runtime.block_on(objects.list_with_delimiter(Some(&path)));
        let listed = listed.map_err(|error| self.failed("list", folder, error))?;
        let last = |path: &Path| path.filename().map(str::to_owned);
        let mut names: Vec<_> = listed.common_prefixes.iter().filter_map(last).collect();
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name);
        let Some(objects) = self.objects(false)? else { return Ok(()) };
        match self.runtime.block_on(objects.delete(&path)) {
            Ok(()) | Err(Error::NotFound { .. }) => {
                if let Some(local) = &self.folder {
                    local.removed(name);
                }
                Ok(())
            }
            Err(error) => Err(self.failed("remove", name, error)),
        }
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn keys(&self) -> &EncryptionKeys {
        EncryptionKeys::none()
    }
}

#[cfg(test)]
mod tests {
    use object_store::aws::AmazonS3ConfigKey;
    use object_store::azure::AzureConfigKey;
    use object_store::gcp::GoogleConfigKey;

    use super::*;

    /// Each is one that the library takes from the environment.
    #[test]
    fn every_variable_of_a_store_is_known_to_it() {
        for StoreVariable { name, .. } in STORE_VARIABLES {
            let key = name.to_ascii_lowercase();
            let known = match name.split('_').next() {
                Some("AWS") => key.parse::<AmazonS3ConfigKey>().is_ok(),
                Some("GOOGLE") => key.parse::<GoogleConfigKey>().is_ok(),
                Some("AZURE") => key.parse::<AzureConfigKey>().is_ok(),
                _ => false,
            };
            assert!(known, "{name}");
        }
    }
}
