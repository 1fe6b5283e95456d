//! The bytes of packed segments. A change here is a change of the format: it must be meant, and
//! `docs/format/wal.md` changes with it.

use proptest::prelude::*;

use super::*;
use crate::conformance::sample;
use crate::entry::NewEntry;

const SALT: u64 = 0x0123_4567_89ab_cdef;

fn entry(position: u64, new: NewEntry) -> Entry {
    let at = Position(position);
    Entry { position: at, registry: at, recorded_at: Millis(1_700_000_000_000), new }
}

fn derived(seed: u64, body_len: usize) -> NewEntry {
    let mut new = sample(seed, body_len);
    new.id = record_id(Kind::Vote, &new.body);
    new
}

fn group(number: u64, entries: &[Entry]) -> GroupToPack<'static> {
    GroupToPack {
        after: number - 1,
        number,
        first: entries[0].position,
        last: entries[entries.len() - 1].position,
        recorded_at: entries[0].recorded_at,
        chain_before: Hash([0xcc; 32]),
        lost: None,
    }
}

fn packed(builder: &mut FrameBuilder) -> (FrameHeader, Vec<u8>) {
    let mut out = Vec::new();
    let header = builder.finish(SALT, 2, 700, &mut out).unwrap();
    let decoded = FrameHeader::decode(out.first_chunk().unwrap(), SALT, 700).unwrap();
    assert_eq!(decoded, header);
    assert_eq!(out.len() as u64, header.end() - 700);
    (header, out.split_off(FRAME_HEADER))
}

/// Every group and entry of a frame.
fn unpack(frame: &Frame) -> Result<Vec<(PackedGroup, Vec<Entry>)>, BadFrame> {
    let mut point = frame.start();
    let mut found = Vec::new();
    while let Some(group) = frame.next_group(&mut point)? {
        let mut entries = Vec::new();
        if group.lost.is_none() {
            for position in group.first.0..=group.last.0 {
                let entry = frame.next_entry(&mut point)?;
                let head = frame.head(&entry, Position(position), group.recorded_at);
                entries.push(head.with_body(frame.body(entry.body).into()));
            }
        }
        found.push((group, entries));
    }
    Ok(found)
}

#[test]
fn frame_is_golden() {
    let mut builder = FrameBuilder::default();
    let one = entry(8, derived(20, 3));
    builder.add(&group(7, std::slice::from_ref(&one)), std::slice::from_ref(&one));
    let mut later = entry(9, sample(21, 0));
    later.recorded_at = Millis(1_700_000_000_300);
    later.registry = Position(5);
    builder.add(&group(8, std::slice::from_ref(&later)), std::slice::from_ref(&later));
    let mut out = Vec::new();
    builder.finish(SALT, 2, 700, &mut out).unwrap();
    let expected = [
        "53504630",         // magic
        "00000000",         // flags: not compressed, it would not be shorter
        "02000000",         // number
        "02000000",         // groups
        "bc02000000000000", // offset
        "dc000000",         // raw length
        "dc000000",         // packed length
        "0800000000000000", // first
        "0900000000000000", // last
        "0700000000000000", // group
        "0068e5cf8b010000", // recorded_at
        "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
    ];
    assert_eq!(hex::encode(&out[..96]), expected.concat());
    let payload = hex::encode(&out[FRAME_HEADER..]);
    let signature = |entry: &Entry| hex::encode(entry.new.signature.0);
    let expected = [
        "02".to_string(),      // principals
        "0163".into(),         // "c"
        "05616c696365".into(), // "alice"
        "01".into(),           // entries
        "00".into(),           // at the time in the head
        "01".into(),           // one
        "03".into(),           // custodial, idempotency hash
        "03".into(),           // kind of its id: vote
        "00".into(),           // principal
        "00".into(),           // its own position decided its rights
        hex::encode(one.new.idempotency.unwrap().0),
        signature(&one),
        "03".into(), // body length
        hex::encode(&one.new.body),
        "01".into(),   // entries
        "ac02".into(), // 300 ms later
        "01".into(),   // one
        "04".into(),   // stored id
        hex::encode(later.new.id.0),
        "01".into(), // principal
        "08".into(), // registry four before
        signature(&later),
        "00".into(), // no body
    ];
    assert_eq!(payload, expected.concat());
    let (head, payload) = out.split_at(FRAME_HEADER);
    assert_eq!(head[96..100], bit_by_bit(700 + 104, payload), "checksum of the payload");
    assert_eq!(head[100..], bit_by_bit(700, &head[..100]), "checksum of the head");
}

