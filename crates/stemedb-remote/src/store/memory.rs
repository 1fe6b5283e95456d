//! The reference: a store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Listed, Put, Store, StoreError};

/// Objects in memory, for tests and simulations.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, Vec<u8>>>);

impl MemoryStore {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces an object, as nobody but a test or damage does.
    pub fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        self.objects().insert(name.into(), bytes);
    }
}

impl Store for MemoryStore {
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Ok(Put::Exists);
        }
        objects.insert(name.into(), bytes.into());
        Ok(Put::Created)
    }

    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, StoreError> {
        match self.objects().get(name) {
            None => Err(StoreError::Missing { name: name.into() }),
            Some(bytes) if bytes.len() as u64 > most => {
                Err(StoreError::TooLong { name: name.into(), found: bytes.len() as u64, most })
            }
            Some(bytes) => Ok(bytes.clone()),
        }
    }

    fn list(&self, folder: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        let objects = self.objects();
        let below = objects.iter().filter(|(name, _)| {
            name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
                && name.as_str() > after
        });
        let listed = |(name, bytes): (&String, &Vec<u8>)| Listed {
            name: name.clone(),
            bytes: bytes.len() as u64,
            // It has no clock: everything is old.
            modified_ms: i64::MIN,
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
}
