//! The bytes of a packed segment: header, frames, footer, trailer. The layout is in
//! `docs/format/wal.md`; nothing here touches a file.
//!
//! A frame holds whole groups without what can be derived: positions are counted, chain hashes
//! computed, and an id that is the hash of its body is not stored. Checksums are seeded with the
//! segment's salt and the place in the file, so that a frame at another place never verifies.

use std::ops::Range;

use stemedb_model::{Hash, Kind, Millis, Position, Principal, RecordId, Signature, record_id};

use super::block::{GroupKind, SECTOR};
use super::envelope::Head;
use super::group::LostRange;
use crate::entry::Entry;

/// The first frame begins behind the header.
pub(crate) const FRAMES_AT: u64 = SECTOR as u64;
/// Bytes of the head of a frame.
pub(crate) const FRAME_HEADER: usize = 104;
/// A frame takes groups until it has about this many bytes; a longer group is a frame of its own.
pub(crate) const FRAME_BYTES: usize = 64 << 10;
/// Bytes at the very end of the file.
pub(crate) const TRAILER: usize = 32;
/// Bytes of a footer besides its index.
const FOOTER_FIXED: usize = 8 + 4 + 4 + 8 + 8 + 8 + Hash::LEN + 8 + 8 + 8 + 4;
/// Bytes of one line of the index.
const INDEX_LINE: usize = 16;

const FRAME_MAGIC: [u8; 4] = *b"SPF0";
const FOOTER_MAGIC: [u8; 8] = *b"STEMEFOO";
const TRAILER_MAGIC: [u8; 8] = *b"STEMEEND";

/// The payload is an LZ4 block; without it, stored as it is.
const COMPRESSED: u32 = 1;

const CUSTODIAL: u8 = 1;
const IDEMPOTENCY: u8 = 2;
/// The id is not the hash of the body: it is stored.
const STORED_ID: u8 = 4;

const ENTRIES: u8 = 1;
const LOST: u8 = 3;

/// Why bytes of a packed segment are not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadFrame {
    pub(crate) problem: &'static str,
    /// The checksums are right; a newer build may understand it.
    pub(crate) too_new: bool,
}

fn malformed(problem: &'static str) -> BadFrame {
    BadFrame { problem, too_new: false }
}

fn too_new(problem: &'static str) -> BadFrame {
    BadFrame { problem, too_new: true }
}

/// Checksum of bytes that begin at `at` of the file.
fn checksum(salt: u64, at: u64, data: &[u8]) -> u32 {
    let mut place = [0; 16];
    let (left, right) = place.split_at_mut(8);
    left.copy_from_slice(&salt.to_le_bytes());
    right.copy_from_slice(&at.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&place), data)
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Number of the frame, from 0.
    pub(crate) number: u32,
    /// Where it begins in the file.
    pub(crate) offset: u64,
    /// Groups in it.
    pub(crate) groups: u32,
    /// Bytes before compression.
    pub(crate) raw_len: u32,
    /// Bytes of payload.
    pub(crate) packed_len: u32,
    pub(crate) compressed: bool,
    /// Its first position.
    pub(crate) first: Position,
    /// Its last position.
    pub(crate) last: Position,
    /// The number after that of the group before it: that of its first group, unless that is a
    /// lost one.
    pub(crate) group: u64,
    /// `recorded_at` of its first group.
    pub(crate) recorded_at: Millis,
    /// Chain hash before its first group.
    pub(crate) chain: Hash,
    payload_crc: u32,
}

impl FrameHeader {
    /// The byte after the frame.
    pub(crate) fn end(&self) -> u64 {
        self.offset + FRAME_HEADER as u64 + u64::from(self.packed_len)
    }

