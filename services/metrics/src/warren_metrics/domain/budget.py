"""The memory budget of one peer: the size of a status is estimated before it is stored.

A tunnel of two SAs takes some 7 kB. MAX_WEIGHT is the size of 5,000 such tunnels, or 10,000 with one SA each: five to ten
times the gateway that the agent is measured with. Without it 120 messages (4,800 tunnels of 64 SAs) took 470 MB.
"""

from sys import getsizeof

from warren_contracts.status import ChildSaStatus, TunnelStatus

MAX_WEIGHT = 48 << 20  # bytes of one peer

# Bytes, as measured (tracemalloc, CPython 3.11), doubled for memory that the allocator does not release.
TUNNEL = 2_000  # with its entries in the fleet
SA = 1_600
SELECTOR = 400  # one network


def weight(status: TunnelStatus) -> int:
    """The approximate memory of a status, in bytes."""
    texts = (status.ike_cipher, status.local_address, status.remote_address, status.detail, status.skipped)
    return TUNNEL + sum(map(getsizeof, texts)) + sum(map(_weight, status.sas))


def _weight(sa: ChildSaStatus) -> int:
    return SA + SELECTOR * (len(sa.local_ts) + len(sa.remote_ts)) + getsizeof(sa.cipher) + getsizeof(sa.key_exchange)
