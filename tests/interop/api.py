#!/usr/bin/env python3
"""The HTTP interface judged from outside: is the specification valid, and is it true?

    api.py --binary target/release/stemedb [--examples 30] [--seed N]

Starts a server in a scratch folder, checks `/openapi.json` with openapi-spec-validator, and lets
schemathesis make calls from it: no answer may be a 5xx or differ from the specification, and of the
calls that the specification allows at least 90 % must succeed. What a random caller cannot guess is
filled in by `api_hooks.py`.
"""

import argparse
import base64
import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import openapi_spec_validator

HERE = pathlib.Path(__file__).parent
SUCCESS_MIN = 0.9
# A drain stops the rest of the run; an import is lines, which the generator does not make; a PUT
# needs the hash of its own body.
LEFT_OUT = ["--exclude-path", "/v1/admin/node/drain", "--exclude-path", "/v1/import",
            "--exclude-method", "PUT"]


def start(binary, scratch):
    config = scratch / "api.toml"
    # The calls are made by the local user: let it do what takes a role.
    config.write_text('[signing]\nceiling = "regulatory"\n'
                      'roles = ["curator", "registrar", "reviewer", "trust"]\n')
    command = [binary, "serve", "--config", config, "--data-dir", scratch / "data",
               "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in server.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return server, found.group()
    sys.exit(f"the server did not start: {server.wait()}")


def statuses(report):
    """Status and problem code of every call, by operation."""
    for line in report.read_text().splitlines():
        scenario = json.loads(line).get("ScenarioFinished")
        recorder = (scenario or {}).get("recorder") or {}
        for interaction in recorder.get("interactions", {}).values():
            response = interaction.get("response")
            if not response:
                continue
            content = response.get("content")
            content = content.get("$base64", "") if isinstance(content, dict) else content or ""
            try:
                body = json.loads(base64.b64decode(content))
                why = f"{body['code']} {body.get('field', '')}".strip()
            except (ValueError, KeyError, TypeError):
                why = ""
            yield recorder["label"], response["status_code"], why


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--examples", type=int, default=30)
    arguments.add_argument("--seed", type=int)
    asked = arguments.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="stemedb-api-"))
    server, url = start(asked.binary, scratch)
    try:
        with urllib.request.urlopen(f"{url}/openapi.json") as response:
            openapi_spec_validator.validate(json.load(response))
        print("the specification is valid")
        report = scratch / "report.ndjson"
        command = [pathlib.Path(sys.executable).parent / "st", "run", f"{url}/openapi.json",
                   "--mode", "positive", "--phases", "examples,fuzzing",
                   "--checks", "not_a_server_error,status_code_conformance,"
                               "content_type_conformance,response_schema_conformance",
                   "--max-examples", str(asked.examples), "--continue-on-failure",
                   "--report", "ndjson", "--report-ndjson-path", report, *LEFT_OUT]
        if asked.seed is not None:
            command += ["--seed", str(asked.seed)]
        hooks = {"SCHEMATHESIS_HOOKS": "api_hooks", "STEMEDB_URL": url, "PYTHONPATH": str(HERE)}
        run = subprocess.run(command, env={**os.environ, **hooks}, cwd=scratch, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        calls = list(statuses(report)) if report.exists() else []
        fine = sum(status < 300 for _, status, _ in calls)
        refused = collections.Counter((label, why) for label, status, why in calls if status >= 300)
        for (label, why), count in refused.most_common(15):
            print(f"{count:5} {label}: {why}")
        share = fine / len(calls) if calls else 0.0
        print(f"{len(calls)} calls, {share:.1%} succeeded, at least {SUCCESS_MIN:.0%} must")
        if run.returncode != 0 or share < SUCCESS_MIN:
            sys.exit(run.stdout[-8000:])
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
