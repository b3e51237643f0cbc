"""The memory budget of one peer: the size of a status is estimated before it is stored.

MAX_WEIGHT is the size of 10,000 tunnels with three SAs each, ten times the gateway that the agent is measured with. Without it 120
messages (4,800 tunnels of 64 SAs) took 470 MB.
"""

from sys import getsizeof

from warren_contracts.status import ChildSaStatus, TunnelStatus

MAX_WEIGHT = 48 << 20  # bytes of one peer

# Bytes, as measured (tracemalloc, CPython 3.11), doubled for memory that the allocator does not release.
TUNNEL = 2_000  # with its entries in the fleet
SA = 1_600
SELECTOR = 500  # one network, with a protocol and ports
ADDRESS = 200


def stored_weight(encoded: bytes) -> int:
    """The approximate memory of a tunnel that is stored as this JSON, in bytes."""
    return TUNNEL + 2 * len(encoded)


def weight(status: TunnelStatus) -> int:
    """The approximate memory of a status as an object, in bytes."""
    link = status.link
    texts = (link.ike_cipher, link.local_address, link.remote_address, status.detail, status.skipped)
    addresses = ADDRESS * (len(link.local_vips) + len(link.remote_vips))
    return TUNNEL + addresses + sum(map(getsizeof, texts)) + sum(map(_weight, link.children))


def _weight(sa: ChildSaStatus) -> int:
    return (
        SA
        + SELECTOR * (len(sa.local_ts) + len(sa.remote_ts))
        + sum(map(getsizeof, (sa.child, sa.cipher, sa.key_exchange)))
    )