    fn encode(&self, salt: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&FRAME_MAGIC);
        let flags = if self.compressed { COMPRESSED } else { 0 };
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.groups.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.raw_len.to_le_bytes());
        out.extend_from_slice(&self.packed_len.to_le_bytes());
        out.extend_from_slice(&self.first.0.to_le_bytes());
        out.extend_from_slice(&self.last.0.to_le_bytes());
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&self.recorded_at.0.to_le_bytes());
        out.extend_from_slice(&self.chain.0);
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        let crc = checksum(salt, self.offset, out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// Reads the head of a frame that begins at `offset`; believes it only if its checksum is
    /// that of this place and salt.
    pub(crate) fn decode(
        bytes: &[u8; FRAME_HEADER],
        salt: u64,
        offset: u64,
    ) -> Result<Self, BadFrame> {
        let (covered, crc) = bytes.split_at(FRAME_HEADER - 4);
        if *crc != checksum(salt, offset, covered).to_le_bytes() {
            return Err(malformed("the head of a frame does not match its checksum"));
        }
        let mut rest = Fields(covered);
        if rest.take::<4>()? != FRAME_MAGIC {
            return Err(malformed("no frame where one belongs"));
        }
        let flags = rest.u32()?;
        if flags & !COMPRESSED != 0 {
            return Err(too_new("a frame has flags that this build does not know"));
        }
        let header = Self {
            compressed: flags & COMPRESSED != 0,
            number: rest.u32()?,
            groups: rest.u32()?,
            offset: rest.u64()?,
            raw_len: rest.u32()?,
            packed_len: rest.u32()?,
            first: Position(rest.u64()?),
            last: Position(rest.u64()?),
            group: rest.u64()?,
            recorded_at: Millis(rest.u64()? as i64),
            chain: Hash(rest.take()?),
            payload_crc: rest.u32()?,
        };
        if header.offset != offset || header.first > header.last || header.groups == 0 {
            return Err(malformed("the head of a frame contradicts itself"));
        }
        Ok(header)
    }
}

/// Gathers groups into one frame.
#[derive(Debug, Default)]
pub(crate) struct FrameBuilder {
    principals: Vec<Principal>,
    groups: Vec<u8>,
    count: u32,
    start: Option<FrameStart>,
    last: Position,
    /// `recorded_at` of the group before, within the frame.
    recorded_at: Millis,
    kinds: IdKinds,
    raw: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct FrameStart {
    first: Position,
    group: u64,
    recorded_at: Millis,
    chain: Hash,
}

/// What a builder has to know of a group of entries or a lost one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupToPack<'a> {
    /// Number of the group before it.
    pub(crate) after: u64,
    pub(crate) number: u64,
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) recorded_at: Millis,
    pub(crate) chain_before: Hash,
    pub(crate) lost: Option<&'a LostRange>,
}

impl FrameBuilder {
    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the next group; `entries` are all of its entries, none for a lost one.
    pub(crate) fn add(&mut self, group: &GroupToPack<'_>, entries: &[Entry]) {
        let expected = group.after.saturating_add(1);
        let start = FrameStart {
            first: group.first,
            group: expected,
            recorded_at: group.recorded_at,
            chain: group.chain_before,
        };
        let before = if self.start.is_some() { self.recorded_at } else { group.recorded_at };
        self.start.get_or_insert(start);
        self.groups.push(if group.lost.is_some() { LOST } else { ENTRIES });
        // Times never decrease, so the distance is not negative; 64 bits hold any of them.
        put_varint(group.recorded_at.0.wrapping_sub(before.0) as u64, &mut self.groups);
        match group.lost {
            Some(lost) => {
                let mut payload = Vec::new();
                lost.encode_payload(&mut payload);
                // It has the number of the last group that was lost in it.
                put_varint(group.number.saturating_sub(expected), &mut self.groups);
                put_varint(payload.len() as u64, &mut self.groups);
                self.groups.extend_from_slice(&payload);
            }
            None => {
                put_varint(entries.len() as u64, &mut self.groups);
                for entry in entries {
                    self.entry(entry);
                }
            }
        }
        self.count += 1;
        self.last = group.last;
        self.recorded_at = group.recorded_at;
    }

