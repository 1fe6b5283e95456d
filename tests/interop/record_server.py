"""Records against a running server. Section "Sending a record" of docs/format/record.md; the form
in JSON fields is that of docs/openapi.json."""

import datetime
import hashlib
import json
import secrets
import struct
import time
import urllib.error
import urllib.request

from blake3 import blake3
from nacl.signing import SigningKey

from record_cbor import Refused, demand_same, encode
from record_ed25519 import BASE, NEUTRAL, ORDER, add, decode_point, encode_point, multiply
from record_kinds import ROLES, UNBOUND
from record_signed import (
    build, from_json, give_consent, open_record, read, record_id, sign, signed_bytes, with_kind,
)


class Server:
    """What answers at a URL."""

    def __init__(self, url, token):
        self.url, self.token = url.rstrip("/"), token

    def text(self, method, path, body=None):
        """The body of an answer; a problem document is `Refused` with its code as the rule."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            raise refusal(error.code, text) from None

    def call(self, method, path, body=None):
        """The JSON of an answer."""
        return json.loads(self.text(method, path, body))

    def put(self, identity, data, signature):
        """Writes canonical bytes. The server says the id that it computed, or refuses ours."""
        body = {"bytes": data.hex(), "signature": signature.hex()}
        ack = self.call("PUT", f"/v1/records/{identity.hex()}", body)
        demand_same("id", ack["id"], identity.hex())
        return ack

    def post(self, kind, fields, signature):
        """Writes fields, of which the server makes the canonical bytes itself."""
        path = "/v1/assert" if kind == "assertion" else f"/v1/{kind}"
        return self.call("POST", path, {**to_wire(fields), "signature": signature.hex()})


def refusal(status, text):
    """Out of a problem document, or of what else came."""
    try:
        problem = json.loads(text)
        return Refused(problem["code"], problem["detail"])
    except (ValueError, KeyError, TypeError):
        return Refused(f"status {status}", text)


def to_wire(value, name=None):
    """The JSON form of fields: bytes in hex, a hash or URI as a map that says which."""
    if isinstance(value, dict):
        return {inner: to_wire(field, inner) for inner, field in value.items()}
    if isinstance(value, list):
        return [to_wire(item, name) for item in value]
    if name in ("keys", "source"):
        return {"evidence": value.hex()} if isinstance(value, bytes) else {"uri": value}
    return value.hex() if isinstance(value, bytes) else value


def from_wire(given):
    """The kind, the record and the signature that an answer shows."""
    given = dict(given)
    kind, identity, signature = (given.pop(name) for name in ("kind", "id", "signature"))
    for name in ("at", "valid_from", "valid_to"):
        if name in given:
            given[name] = milliseconds(given[name])
    if "object" in given:
        given["object"] = tagged(given["object"])
    if kind == "source":
        given["keys"] = [next(iter(one.values())) for one in given["keys"]]
    if kind == "retract" and "source" in given:
        (given["source"],) = given["source"].values()
    return kind, from_json(kind, given), bytes.fromhex(identity), bytes.fromhex(signature)


def milliseconds(moment):
    """Of a time in RFC 3339, without a float on the way."""
    if isinstance(moment, int):
        return moment
    epoch = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
    return (datetime.datetime.fromisoformat(moment) - epoch) // datetime.timedelta(milliseconds=1)


def tagged(value):
    """An object that may be shown as a bare scalar."""
    if isinstance(value, dict):
        return value | {"value": milliseconds(value["value"])} if value["type"] == "time" else value
    if isinstance(value, bool):
        return {"type": "boolean", "value": value}
    return {"type": "text" if isinstance(value, str) else "number", "value": value}


class Writer:
    """Writes records to a server and holds it to what is computed here."""

    def __init__(self, server, space):
        self.server, self.space = server, space
        self.log_id = bytes.fromhex(server.call("GET", "/v1/health")["node"]["log_id"])
        self.at = int(time.time() * 1000) - 100_000

    def fields(self, kind, author, own):
        """With the fields of every kind. No two records have the same time, so each is new."""
        self.at += 1
        common = {"at": self.at, "agent": bytes(author.verify_key), "space": self.space}
        return common | ({} if kind in UNBOUND else {"log_id": self.log_id}) | own

    def write(self, kind, author, /, **own):
        """Has a record written from its bytes; then again from its fields, where the server must
        come to the same id; then reads it, where the same bytes must come out. Returns its id."""
        fields = self.fields(kind, author, own)
        data = build(kind, fields)
        identity = record_id(kind, data)
        signature = sign(author, identity)
        open_record(data, signature)

        ack = self.server.put(identity, data, signature)
        demand_same("status", ack["status"], "created")
        again = self.server.post(kind, fields, signature)
        demand_same(
            "the record made of fields",
            [again[name] for name in ("id", "position", "status")],
            [identity.hex(), ack["position"], "exists"],
        )
        shown = self.server.call("GET", f"/v1/records/{identity.hex()}")["record"]
        self.check_shown(shown, kind, data, identity, signature)
        print(f"ok   {kind} at position {ack['position']}")
        return identity

    def check_shown(self, shown, *expected):
        """What the server shows of a record gives back its bytes, its id and a good signature."""
        kind, record, identity, signature = from_wire(shown)
        data = encode(record)
        demand_same("what the server shows", (kind, data, identity, signature), expected)
        open_record(data, signature)

    def refused(self, code, identity, data, signature):
        """That the server refuses it, with this code."""
        try:
            self.server.put(identity, data, signature)
        except Refused as refused:
            demand_same("the code", refused.rule, code)
            return
        raise Refused("taken", f"the server should have answered {code}")


def check_genesis(writer, root):
    """Genesis is written by nobody but the server: what it shows of its own must have the id and
    the signature that are computed here."""
    export = writer.server.text("GET", "/v1/export?live=false").splitlines()
    kind, record, identity, signature = from_wire(json.loads(export[0])["record"])
    demand_same("the first kind", kind, "genesis")
    data = encode(record)
    _, _, computed = open_record(data, signature)
    demand_same("id of genesis", identity, computed)
    demand_same("root", record["root"], bytes(root.verify_key))
    demand_same("database", record["log_id"], writer.log_id)
    print("ok   genesis as the server shows it")


def write_all(writer, root):
    """A record of every kind but genesis, with every optional field in one at least, and every
    type of object."""
    mark = secrets.token_hex(4)
    author, successor = SigningKey.generate(), SigningKey.generate()
    writer.write(
        "agent",
        root,
        key=bytes(author.verify_key),
        ceiling="regulatory",
        name=f"Zoé {mark}",
        roles=list(ROLES),
        operator="Example Lab",
    )
    writer.write(
        "predicate",
        author,
        name=f"height {mark}",
        type="number",
        unit="m",
        half_life=2**53 - 1,
        opposites=["depth", f"no height {mark}"],
        tolerance={"absolute": 0.5, "relative": 1e-9},
        conversions=[
            {"add": 0.0, "unit": "cm", "multiply": 0.01},
            {"add": -0.5, "unit": "km", "multiply": 1000.0},
        ],
        cardinality="many",
    )
    evidence = blake3(mark.encode()).digest()
    uri = f"https://example.org/{mark}?é=1"
    writer.write("source", author, keys=[evidence, uri], **{"class": "clinical"}, title="A trial")
    first = writer.write("epoch", author, name=f"before {mark}")
    epoch = writer.write(
        "epoch",
        author,
        name=f"after {mark}",
        supersedes=first,
        mode="extend",
        description="One line,\n\tand another.",
    )
    key = {"subject": f"tower {mark}", "predicate": f"height {mark}"}
    defaults = {"confidence": 1.0, "lifecycle": "proposed"}
    objects = [
        {"type": "text", "value": ""},
        {"type": "number", "value": 324.0},
        {"type": "number", "value": -5e-324, "unit": "µm"},
        {"type": "boolean", "value": False},
        {"type": "time", "value": -1},
        {"type": "reference", "value": "Tour Eiffel"},
        # Not assigned in Unicode 18.0.
        {"type": "reference", "value": "\u0378"},
    ]
    claims = [writer.write("assertion", author, object=one, **key, **defaults) for one in objects]
    claim = writer.write(
        "assertion",
        author,
        object={"type": "number", "value": 0.33, "unit": "km"},
        **key,
        confidence=0.0,
        lifecycle="under_review",
        meta={"a longer key": "line one\nline two", "run": "12", "zz": "", "é": "ü"},
        epoch=epoch,
        parent=claims[1],
        source={"uri": uri, "class": "clinical", "evidence": evidence},
        vector=struct.pack("<3f", 0.25, -0.0, 3.0),
        valid_from=-86_400_000,
        valid_to=1_800_000_000_000,
        visual_hash=bytes(range(8)),
        derived_from=sorted(claims),
    )
    writer.write("cosign", root, assertion=claim)
    vote = writer.write("vote", root, assertion=claim, weight=-0.5)
    writer.write("lifecycle", author, assertion=claim, state="approved", reason="reproduced")
    writer.write("supersede", author, old=claims[0], new=claim, reason="remeasured")
    writer.write("alias", author, subject=f"NYC {mark}", other=f"New York {mark}")
    writer.write(
        "lens",
        author,
        name="Recency",
        version=1 + secrets.randbelow(2**53 - 1),
        weight="confidence *\n\t2.0",
        filter="tier <= 2",
        ties=["newest", "bytes", "agents"],
        aggregate="max",
    )
    writer.write("gold", author, object=objects[1], **key)
    writer.write("trust_snapshot", author, table=evidence, config=bytes(32), input_position=1)
    writer.write("retract", root, record=vote, reason="")
    writer.write("retract", author, source=evidence, reason="made up")
    writer.write("retract", author, source=f"doi:{mark}")
    writer.write(
        "agent",
        author,
        key=bytes(successor.verify_key),
        replaces=bytes(author.verify_key),
        consent=give_consent(successor, writer.log_id, writer.space, bytes(author.verify_key)),
    )
    writer.write("agent", root, key=bytes(successor.verify_key), from_position=2**53 - 1)


def violations(writer, author):
    """Records that break a rule which no test vector breaks: what rule, kind, fields."""
    claim = {"object": {"type": "boolean", "value": True}, "subject": "s", "predicate": "p"}
    claim |= {"confidence": 1.0, "lifecycle": "proposed"}
    predicate = {"name": "p", "cardinality": "one"}
    replace = {"key": bytes(32), "replaces": bytes(author.verify_key), "consent": bytes(64)}
    metre = {"unit": "m", "multiply": 1.0, "add": 0.0}
    flat, zero = {"multiply": 0.0}, {"absolute": 0.0}
    hash_ = bytes(32)
    keys = [f"k{n:02}" for n in range(33)]
    cases = [
        ("number of pairs", "assertion", claim | {"meta": dict.fromkeys(keys, "")}),
        ("size of meta", "assertion", claim | {"meta": {"key": 4094 * "x"}}),
        ("type", "assertion", claim | {"object": {"type": "boolean", "value": "true"}}),
        ("control characters", "assertion", claim | {"subject": "\x85"}),
        ("NFC", "assertion", claim | {"subject": "8 bytes."}),
        ("size of a text", "assertion", claim | {"subject": 257 * "é"}),
        ("ascending", "source", {"class": "expert", "keys": ["a", bytes(32)]}),
        ("ascending", "source", {"class": "expert", "keys": ["b", "aa"]}),
        ("two that differ", "predicate", predicate | {"opposites": ["p"]}),
        ("fields together", "predicate", predicate | {"type": "text", "unit": "m"}),
        ("fields together", "predicate", predicate | {"type": "text", "tolerance": zero}),
        ("fields together", "predicate", predicate | {"conversions": [metre]}),
        ("two that differ", "predicate", predicate | {"unit": "m", "conversions": [metre]}),
        ("bounds", "predicate", predicate | {"unit": "s", "conversions": [metre | flat]}),
        ("bounds", "predicate", predicate | {"half_life": 2**53}),
        ("two that are equal", "agent", replace | {"replaces": bytes(32), "key": bytes([1] * 32)}),
        ("two that differ", "agent", replace | {"key": replace["replaces"]}),
        ("unknown field", "agent", {"key": bytes(32), "from_position": 1, "name": "x"}),
        ("bounds", "agent", {"key": bytes(32), "from_position": 0}),
        ("bounds", "trust_snapshot", {"table": hash_, "config": hash_, "input_position": 0}),
    ]
    for rule, kind, own in cases:
        yield rule, kind, writer.fields(kind, author, own)


# Composes since Unicode 16.
NOT_NFC = "\U0001611e\U0001611e".encode()


def check_violations(writer, author):
    """Each is refused here, for the rule that it breaks, and there."""
    for rule, kind, fields in violations(writer, author):
        # A writer takes no text that is not NFC, so that is put in afterwards.
        data = encode(with_kind(kind, fields)).replace(b"8 bytes.", NOT_NFC)
        try:
            read(data)
        except Refused as refused:
            demand_same(f"the rule that {kind} breaks", refused.rule, rule)
        else:
            raise Refused("taken", f"this should have been refused: {fields}")
        identity = record_id(kind, data)
        writer.refused("invalid_field", identity, data, sign(author, identity))
    print("ok   what breaks a rule of the page is refused")


# A point of order 8.
TORSION = decode_point(
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
)


def forge(author, identity, r, part):
    """A signature whose R is r times the base point plus a part of small order, made by the holder
    of the key as RFC 8032, section 5.1.6, says, so that it is good times the cofactor."""
    digest = bytearray(hashlib.sha512(bytes(author)).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    large = encode_point(add(multiply(r, BASE), part))
    message = large + bytes(author.verify_key) + signed_bytes(identity)
    k = int.from_bytes(hashlib.sha512(message).digest(), "little")
    s = (r + k * int.from_bytes(digest, "little")) % ORDER
    return large + s.to_bytes(32, "little")


def check_signatures(writer, author):
    """A vote that is all right but for its reference, with signatures that are not good."""
    data = build("vote", writer.fields("vote", author, {"assertion": bytes(32), "weight": 1.0}))
    identity = record_id("vote", data)
    good = sign(author, identity)
    s = int.from_bytes(good[32:], "little") + ORDER
    bad = {
        "one bit": bytes([good[0] ^ 1]) + good[1:],
        "another key": sign(SigningKey.generate(), identity),
        "s not reduced": good[:32] + s.to_bytes(32, "little"),
        "R does not decode": b"\2" + bytes(31) + good[32:],
        "R of small order": forge(author, identity, 0, NEUTRAL),
        "good times the cofactor only": forge(author, identity, 1, TORSION),
    }
    for what, signature in bad.items():
        try:
            open_record(data, signature)
        except Refused:
            writer.refused("bad_signature", identity, data, signature)
        else:
            raise Refused("taken", f"this signature should have been refused: {what}")
    # What is made in the same way without a part of small order is good: the reference is not.
    for signature in (good, forge(author, identity, 1, NEUTRAL)):
        open_record(data, signature)
        writer.refused("unknown_reference", identity, data, signature)
    print("ok   what is not signed well is refused")


def check_places(writer, root):
    """The id, the database and the kind that a record may come with."""
    fields = writer.fields("vote", root, {"assertion": bytes(32), "weight": 1.0})
    vote = build("vote", fields)
    writer.refused("id_mismatch", bytes(32), vote, sign(root, record_id("vote", vote)))
    foreign = build("vote", fields | {"log_id": bytes(16)})
    identity = record_id("vote", foreign)
    writer.refused("wrong_log", identity, foreign, sign(root, identity))
    own = {"root": bytes(root.verify_key), "format": 1}
    genesis = build("genesis", writer.fields("genesis", root, own))
    identity = record_id("genesis", genesis)
    writer.refused("conflict", identity, genesis, sign(root, identity))
    print("ok   what has no place here is refused")


def check_server(server, root, space):
    """Genesis, a record of every other kind, and what must be refused."""
    writer = Writer(server, space)
    check_genesis(writer, root)
    write_all(writer, root)
    check_violations(writer, root)
    check_signatures(writer, root)
    check_places(writer, root)
