"""`warren up` on a disk that fills up and has free space again: nobody restarts anything by hand."""

import json
import os
import select
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from warren_lab.process import stop_process, wait_until
from warren_lab.runtime import make_runtime_folder

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="a mount of its own needs root"),
    pytest.mark.timeout(600),
]

WARREN = Path(sys.executable).with_name("warren")
LIMIT_SECONDS = 120.0
REQUEST_SECONDS = 30.0  # the API server waits up to 20 s for a reply that the restart of NATS has lost
DISK = "320m"  # PostgreSQL takes 60 MB of it


class Up:
    """`warren up` whose data folder is a small disk that only its processes see."""

    def __init__(self, process: subprocess.Popen[str], said: dict[str, str]) -> None:
        self._process, self._refused = process, ""
        self.data = Path(f"/proc/{process.pid}/root{said['data']}")
        self._url = said["url"]
        authorities = Path(f"/proc/{process.pid}/root{said['ca_file']}").read_text()
        self._trusting = ssl.create_default_context(cadata=authorities)
        self._token = Path(f"/proc/{process.pid}/root{said['token_file']}").read_text().strip()

    def fill(self) -> None:
        """Until nothing more can be written."""
        with (self.data / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 20)):
                pass
        with (self.data / "last").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"0" * 512):
                pass

    def free(self) -> None:
        for name in ("filler", "last"):
            (self.data / name).unlink()

    def get(self, path: str) -> httpx.Response:
        return self._call("GET", path)

    def apply(self, policy: str) -> httpx.Response:
        """A policy for nobody who is there: a revision that has to be published.

        It may be called again when the reply was lost, as at a restart of NATS: to create it a second time would be refused.
        """
        document = {"id": policy, "topology": {"kind": "mesh", "members": ["all"]}}
        return self._call("PUT", f"/api/policies/{policy}", json=document)

    def is_published(self, policy: str) -> bool:
        """Whether the stream of events reports it, which the relay publishes together with the policy sets."""
        with suppress(httpx.HTTPError):
            return f"changed.{policy}" in self._events()
        return False

    def is_ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return self.get("/api/health").status_code == 200
        return False

    def said(self) -> str:
        """What it has said on standard error so far."""
        assert self._process.stderr is not None
        words = ""
        while select.select([self._process.stderr], [], [], 0)[0] and (line := self._process.stderr.readline()):
            words += line
        return words

    def _events(self) -> str:
        """All that is stored: up to the first sign of life."""
        headers, lines = {"authorization": f"Bearer {self._token}"}, ""
        url = f"{self._url}/api/events?after=0&kind=changed"
        with httpx.stream(
            "GET", url, headers=headers, timeout=REQUEST_SECONDS, trust_env=False, verify=self._trusting
        ) as reply:
            for line in reply.iter_lines():
                lines += line
                if line == ": alive":
                    break
        return lines

    def _call(self, method: str, path: str, **body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._token}"}
        reply = httpx.request(
            method, self._url + path, headers=headers, timeout=REQUEST_SECONDS, trust_env=False, verify=self._trusting,
            **body,
        )  # fmt: skip
        if (
            not reply.is_success
            and (found := f"{method} {path}: {reply.status_code} {reply.text[:500]}") != self._refused
        ):
            self._refused = found
            print(found)  # for a failure of the test
        return reply


@pytest.fixture
def up() -> Iterator[Up]:
    folder = make_runtime_folder("warren-test-")
    ports = " ".join(f"--{name}-port 0" for name in ("http", "nats", "metrics"))
    script = f'mount -t tmpfs -o size={DISK},mode=755 none "$1" && exec "$2" up --json --data "$1/data" {ports}'
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", folder, WARREN],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with process.stdout, process.stderr:
            readable, _, _ = select.select([process.stdout], [], [], LIMIT_SECONDS)
            line = process.stdout.readline() if readable else ""
            assert line, "warren up said nothing"
            yield Up(process, json.loads(line))
    finally:
        stop_process(process, limit_seconds=30)  # type: ignore[arg-type]  # of text
        folder.rmdir()


def test_publication_goes_on_once_a_full_disk_has_free_space_again(up: Up) -> None:
    assert up.apply("before").is_success
    wait_until(up.is_ready, "everything is ready", LIMIT_SECONDS)
    wait_until(lambda: up.is_published("before"), "it is published", LIMIT_SECONDS)
    log = up.data / "log" / "nats.log"
    up.fill()
    number = iter(range(10_000))

    def refused() -> bool:
        with suppress(httpx.HTTPError):
            up.apply(f"meanwhile-{next(number)}")
        return "nats could not write" in up.said()

    wait_until(refused, "the words about the disk", LIMIT_SECONDS)
    assert b"nats is restarted" not in log.read_bytes()
    up.free()
    # The stream of the policies may still accept messages before the restart that the other stream needs.
    wait_until(lambda: b"nats is restarted" in log.read_bytes(), "nats is restarted", LIMIT_SECONDS)
    wait_until(lambda: up.is_ready() and up.apply("after").is_success, "a policy is accepted", LIMIT_SECONDS)
    wait_until(lambda: up.is_published("after"), "it is published", LIMIT_SECONDS)
    wait_until(up.is_ready, "everything is ready again", LIMIT_SECONDS)
