"""What the data plane counts, apart from the usage of each SA."""

from collections import Counter
from dataclasses import dataclass, field

from warren_ikev2.esp.drops import DropReason


@dataclass(slots=True)
class Counters:
    """Totals since the start of the process."""

    packets_out: int = 0
    """ESP packets sent."""
    packets_in: int = 0
    """ESP packets that were authentic and passed all checks."""
    sends: int = 0
    """System calls that sent ESP; each takes up to 64 packets."""
    trains_sealed: int = 0
    """Trains that were segmented and sealed at once."""
    trains_opened: int = 0
    """Trains that were opened at once."""
    trains_one_at_a_time: int = 0
    """Received trains whose packets had to be opened one at a time."""
    merged: int = 0
    """Inner packets written to the TUN device as part of a larger one."""
    path_mtu_changes: int = 0
    """Sends that the kernel refused because the path MTU fell."""
    send_errors: int = 0
    """Sends that the kernel refused: no route, no such address, no buffer."""
    tun_errors: int = 0
    """Packets that the TUN device refused."""
    too_big_answers: int = 0
    """ICMP errors sent into the TUN device (RFC 1191, RFC 4443)."""
    keepalives: int = 0
    junk: int = 0
    """Datagrams that are neither IKE nor ESP nor a keepalive."""
    ike_lost: int = 0
    """IKE messages that the IKE process did not take in time."""
    drops: Counter[DropReason] = field(default_factory=Counter)
