#!/usr/bin/env python3
"""The canonical form of records a second time, written from docs/format/record.md alone.

    record.py                    check docs/format/vectors/record.json, one line a vector
    record.py --server URL --root-key FILE [--token TOKEN] [--space SPACE]
                                 sign one record of each kind (but genesis) and have it recorded

Exit 0 if all is well, 1 on a mismatch. Needs blake3 and pynacl.
"""

import argparse
import json
import math
import pathlib
import secrets
import struct
import sys
import time
import unicodedata
import urllib.error
import urllib.request

from blake3 import blake3
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

VECTORS = pathlib.Path(__file__).parents[2] / "docs/format/vectors/record.json"


class Refused(Exception):
    """Bytes that are not a record, or a record that breaks a rule."""


def refuse_if(condition, why):
    if condition:
        raise Refused(why)


# --- DAG-CBOR -----------------------------------------------------------------------------------


def head(major, argument):
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 24:
            return bytes([major << 5 | argument])
        if argument < 1 << 8 * size:
            return bytes([major << 5 | info]) + argument.to_bytes(size, "big")
    raise ValueError(argument)


def key_order(key):
    return len(key.encode()), key.encode()


def encode(item):
    if isinstance(item, bool):
        return b"\xf5" if item else b"\xf4"
    if isinstance(item, int):
        return head(0, item) if item >= 0 else head(1, -1 - item)
    if isinstance(item, float):
        return b"\xfb" + struct.pack(">d", item + 0.0)
    if isinstance(item, bytes):
        return head(2, len(item)) + item
    if isinstance(item, str):
        return head(3, len(item.encode())) + item.encode()
    if isinstance(item, list):
        return head(4, len(item)) + b"".join(map(encode, item))
    pairs = sorted(item.items(), key=lambda pair: key_order(pair[0]))
    return head(5, len(pairs)) + b"".join(encode(part) for pair in pairs for part in pair)