/// CRC-32C of salt, place and bytes, by other code than wrote it.
fn bit_by_bit(at: u64, bytes: &[u8]) -> [u8; 4] {
    let all = [&SALT.to_le_bytes()[..], &at.to_le_bytes(), bytes].concat();
    let crc = !all.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    });
    crc.to_le_bytes()
}

#[test]
fn footer_is_golden() {
    let footer = Footer {
        offset: 900,
        last: Position(9),
        group: 8,
        recorded_at: Millis(-2),
        chain: Hash([0xee; 32]),
        records: 2,
        groups: 2,
        bytes: 300,
        frames: vec![
            FramePlace { offset: 512, first: Position(1) },
            FramePlace { offset: 700, first: Position(8) },
        ],
    };
    let mut out = Vec::new();
    footer.encode(SALT, &mut out);
    let expected = [
        "5354454d45464f4f", // magic
        "00000000",         // flags
        "02000000",         // frames
        "0900000000000000", // last
        "0800000000000000", // group
        "feffffffffffffff", // recorded_at
        "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
        "0200000000000000", // records
        "0200000000000000", // groups
        "2c01000000000000", // bytes
        "0002000000000000", // offset of the first frame
        "0100000000000000", // its first position
        "bc02000000000000",
        "0800000000000000",
        "b379d887",         // checksum
        "5354454d45454e44", // magic of the trailer
        "8403000000000000", // where the footer is
        "efcdab8967452301", // salt
        "00000000",
        "b2202137", // checksum
    ];
    assert_eq!(hex::encode(&out), expected.concat());
    let len = 900 + out.len() as u64;
    let (bytes, trailer) = out.split_last_chunk::<TRAILER>().unwrap();
    assert_eq!(Footer::find(trailer, SALT, len), Ok(900));
    assert_eq!(Footer::decode(bytes, SALT, 900), Ok(footer));
    assert!(Footer::find(trailer, SALT, len + 1).is_err());
    assert!(Footer::find(trailer, SALT + 1, len).is_err());
    assert!(Footer::decode(bytes, SALT, 901).is_err());
}

#[test]
fn a_lost_group_is_packed() {
    let lost = LostRange {
        first: Position(10),
        last: Position(14),
        chain_after: Hash([1; 32]),
        at: Millis(1_700_000_000_001),
        tool: "stemedb-wal-repair 0.1".into(),
    };
    let mut builder = FrameBuilder::default();
    let one = entry(9, derived(3, 900));
    builder.add(&group(4, std::slice::from_ref(&one)), std::slice::from_ref(&one));
    // Four groups were in it; it has the number of the last.
    let gap = GroupToPack {
        after: 4,
        number: 8,
        first: lost.first,
        last: lost.last,
        recorded_at: Millis(1_700_000_000_000),
        chain_before: Hash([2; 32]),
        lost: Some(&lost),
    };
    builder.add(&gap, &[]);
    let after = entry(15, derived(4, 900));
    builder.add(&group(9, std::slice::from_ref(&after)), std::slice::from_ref(&after));
    let (header, payload) = packed(&mut builder);
    let frame = Frame::decode(header, &payload, SALT, 1 << 20).unwrap();
    let found = unpack(&frame).unwrap();
    let numbers: Vec<_> = found.iter().map(|(group, _)| group.number).collect();
    assert_eq!(numbers, [4, 8, 9]);
    let kinds: Vec<_> = found.iter().map(|(group, entries)| (group.kind, entries.len())).collect();
    let entries = GroupKind::Entries;
    assert_eq!(kinds, [(entries, 1), (GroupKind::Lost, 0), (entries, 1)]);
    assert_eq!(found[1].0.lost, Some(lost));
    assert_eq!((&found[0].1[0], &found[2].1[0]), (&one, &after));
}

