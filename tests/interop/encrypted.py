#!/usr/bin/env python3
"""Opens an encrypted backup of StemeDB, written from docs/format/archive.md alone.

    encrypted.py     check the objects that are kept in crates/stemedb-remote/tests/golden

The secret of these is `5a` 32 times; the file `root.key` held 70,000 times the letter s.
"""

import pathlib
import sys

from blake3 import blake3
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt as decrypt

GOLDEN = pathlib.Path(__file__).parents[2] / "crates/stemedb-remote/tests/golden"
SECRET = b"\x5a" * 32
CHUNK, TAG, HEADER = 65_536, 16, 56
UINT, NEGATIVE, BYTES, TEXT, LIST, MAP, TAGGED, SIMPLE = range(8)


def item(data, at=0):
    """Section "A signed map": one item of the encoding of records, and where it ends."""
    major, short = data[at] >> 5, data[at] & 31
    at += 1
    if major == SIMPLE:
        return short == 21, at
    length = 0 if short < 24 else 1 << (short - 24)
    number = int.from_bytes(data[at : at + length], "big") if length else short
    at += length
    if major == UINT:
        return number, at
    if major == NEGATIVE:
        return -1 - number, at
    if major in (BYTES, TEXT):
        value = data[at : at + number]
        return (value.decode() if major == TEXT else value), at + number
    items = []
    for _ in range(number * (2 if major == MAP else 1)):
        value, at = item(data, at)
        items.append(value)
    return (dict(zip(items[::2], items[1::2])) if major == MAP else items), at


def encoded(value):
    """The same the other way round, for the kinds of values that a context has."""
    if isinstance(value, dict):
        fields = sorted(value.items(), key=lambda field: (len(field[0]), field[0]))
        return head(MAP, len(fields)) + b"".join(encoded(part) for pair in fields for part in pair)
    if isinstance(value, int):
        return head(UINT, value)
    data = value.encode() if isinstance(value, str) else value
    return head(TEXT if isinstance(value, str) else BYTES, len(data)) + data


def head(major, number):
    """Shortest lengths."""
    if number < 24:
        return bytes([major << 5 | number])
    power = next(power for power in range(4) if number < 1 << (8 << power))
    return bytes([major << 5 | 24 + power]) + number.to_bytes(1 << power, "big")


def derived(context):
    """A key or name that comes from the secret."""
    return blake3(SECRET, derive_key_context="stemedb 2026 encryption: " + context).digest()


def opened(data, context):
    """Section "An encrypted object"."""
    header = data[:HEADER]
    synthetic = header[24:]
    assert header[:8] == b"STEMENC1"
    assert header[8:24] == derived("id of a key")[:16]
    key = blake3(synthetic + context, key=derived("keys of objects")).digest()
    body, content = data[HEADER:], b""
    starts = range(0, len(body), CHUNK + TAG)
    for number, start in enumerate(starts):
        last = number + 1 == len(starts)
        nonce = bytes(7) + number.to_bytes(4, "big") + bytes([last])
        content += decrypt(body[start : start + CHUNK + TAG], header, nonce, key)
    named = len(context).to_bytes(8, "big") + context + content
    assert blake3(named, key=derived("what is in an object")).digest() == synthetic
    return content


def main():
    """Every object that the map names is there, opens, and holds what it should."""
    objects = [path.read_bytes() for path in sorted(GOLDEN.glob("encrypted.*"))]
    by_hash = {blake3(data).digest(): data for data in objects}
    signed = next(data for data in objects if not data.startswith(b"STEMENC1"))
    backup, _ = item(item(signed)[0]["body"])
    log_id = backup["log_id"]
    for part in backup["parts"]:
        names = ("timeline", "segment", "salt", "start", "end")
        context = {"kind": "part", "log_id": log_id} | {name: part[name] for name in names}
        assert opened(by_hash[part["hash"]], encoded(context)).startswith(b"STEMEPAK")
    for file in backup["files"]:
        context = {"kind": "file", "log_id": log_id, "path": file["path"]}
        content = opened(by_hash[file["hash"]], encoded(context))
        assert file["path"] != "root.key" or content == b"s" * 70_000
    assert any(file["path"] == "root.key" for file in backup["files"]) and backup["parts"]
    print(f"{len(backup['parts'])} parts and {len(backup['files'])} files open")
    return 0


if __name__ == "__main__":
    sys.exit(main())
