"""What schemathesis cannot know from the document, and a log of what it asked.

A schema says the form of a request, not the state of the database or of the world. So before a
request that fits the document is sent, it is made true where only that was missing:

- ids name records that exist, of the kind that the field asks for; two that must differ do;
- positions and snapshots are of this log; times are not ahead of the clock, and in order;
- numbers of a vector are finite;
- nobody can make up a signature: what a caller would sign the server signs, and where the path
  names the id, a key of ours signs;
- an idempotency key is a new one, and a body has a time;
- integers are written as such, not as 1.0; text is normalized (NFC) and cut to its bound in bytes, which a schema counts in characters;
- expressions of a lens are of CEL, and a lens that is named is there;
- an API key has a name of its own, an end that is to come, and what its role may have;
- parameters of GET /v1/query that need a lens or a whole key, or forbid one, come so.

Nothing else is touched, and requests that break the document are sent as they are.
"""

import datetime
import itertools
import json
import math
import os
import struct
import threading
import time
import unicodedata

import schemathesis
from nacl.signing import SigningKey

import record

KNOWN = json.loads(os.environ["STEMEDB_KNOWN"])
LOG = open(os.environ["STEMEDB_CALLS"], "a", buffering=1)
VERBOSE = "STEMEDB_VERBOSE" in os.environ
LOCK = threading.Lock()
KEY = SigningKey.generate()
PAST = "2024-07-01T00:00:00Z"
COUNT = itertools.count()
# Of which kind the record is that a field names.
IDS = {
    "assertion": "assertion",
    "epoch": "epoch",
    "new": "assertion",
    "old": "assertion",
    "parent": "assertion",
    "record": "retractable",
    "supersedes": "epoch",
}
# What a schema cannot say of an expression, and of a name.
FILTERS = ["tier <= 2", "claim.confidence > 0.5 && cosigns == 0", "from('x') || !registered"]
WEIGHTS = ["confidence", "1", "claim.tier == question.best_tier ? 1.0 : null", "1.0 / confidence"]
LENSES = ["authority", "consensus", "votes", "skeptic", "layered", "trust", "recency", "confidence"]
BYTES_MAX = {
    "description": 4096,
    "filter": 4096,
    "name": 512,
    "operator": 512,
    "other": 512,
    "predicate": 256,
    "reason": 4096,
    "subject": 512,
    "subject_prefix": 512,
    "title": 512,
    "unit": 512,
    "uri": 2048,
    "source": 2048,
    "weight": 4096,
}
NEEDS_LENS = ("epoch_aware", "decay", "tiers", "partial", "diff")


def known(what):
    return KNOWN[what][next(COUNT) % len(KNOWN[what])]


def text(value, most):
    """Normalized and cut to a bound in bytes; never empty if it was not."""
    value = unicodedata.normalize("NFC", value)
    while len(value.encode()) > most:
        value = unicodedata.normalize("NFC", value[:-1])
    return value


def milliseconds(value):
    """Of a time in either form; `None` if Python cannot read it."""
    if isinstance(value, (int, float)):
        return value
    try:
        moment = datetime.datetime.fromisoformat(value.upper().replace("Z", "+00:00"))
        return moment.timestamp() * 1000
    except (ValueError, OverflowError):
        return None


def ahead(value):
    """Whether a time may be refused as ahead of the clock; one that cannot be read here may."""
    at = milliseconds(value)
    return at is None or at > time.time() * 1000


@schemathesis.serializer("application/x-ndjson")
def ndjson(context, value):
    return value if isinstance(value, bytes) else str(value).encode()


