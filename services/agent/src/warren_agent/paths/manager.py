"""Keeps each tunnel on a way that works: follows names, probes addresses, and decides between redundant gateways."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from warren_agent.drivers.addresses import Owns, host_owns
from warren_agent.paths.choice import HOLD_DOWN, Failure, PathChoice, Way
from warren_agent.paths.data_path import DataPathProbe, EchoAddresses
from warren_agent.paths.effective import effective, names_of, resolved_endpoints
from warren_agent.paths.memory import KnownPaths, PathMemory
from warren_agent.paths.names import Names, Resolve
from warren_agent.paths.prober import Prober
from warren_agent.paths.resolver import resolve
from warren_contracts.addresses import Endpoint
from warren_contracts.tunnel import Tunnel

log = structlog.get_logger("warren_agent")

TICK = 0.5  # s between two decisions, and between two probes of an address whose answer is missing
PROBE_EVERY = (
    2.0  # s between two probes of the address in use, of a preferred one, and of all while the one in use is in trouble
)
PROBE_OTHERS_EVERY = 10.0  # s between two probes of the others
PROBE_TIMEOUT = 1.0  # s; an answer from the other side of the earth takes 0.3 s


class PathManager:
    """The ways of one peer's tunnels. It decides only; `on_change` wakes the task that owns the tunnels, which applies it."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        prober: Prober | None = None,
        resolving: Resolve = resolve,
        owns: Owns = host_owns,
        hold_down: float = HOLD_DOWN,
        data_path: DataPathProbe | None = None,
        memory: PathMemory | None = None,
    ) -> None:
        """`data_path` sends echoes through the tunnels; without it packets that get lost change nothing. `memory` has what an earlier
        run used: the agent's start is not a reason to call a peer elsewhere."""
        self._changed: Callable[[], None] = lambda: None
        self._monotonic = monotonic
        self._prober = prober or Prober()
        self._memory = memory
        self._known = memory.load() if memory is not None else KnownPaths()
        self._names = Names(self._names_changed, resolving, self._known.addresses)
        self._owns = owns
        self._hold_down = hold_down
        self._data_path = data_path
        self._echo_addresses: EchoAddresses = {}
        self._desired: dict[str, Tunnel] = {}
        self._choices: dict[str, PathChoice] = {}  # by tunnel: those of one group share one
        self._probing: dict[Way, asyncio.Task[None]] = {}
        self._probed_at: dict[Way, float] = {}
        self._up: set[str] = set()  # converged tunnels
        self._to_stop: set[str] = set()
        self._own: set[Endpoint] = set()  # reported
        self._more = asyncio.Event()

    def on_change(self, changed: Callable[[], None]) -> None:
        """Set what is called when other addresses or tunnels are to be used."""
        self._changed = changed

    def desire(self, tunnels: Sequence[Tunnel], echo_addresses: EchoAddresses | None = None) -> None:
        """Take the tunnels of the newest intent, and the addresses of their peers that answer echoes."""
        self._echo_addresses = echo_addresses or {}
        self._desired = {tunnel.name: tunnel for tunnel in tunnels}
        self._names.follow({name for tunnel in tunnels for name in names_of(tunnel)})
        self._update_choices()
        self._remember()

    def tunnels(self) -> tuple[Tunnel, ...]:
        """The desired tunnels as the drivers get them: addresses in place of names, the one that is called first."""
        return tuple(self._effective(tunnel) for tunnel in self._desired.values())

    def is_held(self, tunnel: str) -> bool:
        """Whether a tunnel must not be started: another one of its group is in use."""
        choice = self._choices.get(tunnel)
        return choice is not None and choice.current.tunnel != tunnel

    def in_use_instead(self, tunnel: str) -> str:
        """The tunnel that is in use instead of a held one; empty if it is not held."""
        return self._choices[tunnel].current.tunnel if self.is_held(tunnel) else ""

    def failure_of_standby(self, tunnel: str) -> Failure | None:
        """Why a held tunnel could not take over; None if nothing is known against it."""
        return self._choices[tunnel].failure_of(tunnel) if self.is_held(tunnel) else None

    def loses_packets(self, tunnel: str) -> bool:
        """Whether echoes get lost in a tunnel that is in use, and no other way was found."""
        choice = self._choices.get(tunnel)
        return choice is not None and choice.current.tunnel == tunnel and choice.loses_packets

    def note_unreachable(self, tunnels: Iterable[str]) -> None:
        """The peers of these tunnels announce that their daemons do not answer: other ways are used at once."""
        now = self._monotonic()
        for name in tunnels:
            if (choice := self._choices.get(name)) is not None:
                choice.note_unreachable(name, now)
                self._decide(choice, now)

    def unresolved(self, tunnel: str) -> str:
        """Why no address of a tunnel's other end is known; empty if one is, or none is needed."""
        desired = self._desired.get(tunnel)
        if desired is None or self._remote(desired):
            return ""
        hosts = [it.host for it in desired.remote_endpoints if isinstance(it.host, str)]
        return next((failure for host in hosts if (failure := self._names.failure(host))), "")

    def take_stops(self) -> set[str]:
        """The tunnels whose SAs are to be closed now, each once."""
        stops, self._to_stop = self._to_stop, set()
        return stops

    def observed(self, tunnel: str, converged: bool) -> None:
        """A driver reported a tunnel."""
        self._up = self._up | {tunnel} if converged else self._up - {tunnel}
        choice = self._choices.get(tunnel)
        if choice is None:
            return
        before = choice.current.tunnel
        choice.observed(tunnel, converged, self._monotonic())
        if choice.current.tunnel != before:
            self._remember()
            self._changed()
        if held := choice.up - {choice.current.tunnel}:  # brought up by the peer, or by an earlier run
            self._to_stop |= held
            self._changed()

    def probe_soon(self) -> None:
        """Something happened that may concern any way: each is probed at the next decision."""
        self._probed_at.clear()

    async def run(self) -> None:
        """Probe and decide, as long as there is anything to decide."""
        try:
            while True:
                if not self._choices:
                    self._more.clear()
                    await self._more.wait()
                now = self._monotonic()
                for choice in {id(it): it for it in self._choices.values()}.values():
                    self._probe_due(choice, now)
                    if self._data_path is not None:
                        self._data_path.probe_due(choice, now)
                    self._decide(choice, now)
                await asyncio.sleep(TICK)
        finally:
            for task in self._probing.values():
                task.cancel()
            self._prober.close()
            if self._data_path is not None:
                self._data_path.close()
            self._names.close()

    def _decide(self, choice: PathChoice, now: float) -> None:
        before = choice.current
        if not choice.step(now):
            return
        log.warning(
            "path.changed", tunnel=choice.current.tunnel, address=str(choice.current.endpoint),
            previous_tunnel=before.tunnel, previous_address=str(before.endpoint),
        )  # fmt: skip
        if choice.current.tunnel != before.tunnel:
            self._to_stop.add(before.tunnel)
        self._remember()
        self._changed()

    def _probe_due(self, choice: PathChoice, now: float) -> None:
        watched = choice.ways if choice.is_in_trouble else choice.ways[: choice.ways.index(choice.current) + 1]
        for way in choice.ways:
            every = TICK if choice.is_doubtful(way) else PROBE_EVERY if way in watched else PROBE_OTHERS_EVERY
            if way not in self._probing and now - self._probed_at.get(way, float("-inf")) >= every:
                self._probed_at[way] = now
                self._probing[way] = asyncio.create_task(self._probe(choice, way), name=f"probe:{way.endpoint}")

    async def _probe(self, choice: PathChoice, way: Way) -> None:
        sent = self._monotonic()
        try:
            answered = await self._prober.probe(way.endpoint, PROBE_TIMEOUT)
        finally:
            self._probing.pop(way, None)
        choice.probed(way, answered, self._monotonic() if answered else sent)

    # ways

    def _update_choices(self) -> None:
        now, found = self._monotonic(), dict[str, PathChoice]()
        for group in self._groups():
            ways = tuple(Way(tunnel.name, endpoint) for tunnel in group for endpoint in self._remote(tunnel))
            if len(ways) < 2:
                continue
            choice = next((self._choices[it.name] for it in group if it.name in self._choices), None)
            if choice is None:
                in_use = (way for way in ways if (way.tunnel, str(way.endpoint)) in self._known.ways)
                choice = PathChoice.start(ways, now, self._hold_down, next(in_use, None))
                for tunnel in group:  # of a running one that has got a rival
                    if tunnel.name in self._up:
                        choice.observed(tunnel.name, True, now)
                self._to_stop |= choice.up - {choice.current.tunnel}
            elif choice.ways != ways:
                choice.replace_ways(ways, now)
            found |= dict.fromkeys((tunnel.name for tunnel in group), choice)
        self._choices = found
        known = {way for choice in found.values() for way in choice.ways}
        self._probed_at = {way: at for way, at in self._probed_at.items() if way in known}
        if self._data_path is not None:
            self._data_path.desire([self._desired[name] for name in found], self._echo_addresses)
        if found:
            self._more.set()

    def _groups(self) -> list[list[Tunnel]]:
        """Tunnels of which one is in use, the preferred one first; only those that this end starts."""
        started = {name: it for name, it in self._desired.items() if it.initiator and it.auto_start}
        groups: dict[str, list[Tunnel]] = {}
        for tunnel in sorted(started.values(), key=lambda it: len(it.standby_of)):
            first = next((name for name in tunnel.standby_of if name in groups), None)
            groups.setdefault(tunnel.name, groups[first] if first else []).append(tunnel)
        return list({id(group): group for group in groups.values()}.values())

    def _remote(self, tunnel: Tunnel) -> tuple[Endpoint, ...]:
        found = resolved_endpoints(tunnel.remote_endpoints, self._names.addresses)
        if len(found) < 2:
            return found
        own = {it for it in found if not isinstance(it.host, str) and self._owns(it.host) and _is_certain(it)}
        for endpoint in own - self._own:
            log.error("endpoint.own_address", tunnel=tunnel.name, address=str(endpoint))
        self._own |= own
        return tuple(it for it in found if it not in own)

    def _effective(self, tunnel: Tunnel) -> Tunnel:
        choice = self._choices.get(tunnel.name)
        ways = [way for way in choice.ways if way.tunnel == tunnel.name] if choice else []
        chosen = None
        if choice is not None and ways:
            chosen = choice.current.endpoint if choice.current in ways else ways[0].endpoint
        return effective(tunnel, self._remote(tunnel), chosen, self._names.addresses, self._owns)

    def _names_changed(self) -> None:
        self._update_choices()
        self._remember()
        self._changed()

    def _remember(self) -> None:
        """Save what is in use, for the agent's next start."""
        if self._memory is None:
            return
        ways = frozenset((it.current.tunnel, str(it.current.endpoint)) for it in self._choices.values())
        self._memory.save(KnownPaths(self._names.known(), ways))


def _is_certain(endpoint: Endpoint) -> bool:
    """Whether binding to an address says that it is ours: a loopback network is everybody's."""
    return not isinstance(endpoint.host, str) and not endpoint.host.is_loopback
