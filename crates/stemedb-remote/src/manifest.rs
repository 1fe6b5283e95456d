//! What an archive says of itself: numbered manifests, each naming parts and the manifest before it.
//! The format is in `docs/format/archive.md`.

use stemedb_log::{Link, PartContent};
use stemedb_model::{AgentId, Hash, LogId, Millis, Position, SigningKey, Timeline};

use crate::codec::{BadManifest, Fields, MapWriter, hash, open, seal};
use crate::encrypt::KeyId;
use crate::names;

const DOMAIN: &str = "stemedb/archive/v1/manifest";
/// Version of manifests of an archive.
pub const ARCHIVE_FORMAT: u64 = 1;
/// A manifest whose number is a multiple of this names the parts of all since the last such one, so
/// that a reader needs one manifest in so many.
pub const CHECKPOINT_EVERY: u64 = 256;
/// No manifest is longer.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// A part in an archive or a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartEntry {
    /// What is in it.
    pub content: PartContent,
    /// Length of the object.
    pub bytes: u64,
    /// BLAKE3 of the object.
    pub hash: Hash,
    /// Which of the objects that were to hold it does.
    pub copy: u64,
    /// The log went on in the next segment behind it.
    pub ends_segment: bool,
    /// What the object is encrypted with; `None`: it is in the clear.
    pub key_id: Option<KeyId>,
}

/// Where a branch left another one, as far as its archive goes: the first part begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The other branch.
    pub timeline: Timeline,
    /// The last thing that is taken from its archive.
    pub end: Link,
}

/// One manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The database.
    pub log_id: LogId,
    /// The branch.
    pub timeline: Timeline,
    /// From 1, without gaps.
    pub number: u64,
    /// Hash of the last manifest before it that is one; `None` for the first.
    pub previous: Option<Hash>,
    /// Numbers below this one whose objects are no manifests: an upload that went wrong took the
    /// name. Their parts are named here. A checkpoint says it of all since the last one.
    pub void: Vec<u64>,
    /// What lies before the first part of this branch, if that is in the archive of another.
    pub parent: Option<Parent>,
    /// When it was made.
    pub made_at: Millis,
    /// Everything up to here is in the archive.
    pub end: Link,
    /// When the record at `end` was committed.
    pub ended_at: Millis,
    /// The parts it names. Of parts with the same first position the newest counts.
    pub parts: Vec<PartEntry>,
}

impl Manifest {
    /// Whether it names the parts of those before it.
    pub fn is_checkpoint(&self) -> bool {
        self.number.is_multiple_of(CHECKPOINT_EVERY)
    }

    /// Its bytes, signed.
    pub fn seal(&self, key: &SigningKey) -> Vec<u8> {
        let mut map = MapWriter::default();
        map.uint("v", ARCHIVE_FORMAT)
            .bytes("log_id", &self.log_id.0)
            .bytes("timeline", &self.timeline.0)
            .uint("number", self.number)
            .int("made_at", self.made_at.0)
            .map("end", encode_link(&self.end))
            .int("ended_at", self.ended_at.0)
            .uints("void", &self.void)
            .list("parts", self.parts.iter().map(PartEntry::encode).collect());
        if let Some(previous) = self.previous {
            map.bytes("previous", &previous.0);
        }
        if let Some(Parent { timeline, end }) = self.parent {
            let mut parent = MapWriter::default();
            parent.bytes("timeline", &timeline.0).map("end", encode_link(&end));
            map.map("parent", parent.finish());
        }
        seal(DOMAIN, &map.finish(), key)
    }

    /// Reads a manifest and says who signed it.
    pub fn open(bytes: &[u8]) -> Result<(Self, AgentId), BadManifest> {
        let (body, key) = open(DOMAIN, bytes)?;
        let mut fields = Fields::new(body)?;
        fields.version(ARCHIVE_FORMAT)?;
        let log_id = LogId(fields.array("log_id")?);
        let manifest = Self {
            log_id,
            timeline: Timeline(fields.array("timeline")?),
            number: fields.uint("number")?,
            previous: fields.optional_array("previous")?.map(Hash),
            void: fields.uints("void")?,
            parent: fields.optional_map("parent")?.map(Parent::decode).transpose()?,
            made_at: Millis(fields.int("made_at")?),
            end: decode_link(fields.map("end")?)?,
            ended_at: Millis(fields.int("ended_at")?),
            parts: fields.list("parts", |part| PartEntry::decode(part, log_id))?,
        };
        fields.end()?;
        if manifest.number == 0 || manifest.parts.is_empty() {
            return Err(BadManifest::Damaged("it contradicts itself".into()));
        }
        Ok((manifest, key))
    }

    /// The hash by which the next manifest names it.
    pub fn hash_of(bytes: &[u8]) -> Hash {
        hash(bytes)
    }
}

impl Parent {
    fn decode(mut fields: Fields<'_>) -> Result<Self, BadManifest> {
        let parent = Self {
            timeline: Timeline(fields.array("timeline")?),
            end: decode_link(fields.map("end")?)?,
        };
        fields.end()?;
        Ok(parent)
    }
}

pub(crate) fn encode_link(link: &Link) -> Vec<u8> {
    MapWriter::default()
        .uint("position", link.position.0)
        .uint("group", link.group)
        .bytes("chain", &link.chain.0)
        .finish()
}

pub(crate) fn decode_link(mut fields: Fields<'_>) -> Result<Link, BadManifest> {
    let link = Link {
        position: Position(fields.uint("position")?),
        group: fields.uint("group")?,
        chain: Hash(fields.array("chain")?),
    };
    fields.end()?;
    Ok(link)
}

impl PartEntry {
    /// The object that holds it.
    pub fn name(&self, archive: Timeline) -> String {
        names::part(self.content.log_id, archive, &self.content, &self.hash, self.copy)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { content, bytes, hash, copy, ends_segment, key_id } = self;
        MapWriter::default()
            .optional_bytes("key_id", key_id.as_ref().map(|id| id.0.as_slice()))
            .bytes("timeline", &content.timeline.0)
            .uint("segment", content.segment)
            .uint("salt", content.salt)
            .map("start", encode_link(&content.start))
            .map("end", encode_link(&content.end))
            .int("began_at", content.began_at.0)
            .int("ended_at", content.ended_at.0)
            .uint("records", content.records)
            .uint("bytes", *bytes)
            .bytes("hash", &hash.0)
            .uint("copy", *copy)
            .boolean("ends_segment", *ends_segment)
            .finish()
    }

    pub(crate) fn decode(mut fields: Fields<'_>, log_id: LogId) -> Result<Self, BadManifest> {
        let entry = Self {
            content: PartContent {
                log_id,
                timeline: Timeline(fields.array("timeline")?),
                segment: fields.uint("segment")?,
                salt: fields.uint("salt")?,
                start: decode_link(fields.map("start")?)?,
                end: decode_link(fields.map("end")?)?,
                began_at: Millis(fields.int("began_at")?),
                ended_at: Millis(fields.int("ended_at")?),
                records: fields.uint("records")?,
            },
            bytes: fields.uint("bytes")?,
            hash: Hash(fields.array("hash")?),
            copy: fields.uint("copy")?,
            ends_segment: fields.boolean("ends_segment")?,
            key_id: fields.optional_array("key_id")?.map(KeyId),
        };
        fields.end()?;
        if entry.content.start.position >= entry.content.end.position {
            return Err(BadManifest::Damaged("a part without a position".into()));
        }
        Ok(entry)
    }
}
