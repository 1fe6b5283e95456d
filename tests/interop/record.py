#!/usr/bin/env python3
"""Records of StemeDB in Python, written from docs/format/record.md alone.

    record.py                    check docs/format/vectors/record.json, one line a vector
    record.py --server URL --root-key FILE [--token TOKEN] [--space SPACE]
                                 build, sign and write records of every kind to a running server,
                                 and compare the ids that it answers with those computed here

The rules are in record_cbor.py, record_kinds.py, record_ed25519.py and record_signed.py, each with
the section of the page that it is from. A record is a dict of the fields that the page lists; their
values are int, float, bytes, str, list, dict and bool.
"""

import argparse
import pathlib
import sys

from nacl.signing import SigningKey

from record_cbor import Refused
from record_server import Server, check_server
from record_signed import build, record_id, sign
from record_vectors import check_vectors

# What api.py and api_hooks.py use.
__all__ = ["Refused", "Server", "build", "record_id", "sign"]


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--server", metavar="URL", help="a running server")
    options.add_argument("--root-key", metavar="FILE", type=pathlib.Path, help="its root key, hex")
    options.add_argument("--token", help="API key, if the server asks for one")
    options.add_argument("--space", default="default", help="where to write")
    given = options.parse_args()
    if given.server and not given.root_key:
        options.error("--server needs --root-key")
    if not given.server:
        return 1 if check_vectors() else 0
    try:
        root = SigningKey(bytes.fromhex(given.root_key.read_text().strip()))
        check_server(Server(given.server, given.token), root, given.space)
    except (Refused, OSError) as error:
        print(f"FAIL {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
