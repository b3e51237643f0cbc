"""Many IKE_SAs behind one or more UDP ports: routing by SPI.

The implementation of `engine.Engine`. A datagram goes to the IKE_SA whose SPI it names; the others go to `admission`. The state
is in `endpoint_state`, the timers in `deadlines`; commands are in `endpoint_commands`, reports of the data plane in `endpoint_reports`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from warren_ikev2.addresses import Datagram, Path
from warren_ikev2.admission import Admission
from warren_ikev2.configuration import ConnectionConfiguration, EndpointConfiguration
from warren_ikev2.constants import NON_ESP_MARKER
from warren_ikev2.deadlines import Deadlines
from warren_ikev2.dispatch import receive
from warren_ikev2.endpoint_commands import EndpointCommands
from warren_ikev2.endpoint_reports import EndpointReports
from warren_ikev2.endpoint_state import EndpointState
from warren_ikev2.errors import IkeError, UnsupportedCriticalPayloadError
from warren_ikev2.events import DatagramDropped, Event, State
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.wire.header import parse_header
from warren_ikev2.wire.message import parse_message


class Endpoint:
    """See the module; `engine.Engine` documents the calls.

    `random_bytes` makes nonces, SPIs, IVs and cookies. `utc_now` is the wall clock, aware, for the validity of certificates.
    """

    def __init__(
        self, configuration: EndpointConfiguration, random_bytes: RandomBytes, utc_now: Callable[[], datetime]
    ) -> None:
        self.state = EndpointState(configuration, random_bytes, utc_now)
        self._admission = Admission(self.state)
        self._deadlines = Deadlines(self.state)
        self.commands = EndpointCommands(self.state, self._deadlines)
        self.reports = EndpointReports(self.state, self._deadlines)

    @property
    def size(self) -> int:
        """The number of IKE_SAs, half-open and lingering ones included."""
        return self.state.size

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None:
        """See Engine."""
        if path.local.port == self.state.configuration.ike_port:
            self._receive(data, path, now)
        elif data.startswith(NON_ESP_MARKER):
            self._receive(data[len(NON_ESP_MARKER) :], path, now)
        elif len(data) > 1:  # a NAT keepalive has one byte (RFC 3948, 2.3)
            self.state.emit(DatagramDropped(path, "esp"))
        self._deadlines.update()

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        """See Engine."""
        out, self.state.datagrams = self.state.datagrams, []
        return out

    def get_timer(self) -> float | None:
        """See Engine."""
        return self._deadlines.next()

    def handle_timer(self, now: float) -> None:
        """See Engine."""
        self._deadlines.handle(now)

    def next_event(self) -> Event | None:
        """See Engine."""
        return self.state.events.popleft() if self.state.events else None

    def set_connections(self, connections: Sequence[ConnectionConfiguration]) -> None:
        """See Engine."""
        self.state.configuration = replace(self.state.configuration, connections=tuple(connections))

    def _receive(self, data: bytes, path: Path, now: float) -> None:
        state = self.state
        try:
            header = parse_header(data)
            sa = state.ike_sas.get(header.spi_r if header.from_initiator else header.spi_i)
            if sa is None or (sa.spi_i != header.spi_i):
                self._admission.handle(data, header, path, now)
                return
            message = parse_message(data)
        except UnsupportedCriticalPayloadError:
            state.emit(DatagramDropped(path, "critical"))
        except IkeError:
            state.emit(DatagramDropped(path, "malformed"))
        else:
            if sa.state != State.INIT_SENT and sa.spi_r != header.spi_r:
                state.emit(DatagramDropped(path, "unknown-spi"))
                return
            receive(sa, message, data, path, now)
            state.touch(sa)