def is_valid(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def before_call(context, case, kwargs):
    if not is_valid(case):
        return
    path, ids = case.operation.path, case.path_parameters or {}
    with LOCK:
        if case.method == "PUT" and isinstance(case.body, dict):
            case.body, case.path_parameters["id"] = signed(path, case.body)
        elif path == "/v1/import":
            case.body = "".join(
                json.dumps({"kind": "assertion", **claim(n, "import")}) + "\n" for n in range(3)
            )
        elif path == "/v1/admin/keys" and isinstance(case.body, dict):
            fit_key(case.body)
        elif path.startswith("/v1/admin/keys/") and isinstance(case.body, dict):
            fit(case.body)
        elif isinstance(case.body, dict):
            fit_body(case.body)
        if case.query:
            fit_query(path, case.query)
        if case.headers and "Last-Event-ID" in case.headers:
            asked = {"after": case.headers["Last-Event-ID"]}
            fit_reading(asked)
            case.headers["Last-Event-ID"] = str(asked["after"])
        if "position" in ids:
            ids["position"] = 1 + next(COUNT) % 2
        if path == "/v1/audit/query/{id}":
            # The first read of the run, which is durable by now.
            ids["id"] = 1
        elif path.startswith("/v1/admin/keys/"):
            ids["id"] = KNOWN["revocable" if case.method == "DELETE" else "rotatable"]
        elif "id" in ids and case.method == "GET":
            ids["id"] = known("assertion")
        if path.startswith("/v1/lenses/"):
            ids["name"] = lens(ids["name"])
        if case.method == "GET" and ids:
            # It is in one space, and was not always there.
            for name in ("space", "as_of"):
                if name in (case.query or {}):
                    case.query[name] = {"space": "default", "as_of": KNOWN["position"]}[name]
        if case.headers and "Idempotency-Key" in case.headers:
            case.headers["Idempotency-Key"] = f"key-{next(COUNT)}"


def fit_key(body):
    """An API key that makes sense: a new name, and what its role may have."""
    body["name"] = f"key-{next(COUNT)}"
    if body.get("principal") == "local":
        del body["principal"]
    if body["role"] not in ("reader", "writer"):
        body.pop("spaces", None)
    if body["role"] != "writer":
        body.pop("agent", None)
    quota = body.get("quota") or {}
    if body["role"] == "reader" or all(bound is None for bound in quota.values()):
        body.pop("quota", None)
    if "expires_at" in body:
        body["expires_at"] = "2100-01-01T00:00:00Z"
    fit(body)


def claim(value, subject="drugs/1"):
    return {"subject": subject, "predicate": "risk", "object": value, "at": PAST}


def signed(path, body):
    """Says under an id what the generated body says, as far as it is a text; signed here."""
    given = lambda field, most: text(body.get(field) or "x", most)
    fields = {
        "space": "default",
        "agent": bytes(KEY.verify_key),
        "at": int(time.time() * 1000) - 1_000_000 + next(COUNT),
        "subject": given("subject", 512),
        "predicate": given("predicate", 256),
        "object": {"type": "text", "value": str(next(COUNT))},
        "confidence": 1.0,
        "lifecycle": "proposed",
    }
    data = record.build("assertion", fields)
    identity = record.record_id("assertion", data)
    signature = record.sign(KEY, identity).hex()
    if path == "/v1/records/{id}" and "bytes" in body:
        return {"bytes": data.hex(), "signature": signature}, identity.hex()
    fields |= {"agent": fields["agent"].hex(), "signature": signature, "kind": "assertion"}
    return fields, identity.hex()


def fit_body(body):
    reads = "drop" in body or "lens_hash" in body
    is_record = ("keys" not in body or "class" in body) and not reads
    if is_record:
        for field in ("agent", "signature", "id", "log_id"):
            body.pop(field, None)
        if "at" not in body or ahead(body["at"]):
            body["at"] = PAST
        # Registered there with all rights; elsewhere nobody is.
        body.pop("space", None)
    fit(body)
    if "drop" in body:
        # What is to be gone is in one space, and one thing.
        body.pop("space", None)
        body["drop"] = dict(itertools.islice(body["drop"].items(), 1)) or {"agent": "00" * 32}
    elif not is_record:
        fit_reading(body)
    if "old" in body:
        # From older to newer, so that no cycle closes.
        first, second = sorted(next(COUNT) * step % len(KNOWN["assertion"]) for step in (1, 7))
        second += first == second
        body["old"] = KNOWN["assertion"][first % len(KNOWN["assertion"])]
        body["new"] = KNOWN["assertion"][second % len(KNOWN["assertion"])]
    if body.get("subject") and body.get("subject") == body.get("other"):
        body["other"] = "another"
    if "consent" in body or ("key" in body and "from_position" in body):
        # Replacing takes another's signature; revoking or demoting ourselves would end the run.
        for field in ("consent", "replaces", "from_position"):
            body.pop(field, None)
        body["ceiling"] = "expert"
    if "ceiling" in body:
        # Registrars are made by root alone, and we are one.
        body["roles"] = [role for role in body.get("roles", []) if role != "registrar"]
        if body["key"] == KNOWN["custodial"]:
            body["key"] = bytes(KEY.verify_key).hex()
    if "input_position" in body:
        body["input_position"] = 1
        # By our method it would be in force, and nobody can make up what the log gives.
        body["config"] = "07" * 32
    if "version" in body and "aggregate" in body:
        body["version"] = next(COUNT) + 1
        body["weight"] = WEIGHTS[next(COUNT) % len(WEIGHTS)]
        if "filter" in body:
            body["filter"] = FILTERS[next(COUNT) % len(FILTERS)]
    if "lenses" in body:
        body["lenses"] = [lens(one) for one in body["lenses"]]
    if "lens" in body and "lens_hash" in body:
        body["lens"] = lens(body["lens"])
    if "cardinality" in body:
        fit_predicate(body)
    if "valid_from" in body and "valid_to" in body:
        first, second = milliseconds(body["valid_from"]), milliseconds(body["valid_to"])
        if first is None or second is None or first >= second:
            del body["valid_to"]


def fit(value, field=None):
    """Ids and texts, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            value[name] = fit(inner, name)
        if field == "meta":
            value = {text(name, 4096): inner for name, inner in value.items()}
            while sum(len(part.encode()) for pair in value.items() for part in pair) > 4096:
                value.popitem()
        return value
    if isinstance(value, list):
        if field == "derived_from":
            return [KNOWN["assertion"][n] for n in range(min(len(value), 40))]
        items = [fit(inner, field) for inner in value]
        return list({json.dumps(item, sort_keys=True): item for item in items}.values())
    if isinstance(value, str):
        if field in IDS:
            return known(IDS[field])
        if field == "vector":
            return finite(value)
        return text(value, BYTES_MAX.get(field, 65536))
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        # Of an integer JSON Schema allows the form 1.0, which few programs write.
        return int(value)
    return value


def finite(vector):
    """A pattern tells hex, not which numbers it makes: the others become 0."""
    if len(vector) % 8:
        return vector
    numbers = [number for (number,) in struct.iter_unpack("<f", bytes.fromhex(vector))]
    kept = [number if math.isfinite(number) else 0.0 for number in numbers]
    return struct.pack(f"<{len(kept)}f", *kept).hex()


def lens(name):
    """One that is there."""
    return name if name in LENSES else LENSES[next(COUNT) % len(LENSES)]


def fit_predicate(body):
    if "unit" in body or "conversions" in body:
        seen = {body.get("unit")}
        kept = []
        for one in body.get("conversions", []):
            if one["unit"] not in seen:
                seen.add(one["unit"])
                kept.append(one)
        if "conversions" in body:
            body["conversions"] = kept
    if "opposites" in body:
        body["opposites"] = [one for one in body["opposites"] if one != body["name"]]


def fit_reading(asked):
    """What says which state of the database is asked, in a query string or a body."""
    position = KNOWN["position"]
    for field in ("after", "as_of", "at_least", "diff"):
        value = asked.get(field)
        if isinstance(value, str) and len(value) == 48:
            asked[field] = KNOWN["snapshot"][0]
        elif value is not None and str(value).lstrip("-").isdigit():
            asked[field] = min(int(value), position)
        elif value is not None and ahead(value):
            asked[field] = PAST
    if isinstance(asked.get("position"), (int, str)):
        asked["position"] = min(int(asked["position"]), position)


def fit_query(path, query):
    for name, value in query.items():
        if isinstance(value, str):
            query[name] = text(value, BYTES_MAX.get(name, 65536))
    fit_reading(query)
    if isinstance(query.get("lens"), str):
        query["lens"] = lens(query["lens"])
    # A cursor is what an earlier answer gave; nobody can make one up.
    query.pop("cursor", None)
    if path == "/v1/query":
        if query.get("epoch") is not None:
            for name in ("lens", *NEEDS_LENS):
                query.pop(name, None)
        elif any(name in query for name in NEEDS_LENS):
            query.setdefault("lens", "consensus")
        if "diff" in query:
            query |= {"subject": "drugs/1", "predicate": "risk"}
            # From the newest state back.
            for name in ("subject_prefix", "as_of"):
                query.pop(name, None)


@schemathesis.hook
def after_call(context, case, response):
    try:
        code = response.json().get("code", "")
    except Exception:
        code = ""
    line = {
        "operation": f"{case.method} {case.operation.path}",
        "valid": is_valid(case),
        "status": response.status_code,
        "code": code,
    }
    if VERBOSE and line["valid"] and response.status_code >= 300:
        line["url"] = response.request.url[-600:]
        line["body"] = str(response.request.body)[:1500]
        line["answer"] = response.text[:400]
    with LOCK:
        LOG.write(json.dumps(line) + "\n")
