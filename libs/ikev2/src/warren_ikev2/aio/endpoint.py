"""Puts an engine and its sockets together."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address

from warren_ikev2.addresses import IPAddress
from warren_ikev2.aio.driver import Driver
from warren_ikev2.aio.udp import UdpPort
from warren_ikev2.configuration import EndpointConfiguration
from warren_ikev2.endpoint import Endpoint


def open_driver(configuration: EndpointConfiguration, host: str | IPAddress, path_mtu: int) -> tuple[Driver, Endpoint]:
    """Bind the configuration's two ports on `host` and start an engine on them.

    Port 0 takes any free port; the engine is told which. Raises `OSError` if an address or port cannot be had.
    """
    address = ip_address(str(host))
    ike = UdpPort(address, configuration.ike_port)
    try:
        natt = UdpPort(address, configuration.natt_port)
    except OSError:
        ike.close()
        raise
    bound = replace(configuration, ike_port=ike.address.port, natt_port=natt.address.port)
    engine = Endpoint(bound, os.urandom, lambda: datetime.now(UTC))
    return Driver(engine, (ike, natt), ike.address.port, path_mtu), engine
