"""Sections "Field types", "Fields of every kind" and "Kinds" of docs/format/record.md: which fields
a record of each kind has, and what each may hold."""

import math
import re
import struct

import unicodedata2 as unicodedata

from record_cbor import Refused, demand, demand_float, utf8

# ---------------------------------------------------------------------------------------------
# Section "Field types"
# ---------------------------------------------------------------------------------------------


class Type:
    """`check` refuses a value that is not of the type; `from_json` makes the value out of the
    JSON form that section "Test vectors" describes."""

    def check(self, value):
        raise NotImplementedError

    def from_json(self, given):
        return given


def demand_type(value, wanted):
    """The CBOR column. `type`, since for Python True is an int."""
    demand(type(value) is wanted, "type", f"{type(value).__name__}, not {wanted.__name__}")


class Integer(Type):
    """Rows "uint", "int", "ms"."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def check(self, value):
        demand_type(value, int)
        demand(self.low <= value <= self.high, "bounds", str(value))

    def from_json(self, given):
        demand(given == int(given), "type", f"{given} for an integer")
        return int(given)


class Float(Type):
    """Row "float"."""

    def __init__(self, low=-math.inf, high=math.inf):
        self.low, self.high = low, high

    def check(self, value):
        demand_type(value, float)
        demand_float(value)
        demand(self.low <= value <= self.high, "bounds", str(value))

    def from_json(self, given):
        return float(given)


class Boolean(Type):
    """Row "boolean" of section "Object"."""

    def check(self, value):
        demand_type(value, bool)


class Bytes(Type):
    """Rows "id", "key", "hash", and the bytes of a fixed size in the tables of the kinds. What a
    key or a signature means is not looked at here, see section "Signature"."""

    def __init__(self, size):
        self.size = size

    def check(self, value):
        demand_type(value, bytes)
        demand(len(value) == self.size, "size of bytes", f"{len(value)}, not {self.size}")

    def from_json(self, given):
        return bytes.fromhex(given)


class Vector(Bytes):
    """Field `vector` of an assertion: 1 to 4096 finite binary32, little-endian."""

    def __init__(self):
        super().__init__(None)

    def check(self, value):
        demand_type(value, bytes)
        demand(len(value) % 4 == 0 and 4 <= len(value) <= 4 * 4096, "size of bytes")
        for (number,) in struct.iter_unpack("<f", value):
            demand_float(number)


class Text(Type):
    """Bounds in bytes of UTF-8, and no control characters but `controls`."""

    def __init__(self, least, most, controls=""):
        self.least, self.most, self.controls = least, most, controls

    def check(self, value):
        demand_type(value, str)
        size = len(utf8(value))
        demand(self.least <= size <= self.most, "size of a text", f"{size} bytes")
        for character in value:
            demand(
                unicodedata.category(character) != "Cc" or character in self.controls,
                "control characters",
                repr(character),
            )


def line(most):
    """Row "line(n)"."""
    return Text(1, most)


def lines(most, least=0):
    """Row "lines(n)", of the control characters only three; `least` where a table says so."""
    return Text(least, most, controls="\t\n\r")


class SpaceName(Type):
    """Row "space"."""

    def check(self, value):
        demand_type(value, str)
        demand(re.fullmatch(r"[a-z0-9._-]{1,64}", value), "characters of a space", repr(value))


class Word(Type):
    """Rows "class" and "state", and the texts that the tables of the kinds list."""

    def __init__(self, *words):
        self.words = words

    def check(self, value):
        demand_type(value, str)
        demand(value in self.words, "known word", repr(value))


class Name(Text):
    """Field `name` of a lens: a line, but not one of the built-in names."""

    def __init__(self, most, taken):
        super().__init__(1, most)
        self.taken = taken

    def check(self, value):
        super().check(value)
        demand(value not in self.taken, "built-in name", value)


class HashOrUri(Type):
    """"hash or line(2048)", told apart by their CBOR types; in the JSON of the vectors, 64 hex
    digits are a hash."""

    hash, uri = Bytes(32), line(2048)

    def check(self, value):
        (self.hash if isinstance(value, bytes) else self.uri).check(value)

    def from_json(self, given):
        return bytes.fromhex(given) if re.fullmatch("[0-9a-f]{64}", given) else given


def ascending(item):
    """"Texts are compared byte by byte"; bytes too; and all hashes are before all URIs."""
    return (0, item) if isinstance(item, bytes) else (1, utf8(item))


def by_unit(conversion):
    """Ascending "by their units"."""
    return utf8(conversion["unit"])


class List(Type):
    """A list of 1 to `most`, ascending strictly in the order of `order`; without an order, as
    they come, but none twice."""

    def __init__(self, item, most, order=ascending):
        self.item, self.most, self.order = item, most, order

    def check(self, value):
        demand_type(value, list)
        demand(1 <= len(value) <= self.most, "number of items", str(len(value)))
        for item in value:
            self.item.check(item)
        if self.order is None:
            demand(len(set(value)) == len(value), "no repeats")
            return
        keys = [self.order(item) for item in value]
        demand(all(one < two for one, two in zip(keys, keys[1:])), "ascending")

    def from_json(self, given):
        return [self.item.from_json(item) for item in given]


class Pairs(Type):
    """Field `meta` of an assertion. 4096 bounds each text, since it bounds them together."""

    key, value = line(4096), lines(4096)

    def check(self, value):
        demand_type(value, dict)
        demand(1 <= len(value) <= 32, "number of pairs", str(len(value)))
        for key, text in value.items():
            self.key.check(key)
            self.value.check(text)
        size = sum(len(utf8(key)) + len(utf8(text)) for key, text in value.items())
        demand(size <= 4096, "size of meta", f"{size} bytes")


class Fields(Type):
    """A map with the fields of a table: name to type, required ones and optional ones. `rules`
    are what the table says of several fields together."""

    def __init__(self, required=None, optional=None, rules=()):
        self.required, self.optional, self.rules = required or {}, optional or {}, rules

    def types(self):
        return self.required | self.optional

    def check(self, value):
        demand_type(value, dict)
        for name in value:
            demand(name in self.types(), "unknown field", name)
        for name in self.required:
            demand(name in value, "missing field", name)
        for name, field in value.items():
            try:
                self.types()[name].check(field)
            except Refused as refused:
                raise Refused(refused.rule, f"{name}: {refused.detail}") from None
        for rule in self.rules:
            rule(value)

    def from_json(self, given):
        types = self.types()
        for name in given:
            demand(name in types, "unknown field", name)
        return {name: types[name].from_json(field) for name, field in given.items()}


positive = Integer(1, 2**64 - 1)
ms = Integer(-(2**63), 2**63 - 1)
id_ = key = hash_ = Bytes(32)
subject = line(512)
predicate = line(256)
space = SpaceName()
class_ = Word("regulatory", "clinical", "observational", "expert", "community", "anecdotal")
state = Word("proposed", "under_review", "approved", "deprecated", "rejected")


class Object(Type):
    """Section "Object": the type of `value` is what `type` says."""

    values = {
        "text": lines(65536),
        "number": Float(),
        "boolean": Boolean(),
        "time": ms,
        "reference": subject,
    }
    type = Word(*values)

    def fields(self, value):
        demand_type(value, dict)
        demand("type" in value, "missing field", "type")
        self.type.check(value["type"])
        unit = {"unit": line(512)} if value["type"] == "number" else {}
        return Fields({"type": self.type, "value": self.values[value["type"]]}, unit)

    def check(self, value):
        self.fields(value).check(value)

    def from_json(self, given):
        return self.fields(given).from_json(given)


# ---------------------------------------------------------------------------------------------
# Section "Kinds": what a table says of several fields together
# ---------------------------------------------------------------------------------------------


def different(one, other):
    """"not `old`", "not `subject`", "not `key`"."""

    def rule(fields):
        demand(fields[one] != fields[other], "two that differ", f"{one} and {other}")

    return rule


def same(one, other):
    """"equal to `agent`"."""

    def rule(fields):
        demand(fields[one] == fields[other], "two that are equal", f"{one} and {other}")

    return rule


def at_least_one(*names):
    """`source` and `tolerance`."""

    def rule(fields):
        demand(any(name in fields for name in names), "one of the fields", " ".join(names))

    return rule


def exactly_one(*names):
    """Retract: "exactly one of `record` and `source`"."""

    def rule(fields):
        count = sum(name in fields for name in names)
        demand(count == 1, "one of the fields", " ".join(names))

    return rule


def together(one, other):
    """"with `supersedes`", "refused without `supersedes`"."""

    def rule(fields):
        demand((one in fields) == (other in fields), "fields together", f"{one} and {other}")

    return rule


def only_with(one, other):
    """"only with `unit`"."""

    def rule(fields):
        demand(one not in fields or other in fields, "fields together", f"{one} and {other}")

    return rule


def only_if_type(name, *types):
    """"only if `type` is absent or ..."."""

    def rule(fields):
        known = name not in fields or fields.get("type", types[0]) in types
        demand(known, "fields together", f"{name} and type {fields.get('type')}")

    return rule


def valid_times(fields):
    """Assertion: `valid_to` is greater than `valid_from` if both are given."""
    if "valid_from" in fields and "valid_to" in fields:
        demand(fields["valid_from"] < fields["valid_to"], "order of times")


def no_opposite_of_itself(fields):
    """Predicate: `opposites` does not hold `name`."""
    demand(fields["name"] not in fields.get("opposites", []), "two that differ", "opposites, name")


def units_of_conversions(fields):
    """Predicate: the unit of a conversion is not the `unit` of the predicate."""
    for conversion in fields.get("conversions", []):
        demand(conversion["unit"] != fields["unit"], "two that differ", "units")


class Factor(Float):
    """Predicate: `multiply` is not 0."""

    def check(self, value):
        super().check(value)
        demand(value != 0, "bounds", "0")


# ---------------------------------------------------------------------------------------------
# Sections "Kinds" and "Fields of every kind": the tables
# ---------------------------------------------------------------------------------------------

VERSION = 1
KINDS = (
    *("genesis", "assertion", "cosign", "vote", "epoch", "source", "retract", "supersede"),
    *("predicate", "alias", "agent", "lens", "gold", "trust_snapshot", "lifecycle"),
)

COMMON = {
    "v": Integer(VERSION, VERSION),
    "at": ms,
    "kind": Integer(0, len(KINDS) - 1),
    "agent": key,
    "space": space,
}
UNBOUND = ("assertion", "cosign")
LOG_ID = {"log_id": Bytes(16)}

PROVENANCE = Fields(
    optional={"uri": line(2048), "class": class_, "evidence": hash_},
    rules=[at_least_one("uri", "class", "evidence")],
)
TOLERANCE = Fields(
    optional={"absolute": Float(0), "relative": Float(0)},
    rules=[at_least_one("absolute", "relative")],
)
CONVERSION = Fields({"add": Float(), "unit": line(512), "multiply": Factor()})
BUILT_IN = (
    *("recency", "consensus", "confidence", "authority", "trust"),
    *("votes", "skeptic", "layered", "custom"),
)

TABLES = {
    "genesis": Fields({"root": key, "format": Integer(1, 1)}, rules=[same("root", "agent")]),
    "assertion": Fields(
        {
            "object": Object(),
            "subject": subject,
            "lifecycle": state,
            "predicate": predicate,
            "confidence": Float(0, 1),
        },
        {
            "meta": Pairs(),
            "epoch": id_,
            "parent": id_,
            "source": PROVENANCE,
            "vector": Vector(),
            "valid_to": ms,
            "valid_from": ms,
            "visual_hash": Bytes(8),
            "derived_from": List(id_, 64),
        },
        [valid_times],
    ),
    "cosign": Fields({"assertion": id_}),
    "vote": Fields({"weight": Float(-1, 1), "assertion": id_}),
    "epoch": Fields(
        {"name": line(512)},
        {"mode": Word("replace", "extend"), "supersedes": id_, "description": lines(4096)},
        [together("mode", "supersedes")],
    ),
    "source": Fields({"keys": List(HashOrUri(), 64), "class": class_}, {"title": line(512)}),
    "retract": Fields(
        optional={"reason": lines(4096), "record": id_, "source": HashOrUri()},
        rules=[exactly_one("record", "source")],
    ),
    "supersede": Fields(
        {"new": id_, "old": id_}, {"reason": lines(4096)}, [different("new", "old")]
    ),
    "predicate": Fields(
        {"name": predicate, "cardinality": Word("one", "many")},
        {
            "type": Object.type,
            "unit": line(512),
            "half_life": Integer(1, 2**53 - 1),
            "opposites": List(predicate, 64),
            "tolerance": TOLERANCE,
            "conversions": List(CONVERSION, 64, order=by_unit),
        },
        [
            only_if_type("unit", "number"),
            only_if_type("tolerance", "number", "time"),
            only_with("conversions", "unit"),
            no_opposite_of_itself,
            units_of_conversions,
        ],
    ),
    "alias": Fields({"other": subject, "subject": subject}, rules=[different("other", "subject")]),
    "lens": Fields(
        {
            "name": Name(512, BUILT_IN),
            "weight": lines(4096, least=1),
            "version": positive,
            "aggregate": Word("sum", "max"),
        },
        {
            "ties": List(Word("agents", "newest", "bytes"), 3, order=None),
            "filter": lines(4096, least=1),
        },
    ),
    "gold": Fields({"object": Object(), "subject": subject, "predicate": predicate}),
    "trust_snapshot": Fields({"table": hash_, "config": hash_, "input_position": positive}),
    "lifecycle": Fields({"state": state, "assertion": id_}, {"reason": lines(4096)}),
}

ROLES = ("curator", "registrar", "reviewer", "trust")
# Section "10 agent": each act by the field that no other act has and that it must have.
ACTS = {
    "ceiling": Fields(
        {"key": key, "ceiling": class_},
        {"name": line(512), "roles": List(Word(*ROLES), 4), "operator": line(512)},
    ),
    "replaces": Fields(
        {"key": key, "replaces": key, "consent": Bytes(64)},
        rules=[same("replaces", "agent"), different("replaces", "key")],
    ),
    "from_position": Fields({"key": key, "from_position": positive}),
}


def table(kind, fields):
    """The table of a kind; an agent record has that of its act."""
    if kind != "agent":
        return TABLES[kind]
    acts = [act for act in ACTS if act in fields]
    demand(len(acts) == 1, "one act", " and ".join(acts) or "none")
    return ACTS[acts[0]]


def whole_table(kind, fields):
    """The fields of a kind with those of every kind."""
    own = table(kind, fields)
    common = COMMON | ({} if kind in UNBOUND else LOG_ID)
    return Fields(common | own.required, own.optional, own.rules)
