"""What a crashed charon has left is asked for by the SPIs that it had, and only when nothing uses it any more."""

from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import BaseModel

from warren_agent.drivers.port import Reply
from warren_agent.drivers.strongswan.connections import HandleName
from warren_agent.drivers.strongswan.convergence import DesiredHandles
from warren_agent.drivers.strongswan.leftovers import GRACE, Leftovers
from warren_agent.drivers.strongswan.sas import IkeSa, parse_ike_sas
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.drivers.strongswan.vici_codec import Section
from warren_agent.errors import GuardUnavailableError
from warren_contracts.leftovers import (
    Leftover,
    LeftoverKind,
    LeftoversReply,
    LeftoversRequest,
    RemoveLeftoversRequest,
)

HANDLE, CHILD = HandleName("t", 1), HandleName("t", 1, "net")
IN, OUT = "c1000001", "c2000002"


class Kernel:
    """A guard whose kernel holds one leftover state."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_running = True
        self.held: tuple[Leftover, ...] = (
            Leftover(kind=LeftoverKind.STATE, destination=ip_network("192.0.2.2"), spi=OUT),
        )

    async def exchange(self, request: BaseModel, reply: type[Reply]) -> Reply:
        if not self.is_running:
            raise GuardUnavailableError("stopped")
        assert isinstance(request, LeftoversRequest | RemoveLeftoversRequest)
        self.asked.append(f"{request.request} {','.join(sa.spi_out for sa in request.sas)}")
        found, self.held = self.held, () if isinstance(request, RemoveLeftoversRequest) else self.held
        answer = reply.model_validate(LeftoversReply(leftovers=found).model_dump())
        return answer


class Bed:
    """One tunnel, a charon that has these SPIs, and a file."""

    def __init__(self, folder: Path) -> None:
        self.clock = 1_000.0
        self.live: frozenset[str] = frozenset()
        self.kernel = Kernel()
        self.ledger = folder / "strongswan.json"
        self.record = TunnelRecord("t", DesiredHandles(HANDLE, (CHILD,), owner=True))
        self.records = {"t": self.record}
        self.leftovers = self.started()

    def started(self) -> Leftovers:
        made = Leftovers(self.records, self._live, lambda: self.clock, self.ledger)
        made.guard = self.kernel
        made.load()
        return made

    async def _live(self) -> frozenset[str]:
        return self.live

    def has(self, *spis: str) -> None:
        """charon has one CHILD_SA of these SPIs, or none."""
        self.record.observe(list(_sas(spis)) if spis else [], self.clock)
        self.live = frozenset(spis)


def _sas(spis: Iterable[str]) -> list[IkeSa]:
    spi_in, spi_out = spis
    child = {
        "name": str(CHILD), "uniqueid": "7", "state": "INSTALLED", "spi-in": spi_in, "spi-out": spi_out, "if-id-in": "2a",
        "mark-in": "10", "mark-mask-in": "ff",
    }  # fmt: skip
    sa = {"uniqueid": "3", "state": "ESTABLISHED", "local-host": "192.0.2.1", "remote-host": "192.0.2.2"}
    encoded = {name: value.encode() for name, value in sa.items()}
    children: Section = {"net-7": {name: value.encode() for name, value in child.items()}}
    return parse_ike_sas({str(HANDLE): {**encoded, "child-sas": children}})


@pytest.fixture
async def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def lose_charon(bed: Bed) -> None:
    bed.has(IN, OUT)
    bed.leftovers.lost(bed.records.values())
    bed.has()
    bed.leftovers.returned()


async def test_what_a_crash_left_goes_when_the_tunnel_is_up_again(bed: Bed) -> None:
    lose_charon(bed)
    assert [(it.local, it.remote, it.spi_in, it.if_id_in, it.mark_in) for it in bed.leftovers.orphans] == [
        ("192.0.2.1", "192.0.2.2", IN, 0x2A, 0x10)
    ]
    await bed.leftovers.sweep()
    assert bed.kernel.asked == []  # it may still carry traffic
    bed.has("c3000003", "c4000004")
    await bed.leftovers.sweep()
    assert bed.kernel.asked == [f"leftovers {OUT}", f"remove-leftovers {OUT}"]
    await bed.leftovers.sweep()
    assert len(bed.kernel.asked) == 2
    assert not bed.leftovers.orphans


async def test_what_a_crash_left_of_a_tunnel_that_stays_down_goes_after_its_grace(bed: Bed) -> None:
    lose_charon(bed)
    bed.clock += GRACE - 1
    await bed.leftovers.sweep()
    assert bed.kernel.asked == []
    bed.clock += 1
    await bed.leftovers.sweep()
    assert not bed.leftovers.orphans


async def test_a_charon_that_only_hung_has_left_nothing(bed: Bed) -> None:
    lose_charon(bed)
    bed.has(IN, OUT)
    await bed.leftovers.sweep()
    assert (bed.kernel.asked, bed.leftovers.orphans) == ([], ())


async def test_spis_that_any_sa_of_charon_names_are_never_asked_for(bed: Bed) -> None:
    lose_charon(bed)
    bed.records.clear()
    bed.live = frozenset({OUT})
    await bed.leftovers.sweep()
    assert bed.kernel.asked == []
    bed.live = frozenset()
    await bed.leftovers.sweep()
    assert not bed.leftovers.orphans


async def test_a_new_agent_knows_what_the_last_charon_had(bed: Bed) -> None:
    bed.has(IN, OUT)
    bed.leftovers.save()
    assert bed.ledger.with_suffix(".sas").read_text() == f'["t.net~1","192.0.2.1","192.0.2.2","{IN}","{OUT}",42,16]\n'
    bed.records.clear()
    again = bed.started()
    again.returned()
    bed.live = frozenset()
    await again.sweep()
    assert bed.kernel.asked == [f"leftovers {OUT}", f"remove-leftovers {OUT}"]
    again.save()
    assert bed.started().orphans == ()


async def test_without_the_guard_they_are_asked_for_again(bed: Bed) -> None:
    lose_charon(bed)
    bed.records.clear()
    bed.kernel.is_running = False
    bed.live = frozenset()
    await bed.leftovers.sweep()
    assert len(bed.leftovers.orphans) == 1
    bed.kernel.is_running = True
    await bed.leftovers.sweep()
    assert not bed.leftovers.orphans


@pytest.mark.parametrize(
    "line",
    [
        "[",
        "[]",
        '["t~1","192.0.2.1","192.0.2.2","c1","c2000002",0,0]',
        '["t~1","x","192.0.2.2","c1000001","c2000002",0,0]',
    ],
)
async def test_a_damaged_file_is_none(bed: Bed, line: str) -> None:
    bed.ledger.with_suffix(".sas").write_text(f"{line}\n")
    assert bed.started().orphans == ()
