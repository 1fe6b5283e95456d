"""What a random caller cannot guess: the ids of this database, its time, a signature.

Loaded by schemathesis (`SCHEMATHESIS_HOOKS`). Everything else in a call is as generated.
"""

import itertools
import json
import os
import urllib.request

import schemathesis

URL = os.environ["STEMEDB_URL"]
AT = "2024-07-01T00:00:00Z"


def post(path, body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def claims(name, count):
    bodies = ({"subject": f"{name}/{n}", "predicate": "p", "object": n, "at": AT} for n in range(count))
    return [post("/v1/assert", body)["id"] for body in bodies]


OLD = itertools.cycle(claims("old", 16))
# A supersession leads from an old claim to a new one, so no number of them closes a cycle.
NEW = itertools.cycle(claims("new", 16))
EPOCH = post("/v1/epoch", {"name": "an epoch", "at": AT})["id"]
FRESH = itertools.count()


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if path_parameters and "id" in path_parameters:
        path_parameters["id"] = next(OLD)
    return path_parameters


@schemathesis.hook
def map_query(context, query):
    # A page that nobody was given, a snapshot of another database, a position to come; and what
    # belongs to a lens is for questions with a lens only.
    for name in ("cursor", "as_of", "at_least"):
        (query or {}).pop(name, None)
    if query and context.operation.path == "/v1/query":
        if "lens" in query:
            query.pop("epoch", None)
        else:
            for name in ("decay", "epoch_aware", "partial", "tiers"):
                query.pop(name, None)
    if query and "{id}" in context.operation.path:
        query.pop("space", None)
    return query


@schemathesis.hook
def map_headers(context, headers):
    # One key stands for one record; generated keys are short and come again.
    (headers or {}).pop("Idempotency-Key", None)
    return headers


@schemathesis.hook
def map_body(context, body):
    path = context.operation.path
    if not isinstance(body, dict):
        return body
    for name in ("at_least", "as_of"):
        body.pop(name, None)
    if path == "/v1/resolve":
        return body
    for name in ("id", "agent", "signature", "log_id", "space"):
        body.pop(name, None)
    body["at"] = AT
    for name in ("assertion", "old", "record", "parent"):
        if name in body:
            body[name] = next(OLD)
    if "new" in body:
        body["new"] = next(NEW)
    if "derived_from" in body:
        body["derived_from"] = sorted({next(OLD) for _ in body["derived_from"]})
    for name in ("epoch", "supersedes"):
        if name in body:
            body[name] = EPOCH
    if "roles" in body:
        # Who registers a registrar is root.
        body["roles"] = [role for role in body["roles"] if role != "registrar"]
    if "replaces" in body:
        # Consent is a signature of the other key.
        del body["replaces"], body["consent"]
        body["ceiling"] = "expert"
    if "input_position" in body:
        body["input_position"] = 1
    if path == "/v1/lens":
        # A version of a lens is defined once.
        body["version"] = next(FRESH) + 1
    return body
