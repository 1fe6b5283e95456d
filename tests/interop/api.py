#!/usr/bin/env python3
"""The HTTP interface, judged from outside: its document by an independent validator, its answers
by requests that schemathesis makes up from the document.

    api.py --binary FILE [--examples N] [--seed N]

Starts a server of its own on a loopback port, in a scratch folder. Fails if the document is not
valid, differs from docs/openapi.json, or an answer is not as the document says (a status 5xx, or
one the document does not know, or a body that is not of its schema), or if of any operation less
than 90 % of the valid requests are answered 2xx, or if the server ever takes more memory than its
configuration allows for: see `Memory`.

A request is valid if it fits the document and what no schema can say: see api_hooks.py.
"""

import argparse
import collections
import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from nacl.signing import SigningKey
from openapi_spec_validator import OpenAPIV31SpecValidator

import record

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
ALL_ROLES = ["curator", "registrar", "reviewer", "trust"]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# A drain would end the others' work, and only a standby is promoted; `check_drain` tries these afterwards.
EXCLUDED = (
    "/v1/admin/node/drain",
    "/v1/admin/node/undrain",
    "/v1/admin/promote",
    "/v1/admin/wal/detach",
)
LEAST_PERCENT = 90
MIB = 1 << 20
# What the server may keep, as it is told. Less than the defaults: they would hide a leak.
BODY_BYTES = 2 * MIB
KEPT = {
    "STEMEDB_INDEX__CACHE_BYTES": 16 * MIB,
    "STEMEDB_QUERY__MEMORY_BYTES": 16 * MIB,
    "STEMEDB_QUERY__ANSWERS_BYTES": 4 * MIB,
}
# What docs/operations/sizing.md allows for besides. So little is there that an export takes nothing.
WRITE_BUFFERS = 82 * MIB


def fail(why):
    print(f"FAIL {why}")
    sys.exit(1)