class Reader:
    """Reads one item at a time and refuses what canonical form does not have."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        refuse_if(count > len(self.data) - self.at, "the input ends inside an item")
        self.at += count
        return self.data[self.at - count : self.at]

    def argument(self, info):
        if info < 24:
            return info
        refuse_if(info > 27, "indefinite or reserved length")
        size = 1 << info - 24
        argument = int.from_bytes(self.take(size), "big")
        least = 24 if size == 1 else 1 << 4 * size
        refuse_if(argument < least, "not in shortest form")
        return argument

    def item(self, depth=0):
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        if major == 7:
            if first in (0xF4, 0xF5):
                return first == 0xF5
            refuse_if(first != 0xFB, "a simple value or short float")
            bits = self.take(8)
            (number,) = struct.unpack(">d", bits)
            refuse_if(not math.isfinite(number), "NaN or infinite")
            refuse_if(number == 0 and bits != bytes(8), "-0")
            return number
        refuse_if(major == 6, "a tag")
        argument = self.argument(info)
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return self.take(argument)
        if major == 3:
            try:
                return self.take(argument).decode()
            except UnicodeDecodeError as error:
                raise Refused("not UTF-8") from error
        refuse_if(depth == 4, "lists and maps too deep")
        refuse_if(argument > len(self.data) - self.at, "longer than the input")
        if major == 4:
            return [self.item(depth + 1) for _ in range(argument)]
        pairs, last = {}, None
        for _ in range(argument):
            key = self.item(4)
            refuse_if(not isinstance(key, str), "a key that is not a text")
            refuse_if(last is not None and key_order(last) >= key_order(key), "key order")
            pairs[key], last = self.item(depth + 1), key
        return pairs


# --- Types of fields: `check` refuses, `read` takes the JSON of the test vectors ----------------


class Type:
    """A type in Python, and rules for it."""

    def __init__(self, python, *rules, read=lambda json_value: json_value):
        self.python, self.rules, self.read = python, rules, read

    def check(self, value):
        refuse_if(type(value) is not self.python, f"{type(value).__name__} is the wrong type")
        for rule in self.rules:
            refuse_if(not rule(value), "out of bounds")


def integer(least, most):
    return Type(int, lambda value: least <= value <= most)


def floating(least=-math.inf, most=math.inf, *rules):
    bounds = lambda value: math.isfinite(value) and least <= value <= most
    return Type(float, bounds, *rules, read=float)


def fixed(count):
    return Type(bytes, lambda value: len(value) == count, read=bytes.fromhex)


def text(least, most, controls=""):
    return Type(
        str,
        lambda value: least <= len(value.encode()) <= most,
        lambda value: unicodedata.is_normalized("NFC", value),
        lambda value: all(c in controls or unicodedata.category(c) != "Cc" for c in value),
    )


def line(most):
    return text(1, most)


def lines(most, least=0):
    return text(least, most, "\t\n\r")


def names(*allowed):
    return Type(str, lambda value: value in allowed)


class ListOf(Type):
    def __init__(self, item, most, order=None):
        self.item, self.most, self.order = item, most, order

    def read(self, json_value):
        return [self.item.read(item) for item in json_value]

    def check(self, value):
        refuse_if(type(value) is not list, "not a list")
        refuse_if(not 1 <= len(value) <= self.most, f"{len(value)} items")
        for item in value:
            self.item.check(item)
        if self.order:
            ranks = [self.order(item) for item in value]
            refuse_if(any(a >= b for a, b in zip(ranks, ranks[1:])), "not ascending")


class SourceKey(Type):
    """An evidence hash, or a URI; in JSON both are texts, and 64 hex digits are no URI."""

    def __init__(self):
        pass

    def read(self, json_value):
        try:
            return bytes.fromhex(json_value)
        except ValueError:
            return json_value

    def check(self, value):
        (HASH if type(value) is bytes else line(2048)).check(value)


class Struct(Type):
    """A map: required and optional fields, then rules over all of it."""

    def __init__(self, required, optional=None, *rules):
        self.required, self.rules = required, rules
        self.fields = {**required, **(optional or {})}

    def read(self, json_value):
        return {name: self.fields[name].read(value) for name, value in json_value.items()}

    def check(self, value):
        refuse_if(type(value) is not dict, "not a map")
        refuse_if(not value, "empty")
        for name, field in value.items():
            refuse_if(name not in self.fields, f"no field {name}")
            try:
                self.fields[name].check(field)
            except Refused as refused:
                raise Refused(f"{name}: {refused}") from refused
        for name in self.required:
            refuse_if(name not in value, f"{name} is missing")
        for rule in self.rules:
            refuse_if(not rule(value), "fields contradict each other")


class Object(Type):
    VALUES = {}

    def __init__(self):
        pass

    def of(self, value):
        refuse_if(type(value) is not dict, "not a map")
        content = self.VALUES.get(value.get("type"))
        refuse_if(content is None, "unknown type")
        unit = {"unit": line(512)} if value["type"] == "number" else {}
        return Struct({"type": names(*self.VALUES), "value": content}, unit)

    def read(self, json_value):
        return self.of(json_value).read(json_value)

    def check(self, value):
        self.of(value).check(value)


class Meta(Type):
    def __init__(self):
        pass

    def read(self, json_value):
        return json_value

    def check(self, value):
        refuse_if(type(value) is not dict or not 1 <= len(value) <= 32, "not 1 to 32 pairs")
        for key, content in value.items():
            line(4096).check(key)
            lines(4096).check(content)
        size = sum(len(part.encode()) for pair in value.items() for part in pair)
        refuse_if(size > 4096, "more than 4096 bytes")


ID = KEY = HASH = fixed(32)
UINT = integer(0, 2**64 - 1)
COUNT = integer(1, 2**64 - 1)
MS = integer(-(2**63), 2**63 - 1)
SUBJECT, PREDICATE, REASON, NAME = line(512), line(256), lines(4096), line(512)
SPACE = Type(
    str, lambda s: 1 <= len(s) <= 64 and set(s) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
)
CLASS = names("regulatory", "clinical", "observational", "expert", "community", "anecdotal")
STATE = names("proposed", "under_review", "approved", "deprecated", "rejected")
Object.VALUES = {
    "text": lines(65536),
    "number": floating(),
    "boolean": Type(bool),
    "time": MS,
    "reference": SUBJECT,
}
LENSES = "recency consensus confidence authority trust votes skeptic layered custom".split()


# --- The kinds ----------------------------------------------------------------------------------


def finite_vector(value):
    numbers, rest = divmod(len(value), 4)
    if rest or not 1 <= numbers <= 4096:
        return False
    return all(map(math.isfinite, struct.unpack(f"<{numbers}f", value)))


PROVENANCE = Struct({}, {"uri": line(2048), "class": CLASS, "evidence": HASH})
TOLERANCE = Struct({}, {"absolute": floating(0), "relative": floating(0)})
CONVERSION = Struct(
    {
        "add": floating(),
        "unit": NAME,
        "multiply": floating(-math.inf, math.inf, lambda value: value != 0),
    }
)
ACTS = (
    ({"key", "ceiling"}, {"name", "roles", "operator"}),
    ({"key", "replaces", "consent"}, set()),
    ({"key", "from_position"}, set()),
)
COMMON = {"v": UINT, "at": MS, "kind": UINT, "agent": KEY, "space": SPACE}


def one_act(record):
    own = set(record) - set(COMMON) - {"log_id"}
    return any(required <= own <= required | optional for required, optional in ACTS)


def kind(tag, name, required, optional=None, *rules):
    bound = {} if name in ("assertion", "cosign") else {"log_id": fixed(16)}
    return name, (tag, Struct({**COMMON, **bound, **required}, optional, *rules))


KINDS = dict(
    [
        kind(
            0,
            "genesis",
            {"root": KEY, "format": integer(1, 1)},
            None,
            lambda r: r["root"] == r["agent"],
        ),
        kind(
            1,
            "assertion",
            {
                "object": Object(),
                "subject": SUBJECT,
                "lifecycle": STATE,
                "predicate": PREDICATE,
                "confidence": floating(0, 1),
            },
            {
                "meta": Meta(),
                "epoch": ID,
                "parent": ID,
                "source": PROVENANCE,
                "vector": Type(bytes, finite_vector, read=bytes.fromhex),
                "valid_to": MS,
                "valid_from": MS,
                "visual_hash": fixed(8),
                "derived_from": ListOf(ID, 64, order=lambda item: item),
            },
            lambda r: r.get("valid_from", -math.inf) < r.get("valid_to", math.inf),
        ),
        kind(2, "cosign", {"assertion": ID}),
        kind(3, "vote", {"weight": floating(-1, 1), "assertion": ID}),
        kind(
            4,
            "epoch",
            {"name": NAME},
            {"mode": names("replace", "extend"), "supersedes": ID, "description": REASON},
            lambda r: ("mode" in r) == ("supersedes" in r),
        ),
        kind(
            5,
            "source",
            {
                "keys": ListOf(
                    SourceKey(),
                    64,
                    order=lambda k: (0, k) if type(k) is bytes else (1, k.encode()),
                ),
                "class": CLASS,
            },
            {"title": NAME},
        ),
        kind(
            6,
            "retract",
            {},
            {"reason": REASON, "record": ID, "source": SourceKey()},
            lambda r: ("record" in r) != ("source" in r),
        ),
        kind(
            7,
            "supersede",
            {"new": ID, "old": ID},
            {"reason": REASON},
            lambda r: r["new"] != r["old"],
        ),
        kind(
            8,
            "predicate",
            {"name": PREDICATE, "cardinality": names("one", "many")},
            {
                "type": names(*Object.VALUES),
                "unit": NAME,
                "half_life": integer(1, 2**53 - 1),
                "opposites": ListOf(PREDICATE, 64, order=str.encode),
                "tolerance": TOLERANCE,
                "conversions": ListOf(CONVERSION, 64, order=lambda item: item["unit"].encode()),
            },
            lambda r: "unit" not in r or r.get("type", "number") == "number",
            lambda r: "tolerance" not in r or r.get("type", "number") in ("number", "time"),
            lambda r: "conversions" not in r or "unit" in r,
            lambda r: all(item["unit"] != r["unit"] for item in r.get("conversions", ())),
            lambda r: r["name"] not in r.get("opposites", ()),
        ),
        kind(
            9,
            "alias",
            {"other": SUBJECT, "subject": SUBJECT},
            None,
            lambda r: r["other"] != r["subject"],
        ),
        kind(
            10,
            "agent",
            {"key": KEY},
            {
                "ceiling": CLASS,
                "name": NAME,
                "roles": ListOf(
                    names("curator", "registrar", "reviewer", "trust"), 4, order=str.encode
                ),
                "operator": NAME,
                "replaces": KEY,
                "consent": fixed(64),
                "from_position": COUNT,
            },
            one_act,
            lambda r: "replaces" not in r or r["replaces"] == r["agent"] != r["key"],
        ),
        kind(
            11,
            "lens",
            {
                "name": Type(
                    str, lambda name: name not in LENSES, lambda name: NAME.check(name) is None
                ),
                "weight": lines(4096, least=1),
                "version": COUNT,
                "aggregate": names("sum", "max"),
            },
            {"ties": ListOf(names("agents", "newest", "bytes"), 3), "filter": lines(4096, least=1)},
            lambda r: len(set(r.get("ties", ()))) == len(r.get("ties", ())),
        ),
        kind(12, "gold", {"object": Object(), "subject": SUBJECT, "predicate": PREDICATE}),
        kind(13, "trust_snapshot", {"table": HASH, "config": HASH, "input_position": COUNT}),
        kind(14, "lifecycle", {"state": STATE, "assertion": ID}, {"reason": REASON}),
    ]
)
BY_TAG = {tag: (name, shape) for name, (tag, shape) in KINDS.items()}


def build(name, fields):
    """Canonical bytes of a record of this kind, from its fields without `v` and `kind`."""
    tag, shape = KINDS[name]
    record = {"v": 1, "kind": tag, **fields}
    shape.check(record)
    return encode(record)


def parse(data):
    """Name of the kind, and the fields, of canonical bytes."""
    refuse_if(len(data) > 262_144, "too long")
    reader = Reader(data)
    record = reader.item()
    refuse_if(reader.at != len(data), "bytes after the end")
    refuse_if(type(record) is not dict, "not a map")
    refuse_if(type(record.get("v")) is not int or record["v"] != 1, "not version 1")
    refuse_if(type(record.get("kind")) is not int, "kind")
    refuse_if(record["kind"] not in BY_TAG, "unknown kind")
    name, shape = BY_TAG[record["kind"]]
    shape.check(record)
    return name, record


# --- Ids and signatures -------------------------------------------------------------------------


def record_id(name, data):
    return blake3(b"stemedb/v1/" + bytes([KINDS[name][0], 0]) + data).digest()


def sign(key, identity):
    return key.sign(b"stemedb/v1/sign\0" + identity).signature


def verifies(public_key, message, signature):
    # libsodium refuses what the page asks to refuse: unreduced scalars, points of small order.
    try:
        VerifyKey(public_key).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def consent_message(log_id, space, old, new):
    return b"stemedb/v1/replace\0" + log_id + space.encode() + old + new


def verify(data, signature):
    """The record of canonical bytes, if this is its author's signature."""
    name, record = parse(data)
    if "consent" in record:
        message = consent_message(
            record["log_id"], record["space"], record["replaces"], record["key"]
        )
        refuse_if(not verifies(record["key"], message, record["consent"]), "consent")
    message = b"stemedb/v1/sign\0" + record_id(name, data)
    refuse_if(not verifies(record["agent"], message, signature), "signature")
    return record