    fn entry(&mut self, entry: &Entry) {
        let new = &entry.new;
        let kind = self.kinds.of(&new.id, &new.body);
        let mut flags = if new.custodial { CUSTODIAL } else { 0 };
        if new.idempotency.is_some() {
            flags |= IDEMPOTENCY;
        }
        if kind.is_none() {
            flags |= STORED_ID;
        }
        let principal = match self.principals.iter().position(|known| *known == new.principal) {
            Some(at) => at,
            None => {
                self.principals.push(new.principal.clone());
                self.principals.len() - 1
            }
        };
        let out = &mut self.groups;
        out.push(flags);
        match kind {
            Some(kind) => out.push(kind.tag()),
            None => out.extend_from_slice(&new.id.0),
        }
        put_varint(principal as u64, out);
        put_varint(zigzag(entry.position.0.wrapping_sub(entry.registry.0) as i64), out);
        if let Some(hash) = new.idempotency {
            out.extend_from_slice(&hash.0);
        }
        out.extend_from_slice(&new.signature.0);
        put_varint(new.body.len() as u64, out);
        out.extend_from_slice(&new.body);
    }

    /// Appends the frame to `out` and starts the next one. `None` if nothing was added, or if it
    /// is longer than a frame can be.
    pub(crate) fn finish(
        &mut self,
        salt: u64,
        number: u32,
        offset: u64,
        out: &mut Vec<u8>,
    ) -> Option<FrameHeader> {
        let start = self.start.take()?;
        self.raw.clear();
        put_varint(self.principals.len() as u64, &mut self.raw);
        for principal in self.principals.drain(..) {
            let text = principal.as_str().as_bytes();
            // A principal is at most 64 bytes long by its type.
            self.raw.push(text.len() as u8);
            self.raw.extend_from_slice(text);
        }
        self.raw.append(&mut self.groups);
        let raw_len = u32::try_from(self.raw.len()).ok()?;
        let mut packed = vec![0; lz4_flex::block::get_maximum_output_size(self.raw.len())];
        let shorter = lz4_flex::block::compress_into(&self.raw, &mut packed)
            .ok()
            .filter(|len| *len < self.raw.len());
        let payload = match shorter {
            Some(len) => packed.get(..len)?,
            None => &self.raw,
        };
        let header = FrameHeader {
            number,
            offset,
            groups: std::mem::take(&mut self.count),
            raw_len,
            packed_len: payload.len() as u32,
            compressed: shorter.is_some(),
            first: start.first,
            last: self.last,
            group: start.group,
            recorded_at: start.recorded_at,
            chain: start.chain,
            payload_crc: checksum(salt, offset + FRAME_HEADER as u64, payload),
        };
        header.encode(salt, out);
        out.extend_from_slice(payload);
        Some(header)
    }
}

/// Finds the kind under which an id is the hash of its body, most recent first: the log does not
/// read bodies, and nearly every record is of the kind of one shortly before.
#[derive(Debug)]
struct IdKinds(Vec<Kind>);

impl Default for IdKinds {
    fn default() -> Self {
        Self(Kind::ALL.to_vec())
    }
}

impl IdKinds {
    fn of(&mut self, id: &RecordId, body: &[u8]) -> Option<Kind> {
        let at = self.0.iter().position(|kind| record_id(*kind, body) == *id)?;
        let kind = self.0.remove(at);
        self.0.insert(0, kind);
        Some(kind)
    }
}

/// A frame whose checksums match, unpacked.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    raw: Vec<u8>,
    principals: Vec<Principal>,
    groups_at: usize,
}

/// A place between two things in a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    at: usize,
    groups_left: u32,
    group: u64,
    next: Position,
    recorded_at: Millis,
}

/// The head of a group in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedGroup {
    pub(crate) kind: GroupKind,
    pub(crate) number: u64,
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) recorded_at: Millis,
    pub(crate) lost: Option<LostRange>,
    /// Bytes of a lost group's payload.
    pub(crate) lost_bytes: u64,
}

