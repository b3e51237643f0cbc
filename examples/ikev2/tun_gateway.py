"""Joins this machine to a gateway's network: a virtual address, a TUN device, a route. Linux, as root.

Packets are carried by a data process of their own; `pip install 'warren-ikev2[dataplane]'` makes it several times faster.

IKE_SECRET=… python examples/ikev2/tun_gateway.py vpn.example.com --remote-id vpn.example.com --network 10.2.0.0/16
"""

import argparse
import asyncio
import os

from warren_ikev2.aio import Client, OffloadTun
from warren_ikev2.dataplane.tun import ip_arguments, link_settings
from warren_ikev2.errors import IkeError


async def main(options: argparse.Namespace) -> None:
    """Connect, and stay until the session ends."""
    builder = Client.builder().with_local_id(options.local_id).with_remote_id(options.remote_id)
    builder.with_psk(os.environb[b"IKE_SECRET"]).with_virtual_address(4).with_networks(remote=[options.network])
    with OffloadTun() as tun:
        async with builder.with_data_plane(tun).build() as client:
            session = await client.connect(options.host)
            (address,) = session.info.network.addresses
            for command in (
                ["ip", "address", "add", f"{address}/32", "dev", tun.name],
                ["ip", "link", "set", tun.name, "up", *ip_arguments(link_settings(session.mtu))],
                ["ip", "route", "add", options.network, "dev", tun.name, "src", str(address)],
            ):
                process = await asyncio.create_subprocess_exec(*command)
                if await process.wait():
                    raise SystemExit(f"{' '.join(command)} failed")
            print(f"{options.network} by {tun.name} from {address}", flush=True)
            print(await session.wait_closed())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host")
    parser.add_argument("--local-id", default="client@example.com")
    parser.add_argument("--remote-id", required=True)
    parser.add_argument("--network", required=True)
    try:
        asyncio.run(main(parser.parse_args()))
    except IkeError as error:
        raise SystemExit(f"{error.error_code}: {error}") from None