# --- Against the test vectors -------------------------------------------------------------------


def check_record(vector):
    shape = KINDS[vector["kind"]][1]
    data = build(vector["kind"], shape.read(vector["fields"]))
    key = SigningKey(bytes.fromhex(vector["seed"]))
    identity = record_id(vector["kind"], data)
    found = {
        "canonical": data.hex(),
        "id": identity.hex(),
        "public_key": bytes(key.verify_key).hex(),
        "signature": sign(key, identity).hex(),
    }
    for name, value in found.items():
        refuse_if(value != vector[name], f"{name}: {value}")
    verify(data, bytes.fromhex(vector["signature"]))


def check_consent(vector):
    key = SigningKey(bytes.fromhex(vector["seed"]))
    log_id, old, new = (bytes.fromhex(vector[name]) for name in ("log_id", "old", "new"))
    refuse_if(bytes(key.verify_key) != new, "new")
    found = key.sign(consent_message(log_id, vector["space"], old, new)).signature
    refuse_if(found.hex() != vector["consent"], f"consent: {found.hex()}")


def check_refused(vector):
    try:
        parse(bytes.fromhex(vector["bytes"]))
    except Refused:
        return
    raise Refused("accepted")


def check_bad_signature(vector):
    data = bytes.fromhex(vector["canonical"])
    parse(data)
    try:
        verify(data, bytes.fromhex(vector["signature"]))
    except Refused:
        return
    raise Refused("accepted")