class Node:
    """A server in a scratch folder, with something to ask about."""

    def __init__(self, binary, folder):
        self.folder = pathlib.Path(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [binary, "serve", "--data-dir", self.folder / "data"]
        words = open(self.folder / "words", "wb")
        settings = {**KEPT, "STEMEDB_LIMITS__BODY_BYTES": BODY_BYTES}
        self.process = subprocess.Popen(
            [*map(str, command), "--listen", f"127.0.0.1:{port}"],
            stdout=words,
            stderr=words,
            env={**os.environ, **{name: str(value) for name, value in settings.items()}},
        )

    def ready(self):
        for _ in range(2000):
            if self.process.poll() is not None:
                fail(f"the server ended: {self.words()}")
            try:
                # Whoever answers before it says so has taken its port.
                ours = "listening on" in self.words()
                if ours and self.call("GET", "/v1/health")["node"]["position"] >= 2:
                    return
            except (OSError, record.Refused):
                pass
            time.sleep(0.01)
        fail(f"the server is not ready: {self.words()}")

    def words(self):
        return (self.folder / "words").read_text(errors="replace")

    def token(self):
        """The API key of the first start: an admin's."""
        return (self.folder / "data/node/first-admin.key").read_text().strip()

    def server(self):
        return record.Server(self.url, self.token())

    def call(self, method, path, body=None):
        return self.server().call(method, path, body)

    def populate(self):
        """Gives the caller every role, so that rights are not what decides, and
        writes what requests can refer to. Returns the ids by what they may stand for."""
        root = SigningKey(bytes.fromhex((self.folder / "data/node/root.key").read_text().strip()))
        server = self.server()
        health = self.call("GET", "/v1/health")
        fields = {
            "at": int(time.time() * 1000),
            "space": "default",
            "agent": bytes(root.verify_key),
            "log_id": bytes.fromhex(health["node"]["log_id"]),
            "key": bytes.fromhex(health["custodial_agent"]),
            "ceiling": "regulatory",
            "roles": ALL_ROLES,
        }
        data = record.build("agent", fields)
        identity = record.record_id("agent", data)
        server.put(identity, data, record.sign(root, identity))

        at = "2024-07-01T00:00:00Z"
        post = lambda path, **body: self.call("POST", path, {"at": at, **body})["id"]
        known = {"assertion": [], "epoch": [], "retractable": [], "snapshot": []}
        for n in range(40):
            subject, value = f"drugs/{n % 10}", ["rare", "common", 47e6, True][n % 4]
            claim = post(
                "/v1/assert", subject=subject, predicate="risk", object=value, meta={"n": str(n)}
            )
            known["assertion"].append(claim)
        for n in range(5):
            known["epoch"].append(post("/v1/epoch", name=f"epoch {n}"))
        for n in range(20):
            target = known["assertion"][n]
            known["retractable"].append(post("/v1/vote", assertion=target, weight=n / 20))
        # Something for the audit to tell of, and time for it to be durable.
        self.call("GET", "/v1/query?lens=votes&subject=drugs/1&predicate=risk")
        while not self.call("GET", "/v1/health")["audit"]["last"]:
            time.sleep(0.05)
        for name in ("revocable", "rotatable"):
            key = self.call("POST", "/v1/admin/keys", {"name": name, "role": "reader"})
            known[name] = key["key"]["id"]
        known["custodial"] = health["custodial_agent"]
        known["snapshot"].append(self.call("GET", "/v1/health")["snapshot"])
        known["position"] = self.call("GET", "/v1/health")["node"]["position"]
        return known


class Memory:
    """What the process has resident, looked at all the time.

    It may grow, from what it has when it is ready, by what its caches are told to keep, by the write
    buffers of the index, and by the bodies that are read at once: each grows by doubling, so it may be
    there twice. Whatever is made up, nothing else of a request is to stay.
    """

    def __init__(self, node, requests):
        self.file = pathlib.Path(f"/proc/{node.process.pid}/statm")
        self.before = self.peak = self.now()
        self.bound = self.before + WRITE_BUFFERS + sum(KEPT.values())
        self.bound += requests * 2 * BODY_BYTES
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def now(self):
        return int(self.file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def watch(self):
        while not self.done.wait(0.02):
            try:
                self.peak = max(self.peak, self.now())
            except (OSError, IndexError):
                # It has ended, which is told elsewhere.
                return

    def report(self):
        """Prints it; whether it stayed within the bound."""
        self.done.set()
        self.thread.join()
        after = self.now()
        self.peak = max(self.peak, after)
        good = self.peak <= self.bound
        figures = [f"{number / MIB:.0f}" for number in (self.before, self.peak, after, self.bound)]
        before, peak, after, bound = figures
        print(
            f"{'ok  ' if good else 'FAIL'} memory: {before} MiB before, {peak} at most, {after} after;"
            f" {bound} allowed"
        )
        return good


def check_document(node):
    document = node.call("GET", "/openapi.json")
    OpenAPIV31SpecValidator(document).validate()
    committed = json.loads((ROOT / "docs/openapi.json").read_text())
    if document != committed:
        fail("the server's document is not docs/openapi.json")
    operations = sum(len(methods) for methods in document["paths"].values())
    print(f"ok   {operations} operations, a valid OpenAPI {document['openapi']} document")
    return document


def check_drain(node):
    """What a fuzzer cannot be let loose on."""
    if node.call("POST", "/v1/admin/node/drain")["node"]["state"] != "drained":
        fail("a drain did not end drained")
    if node.call("POST", "/v1/admin/node/undrain")["state"] != "ready":
        fail("an undrain did not end ready")
    try:
        node.call("POST", "/v1/admin/promote")
        fail("a node that follows nobody was promoted")
    except record.Refused as refused:
        if "wrong_state" not in str(refused):
            fail(f"a promotion is refused with {refused}")
    print("ok   drain, undrain, and no promotion")


def fuzz(node, known, arguments):
    calls = node.folder / "calls.ndjson"
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "SCHEMATHESIS_HOOKS": "api_hooks",
        "STEMEDB_KNOWN": json.dumps(known),
        "STEMEDB_CALLS": str(calls),
    }
    command = [
        str(pathlib.Path(sys.executable).parent / "schemathesis"),
        "run",
        f"{node.url}/openapi.json",
        f"--header=Authorization: Bearer {node.token()}",
        f"--checks={','.join(CHECKS)}",
        f"--seed={arguments.seed}",
        f"--max-examples={arguments.examples}",
        f"--workers={arguments.workers}",
        f"--max-time={arguments.seconds}",
        "--phases=examples,coverage,fuzzing",
        "--generation-database=none",
        # The key is given; two would be refused.
        "--generation-with-security-parameters=false",
        "--suppress-health-check=all",
        "--request-timeout=30",
        "--continue-on-failure",
        "--no-shrink",
        "--no-color",
        "--warnings=off",
    ]
    command += [f"--exclude-path={path}" for path in EXCLUDED]
    print(f"     schemathesis, seed {arguments.seed}", flush=True)
    status = subprocess.run(command, env=environment, cwd=node.folder).returncode
    calls = [json.loads(line) for line in calls.read_text().splitlines()]
    if "STEMEDB_VERBOSE" in os.environ:
        for call in calls:
            if "answer" in call:
                print(json.dumps(call))
    return status, calls


def report(document, calls):
    """Prints what became of the valid requests, an operation a line; whether that is enough."""
    totals = collections.defaultdict(collections.Counter)
    refused = collections.defaultdict(collections.Counter)
    for call in calls:
        if call["valid"]:
            totals[call["operation"]][call["status"] // 100 == 2] += 1
            if call["status"] // 100 != 2:
                refused[call["operation"]][f"{call['status']} {call['code']}"] += 1
    width = max(map(len, totals))
    print(f"\n{'valid requests':{width}}  calls    2xx")
    for operation, counts in sorted(totals.items()):
        count, good = counts.total(), counts[True]
        why = ", ".join(f"{n} x {what}" for what, n in refused[operation].most_common(4))
        print(f"{operation:{width}}  {count:5}  {100 * good / count:4.0f} %  {why}")
    count = sum(counts.total() for counts in totals.values())
    good = sum(counts[True] for counts in totals.values())
    percent = 100 * good / count
    print(f"{'all':{width}}  {count:5}  {percent:4.0f} %   of {len(calls)} requests in all")
    wanted = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if path not in EXCLUDED
    }
    if untried := sorted(wanted - set(totals)):
        print(f"FAIL no valid request was made of {', '.join(untried)}")
    short = [
        operation
        for operation, counts in sorted(totals.items())
        if 100 * counts[True] < LEAST_PERCENT * counts.total()
    ]
    if short:
        print(f"FAIL less than {LEAST_PERCENT} % of the valid requests got 2xx: {', '.join(short)}")
    return not untried and not short


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--binary", required=True, type=lambda path: pathlib.Path(path).resolve())
    options.add_argument("--examples", type=int, default=40)
    options.add_argument("--seconds", type=int, default=120, help="bound on the made-up requests")
    # Threads of one interpreter disturb each other inside ast.parse (CPython issue 106905).
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        node = Node(arguments.binary, folder)
        try:
            node.ready()
            memory = Memory(node, arguments.workers)
            document = check_document(node)
            status, calls = fuzz(node, node.populate(), arguments)
            good = report(document, calls)
            check_drain(node)
            if node.process.poll() is not None:
                fail(f"the server ended: {node.words()}")
            good = memory.report() and good
        finally:
            node.process.kill()
            node.process.wait()
    if status:
        print(f"FAIL schemathesis, exit status {status}; again with --seed={arguments.seed}")
    return 0 if good and not status else 1


if __name__ == "__main__":
    sys.exit(main())
