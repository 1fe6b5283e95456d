"""Sections "Id", "Signature" and "What a reader must do" of docs/format/record.md: a record written
and read as a whole. Its fields are as record_kinds.py says, its bytes as record_cbor.py does."""

from blake3 import blake3

from record_cbor import Refused, decode, demand, demand_size, encode
from record_ed25519 import verify
from record_kinds import KINDS, VERSION, demand_type, whole_table


def build(kind, fields):
    """Canonical bytes of a record from all its fields but `v` and `kind`. Nothing is filled in:
    "a field with a default is always written"."""
    record = with_kind(kind, fields)
    check_record(record)
    data = encode(record)
    demand_size(data)
    return data


def with_kind(kind, fields):
    """Section "Fields of every kind": `v` and `kind`, of which there is no choice."""
    return {"v": VERSION, "kind": KINDS.index(kind), **fields}


def read(data):
    """The kind and the fields of a record: steps 1 to 4."""
    demand_size(data)
    record = decode(data)
    demand_version(record)
    check_record(record)
    return KINDS[record["kind"]], record


def demand_version(record):
    """Step 3: before anything else in the map. It comes after step 2, so bytes that are not
    canonical are just that, whatever `v` says."""
    version = record.get("v")
    if type(version) is int and version > VERSION:
        raise Refused("newer format", f"v is {version}, known is {VERSION}")


def check_record(record):
    """Step 4."""
    demand("kind" in record, "missing field", "kind")
    demand_type(record["kind"], int)
    demand(0 <= record["kind"] < len(KINDS), "known kind", str(record["kind"]))
    whole_table(KINDS[record["kind"]], record).check(record)


def from_json(kind, given):
    """The record that the `fields` of a test vector mean."""
    return with_kind(kind, whole_table(kind, given).from_json(given))


# ---------------------------------------------------------------------------------------------
# Sections "Id" and "Signature"
# ---------------------------------------------------------------------------------------------


def record_id(kind, data):
    """Section "Id"."""
    return blake3(b"stemedb/v1/" + bytes([KINDS.index(kind), 0]) + data).digest()


def signed_bytes(identity):
    """Section "Signature": the 48 bytes that are signed."""
    return b"stemedb/v1/sign" + b"\0" + identity


def consent_bytes(log_id, space, old, new):
    """Section "Consent": what the new key signs."""
    return b"stemedb/v1/replace" + b"\0" + log_id + space.encode() + old + new


def sign(key, identity):
    """The signature of a record."""
    return key.sign(signed_bytes(identity)).signature


def give_consent(key, log_id, space, old):
    """The consent of the new key `key`."""
    return key.sign(consent_bytes(log_id, space, old, bytes(key.verify_key))).signature


def verify_consent(consent, log_id, space, old, new):
    """Section "Consent": "it is verified strictly, before the record's own signature counts"."""
    try:
        verify(new, consent_bytes(log_id, space, old, new), consent)
    except Refused as refused:
        raise Refused("consent", str(refused)) from None


def open_record(data, signature):
    """Kind, fields and id of a signed record: all five steps."""
    kind, record = read(data)
    identity = record_id(kind, data)
    if "consent" in record:
        names = ("consent", "log_id", "space", "replaces", "key")
        verify_consent(*(record[name] for name in names))
    verify(record["agent"], signed_bytes(identity), signature)
    return kind, record, identity