def check_vectors():
    vectors = json.loads(VECTORS.read_text())
    checks = {
        "records": check_record,
        "consents": check_consent,
        "refused": check_refused,
        "bad_signatures": check_bad_signature,
    }
    refuse_if(set(vectors) != set(checks), f"sections: {sorted(vectors)}")
    kinds = {vector["kind"] for vector in vectors["records"]}
    refuse_if(kinds != set(KINDS), f"kinds without a vector: {set(KINDS) - kinds}")
    failed = 0
    for section, check in checks.items():
        for number, vector in enumerate(vectors[section]):
            label = vector.get("name") or vector.get("reason") or number
            try:
                check(vector)
                print(f"ok   {section}: {label}")
            except Refused as refused:
                failed += 1
                print(f"FAIL {section}: {label}: {refused}")
    return failed


# --- Against a server ---------------------------------------------------------------------------


class Server:
    def __init__(self, url, token):
        self.url, self.headers = url.rstrip("/"), {"content-type": "application/json"}
        if token:
            self.headers["authorization"] = f"Bearer {token}"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self.headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Refused(f"{error.code} {error.read().decode(errors='replace')}") from error

    def log_id(self):
        return bytes.fromhex(self.call("GET", "/v1/health")["node"]["log_id"])

    def put(self, identity, data, signature):
        """Has a record recorded; the answer names its position."""
        body = {"bytes": data.hex(), "signature": signature.hex()}
        return self.call("PUT", f"/v1/records/{identity.hex()}", body)


