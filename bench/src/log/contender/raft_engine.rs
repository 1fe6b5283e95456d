//! raft-engine: entries of one region, or of one region for each writer.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{Contender, Writer};
use crate::workload::Record;

/// How an entry says its number: in the first bytes.
#[derive(Clone)]
struct Numbered;

impl MessageExt for Numbered {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().map_or(0, |number| u64::from_be_bytes(*number))
    }
}

/// One region of an engine.
struct Region {
    engine: Arc<Engine>,
    id: u64,
    last: u64,
}

pub(crate) struct RaftEngine {
    region: Region,
}

impl RaftEngine {
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let config = Config {
            dir: dir.join("raft").display().to_string(),
            // In its favour: files that were written before, and no attempt to compress what does
            // not compress.
            prefill_for_recycle: true,
            prefill_limit: Some(ReadableSize::mb(512)),
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        };
        let engine = Arc::new(Engine::open(config)?);
        Ok(Self { region: Region { engine, id: 1, last: 0 } })
    }
}

impl Region {
    fn commit<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> Result<()> {
        let entries: Vec<BytesValue> = records
            .map(|record| {
                self.last += 1;
                let mut entry = BytesValue::new();
                entry.value = [&self.last.to_be_bytes()[..], &record.bytes].concat();
                entry
            })
            .collect();
        let mut batch = LogBatch::with_capacity(entries.len());
        batch.add_entries::<Numbered>(self.id, &entries)?;
        self.engine.write(&mut batch, true)?;
        Ok(())
    }
}

impl Contender for RaftEngine {
    fn commit(&mut self, group: &[Record]) -> Result<()> {
        self.region.commit(group.iter())
    }

    fn writers(&self, count: usize) -> Result<Option<Vec<Box<dyn Writer>>>> {
        let region = |id: u64| Region { engine: Arc::clone(&self.region.engine), id, last: 0 };
        Ok(Some((0..count as u64).map(|n| Box::new(region(n + 2)) as Box<dyn Writer>).collect()))
    }
}

impl Writer for Region {
    fn commit(&mut self, record: &Record) -> Result<()> {
        Region::commit(self, std::iter::once(record))
    }
}