/// An entry in a frame, its id not yet known.
#[derive(Debug)]
pub(crate) struct PackedEntry<'a> {
    custodial: bool,
    id: StoredId,
    registry_distance: i64,
    principal: &'a Principal,
    idempotency: Option<Hash>,
    signature: Signature,
    pub(crate) body: Range<usize>,
}

#[derive(Debug, Clone, Copy)]
enum StoredId {
    Id(RecordId),
    HashOfBody(Kind),
}

impl Frame {
    /// Bytes of memory, about.
    pub(crate) fn size(&self) -> usize {
        self.raw.len()
    }

    /// Unpacks a frame. `raw_max` bounds what is allocated, whatever the head says.
    pub(crate) fn decode(
        header: FrameHeader,
        payload: &[u8],
        salt: u64,
        raw_max: u64,
    ) -> Result<Self, BadFrame> {
        if payload.len() != header.packed_len as usize
            || header.payload_crc != checksum(salt, header.offset + FRAME_HEADER as u64, payload)
        {
            return Err(malformed("a frame does not match its checksum"));
        }
        // LZ4 makes at most 255 bytes out of one.
        let most = raw_max.min(payload.len() as u64 * 256);
        if u64::from(header.raw_len) > most {
            return Err(malformed("a frame is longer than its segment"));
        }
        let raw = if header.compressed {
            let mut raw = vec![0; header.raw_len as usize];
            match lz4_flex::block::decompress_into(payload, &mut raw) {
                Ok(len) if len == raw.len() => raw,
                _ => return Err(malformed("a frame cannot be unpacked")),
            }
        } else {
            payload.to_vec()
        };
        if raw.len() != header.raw_len as usize {
            return Err(malformed("a frame has another length than its head says"));
        }
        let mut rest = Fields(&raw);
        let count = rest.varint()?;
        let mut principals = Vec::new();
        for _ in 0..count {
            let [len] = rest.take()?;
            let text = std::str::from_utf8(rest.slice(usize::from(len))?).ok();
            let principal = text.and_then(|text| Principal::parse(text).ok());
            principals.push(principal.ok_or(malformed("a principal that is none"))?);
        }
        let groups_at = raw.len() - rest.0.len();
        Ok(Self { header, raw, principals, groups_at })
    }

    /// Before the first group.
    pub(crate) fn start(&self) -> Point {
        Point {
            at: self.groups_at,
            groups_left: self.header.groups,
            group: self.header.group,
            next: self.header.first,
            recorded_at: self.header.recorded_at,
        }
    }

    /// The next group; `point` must be between groups, and is then before its first entry. `None`
    /// at the end, which must be where the head says.
    pub(crate) fn next_group(&self, point: &mut Point) -> Result<Option<PackedGroup>, BadFrame> {
        let mut rest = self.fields(point);
        if point.groups_left == 0 {
            let last = Position(point.next.0.saturating_sub(1));
            if !rest.0.is_empty() || last != self.header.last {
                return Err(malformed("a frame does not end where its head says"));
            }
            return Ok(None);
        }
        let [kind] = rest.take()?;
        let distance = rest.varint()?;
        let recorded_at = Millis(point.recorded_at.0.wrapping_add(distance as i64));
        if recorded_at < point.recorded_at {
            return Err(malformed("a group in a frame is earlier than the one before"));
        }
        let first = point.next;
        let mut number = point.group;
        let (kind, last, lost, lost_bytes) = match kind {
            ENTRIES => {
                let count = rest.varint()?;
                let last = count.checked_sub(1).and_then(|more| first.0.checked_add(more));
                let last = last.ok_or(malformed("a group in a frame without entries"))?;
                (GroupKind::Entries, Position(last), None, 0)
            }
            LOST => {
                number = number.saturating_add(rest.varint()?);
                let len = rest.varint()?;
                let payload = rest.slice(usize::try_from(len).unwrap_or(usize::MAX))?;
                let lost = LostRange::decode(payload)
                    .filter(|lost| lost.first == first)
                    .ok_or(malformed("a lost group that does not say what it lost"))?;
                (GroupKind::Lost, lost.last, Some(lost), len)
            }
            _ => return Err(too_new("a kind of group that this build does not know")),
        };
        if last > self.header.last {
            return Err(malformed("a group in a frame goes beyond its last position"));
        }
        let group = PackedGroup { kind, number, first, last, recorded_at, lost, lost_bytes };
        *point = Point {
            at: self.raw.len() - rest.0.len(),
            groups_left: point.groups_left - 1,
            group: number.saturating_add(1),
            next: last.next(),
            recorded_at,
        };
        Ok(Some(group))
    }

