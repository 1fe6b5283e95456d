"""Section "Signature" of docs/format/record.md: strict verification, spelled out, since libraries
differ in what they let through. The curve is that of RFC 8032, section 5.1; a point is
(X, Y, Z, T) as there."""

import hashlib

from record_cbor import demand

FIELD = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, -1, FIELD) % FIELD
NEUTRAL = (0, 1, 1, 0)


def add(one, two):
    """Addition of RFC 8032, section 5.1.4."""
    a = (one[1] - one[0]) * (two[1] - two[0]) % FIELD
    b = (one[1] + one[0]) * (two[1] + two[0]) % FIELD
    c = 2 * one[3] * two[3] * CURVE_D % FIELD
    d = 2 * one[2] * two[2] % FIELD
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % FIELD, g * h % FIELD, f * g % FIELD, e * h % FIELD


def multiply(scalar, point):
    result = NEUTRAL
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def equal(one, two):
    """Both coordinates, without a division."""
    return not any((one[n] * two[2] - two[n] * one[2]) % FIELD for n in (0, 1))


def decode_point(data):
    """RFC 8032, section 5.1.3: a y not below the prime, an x that is no square root, and a
    negative zero do not decode."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & 2**255 - 1
    demand(y < FIELD, "decodes")
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, FIELD) % FIELD
    x = pow(square, (FIELD + 3) // 8, FIELD)
    if x * x % FIELD != square:
        x = x * pow(2, (FIELD - 1) // 4, FIELD) % FIELD
    demand(x * x % FIELD == square and not (x == 0 and sign), "decodes")
    if x & 1 != sign:
        x = FIELD - x
    return x, y, 1, x * y % FIELD


def encode_point(point):
    """RFC 8032, section 5.1.2."""
    inverse = pow(point[2], -1, FIELD)
    x, y = point[0] * inverse % FIELD, point[1] * inverse % FIELD
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = decode_point((4 * pow(5, -1, FIELD) % FIELD).to_bytes(32, "little"))


def decode_large(data):
    """A point that decodes and has no small order: times the cofactor 8 it is not neutral."""
    point = decode_point(data)
    demand(not equal(multiply(8, point), NEUTRAL), "small order")
    return point


def verify(public_key, message, signature):
    """Strict Ed25519."""
    s = int.from_bytes(signature[32:], "little")
    demand(s < ORDER, "s below the group order")
    key, r = decode_large(public_key), decode_large(signature[:32])
    digest = hashlib.sha512(signature[:32] + public_key + message).digest()
    k = int.from_bytes(digest, "little") % ORDER
    demand(equal(multiply(s, BASE), add(r, multiply(k, key))), "signature")