def check_server(server, root, space):
    """One record of each kind but genesis, each after what it refers to."""
    log_id, run, failed = server.log_id(), secrets.token_hex(4), 0
    public = lambda key: bytes(key.verify_key)

    def put(key, name, /, **fields):
        nonlocal failed
        fields |= {"at": int(time.time() * 1000), "agent": public(key), "space": space}
        if name not in ("assertion", "cosign"):
            fields["log_id"] = log_id
        data = build(name, fields)
        identity = record_id(name, data)
        try:
            answer = server.put(identity, data, sign(key, identity))
            refuse_if(answer.get("id") != identity.hex(), f"another id: {answer}")
            print(f"ok   {name} at position {answer['position']}")
            return identity, answer["position"]
        except Refused as refused:
            failed += 1
            print(f"FAIL {name}: {refused}")
            return identity, 1

    def claim(key, value, /, **fields):
        said = {"type": "number", "value": value, "unit": "m"}
        fields = {"lifecycle": "proposed", "confidence": 1.0, "object": said, **fields}
        return put(key, "assertion", subject=f"interop/{run}", predicate=f"height {run}", **fields)

    author, voter, successor = (SigningKey.generate() for _ in range(3))
    uri = f"https://example.org/{run}"
    put(root, "agent", key=public(author), ceiling="clinical", name=f"author {run}")
    put(root, "agent", key=public(voter), ceiling="expert", name=f"voter {run}")
    put(root, "predicate", name=f"height {run}", cardinality="one", type="number", unit="m")
    put(root, "source", keys=[uri], **{"class": "clinical"})
    epoch, _ = put(author, "epoch", name=f"epoch {run}")
    put(root, "lens", name=f"lens {run}", weight="confidence", version=1, aggregate="sum")
    put(root, "alias", other=f"interop/{run}", subject=f"interop/alias/{run}")
    old, _ = claim(author, 1.5, source={"uri": uri}, epoch=epoch)
    new, _ = claim(author, 1.6, derived_from=[old])
    third, _ = claim(voter, 1.4, meta={"note": "naïve"}, visual_hash=bytes(8))
    put(voter, "vote", weight=0.5, assertion=new)
    put(voter, "cosign", assertion=new)
    put(root, "lifecycle", state="approved", assertion=new)
    put(voter, "retract", record=third, reason="a slip")
    fourth, _ = claim(voter, 1.45)
    fifth, _ = claim(voter, 1.46)
    put(voter, "supersede", new=fifth, old=fourth)
    gold = {"type": "number", "value": 1.6, "unit": "m"}
    _, position = put(
        root, "gold", object=gold, subject=f"interop/{run}", predicate=f"height {run}"
    )
    put(root, "trust_snapshot", table=bytes(32), config=bytes(32), input_position=position)
    message = consent_message(log_id, space, public(author), public(successor))
    consent = successor.sign(message).signature
    put(author, "agent", key=public(successor), replaces=public(author), consent=consent)
    put(root, "agent", key=public(voter), from_position=position)
    return failed


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--server", help="URL of a running server")
    arguments.add_argument("--root-key", type=pathlib.Path, help="file with the root seed in hex")
    arguments.add_argument("--token", help="API key, if the server asks for one")
    arguments.add_argument("--space", default="default")
    given = arguments.parse_args()
    try:
        if given.server:
            if not given.root_key:
                arguments.error("--server needs --root-key")
            root = SigningKey(bytes.fromhex(given.root_key.read_text().strip()))
            failed = check_server(Server(given.server, given.token), root, given.space)
        else:
            failed = check_vectors()
    except Refused as refused:
        failed = 1
        print(f"FAIL {refused}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
