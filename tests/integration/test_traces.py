"""One trace from an operator's request to the service that stores it, exported by OTLP to a receiver; and `warren trace` without one."""

import json
import os
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from warren_lab.process import wait_until
from warren_testkit.otlp import collecting
from warren_testkit.up import WARREN, running_up

pytestmark = pytest.mark.interop

POLICY = {"id": "sites", "topology": {"kind": "mesh", "members": ["tag=site"]}}


def test_a_change_is_one_trace_from_the_request_to_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as (endpoint, collector):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=known")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with running_up(tmp_path) as up:
            token = Path(up.info["token_file"]).read_text().strip()
            with httpx.Client(
                base_url=up.info["url"], headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=90,
                verify=ssl.create_default_context(cafile=up.info["ca_file"]),
            ) as api:  # fmt: skip
                api.post("/api/join-tokens", json={"tags": ["site"]}).raise_for_status()
                reply = api.post("/api/policies", json=POLICY)
            assert reply.is_success, reply.text
            trace_id, revision = reply.headers["trace-id"], reply.json()["revision"]
            wanted = {"POST /api/policies", "process warren.v1.rpc.policy.apply"}
            wait_until(lambda: wanted <= collector.of(trace_id).keys(), "the spans of the change", 90.0)
            found = collector.of(trace_id)
            (server, request), (policy, stored) = (found[name] for name in sorted(wanted))
            assert (server, policy, stored.parent_span_id) == ("warren-api", "warren-policy", request.span_id)
            assert collector.headers == {"known"}
            environment = {**os.environ, "WARREN_URL": up.info["url"], "WARREN_TOKEN_FILE": up.info["token_file"]}
            shown = subprocess.run(
                [WARREN, "trace", str(revision), "--json"],
                env=environment,
                capture_output=True,
                timeout=120,
                check=True,
            )
            traced = json.loads(shown.stdout)
            assert (traced["trace_id"], traced["steps"][0]["what"].split()[:2]) == (trace_id, ["sites", "created"])