    /// The next entry of the group that [`Self::next_group`] gave.
    pub(crate) fn next_entry(&self, point: &mut Point) -> Result<PackedEntry<'_>, BadFrame> {
        let mut rest = self.fields(point);
        let [flags] = rest.take()?;
        if flags & !(CUSTODIAL | IDEMPOTENCY | STORED_ID) != 0 {
            return Err(too_new("an entry in a frame has flags that this build does not know"));
        }
        let id = if flags & STORED_ID != 0 {
            StoredId::Id(RecordId(rest.take()?))
        } else {
            let [tag] = rest.take()?;
            let kind = Kind::from_tag(u64::from(tag));
            StoredId::HashOfBody(kind.ok_or(too_new("a kind of record that is not known"))?)
        };
        let principal = usize::try_from(rest.varint()?).unwrap_or(usize::MAX);
        let principal =
            self.principals.get(principal).ok_or(malformed("an entry by nobody in a frame"))?;
        let registry_distance = unzigzag(rest.varint()?);
        let idempotency = if flags & IDEMPOTENCY != 0 { Some(Hash(rest.take()?)) } else { None };
        let signature = Signature(rest.take()?);
        let body_len = usize::try_from(rest.varint()?).unwrap_or(usize::MAX);
        let at = self.raw.len() - rest.0.len();
        rest.slice(body_len)?;
        let body = at..at + body_len;
        point.at = body.end;
        Ok(PackedEntry {
            custodial: flags & CUSTODIAL != 0,
            id,
            registry_distance,
            principal,
            idempotency,
            signature,
            body,
        })
    }

    /// The bytes of a body.
    pub(crate) fn body(&self, range: Range<usize>) -> &[u8] {
        self.raw.get(range).unwrap_or_default()
    }

    /// The head of `entry` as it was before packing; hashes the body unless the id was stored.
    pub(crate) fn head(
        &self,
        entry: &PackedEntry<'_>,
        position: Position,
        recorded_at: Millis,
    ) -> Head {
        let id = match entry.id {
            StoredId::Id(id) => id,
            StoredId::HashOfBody(kind) => record_id(kind, self.body(entry.body.clone())),
        };
        Head {
            body_len: entry.body.len() as u32,
            custodial: entry.custodial,
            position,
            registry: Position(position.0.wrapping_sub(entry.registry_distance as u64)),
            recorded_at,
            id,
            signature: entry.signature,
            principal: entry.principal.clone(),
            idempotency: entry.idempotency,
        }
    }

    fn fields(&self, point: &Point) -> Fields<'_> {
        Fields(self.raw.get(point.at..).unwrap_or_default())
    }
}

/// Where a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FramePlace {
    pub(crate) offset: u64,
    pub(crate) first: Position,
}

/// What the end of a packed segment says about all of it. It stands for the closing seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Where it begins in the file.
    pub(crate) offset: u64,
    /// Last position, group and time, and the chain hash after it.
    pub(crate) last: Position,
    pub(crate) group: u64,
    pub(crate) recorded_at: Millis,
    pub(crate) chain: Hash,
    /// Records, groups, and bytes of entries as they are in blocks.
    pub(crate) records: u64,
    pub(crate) groups: u64,
    pub(crate) bytes: u64,
    pub(crate) frames: Vec<FramePlace>,
}

