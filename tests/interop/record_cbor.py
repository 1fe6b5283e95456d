"""Section "Encoding" of docs/format/record.md: values to their one encoding, and back.

In Python a value has the type that the page gives it: int, float, bytes, str, list, dict, bool.
"Step" is one of section "What a reader must do", here and in the files beside this one.
"""

import math
import struct

# The standard library's is as old as the Python; the page names the version of Unicode.
import unicodedata2 as unicodedata


class Refused(Exception):
    """Not a record, or not a good signature; `rule` is a short name of what was broken."""

    def __init__(self, rule, detail=""):
        super().__init__(f"{rule}: {detail}" if detail else rule)
        self.rule, self.detail = rule, detail


def demand(condition, rule, detail=""):
    """Refuses, unless the condition holds."""
    if not condition:
        raise Refused(rule, detail)


def demand_same(what, found, expected):
    """For checks: what came out is what was computed."""
    if isinstance(expected, bytes):
        found, expected = found.hex(), expected.hex()
    demand(found == expected, "differs", f"{what} is {found}, expected {expected}")


# ---------------------------------------------------------------------------------------------
# Section "Encoding": the rules that writer and reader share
# ---------------------------------------------------------------------------------------------

RECORD_MAX = 262_144
DEPTH_MAX = 3
UINT, NEGATIVE, BYTES, TEXT, LIST, MAP, TAG, SIMPLE = range(8)
FALSE, TRUE, FLOAT = 0xF4, 0xF5, 0xFB


def demand_size(data):
    """"A record has at most 262 144 bytes." """
    demand(len(data) <= RECORD_MAX, "size", f"{len(data)} bytes")


def demand_text(text):
    """Row "text": NFC."""
    demand(unicodedata.normalize("NFC", text) == text, "NFC", repr(text[:40]))


def utf8(text):
    """Row "text": UTF-8, which has no form for half of a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Refused("UTF-8", str(error)) from None


def demand_float(number):
    """Row "float": never NaN or infinite."""
    demand(math.isfinite(number), "finite", str(number))


def demand_filled(items):
    """"A list or map with nothing in it is refused." """
    demand(len(items) > 0, "empty list or map")


def key_order(key):
    """Row "map": by length of the UTF-8 first, then byte by byte."""
    return len(utf8(key)), utf8(key)


# ---------------------------------------------------------------------------------------------
# Section "Encoding": writing
# ---------------------------------------------------------------------------------------------


def encode(value):
    """The one encoding of a value: its Python type decides, see "A number is what its field says
    it is"."""
    match value:
        case bool():
            return bytes([TRUE if value else FALSE])
        case int():
            return encode_integer(value)
        case float():
            return encode_float(value)
        case bytes():
            return encode_head(BYTES, len(value)) + value
        case str():
            return encode_text(value)
        case list():
            demand_filled(value)
            return encode_head(LIST, len(value)) + b"".join(map(encode, value))
        case dict():
            return encode_map(value)
    raise Refused("nothing else occurs", repr(value))


def encode_head(major, number):
    """Major type and number, the number in its shortest form (RFC 8949, section 3)."""
    if number < 24:
        return bytes([major << 5 | number])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes([major << 5 | info]) + number.to_bytes(size, "big")
    raise Refused("64 bits", str(number))


def encode_integer(value):
    """Row "integer"."""
    return encode_head(UINT, value) if value >= 0 else encode_head(NEGATIVE, -1 - value)


def encode_float(value):
    """Row "float": always 64 bits, zero as +0.0."""
    demand_float(value)
    return bytes([FLOAT]) + struct.pack(">d", value or 0.0)


def encode_text(value):
    """Row "text"."""
    demand_text(value)
    data = utf8(value)
    return encode_head(TEXT, len(data)) + data


def encode_map(value):
    """Row "map"."""
    demand_filled(value)
    pairs = (encode_text(key) + encode(value[key]) for key in sorted(value, key=key_order))
    return encode_head(MAP, len(value)) + b"".join(pairs)


# ---------------------------------------------------------------------------------------------
# Section "Encoding": reading, step 2
# ---------------------------------------------------------------------------------------------


def decode(data):
    """The map that these bytes are, if they are exactly one canonical map."""
    reader = Reader(data)
    demand(data and data[0] >> 5 == MAP, "not a map")
    value = reader.value(0)
    demand(reader.left() == 0, "bytes after the map")
    return value


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def left(self):
        return len(self.data) - self.at

    def take(self, count):
        """The next bytes; a length is compared with what is left before anything is made."""
        demand(count <= self.left(), "ends too early", f"{count} bytes wanted, {self.left()} left")
        self.at += count
        return self.data[self.at - count : self.at]

    def head(self):
        """Major type and number, which must be in its shortest form; indefinite lengths and the
        reserved forms do not occur."""
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        demand(major not in (TAG, SIMPLE), "nothing else occurs", f"head {first:#04x}")
        if info < 24:
            return major, info
        demand(info < 28, "nothing else occurs", f"head {first:#04x}")
        number = int.from_bytes(self.take(1 << info - 24), "big")
        demand(encode_head(major, number)[0] == first, "shortest form", f"head {first:#04x}")
        return major, number

    def value(self, depth):
        """One item; `depth` is how many lists and maps it is in."""
        demand(self.left() > 0, "ends too early")
        if self.data[self.at] >> 5 == SIMPLE:
            return self.simple()
        major, number = self.head()
        match major:
            case 0:
                return number
            case 1:
                return -1 - number
            case 2:
                return self.take(number)
            case 3:
                return self.text(number)
            case 4:
                return self.list(number, depth + 1)
        return self.map(number, depth + 1)

    def simple(self):
        """Rows "boolean" and "float"."""
        first = self.take(1)[0]
        if first in (FALSE, TRUE):
            return first == TRUE
        demand(first not in (0xF9, 0xFA), "64 bits", "a shorter float")
        demand(first == FLOAT, "nothing else occurs", f"head {first:#04x}")
        data = self.take(8)
        number = struct.unpack(">d", data)[0]
        demand_float(number)
        demand(encode_float(number)[1:] == data, "+0.0")
        return number

    def text(self, length):
        """Row "text"."""
        try:
            text = self.take(length).decode()
        except UnicodeDecodeError as error:
            raise Refused("UTF-8", str(error)) from None
        demand_text(text)
        return text

    def list(self, count, depth):
        """Row "list"."""
        self.demand_room(count, depth)
        items = [self.value(depth) for _ in range(count)]
        demand_filled(items)
        return items

    def map(self, count, depth):
        """Row "map": keys are texts, no key twice, in order."""
        self.demand_room(2 * count, depth)
        pairs = {}
        last = None
        for _ in range(count):
            key = self.value(depth)
            demand(isinstance(key, str), "keys are texts", repr(key))
            demand(key != last, "no key twice", key)
            demand(last is None or key_order(last) < key_order(key), "order of keys", key)
            pairs[key] = self.value(depth)
            last = key
        demand_filled(pairs)
        return pairs

    def demand_room(self, items, depth):
        """Step 2: counts are compared with the bytes that are left, an item is one at least; and
        lists and maps are in one another to a bound. The map of the record is level 0."""
        demand(items <= self.left(), "ends too early", f"{items} items, {self.left()} bytes left")
        demand(depth - 1 <= DEPTH_MAX, "levels")
