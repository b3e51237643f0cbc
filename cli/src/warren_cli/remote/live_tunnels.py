"""The tunnels of the fleet as they change: a copy by the API, kept current by its events.

`LiveTunnels` is the copy. `ChangeWatch` reads the event stream in a thread and wakes who shows the copy; after a loss of the API
server the copy is read again as a whole, and `since_s` says how old it is meanwhile.
"""

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from warren_cli.errors import CliError
from warren_cli.remote.client import ApiClient, RefusedError, path_of
from warren_cli.remote.events import follow_events
from warren_contracts.commands import PeerList, TunnelList
from warren_contracts.status import FleetTunnel
from warren_contracts.tunnel_query import TunnelQuery

REFRESH_S = 30.0  # between two readings of everything: silence of a peer is not an event of its tunnels
MANY = 50  # changed tunnels at once from which on everything is read
NOT_FOUND = 404
KINDS = ("tunnel", "presence", "revoked", "retagged", "reporting")


class LiveTunnels:
    """The tunnels that a query matches."""

    def __init__(
        self, api: ApiClient, query: TunnelQuery, *, peer: str | None = None, state: str | None = None
    ) -> None:
        self._api = api
        self._asked = query
        self._only = {"peer": peer, "state": state}
        self._found: dict[str, FleetTunnel] = {}
        self._tags: dict[str, tuple[str, ...]] = {}
        self._read_at = float("-inf")
        self._received_at = float("-inf")
        self._is_due = True

    @property
    def query(self) -> TunnelQuery:
        """What is asked for; setting it reads everything at the next update."""
        return self._asked

    @query.setter
    def query(self, query: TunnelQuery) -> None:
        self._asked, self._is_due = query, True

    @property
    def since_s(self) -> float:
        """Seconds since everything was read."""
        return time.monotonic() - self._read_at

    @property
    def silent_s(self) -> float:
        """Seconds since the API server last answered: to read a large fleet takes longer."""
        return time.monotonic() - self._received_at

    def matching(self, now: datetime | None = None) -> list[FleetTunnel]:
        """The tunnels, in any order."""
        at = now or datetime.now(UTC)
        return [tunnel for tunnel in self._found.values() if self._asked.matches(tunnel, self._tags, at)]

    def refresh(self) -> None:
        """Read everything. Raises CliError."""
        if "tag" in self._asked.fields:
            peers = self._api.pages(path_of("peers"), PeerList, "peers")
            self._tags = {peer.peer: tuple(peer.tags) for peer in peers}
        tunnels = self._api.pages(path_of("tunnels"), TunnelList, "tunnels", **self._only)
        found = {}
        for tunnel in tunnels:
            found[tunnel.name] = tunnel
            self._received_at = time.monotonic()
        self._found = found
        self._read_at = self._received_at = time.monotonic()
        self._is_due = False

    def update(self, changed: Iterable[str] | None) -> None:
        """Read these tunnels again; None, many, or an old copy: everything. Raises CliError."""
        names = set() if changed is None else set(changed)
        is_old = self._is_due or self.since_s >= REFRESH_S
        if changed is None or len(names) > MANY or is_old or any(self._only.values()):
            self.refresh()
            return
        found = dict(self._found)  # another thread may be showing the former one
        for name in names:
            try:
                found[name] = self._api.call("GET", path_of("tunnels", name), FleetTunnel)
            except RefusedError as error:
                if error.status != NOT_FOUND:
                    raise
                found.pop(name, None)
        self._found = found


class ChangeWatch:
    """Names of tunnels that changed, from the event stream. `connect` opens a client of its own for the thread."""

    def __init__(self, connect: Callable[[], ApiClient]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._names: set[str] | None = set()
        self._woken = threading.Event()
        self._error: CliError | None = None
        self._paused = threading.Event()  # never set

    def start(self) -> None:
        """Begin; the thread ends with the process."""
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def wait(self, timeout_s: float) -> set[str] | None:
        """Wait for a change; returns the names since the last call, None for an unknown number. Raises CliError."""
        self._woken.wait(timeout_s)
        with self._lock:
            self._woken.clear()
            if self._error is not None:
                raise self._error
            names, self._names = self._names, set()
        return names

    def wake(self) -> None:
        """End a `wait`."""
        self._woken.set()

    def pause(self, seconds: float) -> None:
        """Wait, whatever happens: changes that come together are shown together."""
        self._paused.wait(seconds)

    def _run(self) -> None:
        try:
            with self._connect() as api:
                for body in follow_events(api, None, list(KINDS)):
                    data = body.get("data")
                    name = data.get("tunnel") if isinstance(data, dict) else None
                    self._changed(name if isinstance(name, str) else None)
        except CliError as error:
            with self._lock:
                self._error = error
            self._woken.set()

    def _changed(self, name: str | None) -> None:
        with self._lock:
            if name is None:
                self._names = None
            elif self._names is not None:
                self._names.add(name)
        self._woken.set()
