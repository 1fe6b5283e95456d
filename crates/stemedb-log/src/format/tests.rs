//! The bytes of format 1. A change here is a change of the format: it must be meant, and
//! `docs/format/wal.md` changes with it.

use stemedb_io::sim::SimVfs;
use stemedb_io::{Open, Vfs};
use stemedb_model::{Hash, LogId, Millis, Position, Timeline};

use super::block::{BLOCK, BlockHeader, GroupKind, Look, PAYLOAD, SECTOR, stamp_block};
use super::envelope::{BadHead, decode_head, encode_head, head_len};
use super::group::{GroupPlace, LostRange, blocks_of, encode_entries, encode_seal};
use super::header::{Fence, HeaderState, SegmentHeader, encode_mark, segment_name, segment_number};
use crate::chain::chain_start;
use crate::conformance::sample;
use crate::walk::{Blocks, Cursor, Marks, Step, Walk};

const SALT: u64 = 0x0123_4567_89ab_cdef;

fn place(block: u32, group: u64, first: u64) -> GroupPlace {
    GroupPlace {
        salt: SALT,
        block,
        group,
        first: Position(first),
        watermark: Position(first - 1),
        recorded_at: Millis(1_700_000_000_000),
        chain: Hash([0xcc; 32]),
    }
}

fn header() -> SegmentHeader {
    SegmentHeader {
        log_id: LogId([1; 16]),
        timeline: Timeline([2; 16]),
        parent: Some((Timeline([3; 16]), Position(4))),
        partition: 5,
        number: 6,
        salt: SALT,
        segment_bytes: 7 << 12,
        fence: Fence {
            segment: 5,
            salt: 8,
            position: Position(9),
            group: 10,
            recorded_at: Millis(-11),
            chain: Hash([12; 32]),
        },
        lost: 13,
        packed: false,
    }
}

#[test]
fn segment_header_is_golden() {
    let mut block = [0; BLOCK];
    header().encode(&mut block);
    encode_mark(6, SALT, &mut block);
    let hex = hex::encode(&block[..208]);
    let expected = [
        "5354454d4557414c", // magic
        "01000000",         // format
        "b125034c",         // CRC-32C of the twelve bytes before
        "efcdab8967452301", // salt
        "01010101010101010101010101010101",
        "02020202020202020202020202020202",
        "03030303030303030303030303030303",
        "0400000000000000", // branch position
        "05000000",         // partition
        "00100000",         // block bytes
        "0600000000000000", // number
        "0070000000000000", // segment bytes
        "0500000000000000", // fence: segment
        "0800000000000000", // fence: salt
        "0900000000000000", // fence: position
        "0a00000000000000", // fence: group
        "f5ffffffffffffff", // fence: recorded_at
        "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c",
        "0d000000", // lost
        "00000000000000000000000000000000000000000000000000000000",
    ];
    assert_eq!(hex, expected.concat());
    assert_eq!(
        hex::encode(&block[508..536]),
        "58a26ff15354454d455052450600000000000000efcdab8967452301"
    );
    assert_eq!(hex::encode(&block[1020..1024]), "59e7a17a");
    let start: &[u8; 2 * SECTOR] = block.first_chunk().unwrap();
    assert_eq!(SegmentHeader::decode(start, None), HeaderState::Ok(header()));

    // Packed, only the magic is another, and with it the checksums.
    let mut packed = [0; BLOCK];
    let header = SegmentHeader { packed: true, ..header() };
    header.encode(&mut packed);
    assert_eq!(&packed[..8], b"STEMEPAK");
    assert_eq!((&packed[8..12], &packed[16..508]), (&block[8..12], &block[16..508]));
    let start: &[u8; 2 * SECTOR] = packed.first_chunk().unwrap();
    assert_eq!(SegmentHeader::decode(start, None), HeaderState::Ok(header));
}

