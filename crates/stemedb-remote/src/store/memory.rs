//! The reference: a store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stemedb_io::Clock;

use super::{Listed, Put, Store, StoreError};
use crate::encrypt::EncryptionKeys;

/// Objects in memory, for tests and simulations.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Object>>,
    clock: Option<Arc<dyn Clock>>,
}

#[derive(Clone)]
struct Object {
    bytes: Vec<u8>,
    put_ms: i64,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// One that knows when an object was put. Without a clock all are put at the start of time.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { objects: Mutex::default(), clock: Some(clock) }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, bytes: Vec<u8>) -> Object {
        Object { bytes, put_ms: self.clock.as_ref().map_or(i64::MIN, |clock| clock.now_ms()) }
    }

    /// Replaces an object, as nobody but a test or damage does.
    pub fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        let object = self.object(bytes);
        self.objects().insert(name.into(), object);
    }
}

impl Store for MemoryStore {
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Ok(Put::Exists);
        }
        objects.insert(name.into(), self.object(bytes.into()));
        Ok(Put::Created)
    }

    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, StoreError> {
        match self.objects().get(name) {
            None => Err(StoreError::Missing { name: name.into() }),
            Some(Object { bytes, .. }) if bytes.len() as u64 > most => {
                Err(StoreError::TooLong { name: name.into(), found: bytes.len() as u64, most })
            }
            Some(Object { bytes, .. }) => Ok(bytes.clone()),
        }
    }

    fn list(&self, folder: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        let objects = self.objects();
        let below = objects.iter().filter(|(name, _)| {
            name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
                && name.as_str() > after
        });
        let listed = |(name, object): (&String, &Object)| Listed {
            name: name.clone(),
            bytes: object.bytes.len() as u64,
            modified_ms: object.put_ms,
        };
        Ok(below.map(listed).collect())
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let objects = self.objects();
        let below = objects.keys().filter_map(|name| {
            let rest = if folder.is_empty() {
                name
            } else {
                name.strip_prefix(folder)?.strip_prefix('/')?
            };
            rest.split_once('/').map(|(first, _)| first.to_owned())
        });
        let names: BTreeSet<String> = below.collect();
        Ok(names.into_iter().collect())
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.objects().remove(name);
        Ok(())
    }

    fn place(&self) -> String {
        "memory".into()
    }

    fn keys(&self) -> &EncryptionKeys {
        EncryptionKeys::none()
    }
}
