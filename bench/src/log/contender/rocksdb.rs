//! RocksDB with a synced write-ahead log, through its C interface: the crates that bind it build
//! their own copy for a quarter of an hour.

#![allow(unsafe_code, reason = "a foreign interface")]

use std::ffi::{CStr, CString, c_char, c_uchar, c_void};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};

use super::{Contender, Writer};
use crate::workload::Record;

// From `rocksdb/c.h`; every object is opaque.
unsafe extern "C" {
    fn rocksdb_options_create() -> *mut c_void;
    fn rocksdb_options_destroy(options: *mut c_void);
    fn rocksdb_options_set_create_if_missing(options: *mut c_void, on: c_uchar);
    fn rocksdb_options_set_compression(options: *mut c_void, kind: i32);
    fn rocksdb_open(
        options: *const c_void,
        name: *const c_char,
        error: *mut *mut c_char,
    ) -> *mut c_void;
    fn rocksdb_close(database: *mut c_void);
    fn rocksdb_writeoptions_create() -> *mut c_void;
    fn rocksdb_writeoptions_destroy(options: *mut c_void);
    fn rocksdb_writeoptions_set_sync(options: *mut c_void, on: c_uchar);
    fn rocksdb_writebatch_create() -> *mut c_void;
    fn rocksdb_writebatch_destroy(batch: *mut c_void);
    fn rocksdb_writebatch_put(
        batch: *mut c_void,
        key: *const c_char,
        key_bytes: usize,
        value: *const c_char,
        value_bytes: usize,
    );
    fn rocksdb_write(
        database: *mut c_void,
        options: *const c_void,
        batch: *mut c_void,
        error: *mut *mut c_char,
    );
    fn rocksdb_free(memory: *mut c_void);
}

/// An open database. RocksDB shares the syncs of threads that write at the same time.
struct Database {
    database: *mut c_void,
    synced: *mut c_void,
    position: AtomicU64,
}

// SAFETY: RocksDB says that a database may be used from any number of threads without further
// synchronisation; the write options are only read after `open`.
unsafe impl Send for Database {}
// SAFETY: as above.
unsafe impl Sync for Database {}

/// The message that a call left, which is then freed.
fn check(error: *mut c_char) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a message that RocksDB leaves is a string with a zero at its end, ours to free.
    let message = unsafe {
        let message = CStr::from_ptr(error).to_string_lossy().into_owned();
        rocksdb_free(error.cast());
        message
    };
    bail!("RocksDB: {message}")
}

impl Database {
    fn open(dir: &Path) -> Result<Self> {
        let name = CString::new(dir.as_os_str().as_encoded_bytes())?;
        let mut error = std::ptr::null_mut();
        // SAFETY: the options live until they are destroyed here, the name until the call returns.
        let (database, synced) = unsafe {
            let options = rocksdb_options_create();
            rocksdb_options_set_create_if_missing(options, 1);
            // Nothing here compresses; the library may try in vain in the background.
            rocksdb_options_set_compression(options, 0);
            let database = rocksdb_open(options, name.as_ptr(), &raw mut error);
            rocksdb_options_destroy(options);
            let synced = rocksdb_writeoptions_create();
            rocksdb_writeoptions_set_sync(synced, 1);
            (database, synced)
        };
        check(error)?;
        Ok(Self { database, synced, position: AtomicU64::new(0) })
    }

    fn commit<'a>(&self, records: impl Iterator<Item = &'a Record>) -> Result<()> {
        let mut error = std::ptr::null_mut();
        // SAFETY: the batch is ours from its creation to its end; keys and values are copied into
        // it by the call that names them; the database is open.
        unsafe {
            let batch = rocksdb_writebatch_create();
            for record in records {
                let key = self.position.fetch_add(1, Ordering::Relaxed).to_be_bytes();
                rocksdb_writebatch_put(
                    batch,
                    key.as_ptr().cast(),
                    key.len(),
                    record.bytes.as_ptr().cast(),
                    record.bytes.len(),
                );
            }
            rocksdb_write(self.database, self.synced, batch, &raw mut error);
            rocksdb_writebatch_destroy(batch);
        }
        check(error)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: both are ours, and nobody uses them after the last handle.
        unsafe {
            rocksdb_writeoptions_destroy(self.synced);
            rocksdb_close(self.database);
        }
    }
}

pub(crate) struct RocksDb(Arc<Database>);

impl RocksDb {
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        Ok(Self(Arc::new(Database::open(&dir.join("rocksdb"))?)))
    }
}

impl Contender for RocksDb {
    fn commit(&mut self, group: &[Record]) -> Result<()> {
        self.0.commit(group.iter())
    }

    fn writers(&self, count: usize) -> Result<Option<Vec<Box<dyn Writer>>>> {
        let writer = || Box::new(Self(Arc::clone(&self.0))) as Box<dyn Writer>;
        Ok(Some((0..count).map(|_| writer()).collect()))
    }
}

impl Writer for RocksDb {
    fn commit(&mut self, record: &Record) -> Result<()> {
        self.0.commit(std::iter::once(record))
    }
}
