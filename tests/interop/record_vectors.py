"""Section "Test vectors" of docs/format/record.md."""

import json
import pathlib

from nacl.signing import SigningKey

from record_cbor import Refused, demand, demand_same
from record_kinds import KINDS
from record_signed import (
    build, from_json, give_consent, open_record, read, record_id, sign, verify_consent,
)

VECTORS = pathlib.Path(__file__).parents[2] / "docs/format/vectors/record.json"

# The rule that each violation must be refused for, by the `reason` of the vector.
RULES = {
    "ends too early": [
        "one byte short", "a list of 2^64-1 items", "a byte string of 2^64-1 bytes",
    ],
    "not a map": ["no bytes", "a list", "a tag before the record"],
    "bytes after the map": ["a byte after the end"],
    "empty list or map": ["an empty map", "empty source", "empty meta", "empty list", "no keys"],
    "shortest form": [
        "map length in two bytes", "v: 1 in two bytes", "kind: 3 in three bytes",
        "length of a key in two bytes",
    ],
    "nothing else occurs": [
        "indefinite length of the record", "indefinite length of a text", "null", "undefined",
        "a simple value", "a simple value of two bytes", "an id as a CID",
    ],
    "order of keys": [
        "keys out of order", "keys sorted byte by byte instead of length first",
        "unit after value", "meta out of order",
    ],
    "no key twice": ["a key twice"],
    "keys are texts": ["a key that is a byte string"],
    "64 bits": ["float of 32 bits", "float of 16 bits"],
    "finite": ["NaN", "infinity", "vector with NaN"],
    "+0.0": ["-0"],
    "UTF-8": ["text that is not UTF-8"],
    "NFC": ["subject that is not NFC", "predicate that is not NFC", "text value that is not NFC"],
    "levels": ["lists inside lists"],
    "newer format": ["version 2"],
    "known kind": ["kind 15"],
    "unknown field": [
        "unknown field", "unknown field before v", "unknown field at the end",
        "unknown nested field", "log_id in an assertion", "a text with a unit",
    ],
    "missing field": [
        "v missing", "log_id missing", "required field missing", "default left out: space",
        "default left out: confidence", "default left out: lifecycle", "object without type",
        "replacement without consent",
    ],
    "type": [
        "kind by name", "an integer for a float", "a float for an integer", "an id in hex",
        "integer as number", "a bare scalar", "meta value that is not a text",
    ],
    "bounds": [
        "version 0", "at beyond 64 bits signed", "at below 64 bits signed", "weight above 1",
        "confidence above 1", "half-life 0", "negative tolerance",
    ],
    "size of bytes": [
        "an id of 31 bytes", "a key of 33 bytes", "vector of 6 bytes", "visual_hash of 7 bytes",
    ],
    "size of a text": ["empty subject", "empty unit"],
    "control characters": ["subject of two lines", "text value with NUL"],
    "characters of a space": ["a space with a capital"],
    "known word": ["unknown type", "unknown state", "unknown class", "unknown role"],
    "number of items": ["65 premises"],
    "ascending": [
        "derived_from descending", "derived_from repeated", "keys descending",
        "opposites repeated", "roles out of order",
    ],
    "no repeats": ["a tie rule twice"],
    "order of times": ["valid for no time"],
    "fields together": ["supersedes without mode", "mode without supersedes"],
    "one of the fields": ["record and source retracted at once", "nothing retracted"],
    "two that differ": ["superseded by itself", "alias of itself"],
    "two that are equal": ["root that does not sign"],
    "one act": ["registered and revoked at once", "agent record that does nothing"],
    "built-in name": ["built-in name"],
    # Of bad signatures.
    "signature": ["one bit changed", "by another key", "over another record"],
    "s below the group order": ["s not reduced: the same signature in other bytes"],
    "small order": ["a key of small order, for which everything is signed"],
    "consent": ["good, but the consent in the record is not"],
}
EXPECTED = {reason: rule for rule, reasons in RULES.items() for reason in reasons}


def check_vector(vector):
    """A record is rebuilt from its fields and its seed, and read back."""
    unhex = {name: bytes.fromhex(vector[name]) for name in ("canonical", "id", "signature")}
    record = from_json(vector["kind"], vector["fields"])
    fields = {name: value for name, value in record.items() if name not in ("v", "kind")}
    data = build(vector["kind"], fields)
    demand_same("canonical", data, unhex["canonical"])
    demand_same("id", record_id(vector["kind"], data), unhex["id"])
    key = SigningKey(bytes.fromhex(vector["seed"]))
    demand_same("public key", bytes(key.verify_key), bytes.fromhex(vector["public_key"]))
    demand_same("signature", sign(key, unhex["id"]), unhex["signature"])
    found = open_record(unhex["canonical"], unhex["signature"])
    demand_same("what was read", found, (vector["kind"], record, unhex["id"]))


def check_consent(vector):
    log_id, old, new, consent = (
        bytes.fromhex(vector[name]) for name in ("log_id", "old", "new", "consent")
    )
    key = SigningKey(bytes.fromhex(vector["seed"]))
    demand_same("new key", bytes(key.verify_key), new)
    demand_same("consent", give_consent(key, log_id, vector["space"], old), consent)
    verify_consent(consent, log_id, vector["space"], old, new)


def demand_refusal(reason, function, *arguments):
    """That it is refused, and for this reason."""
    demand(reason in EXPECTED, "unknown reason", "name its rule in RULES")
    try:
        function(*arguments)
    except Refused as refused:
        demand_same("the rule", refused.rule, EXPECTED[reason])
        return
    raise Refused("taken", "this should have been refused")


def check_refused(vector):
    demand_refusal(vector["reason"], read, bytes.fromhex(vector["bytes"]))


def check_bad_signature(vector):
    """It is a record, by the agent with this key; with this signature it is refused."""
    data, signature = bytes.fromhex(vector["canonical"]), bytes.fromhex(vector["signature"])
    _, record = read(data)
    demand_same("agent", record["agent"], bytes.fromhex(vector["public_key"]))
    demand_refusal(vector["reason"], open_record, data, signature)


CHECKS = {
    "records": check_vector,
    "consents": check_consent,
    "refused": check_refused,
    "bad_signatures": check_bad_signature,
}


def check_vectors():
    """Prints a line a vector; how many failed."""
    vectors = json.loads(VECTORS.read_text())
    demand_same("the lists", sorted(vectors), sorted(CHECKS))
    failed = 0
    for name, check in CHECKS.items():
        for number, vector in enumerate(vectors[name]):
            what = f"{name} {number} {vector.get('name') or vector.get('reason') or ''}".rstrip()
            try:
                check(vector)
                print(f"ok   {what}")
            except Refused as refused:
                failed += 1
                print(f"FAIL {what}: {refused}")
    kinds = {vector["kind"] for vector in vectors["records"]}
    if kinds != set(KINDS):
        failed += 1
        print(f"FAIL no vector of {', '.join(sorted(set(KINDS) - kinds))}")
    print(f"{sum(map(len, vectors.values()))} vectors, {failed} failed")
    return failed
