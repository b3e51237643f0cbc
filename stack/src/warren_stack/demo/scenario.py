"""What an operator would do, step by step, and what really happened. Every claim of the report is made here."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from warren_contracts.commands import ApplyReply
from warren_contracts.events import PolicyApplied
from warren_contracts.policy import Policy
from warren_contracts.status import ChildSaStatus, FleetTunnel, TunnelState
from warren_lab.capture import Capture
from warren_lab.errors import TimedOutError
from warren_lab.ping import Ping
from warren_lab.process import eventually
from warren_stack.demo.agents import Agents
from warren_stack.demo.api import Api, ServerSentEvents
from warren_stack.demo.checks import first_reply_under, judge_capture
from warren_stack.demo.fleet import Gateway, inner_addresses
from warren_stack.demo.report import DemoReport, EditFact, PingFact, Timings, TunnelFact

HUB = "hub"
EDITED, UNTOUCHED = "spoke-1", "spoke-2"
STEP_LIMIT_SECONDS = 60.0
AFTERWARDS_SECONDS = 0.5
"""Pings go on this long after the edit has been seen, so that a late loss is counted."""
STEADY_PINGS = 100


@dataclass(frozen=True)
class TunnelObservation:
    """One tunnel as its spoke reports it."""

    tunnel: FleetTunnel
    sa: ChildSaStatus

    @property
    def spis(self) -> frozenset[int]:
        return frozenset((int(self.sa.spi_in, 16), int(self.sa.spi_out, 16)))


class Scenario:
    """The demo's steps over a running stack and fleet."""

    def __init__(
        self,
        api: Api,
        gateways: dict[str, Gateway],
        agents: Agents,
        examples: Path,
        report: DemoReport,
        say: Callable[[str], None],
    ) -> None:
        self._api, self._gateways, self._agents = api, gateways, agents
        self._examples, self._report, self._say = examples, report, say
        self._inner = inner_addresses(gateways)

    async def run(self) -> None:
        """All steps, in order."""
        async with self._step("three gateways join"):
            await self._agents.join(self._api)
        async with self._step("hub-spoke.yaml is applied, both tunnels come up"):
            await self.apply("hub-spoke")
            before = {spoke: await self._tunnel_up(spoke) for spoke in (EDITED, UNTOUCHED)}
        self._report.tunnels = [_fact(seen) for seen in before.values()]
        self._report.check("both tunnels are up at both ends", True)
        async with self._step("traffic through both tunnels"):
            for spoke, seen in before.items():
                await self._traffic_is_encrypted(spoke, seen)
        async with self._step("spoke-1-crypto.yaml is applied while pings run"):
            await self._edit(before)
        async with self._step("a daemon stops: its traffic is dropped, not sent in clear"):
            await self._stopped_daemon()
        async with self._step("the policies are deleted"):
            await self._delete()
        async with self._step("the same check without a tunnel"):
            await self._clear_is_noticed()

    async def apply(self, example: str) -> ApplyReply:
        """Publish one of the examples."""
        policy = Policy.model_validate(yaml.safe_load((self._examples / f"{example}.yaml").read_text()))
        return await self._api.apply(policy)

    @contextlib.asynccontextmanager
    async def _step(self, what: str) -> AsyncIterator[None]:
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self._report.steps.append((what, took))
        self._say(f"{what} ({took:.2f} s)")

    async def _tunnel_up(self, spoke: str, not_spis: frozenset[int] = frozenset()) -> TunnelObservation:
        """The spoke's tunnel once it is up at both ends, with other SPIs than `not_spis`."""
        found: list[TunnelObservation] = []

        async def is_up() -> bool:
            seen = _seen(await self._api.tunnels(), spoke)
            if seen is None or seen.spis & not_spis:
                return False
            found.append(seen)
            return True

        await eventually(is_up, f"the tunnel of {spoke} is up at both ends", STEP_LIMIT_SECONDS)
        return found[-1]

    async def _traffic_is_encrypted(self, spoke: str, seen: TunnelObservation) -> None:
        gateway = self._gateways[spoke]
        with gateway.capture(self._inner) as capture, gateway.ping(self._gateways[HUB]) as ping:
            await _echoes(ping, STEADY_PINGS)
            counts = await asyncio.to_thread(ping.stop)
        name = seen.tunnel.name
        self._report.check(f"{name}: every ping came back", counts.lost == 0, f"{counts.received} of {counts.sent}")
        judged = judge_capture(capture.flows(), capture.clear_packets(), capture.dropped, seen.spis)
        self._report.check(f"{name}: ESP under the reported SPIs alone, on the WAN link", judged.held, judged.detail)
        daemon = await asyncio.to_thread(gateway.daemon.read)
        self._report.check(f"{name}: the daemon itself holds these SPIs", daemon.spis == seen.spis)

    async def _edit(self, before: dict[str, TunnelObservation]) -> None:
        hub = self._gateways[HUB]
        async with self._api.events() as events:
            with (
                self._gateways[EDITED].capture(self._inner) as capture,
                self._gateways[EDITED].ping(hub) as edited_ping,
                self._gateways[UNTOUCHED].ping(hub) as untouched_ping,
            ):
                await asyncio.gather(_echoes(edited_ping, STEADY_PINGS), _echoes(untouched_ping, STEADY_PINGS))
                asked = time.time()
                reply = await self.apply("spoke-1-crypto")
                applied = await self._applied(events, reply.revision)
                after = await self._tunnel_up(EDITED, before[EDITED].spis)
                first = await self._first_reply(int(after.sa.spi_in, 16), capture, edited_ping)
                since = time.time() + AFTERWARDS_SECONDS
                await asyncio.to_thread(edited_ping.wait_for_reply, STEP_LIMIT_SECONDS, since)
                await asyncio.gather(*(asyncio.to_thread(ping.stop) for ping in (edited_ping, untouched_ping)))
        untouched = await self._tunnel_up(UNTOUCHED)
        self._note_edit(before, after, untouched, edited_ping, untouched_ping)
        self._report.timings = timings(asked, reply.stored_at, applied, first)
        judged = judge_capture(
            capture.flows(), capture.clear_packets(), capture.dropped, before[EDITED].spis | after.spis
        )
        self._report.check("ESP alone on the WAN link all through the edit", judged.held, judged.detail)

    async def _applied(self, events: ServerSentEvents, revision: int) -> list[PolicyApplied]:
        peers = (HUB, EDITED)
        try:
            return await events.applied(revision, set(peers), STEP_LIMIT_SECONDS)
        except TimedOutError as error:
            raise TimedOutError(f"{error}; the agents' logs end: {self._agents.last_output(peers)}") from None

    async def _first_reply(self, spi: int, capture: Capture, ping: Ping) -> float:
        found: list[float] = []

        async def replied() -> bool:
            moment = first_reply_under(spi, capture.flows(), ping.echoes())
            found.extend([] if moment is None else [moment])
            return bool(found)

        await eventually(replied, f"a reply under the new SPI {spi:08x}", STEP_LIMIT_SECONDS)
        return found[0]

    def _note_edit(
        self,
        before: dict[str, TunnelObservation],
        after: TunnelObservation,
        untouched: TunnelObservation,
        edited_ping: Ping,
        untouched_ping: Ping,
    ) -> None:
        kept = untouched.spis == before[UNTOUCHED].spis
        edit = EditFact(
            changed=after.tunnel.name,
            untouched=untouched.tunnel.name,
            untouched_kept_spis=kept,
            packets_lost=untouched_ping.counts().lost,
            changed_packets_lost=edited_ping.counts().lost,
            cipher_before=before[EDITED].sa.cipher,
            cipher_after=after.sa.cipher,
        )
        self._report.edit = edit
        for name, ping in ((edit.changed, edited_ping), (edit.untouched, untouched_ping)):
            self._report.pings.append(PingFact(name, ping.counts().sent, ping.counts().received))
        self._report.check("the edited tunnel has the new cipher", edit.cipher_after != edit.cipher_before)
        self._report.check("the other tunnel kept its SPIs", kept)
        self._report.check("the other tunnel lost no packet", edit.packets_lost == 0, f"{edit.packets_lost} lost")

    async def _stopped_daemon(self) -> None:
        """The guard's part: pings between the protected subnets while no SA can carry them, and after."""
        gateway = self._gateways[UNTOUCHED]
        with gateway.capture(self._inner) as capture, gateway.ping(self._gateways[HUB]) as ping:
            await _echoes(ping, STEADY_PINGS)
            await asyncio.to_thread(gateway.daemon.stop)
            before = ping.counts().sent
            await _echoes(ping, before + STEADY_PINGS)
            await asyncio.to_thread(gateway.daemon.start)
            answered = await asyncio.to_thread(ping.wait_for_reply, STEP_LIMIT_SECONDS, time.time())
        clear = capture.clear_packets()
        held = not clear and capture.frames > 0 and not capture.dropped
        detail = f"{len(clear)} packets in clear of {ping.counts().sent}"
        self._report.check("nothing leaves in clear while a daemon is stopped", held, detail)
        self._report.check("the tunnel comes back by itself", answered is not None)

    async def _delete(self) -> None:
        # In this order, so that the edited tunnel does not first turn back into what it was.
        await self._api.delete("branches")
        await self._api.delete("spoke-1-crypto")

        async def gone() -> bool:
            return not await self._api.tunnels()

        await eventually(gone, "the tunnels are gone from the listing", STEP_LIMIT_SECONDS)
        for name, gateway in self._gateways.items():

            async def is_empty(gateway: Gateway = gateway) -> bool:
                return (await asyncio.to_thread(gateway.daemon.read)).is_empty

            await eventually(is_empty, f"the daemon of {name} holds nothing of it", STEP_LIMIT_SECONDS)
        self._report.check("tunnels and daemon configuration are gone", True)

    async def _clear_is_noticed(self) -> None:
        """The proof that the capture's check can fail: the same traffic without a tunnel."""
        gateway = self._gateways[EDITED]
        with gateway.capture(self._inner) as capture, gateway.ping(self._gateways[HUB]) as ping:
            await _echoes(ping, 10)
        judged = judge_capture(capture.flows(), capture.clear_packets(), capture.dropped, frozenset())
        noticed = not judged.held and bool(capture.clear_packets())
        self._report.check("without the tunnel the same check fails", noticed, judged.detail)


