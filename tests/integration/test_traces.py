"""One trace from an operator's request to the service that stores it, exported by OTLP to a receiver; and `warren trace` without one."""

import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from warren_lab.process import wait_until
from warren_testkit.up import WARREN, running_up

pytestmark = pytest.mark.interop

POLICY = {"id": "sites", "topology": {"kind": "mesh", "members": ["tag=site"]}}


class Collector:
    """What services send to `/v1/traces`: each span with its service's name."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self.headers: set[str] = set()

    def take(self, body: bytes) -> None:
        request: Any = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            names = {it.key: it.value.string_value for it in resource.resource.attributes}
            self.spans += [(names["service.name"], span) for scope in resource.scope_spans for span in scope.spans]

    def of(self, trace_id: str) -> dict[str, tuple[str, Any]]:
        """By name: the service and the span."""
        return {span.name: (service, span) for service, span in list(self.spans) if span.trace_id.hex() == trace_id}


@contextmanager
def collecting() -> Iterator[tuple[str, Collector]]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.headers.add(self.headers.get("x-key", ""))
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nothing: a test's output is for failures."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", collector
        finally:
            server.shutdown()
            thread.join()


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
