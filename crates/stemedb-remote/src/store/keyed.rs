//! A store, and the keys to what is in it.

use std::sync::Arc;

use super::{Listed, Put, Store, StoreError};
use crate::encrypt::EncryptionKeys;

/// Gives keys to a store that has none.
pub struct KeyedStore {
    store: Arc<dyn Store>,
    keys: EncryptionKeys,
}

impl std::fmt::Debug for KeyedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedStore").field("store", &self.store.place()).finish_non_exhaustive()
    }
}

impl KeyedStore {
    /// That store, with these keys.
    pub fn new(store: Arc<dyn Store>, keys: EncryptionKeys) -> Self {
        Self { store, keys }
    }
}

impl Store for KeyedStore {
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        self.store.put_new(name, bytes)
    }

    fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, StoreError> {
        self.store.get(name, most)
    }

    fn list(&self, folder: &str, after: &str) -> Result<Vec<Listed>, StoreError> {
        self.store.list(folder, after)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.store.folders(folder)
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.store.remove(name)
    }

    fn place(&self) -> String {
        self.store.place()
    }

    fn keys(&self) -> &EncryptionKeys {
        &self.keys
    }
}
