"""The monitoring of `deploy`, on a real Prometheus: every query of every dashboard returns data, and every rule is healthy.

Prometheus scrapes a metrics service by HTTPS, whose telemetry comes over a real bus from two agents with their own rights, and whose
revisions come from the policy service's connection.
"""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from nats.aio.client import Client

from warren_bus.connection import Connection
from warren_bus.publisher import EventPublisher
from warren_bus.rpc import call
from warren_contracts import cloudevents, subjects
from warren_contracts.commands import Page
from warren_contracts.documents import SignerRole
from warren_contracts.events import PolicyChanged
from warren_contracts.policy import Policy, PolicySet, PublishedPolicy
from warren_contracts.rollouts import PolicyRollout, RolloutList, RolloutState
from warren_contracts.status import DriverState, DriverStatus, HostFacts, ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import AgentState, Applied, AttemptFailure, Presence, Report, TunnelChange
from warren_testkit.bus import RealServer, free_port
from warren_testkit.monitoring import dashboard_queries
from warren_testkit.postgres import PostgresServer
from warren_testkit.waiting import eventually
from warren_trust.certificates import issue, make_authority
from warren_trust.keys import KeyKind
from warren_trust.signing import Signer

DEPLOY = Path(__file__).parents[3] / "deploy/prometheus"
TRACE = f"00-{'c' * 32}-{'d' * 16}-01"
WINDOW = "10s"  # what Grafana makes of $__rate_interval with this scrape interval
LIMIT_S = 120.0

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed: deploy/debian/setup.sh --tests"
)


@dataclass
class Fleet:
    """Two agents that report, and the policy service's events; each round has new counters, a new revision, a new handshake."""

    agents: dict[str, Connection]
    policy: Connection
    signer: Signer
    rounds: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def say(self, peer: str, kind: str, body: Any) -> None:
        publisher = EventPublisher(lambda: self.agents[peer].client, f"/peers/{peer}")
        await publisher.publish(subjects.telemetry(peer, kind), cloudevents.TELEMETRY_TYPES[kind], body)

    async def round(self) -> None:
        """One more round."""
        self.rounds += 1
        now, number = datetime.now(UTC), self.rounds
        for peer in self.agents:
            await self.say(peer, "presence", self._presence(now))
        connecting = TunnelStatus(name="gw1+hub-1", state=TunnelState.CONNECTING, initiator=True, since=now)
        up = self._tunnel("gw1+hub-1", TunnelState.UP, since=now + timedelta(milliseconds=80))
        for before, status in ((None, connecting), (TunnelState.CONNECTING, up)):
            await self.say("gw1", "tunnel", TunnelChange(at=now, previous=before, status=status))
        down = TunnelStatus(
            name="gw1+hub-2",
            state=TunnelState.DOWN,
            since=self.began,
            reason=ReasonCode.PEER_UNREACHABLE,
            policy="sites",
        )
        await self.say("gw1", "report", Report(at=now, tunnels=(up, down), policy_sync_errors=1, dpd_failures=number))
        other = self._tunnel("gw1+hub-1", TunnelState.DEGRADED, reason=ReasonCode.NARROWED)
        await self.say("hub-1", "report", Report(at=now, tunnels=(other,)))
        for code in (ReasonCode.CONFIG_DRIFT, ReasonCode.PEER_UNREACHABLE):
            await self.say("gw1", "reason", AttemptFailure(at=now, tunnel="gw1+hub-2", code=code))
        await self._edit(number, now)
        client: Client = self.agents["gw1"].client
        await client.publish(subjects.telemetry("gw1", "report"), b"{")  # refused, and counted

    async def _edit(self, revision: int, now: datetime) -> None:
        changed = PolicyChanged(
            policy="sites", action="updated", revision=revision, version=revision, actor="ann", at=now
        )
        publisher = EventPublisher(lambda: self.policy.client, "/services/policy")
        await publisher.publish(subjects.event("policy", "changed", "sites"), PolicyChanged.TYPE, changed)
        await self._publish_policy(revision)
        applied = Applied(at=now, epoch=1, revision=revision, ok=True, duration_ms=12, delivered_at=now)
        headers = {
            "ce-id": f"applied-{revision}", "ce-type": cloudevents.TELEMETRY_TYPES["applied"], "ce-source": "/peers/gw1",
            "ce-specversion": "1.0", "traceparent": TRACE,
        }  # fmt: skip
        await self.agents["gw1"].client.publish(
            subjects.telemetry("gw1", "applied"), applied.model_dump_json().encode(), headers=headers
        )
        await self.say("hub-1", "applied", applied.model_copy(update={"ok": False, "error": "refused"}))

    async def _publish_policy(self, revision: int) -> None:
        """Of the tunnels' gateways gw1 applies it, hub-1 fails to, and hub-2 has never reported."""
        topology = {"kind": "mesh", "members": ("tag=site",)}
        policy = PublishedPolicy(revision=revision, policy=Policy.model_validate({"id": "sites", "topology": topology}))
        reader = "tag=site"
        document = PolicySet(reader=reader, epoch=1, revision=revision, batch=(reader,), policies=(policy,))
        subject, payload = subjects.policy(reader), document.model_dump_json().encode()
        headers = self.signer.headers(subject, 1, revision, payload)
        await self.policy.client.jetstream().publish(subject, payload, headers=headers)

    def _presence(self, now: datetime) -> Presence:
        driver = DriverStatus(kind="strongswan", state=DriverState.UP)
        return Presence(
            state="online", at=now, agent=AgentState.WATCH, started_at=self.began, resident_bytes=40_000_000,
            cpu_seconds=self.rounds, drivers=(driver,), host=HostFacts(intent_unconfirmed_s=1.0), queued=2, queued_bytes=100,
        )  # fmt: skip

    def _tunnel(self, name: str, state: TunnelState, **fields: Any) -> TunnelStatus:
        n = self.rounds
        return TunnelStatus.model_validate(
            {
                "name": name, "policy": "sites", "peer": "hub-1", "state": state, "initiator": True, "since": self.began, "rekeys": n,
                "rekey_seconds": 0.02,
                "link": {"ike_established_at": self.began}, "evidence": {"kind": "traffic", "at": datetime.now(UTC)},
                "traffic": {"bytes_in": 1_000 * n, "bytes_out": 2_000 * n, "packets_in": n, "packets_out": n}, "restarts": n, **fields,
            }
        )  # fmt: skip