#[test]
fn block_is_golden() {
    let mut block = vec![0; BLOCK];
    let chain = encode_entries(&[sample(20, 40)], &place(3, 7, 8), &mut block, &mut Vec::new());
    let expected = [
        "53574230",         // magic
        "0100",             // kind, flags
        "c900",             // used: 128 + 1 + 32 + 40
        "efcdab8967452301", // salt
        "0700000000000000", // group
        "0800000000000000", // first
        "0700000000000000", // watermark
        "00000000",         // index
        "01000000",         // count
        "03000000",         // block
        "00000000",         // start, reserved
        "0068e5cf8b010000", // recorded_at
        "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
        "28000000",         // body_len
        "0300",             // flags: custodial, idempotency hash
        "0100",             // principal_len, zero
        "0800000000000000", // position
        "0800000000000000", // registry
        "0068e5cf8b010000", // recorded_at
    ];
    assert_eq!(hex::encode(&block[..128]), expected.concat());
    let checksums: Vec<_> = block.chunks(SECTOR).map(|s| hex::encode(&s[508..])).collect();
    assert_eq!(
        checksums.join(" "),
        "879a1730 3343d2b2 cfaf142c 9b0ba959 c6007514 92a4c861 6e480eff 3aecb38a"
    );
    assert_eq!(
        chain.to_string(),
        "8abffb2e358b03857b5a66850abb24e5db188c6ef11505e5015c8c3f2052e896"
    );
    assert_eq!(
        chain_start(LogId([1; 16])).to_string(),
        "ff78a0b99a8072b61cf89d9bed386ab7b69d68832a5f0a971e7fcaf2b6960d6c"
    );
}

#[test]
fn heads_round_trip_and_refuse() {
    let mut head = Vec::new();
    for n in 0..20 {
        let new = sample(n, 10);
        encode_head(&new, Position(n), Position(n + 1), Millis(-5), &mut head);
        assert_eq!(head_len(&head), Ok(head.len()));
        assert_eq!(head.len() + 10, new.encoded_len());
        let entry = decode_head(&head).unwrap().with_body(new.body.clone());
        assert_eq!((entry.position, entry.registry), (Position(n), Position(n + 1)));
        assert_eq!((entry.recorded_at, entry.new), (Millis(-5), new));
        for len in 0..head.len() {
            assert!(decode_head(&head[..len]).is_err(), "cut to {len}");
        }
    }
    for (byte, value, error) in [
        (4, 0x08, Some(0x0008)), // an unknown flag
        (5, 0x80, Some(0x8000)), // another
        (6, 0, None),            // no principal
        (6, 65, None),           // a long one
        (7, 1, None),            // reserved
        (128, b' ', None),       // not a principal
    ] {
        encode_head(&sample(1, 10), Position(1), Position(1), Millis(0), &mut head);
        head[byte] = value;
        match (decode_head(&head).unwrap_err(), error) {
            (BadHead::TooNew(found), Some(flags)) => assert_eq!(found, flags),
            (BadHead::Malformed(_), None) => {}
            other => panic!("byte {byte} = {value}: {other:?}"),
        }
    }
}

#[test]
fn names() {
    for (number, name) in [
        (Some(1), "segment.001.wal"),
        (Some(999), "segment.999.wal"),
        (Some(1000), "segment.1000.wal"),
        (None, "segment.0001.wal"),
        (None, "segment.000.wal"),
        (None, "segment.01.wal"),
        (None, "segment.+01.wal"),
        (None, "segment.001.wal.tmp"),
        (None, "segment.18446744073709551615.wal"),
        (None, "segment.99999999999999999999.wal"),
        (None, "Segment.001.wal"),
    ] {
        assert_eq!(segment_number(name), number, "{name}");
        if let Some(number) = number {
            assert_eq!(segment_name(number), name);
        }
    }
}

#[test]
fn any_flipped_bit_of_a_block_is_seen() {
    let mut bytes = vec![0; BLOCK];
    encode_entries(&[sample(1, 3000)], &place(1, 1, 1), &mut bytes, &mut Vec::new());
    let block: [u8; BLOCK] = bytes.try_into().unwrap();
    assert!(Look::at(&block, SALT, 1).whole());
    for bit in 0..BLOCK * 8 {
        let mut block = block;
        block[bit / 8] ^= 1 << (bit % 8);
        let look = Look::at(&block, SALT, 1);
        assert!(!look.whole() && look.first_bad() == bit / 8 / SECTOR * SECTOR, "bit {bit}");
    }
    assert!(!Look::at(&block, SALT + 1, 1).whole(), "another segment");
    assert!(!Look::at(&block, SALT, 2).whole(), "another place");
}