/// A head with right checksums that lies about lengths allocates no more than the bound.
#[test]
fn lengths_that_lie_allocate_nothing() {
    let mut builder = FrameBuilder::default();
    let one = entry(1, derived(3, 3000));
    builder.add(&group(1, std::slice::from_ref(&one)), std::slice::from_ref(&one));
    let (header, payload) = packed(&mut builder);
    for raw_len in [0, 1, header.raw_len - 1, header.raw_len + 1, 4 << 20, u32::MAX] {
        let lying = FrameHeader { raw_len, ..header };
        assert!(Frame::decode(lying, &payload, SALT, 1 << 20).is_err(), "{raw_len}");
        let lying = FrameHeader { raw_len, compressed: !header.compressed, ..header };
        assert!(Frame::decode(lying, &payload, SALT, 1 << 20).is_err(), "{raw_len}");
    }
    let bounded = Frame::decode(header, &payload, SALT, u64::from(header.raw_len) - 1);
    assert_eq!(bounded.unwrap_err().problem, "a frame is longer than its segment");
    let short = Frame::decode(header, payload.split_last().unwrap().1, SALT, 1 << 20);
    assert!(short.is_err());
}

/// Makes a frame of any raw bytes, its checksums right.
fn frame_of(raw: &[u8], groups: u32, last: u64) -> Result<Frame, BadFrame> {
    let header = FrameHeader {
        number: 0,
        offset: 512,
        groups,
        raw_len: raw.len() as u32,
        packed_len: raw.len() as u32,
        compressed: false,
        first: Position(1),
        last: Position(last),
        group: 1,
        recorded_at: Millis(0),
        chain: Hash([0; 32]),
        payload_crc: checksum(SALT, 512 + FRAME_HEADER as u64, raw),
    };
    Frame::decode(header, raw, SALT, 1 << 20)
}

#[test]
fn what_is_too_new_is_not_damage() {
    let too_new = |raw: &[u8]| frame_of(raw, 1, 1).and_then(|frame| unpack(&frame)).unwrap_err();
    assert!(too_new(&[1, 1, b'a', 9, 0, 1]).too_new, "a kind of group");
    assert!(too_new(&[1, 1, b'a', 1, 0, 1, 8]).too_new, "a flag of an entry");
    assert!(too_new(&[1, 1, b'a', 1, 0, 1, 0, 99]).too_new, "a kind of record");
    assert!(!too_new(&[1, 1, b'a', 1, 0, 0]).too_new, "a group without entries");
    assert!(!too_new(&[1, 1, b'A', 1, 0, 1]).too_new, "a principal that is none");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any groups come out as they went in.
    #[test]
    fn frames_give_back_what_they_took(
        shape in prop::collection::vec(
            (prop::collection::vec((any::<u32>(), 0usize..600, any::<bool>()), 1..6), 0i64..5000),
            1..12,
        ),
        registry in -3i64..3,
        start in 1u64..1 << 40,
    ) {
        let (mut position, mut time, mut number) = (start, -7_000i64, 5);
        let mut builder = FrameBuilder::default();
        let mut expected = Vec::new();
        for (sizes, pause) in shape {
            time += pause;
            let mut entries = Vec::new();
            for (seed, len, is_derived) in sizes {
                let seed = u64::from(seed);
                let new = if is_derived { derived(seed, len) } else { sample(seed, len) };
                entries.push(Entry {
                    position: Position(position),
                    registry: Position(position.wrapping_add(registry as u64)),
                    recorded_at: Millis(time),
                    new,
                });
                position += 1;
            }
            builder.add(&group(number, &entries), &entries);
            number += 1;
            expected.push(entries);
        }
        let (header, payload) = packed(&mut builder);
        prop_assert!(builder.is_empty());
        let frame = Frame::decode(header, &payload, SALT, 1 << 20).unwrap();
        let found = unpack(&frame).unwrap();
        let numbers: Vec<u64> = found.iter().map(|(group, _)| group.number).collect();
        prop_assert_eq!(numbers, (5..number).collect::<Vec<_>>());
        let entries: Vec<Vec<Entry>> = found.into_iter().map(|(_, entries)| entries).collect();
        prop_assert_eq!(entries, expected);
    }

    /// Bytes that no build wrote, with right checksums: an error, never a panic.
    #[test]
    fn no_bytes_panic(raw in prop::collection::vec(any::<u8>(), 0..200), groups in 1u32..4) {
        if let Ok(frame) = frame_of(&raw, groups, 3) {
            let _ = unpack(&frame);
        }
        let mut begun = vec![1, 1, b'a', 1, 0, 1, 0, 3, 0, 0];
        begun.extend_from_slice(&raw);
        if let Ok(frame) = frame_of(&begun, groups, 3) {
            let _ = unpack(&frame);
        }
    }
}
