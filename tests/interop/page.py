#!/usr/bin/env python3
"""The documentation page in a real browser.

    page.py --binary FILE

Starts a server of its own on a loopback port, in a scratch folder, and opens its page in a headless
Chromium that reaches nothing else. Fails unless all operations are shown, a question that is asked
on the page is answered there, and the browser finds nothing to complain about: no error of a
script, no file that is missing, nothing that the policy of the page forbids.

Without Chromium it says so, loudly, and ends well.
"""

import argparse
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from api import Node, fail

PATIENCE = 60
# The browser takes its two pipes as 3 and 4. Ours lie above, so that neither is in the way.
FIRST_FREE = 10

FILL = """(name, value) => {
    const input = document.querySelector(`.opblock.is-open tr[data-param-name="${name}"] input`);
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, value);
    for (const event of ['input', 'change']) input.dispatchEvent(new Event(event, {bubbles: true}));
    input.dispatchEvent(new FocusEvent('focusout', {bubbles: true}));
}"""


class Browser:
    """Chromium with one page, told what to do over two pipes (the DevTools protocol)."""

    def __init__(self, program, folder):
        ours, theirs = os.pipe(), os.pipe()
        command, reply = (fcntl.fcntl(end, fcntl.F_DUPFD, FIRST_FREE) for end in (ours[0], theirs[1]))

        def take():
            os.dup2(command, 3)
            os.dup2(reply, 4)

        arguments = [
            program,
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-breakpad",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ]
        if os.geteuid() == 0:
            # Its sandbox wants another user. It sees nothing but pages of ours.
            arguments.append("--no-sandbox")
        words = open(pathlib.Path(folder) / "words", "wb")
        self.process = subprocess.Popen(
            arguments,
            stdout=words,
            stderr=words,
            preexec_fn=take,
            pass_fds=(3, 4),
            start_new_session=True,
        )
        for end in (*ours[:1], theirs[1], command, reply):
            os.close(end)
        self.to, self.answers = ours[1], theirs[0]
        self.read, self.calls, self.session, self.complaints = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")

    def message(self, end):
        """The next one, or None if none comes in time."""
        while b"\0" not in self.read:
            ready, _, _ = select.select([self.answers], [], [], max(0, end - time.monotonic()))
            if not ready:
                return None
            piece = os.read(self.answers, 1 << 16)
            if not piece:
                fail("the browser ended")
            self.read += piece
        message, self.read = self.read.split(b"\0", 1)
        message = json.loads(message)
        self.hear(message.get("method"), message.get("params", {}))
        return message

    def hear(self, method, about):
        if method == "Runtime.exceptionThrown":
            self.complaints.append(about["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "assert"):
            self.complaints.append([argument.get("value") for argument in about["args"]])
        elif method == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.complaints.append(about["entry"])
        elif method == "Network.loadingFailed" and not about.get("canceled"):
            self.complaints.append(about)
        elif method == "Network.responseReceived" and about["response"]["status"] >= 400:
            self.complaints.append(about["response"]["url"])

    def call(self, method, **about):
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": about}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while answer := self.message(end):
            if answer.get("id") == self.calls:
                if "error" in answer:
                    fail(f"{method}: {answer['error']}")
                return answer["result"]
        fail(f"{method}: no answer within {PATIENCE} s")

    def run(self, script):
        """The value of an expression on the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            fail(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, what, script):
        """Waits until an expression on the page is true, and gives its value."""
        end = time.monotonic() + PATIENCE
        while not (value := self.run(script)):
            if time.monotonic() > end:
                shown = self.run("document.body.innerText")
                fail(f"{what}: not within {PATIENCE} s; complaints {self.complaints}; shown:\n{shown}")
            self.message(time.monotonic() + 0.2)
        return value

    def click(self, selector):
        self.until(f"{selector} is there", f"!!document.querySelector({selector!r})")
        self.run(f"document.querySelector({selector!r}).click()")

    def end(self):
        # With all its helpers.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def look(node, browser):
    operations = sum(
        len(methods) for methods in node.call("GET", "/openapi.json")["paths"].values()
    )
    browser.call("Page.navigate", url=f"{node.url}/docs/")
    shown = "document.querySelectorAll('.opblock').length"
    browser.until("all operations are shown", f"{shown} === {operations}")
    print(f"ok   {operations} operations are shown")

    browser.run(f"window.ui.preauthorizeApiKey('bearer', {node.token()!r}), true")
    browser.click('[data-path="/v1/skeptic"] a')
    browser.click(".opblock.is-open .try-out__btn")
    browser.until("fields", "!!document.querySelector('.opblock.is-open tr[data-param-name] input')")
    for name, value in (("subject", "semaglutide"), ("predicate", "gastroparesis_risk")):
        browser.run(f"({FILL})({name!r}, {value!r})")
    # The page takes up what was typed a little later.
    for _ in range(PATIENCE):
        browser.click(".opblock.is-open .execute")
        browser.message(time.monotonic() + 1)
        status = browser.run(
            "document.querySelector('.live-responses-table tr.response .response-col_status')?.innerText"
        )
        if status:
            break
    body = ".live-responses-table tr.response .response-col_description"
    answer = browser.until("an answer is shown", f"document.querySelector({body!r})?.innerText")
    if not str(status).startswith("200") or '"rare"' not in answer:
        fail(f"the page shows {status}: {answer}")
    print("ok   a question asked on the page is answered there")
    if browser.complaints:
        fail("the browser complains:\n" + "\n".join(map(str, browser.complaints)))
    print("ok   the browser has no complaints")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--binary", required=True, type=lambda path: pathlib.Path(path).resolve())
    arguments = options.parse_args()
    program = shutil.which("chromium")
    if not program:
        print("SKIPPED: the page in a browser: Chromium is not installed; `make setup` does that")
        return 0
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(
        ignore_cleanup_errors=True
    ) as profile:
        node = Node(arguments.binary, folder)
        try:
            node.ready()
            claim = {"subject": "semaglutide", "predicate": "gastroparesis_risk", "object": "rare"}
            node.call("POST", "/v1/assert", {**claim, "at": "2024-07-01T00:00:00Z"})
            browser = Browser(program, profile)
            try:
                look(node, browser)
            finally:
                browser.end()
        finally:
            node.process.kill()
            node.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