impl Footer {
    /// Appends footer and trailer.
    pub(crate) fn encode(&self, salt: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&FOOTER_MAGIC);
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&(self.frames.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.last.0.to_le_bytes());
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&self.recorded_at.0.to_le_bytes());
        out.extend_from_slice(&self.chain.0);
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.groups.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        for frame in &self.frames {
            out.extend_from_slice(&frame.offset.to_le_bytes());
            out.extend_from_slice(&frame.first.0.to_le_bytes());
        }
        let crc = checksum(salt, self.offset, out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());

        let trailer = out.len();
        let at = self.offset + (trailer - start) as u64;
        out.extend_from_slice(&TRAILER_MAGIC);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&salt.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let crc = checksum(salt, at, out.get(trailer..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// The salt that the trailer of a file of `len` bytes names, if it verifies under it.
    pub(crate) fn claimed_salt(trailer: &[u8; TRAILER], len: u64) -> Option<u64> {
        let (_, salt) = trailer.split_first_chunk::<16>()?;
        let salt = u64::from_le_bytes(*salt.first_chunk()?);
        Self::find(trailer, salt, len).is_ok().then_some(salt)
    }

    /// Where the footer begins, by the trailer of a file of `len` bytes.
    pub(crate) fn find(trailer: &[u8; TRAILER], salt: u64, len: u64) -> Result<u64, BadFrame> {
        let at = len.saturating_sub(TRAILER as u64);
        let (covered, crc) = trailer.split_at(TRAILER - 4);
        let mut rest = Fields(covered);
        if *crc != checksum(salt, at, covered).to_le_bytes() || rest.take()? != TRAILER_MAGIC {
            return Err(malformed("the end of the file does not match its checksum"));
        }
        let offset = rest.u64()?;
        let fits = offset >= FRAMES_AT && offset.saturating_add(FOOTER_FIXED as u64) <= at;
        if fits { Ok(offset) } else { Err(malformed("the end of the file contradicts itself")) }
    }

    /// Reads the footer that begins at `offset`.
    pub(crate) fn decode(bytes: &[u8], salt: u64, offset: u64) -> Result<Self, BadFrame> {
        let bad = malformed("the index at the end of the file does not match its checksum");
        let (covered, crc) = bytes.split_last_chunk::<4>().ok_or(bad)?;
        if *crc != checksum(salt, offset, covered).to_le_bytes() {
            return Err(bad);
        }
        let mut rest = Fields(covered);
        if rest.take()? != FOOTER_MAGIC {
            return Err(bad);
        }
        if rest.u32()? != 0 {
            return Err(too_new("the index of the file has flags that this build does not know"));
        }
        let count = rest.u32()?;
        let mut footer = Self {
            offset,
            last: Position(rest.u64()?),
            group: rest.u64()?,
            recorded_at: Millis(rest.u64()? as i64),
            chain: Hash(rest.take()?),
            records: rest.u64()?,
            groups: rest.u64()?,
            bytes: rest.u64()?,
            frames: Vec::new(),
        };
        if rest.0.len() != count as usize * INDEX_LINE {
            return Err(malformed("the index at the end of the file has another length"));
        }
        for _ in 0..count {
            let frame = FramePlace { offset: rest.u64()?, first: Position(rest.u64()?) };
            let before = footer.frames.last();
            let follows = match before {
                Some(before) => before.offset < frame.offset && before.first < frame.first,
                None => frame.offset == FRAMES_AT,
            };
            if !follows || frame.offset >= offset {
                return Err(malformed("the index at the end of the file contradicts itself"));
            }
            footer.frames.push(frame);
        }
        Ok(footer)
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadFrame> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(malformed("cut short"))?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, BadFrame> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, BadFrame> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], BadFrame> {
        let (slice, rest) = self.0.split_at_checked(len).ok_or(malformed("cut short"))?;
        self.0 = rest;
        Ok(slice)
    }

    fn varint(&mut self) -> Result<u64, BadFrame> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number in a frame is too long"))
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests;