@dataclass
class Monitored:
    """A running fleet, and the HTTP API of the Prometheus that watches it."""

    fleet: Fleet
    url: str
    metrics_port: int
    ca_file: Path
    api: Connection

    async def rollouts(self) -> RolloutList:
        """As the API server asks for them."""
        return await call(self.api.client, subjects.rpc("metrics", "rollouts"), Page(), RolloutList)

    def _get(self, path: str, **query: str) -> Any:
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(query)}", timeout=60) as answer:  # noqa: S310 - our own address
            return json.load(answer)["data"]

    async def get(self, path: str, **query: str) -> Any:
        return await asyncio.to_thread(self._get, path, **query)

    async def returns_data(self, expression: str) -> bool:
        concrete = expression.replace("$__rate_interval", WINDOW).replace("$peer", ".*").replace("$tunnel", "gw1+hub-1")
        found = await self.get("query", query=concrete)
        return any(value[1] != "NaN" for series in found["result"] for value in [series["value"]])


@contextmanager
def prometheus(folder: Path, port: int, target: int, ca_file: Path) -> Iterator[str]:
    """A Prometheus with the rules of `deploy`, which scrapes every second."""
    configuration = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(DEPLOY / Path(name).name) for name in configuration["rule_files"]]
    (scrape,) = configuration["scrape_configs"]
    scrape |= {"scrape_timeout": "1s", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    scrape["tls_config"] = {"ca_file": str(ca_file)}
    rules = [json.loads(json.dumps(yaml.safe_load(Path(name).read_text()))) for name in configuration["rule_files"]]
    for number, document in enumerate(rules):
        for group in document["groups"]:
            group.pop("interval", None)  # as often as everything else here
        path = folder / f"rules-{number}.yaml"
        path.write_text(yaml.safe_dump(document))
        configuration["rule_files"][number] = str(path)
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus", f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
async def fleet(bus: RealServer, agents: dict[str, Connection], connect: Any) -> Fleet:
    signer = Signer(bus.key("policy-signing", KeyKind.SIGNING), SignerRole.POLICY)
    return Fleet(agents, await connect("policy"), signer)


@pytest.fixture
async def monitored(
    fleet: Fleet, database: PostgresServer, process: Any, connect: Any, environ_of: Any, ready: Any, tmp_path: Path
) -> AsyncIterator[Monitored]:
    database.sql("DROP SCHEMA IF EXISTS metrics CASCADE")
    port, now = free_port(), datetime.now(UTC)
    authority = make_authority(now)
    issued = issue(authority, "metrics", ["127.0.0.1"], now)
    ca_file, certificate, key = (tmp_path / name for name in ("ca.pem", "tls.crt", "tls.key"))
    for path, content in ((ca_file, authority.pem), (certificate, issued.chain_pem), (key, issued.key_pem)):
        path.write_bytes(content)
    environ = environ_of("metrics", database.dsn()) | {
        "WARREN_METRICS_PORT": str(port), "WARREN_METRICS_CERT_FILE": str(certificate), "WARREN_METRICS_KEY_FILE": str(key),
    }  # fmt: skip
    await process("warren_metrics", environ).start()
    api = await connect("api")
    await ready(api, "metrics")
    with prometheus(tmp_path, free_port(), port, ca_file) as url:
        yield Monitored(fleet, url, port, ca_file, api)


async def test_every_query_of_the_dashboards_returns_data_and_every_rule_is_healthy(monitored: Monitored) -> None:
    missing = list(dashboard_queries())
    assert len(missing) > 60

    async def all_return_data() -> bool:
        nonlocal missing
        await monitored.fleet.round()
        answers = [await monitored.returns_data(expression) for _, expression in missing]
        missing = [query for query, found in zip(missing, answers, strict=True) if not found]
        return not missing

    try:
        await eventually(all_return_data, LIMIT_S, "every query returns data", ignoring=(OSError,), pause_s=0.5)
    except AssertionError as error:
        raise AssertionError(f"no data: {missing}") from error

    async def evaluated() -> list[Any]:
        groups = (await monitored.get("rules"))["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return [] if any(rule["health"] == "unknown" for rule in found) else found

    rules = await eventually(evaluated, LIMIT_S, "every rule is evaluated")
    assert len(rules) > 25
    assert {rule["health"] for rule in rules} == {"ok"}, [rule for rule in rules if rule["health"] != "ok"]
    exemplars = await monitored.get(
        "query_exemplars", query="warren_policy_propagation_seconds_bucket",
        start=str(monitored.fleet.began.timestamp()), end=str(datetime.now(UTC).timestamp() + 60),
    )  # fmt: skip
    assert {it["labels"]["trace_id"] for series in exemplars for it in series["exemplars"]} == {"c" * 32}
    for label, value in (("peer", "hub-1"), ("tunnel", "gw1+hub-1")):  # what the variables of the dashboards list
        assert value in await monitored.get(f"label/{label}/values")
    states = {RolloutState.APPLIED: 1, RolloutState.PENDING: 0, RolloutState.FAILED: 1, RolloutState.UNREACHABLE: 1}

    async def last_round_is_processed() -> PolicyRollout | None:
        (found,) = (await monitored.rollouts()).rollouts
        return found if (found.revision, found.gateways) == (monitored.fleet.rounds, states) else None

    rollout = await eventually(last_round_is_processed, LIMIT_S, "the outcomes of the last revision")
    assert rollout.policy == "sites"
    assert [(it.peer, it.state.value) for it in rollout.waiting] == [("hub-1", "failed"), ("hub-2", "unreachable")]
    assert rollout.since is not None
    assert rollout.since >= monitored.fleet.began
