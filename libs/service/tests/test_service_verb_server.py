"""Verbs of the RPC on a broker: services call all of them, operators those that the table names."""

from pathlib import Path

from faststream.nats import NatsResponse

from warren_bus.settings import BusSettings
from warren_contracts.commands import Empty, Health
from warren_service.broker import Broker, build_broker, reply
from warren_service.verb_server import VerbServer
from warren_trust.keys import KeyKind, KeyPair, write_seed


def broker_of(folder: Path, service: str) -> Broker:
    seed = folder / f"{service}.seed"
    write_seed(seed, KeyPair.generate(KeyKind.USER))
    return build_broker(BusSettings(("nats://127.0.0.1:4222",), seed), service)


def subjects_of(broker: Broker) -> list[tuple[str, str]]:
    return sorted((it.subject.broker_address, it.queue) for it in broker.subscribers)  # type: ignore[attr-defined]


async def handle(command: Empty) -> NatsResponse:
    return reply(command)


class Healthy:
    async def health(self) -> Health:
        return Health(service="policy", ready=True, dependencies={})


def test_a_verb_is_served_to_operators_only_where_the_table_says_so(tmp_path: Path) -> None:
    broker = broker_of(tmp_path, "policy")
    verbs = VerbServer(broker, "policy")
    for name in ("list", "audit"):
        assert verbs.verb(name)(handle) is handle
    assert subjects_of(broker) == [
        ("warren.v1.ops.policy.list", "policy"),
        ("warren.v1.rpc.policy.audit", "policy"),
        ("warren.v1.rpc.policy.list", "policy"),
    ]


def test_health_is_a_verb_like_the_others(tmp_path: Path) -> None:
    served = {}
    for service in ("policy", "registry"):
        broker = broker_of(tmp_path, service)
        VerbServer(broker, service).serve_health(Healthy())
        served[service] = [subject for subject, _ in subjects_of(broker)]
    assert served == {
        "policy": ["warren.v1.ops.policy.health", "warren.v1.rpc.policy.health"],
        "registry": ["warren.v1.rpc.registry.health"],
    }