/// Headers that verify and yet cannot be: no arithmetic on them may go wrong.
#[test]
fn headers_that_lie_are_refused() {
    let good = BlockHeader {
        kind: GroupKind::Entries,
        used: PAYLOAD as u16,
        salt: SALT,
        group: 1,
        first: Position(1),
        watermark: Position(0),
        index: 0,
        count: 2,
        block: 1,
        start: Some(0),
        recorded_at: Millis(0),
        chain: Hash([0; 32]),
    };
    let judged = |header: BlockHeader| {
        let mut block = [0; BLOCK];
        header.encode(&mut block);
        stamp_block(&mut block, SALT, 1);
        Look::at(&block, SALT, 1).header
    };
    assert_eq!(judged(good), Some(Ok(good)));
    for lie in [
        BlockHeader { used: PAYLOAD as u16 + 1, ..good },
        BlockHeader { used: 5, ..good },
        BlockHeader { count: 0, ..good },
        BlockHeader { index: 2, ..good },
        BlockHeader { index: u32::MAX, count: u32::MAX, ..good },
        BlockHeader { start: Some(PAYLOAD as u16), ..good },
        BlockHeader { block: 2, ..good },
        BlockHeader { salt: 1, ..good },
    ] {
        assert!(matches!(judged(lie), Some(Err(_))), "{lie:?}");
    }
}

/// A segment made by hand: entries, a lost range, more entries after the old chain, a seal.
#[test]
fn a_lost_group_keeps_positions_dense_and_the_chain_going() {
    let mut bytes = vec![0; 8 * BLOCK];
    let lost = LostRange {
        first: Position(3),
        last: Position(7),
        chain_after: Hash([0xaa; 32]),
        at: Millis(99),
        tool: "a test".into(),
    };
    let mut scratch = Vec::new();
    let group = [sample(1, 10), sample(2, 10)];
    let at = |n: usize| n * BLOCK..(n + 1) * BLOCK;
    let chain = encode_entries(&group, &place(1, 1, 1), &mut bytes[at(1)], &mut scratch);
    lost.encode(&GroupPlace { chain, ..place(2, 2, 3) }, &mut bytes[at(2)]);
    let after = GroupPlace { chain: lost.chain_after, ..place(3, 3, 8) };
    let chain = encode_entries(&group, &after, &mut bytes[at(3)], &mut scratch);
    let seal = GroupPlace { chain, group: 3, ..place(4, 3, 10) };
    encode_seal(GroupKind::Seal, &seal, &mut bytes[at(4)]);

    let vfs = SimVfs::new(1);
    let path = std::path::Path::new("/segment");
    vfs.put(path, bytes).unwrap();
    let file = vfs.open(path, Open::Read).unwrap();
    let cursor = Cursor {
        block: 1,
        group: 0,
        last: Position(0),
        recorded_at: Millis(0),
        chain: Hash([0xcc; 32]),
    };
    let mut walk = Walk::new(Blocks::new(&*file, "segment", 8, 3), SALT, cursor);
    let mut seen = Vec::new();
    while let Step::Group(group) = walk.step().unwrap() {
        let entries = walk.take_entries().len();
        seen.push((group.kind, group.first.0, group.last.0, entries, group.lost));
    }
    assert_eq!(
        seen,
        [
            (GroupKind::Entries, 1, 2, 2, None),
            (GroupKind::Lost, 3, 7, 0, Some(lost)),
            (GroupKind::Entries, 8, 9, 2, None),
            (GroupKind::Seal, 10, 9, 0, None),
        ]
    );
    assert_eq!(walk.cursor.chain, chain);
}

#[test]
fn marks_narrow_down_to_the_right_block() {
    // Block n begins position 3 n.
    let mut marks = Marks::default();
    for number in 1..500 {
        marks.note(number, Position(u64::from(number) * 3));
    }
    for position in 3..1500 {
        let around = marks.around(Position(position), 500);
        let right = (position / 3) as u32;
        assert!(around.contains(&right) && around.len() <= 64, "{position}: {around:?}");
        assert!(around.end <= 500);
    }
}

#[test]
fn sizes() {
    for (bytes, blocks) in [(0, 1), (1, 1), (PAYLOAD, 1), (PAYLOAD + 1, 2), (10 * PAYLOAD, 10)] {
        assert_eq!(blocks_of(bytes), blocks, "{bytes} bytes");
    }
}