async def _echoes(ping: Ping, count: int) -> None:
    """Until so many requests have been sent (answered or not)."""

    async def sent() -> bool:
        return ping.counts().sent >= count

    await eventually(sent, f"{count} pings", STEP_LIMIT_SECONDS)


def _seen(tunnels: list[FleetTunnel], spoke: str) -> TunnelObservation | None:
    """The spoke's tunnel, where it is up and both ends hold the same pair of SPIs."""
    for tunnel in tunnels:
        if spoke not in tunnel.peers or tunnel.state is not TunnelState.UP or len(tunnel.ends) < 2:
            continue
        newest = {peer: _newest(status.link.children) for peer, status in tunnel.ends.items()}
        own, peer = newest.pop(spoke, None), next(iter(newest.values()))
        if own is not None and peer is not None and (own.spi_in, own.spi_out) == (peer.spi_out, peer.spi_in):
            return TunnelObservation(tunnel, own)
    return None


def _newest(sas: tuple[ChildSaStatus, ...]) -> ChildSaStatus | None:
    return max(sas, key=lambda sa: sa.established_at.timestamp() if sa.established_at else 0.0, default=None)


def _fact(seen: TunnelObservation) -> TunnelFact:
    tunnel, sa = seen.tunnel, seen.sa
    return TunnelFact(tunnel.name, tunnel.peers, tunnel.state.value, sa.spi_in, sa.spi_out, sa.cipher)


def timings(asked: float, stored_at: datetime, applied: list[PolicyApplied], first_reply: float) -> Timings:
    """Milliseconds; all clocks are this machine's."""
    commit = stored_at.timestamp()
    delivered = max((event.delivered_at or event.at).timestamp() for event in applied)
    done = max((event.applied_at or event.at).timestamp() for event in applied)
    moments = (commit - asked, delivered - commit, done - commit, first_reply - commit)
    return Timings(*(round(1000 * seconds, 1) for seconds in moments))
