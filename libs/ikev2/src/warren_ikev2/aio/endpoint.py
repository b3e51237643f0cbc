"""Creates an engine with its sockets."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address

from warren_ikev2.addresses import IPAddress
from warren_ikev2.aio.driver import EngineDriver
from warren_ikev2.aio.offload import DataPlaneOptions, OffloadDriver
from warren_ikev2.aio.udp import UdpPort
from warren_ikev2.configuration import EndpointConfiguration
from warren_ikev2.endpoint import Endpoint


def open_driver(
    configuration: EndpointConfiguration,
    host: str | IPAddress,
    path_mtu: int,
    *more: IPAddress,
    data_plane: DataPlaneOptions | None = None,
) -> tuple[EngineDriver, Endpoint]:
    """Bind the configuration's two ports on `host`, the same ones on `more`, and start an engine on them.

    With `data_plane`, ESP runs in a process of its own.

    Port 0 takes any free port, which the engine then uses. Raises `OSError` if an address or port is unavailable.
    """
    ports: list[UdpPort] = []
    try:
        numbers = (configuration.ike_port, configuration.natt_port)
        for address in (ip_address(str(host)), *more):
            for number in numbers:
                ports.append(UdpPort(address, number))
            numbers = (ports[0].address.port, ports[1].address.port)
    except OSError:
        for port in ports:
            port.close()
        raise
    bound = replace(configuration, ike_port=numbers[0], natt_port=numbers[1])
    engine = Endpoint(bound, os.urandom, lambda: datetime.now(UTC))
    if data_plane is None:
        return EngineDriver(engine, tuple(ports), numbers[0], path_mtu), engine
    return OffloadDriver(engine, tuple(ports), numbers[0], path_mtu, data_plane), engine
