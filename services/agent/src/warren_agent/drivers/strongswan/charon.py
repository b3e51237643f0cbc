"""The commands that the driver gives to charon, each as one typed call. No state of its own but the connection."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from warren_agent.drivers.strongswan.capabilities import CharonAbilities, parse_abilities
from warren_agent.drivers.strongswan.connections import HandleName, build_private_key, is_marked, parse_handle
from warren_agent.drivers.strongswan.convergence import Termination
from warren_agent.drivers.strongswan.daemon_run import COARSE_S, HostClocks, parse_run
from warren_agent.drivers.strongswan.errors import KeyRefusedError, ViciCommandError, ViciTimeoutError
from warren_agent.drivers.strongswan.plugins import missing_for_key
from warren_agent.drivers.strongswan.sas import GOING, IkeSa, parse_ike_sas
from warren_agent.drivers.strongswan.vici_client import ViciClient
from warren_agent.drivers.strongswan.vici_codec import (
    Message,
    Section,
    parse_message,
    subsection,
    subsections,
    text,
    texts,
)
from warren_agent.errors import ConfigRefusedError
from warren_agent.host_identity import boot_id

# Returns at once: a waiting command holds one of charon's threads, and eight of them stop it altogether (issue 2776).
AT_ONCE = "-1"
_READINGS = 12  # of the clocks next to `stats`; on a busy machine one may take half a second, in which a second begins
_GONE = ("not found", "no matching SAs to terminate found")


class ListedConnections(Mapping[str, Section]):
    """The connections of list-conn events by name, parsed whenever one is looked at: parsed they take ten times the memory."""

    def __init__(self, events: Iterable[bytes]) -> None:
        self._events = {name: event for event in events for name in subsections(parse_message(event))}

    def __getitem__(self, name: str) -> Section:
        return subsection(parse_message(self._events[name]), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)


class CharonClient:
    """One charon. Every method raises DriverUnavailableError while it is unavailable."""

    def __init__(
        self,
        vici: Path,
        on_timeout: Callable[[ViciTimeoutError], None] = lambda error: None,
        owns: Callable[[HandleName], bool] = lambda handle: True,
    ) -> None:
        """`on_timeout` is called with each command that was not answered in time; `owns` says which IKE_SAs are ours."""
        self.path = vici
        self._client = ViciClient(vici, on_timeout)
        self._owns = owns

    async def abilities(self) -> CharonAbilities:
        """Its version, plugins, algorithms and run."""
        request = self._client.request
        stats, run = await self._stats()
        return parse_abilities(await request("version"), stats, await request("get-algorithms"), run)

    async def _stats(self) -> tuple[Section, str]:
        """The answer of `stats`, and the run; empty if charon answers so late that it is not known."""
        boot = boot_id()
        for _ in range(_READINGS):
            before = _read_clocks()
            stats = await self._client.request("stats")
            run = parse_run(text(subsection(stats, "uptime"), "since"), before, _read_clocks(), boot)
            if run is not None:
                return stats, run
            await asyncio.sleep(COARSE_S)
        return stats, ""

    async def load_key(self, seed: bytes, abilities: CharonAbilities) -> str:
        """Give it our raw Ed25519 private key; the same key twice is one key. Returns its id, as `get-keys` lists it.

        Raises:
            KeyRefusedError: charon refuses it; the error names the plugins that it lacks.
        """
        try:
            answer = await self._client.request("load-key", {"type": "any", "data": build_private_key(seed)})
        except ViciCommandError as error:
            raise KeyRefusedError(error.errmsg, missing_for_key(abilities.plugins)) from error
        return text(answer, "id")

    async def connection_names(self) -> set[str]:
        """All connections that were loaded by VICI, also by others."""
        return set(texts(await self._client.request("get-conns"), "conns"))

    async def connections(self) -> set[HandleName]:
        """The connections in it that an agent loaded: those with the marker."""
        listed = await self.list_connections()
        return {handle for name, it in listed.items() if is_marked(it) and (handle := parse_handle(name))}

    async def keys(self) -> frozenset[str]:
        """The ids of the private keys that it holds."""
        return frozenset(texts(await self._client.request("get-keys"), "keys"))

    async def pools(self) -> frozenset[str]:
        """The names of its pools of virtual addresses."""
        return frozenset(subsections(await self._client.request("get-pools")))

    async def list_connections(self) -> dict[str, Section]:
        """What list-conns says of every connection, by its name: addresses, authentication, children with selectors."""
        return dict(ListedConnections(await self.connection_events()))

    async def connection_events(self) -> list[bytes]:
        """As `list_connections`, not parsed: equal answers mean equal connections."""
        return await self._client.collect("list-conns", "list-conn")

    async def load_pool(self, name: str, pool: Message) -> None:
        """Make or replace a pool of virtual addresses."""
        await self._request_config("load-pool", {name: pool})

    async def unload_pool(self, name: str) -> None:
        """Take a pool away; one with addresses lent out stays until charon ends."""
        try:
            await self._client.request("unload-pool", {"name": name})
        except ViciCommandError as error:
            if "not found" not in error.errmsg and "in use" not in error.errmsg and "online leases" not in error.errmsg:
                raise

    async def load_connection(self, message: Message) -> None:
        """Make or replace a connection; its SAs are not touched. ConfigRefusedError with charon's words."""
        await self._request_config("load-conn", message)

    async def unload_connection(self, handle: HandleName | str) -> None:
        """Take a connection away; its SAs are not touched. A missing one is fine."""
        try:
            await self._client.request("unload-conn", {"name": str(handle)})
        except ViciCommandError as error:
            if "not found" not in error.errmsg:
                raise

    async def initiate(self, connection: HandleName, child: HandleName) -> None:
        """Begin a negotiation and return."""
        await self._client.request("initiate", {"ike": str(connection), "child": str(child), "timeout": AT_ONCE})

    async def rekey(self, kind: str, unique_id: int) -> None:
        """Begin to rekey one IKE_SA ("ike") or CHILD_SA ("child"), and return; one that is gone meanwhile is fine."""
        try:
            await self._client.request("rekey", {f"{kind}-id": str(unique_id)})
        except ViciCommandError as error:
            if "no matching" not in error.errmsg and "not found" not in error.errmsg:
                raise

    async def terminate(self, target: Termination, force: bool = False) -> None:
        """Close one SA and return; one that is gone already is fine. `force` does not wait for the peer."""
        message = {f"{target.kind}-id": str(target.unique_id), "timeout": AT_ONCE, "force": "yes" if force else "no"}
        try:
            await self._client.request("terminate", message)
        except ViciCommandError as error:
            # Found and then gone: both ends closed it at once, and the peer's goodbye came in between.
            if not any(words in error.errmsg for words in _GONE) and await self._holds(target):
                raise

    async def _holds(self, target: Termination) -> bool:
        """Whether an SA is still there, and is not on its way out."""
        sas = [sa for sa in await self.sas() if sa.state not in GOING]
        there = sas if target.kind == "ike" else [child for sa in sas for child in sa.children if child.carries]
        return target.unique_id in {sa.unique_id for sa in there}

    async def sas(
        self, connection: HandleName | None = None, noblock: bool = False, foreign: bool = False
    ) -> list[IkeSa]:
        """The IKE_SAs of one connection, or all of ours. `noblock` leaves out those that are busy at the moment.

        `foreign` adds those whose names only look like ours.
        """
        message: dict[str, str] = {"noblock": "yes"} if noblock else {}
        if connection is not None:
            message["ike"] = str(connection)
        events = await self._client.collect("list-sas", "list-sa", message)
        return [
            sa
            for event in events  # parsed one by one: all of them together take ten times the memory
            for sa in parse_ike_sas(parse_message(event))
            if sa.handle and (foreign or self._owns(sa.handle))
        ]

    async def spis(self) -> frozenset[str]:
        """The SPIs of all CHILD_SAs in it, also of foreign ones."""
        events = await self._client.stream("list-sas", "list-sa", {})
        children = (child for event in events for sa in parse_ike_sas(event) for child in sa.children)
        return frozenset(spi for child in children for spi in (child.spi_in, child.spi_out))

    async def sas_named(self, connection: str) -> list[IkeSa]:
        """The IKE_SAs of any connection, also of one that is not ours."""
        events = await self._client.stream("list-sas", "list-sa", {"ike": connection})
        return [sa for event in events for sa in parse_ike_sas(event)]

    async def close(self) -> None:
        """Close the connection to it."""
        await self._client.close()

    async def _request_config(self, command: str, message: Message) -> None:
        try:
            await self._client.request(command, message)
        except ViciCommandError as error:
            name = next(iter(message))
            remedy = "; load the plugin pubkey" if "pubkeys" in error.errmsg else ""
            raise ConfigRefusedError(f"{name}: charon says: {error.errmsg}{remedy}") from error


def _read_clocks() -> HostClocks:
    return HostClocks(time.time(), time.monotonic())
