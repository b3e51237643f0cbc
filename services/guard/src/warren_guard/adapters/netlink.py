"""Netlink sockets that report changes of the host's network: of nftables, addresses, links, routes, rules of routing, switches."""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

from warren_guard.domain.leftovers import ROUTING_TABLE

_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12
_NFNLGRP_NFTABLES = 7
# linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
_ROUTE_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
# RTNLGRP_IPV4_RULE and RTNLGRP_IPV6_RULE; RTNLGRP_IPV4_NETCONF and RTNLGRP_IPV6_NETCONF (forwarding, rp_filter)
_RULE_GROUPS = 1 << 7 | 1 << 18
_SWITCH_GROUPS = 1 << 23 | 1 << 24
_SWITCH_MESSAGES = range(80, 83)  # RTM_NEWNETCONF to RTM_GETNETCONF
_ADDRESS_MESSAGES = range(16, 22)  # RTM_NEWLINK to RTM_DELADDR
_DELROUTE = 25  # RTM_DELROUTE
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 4 << 20
_DATAGRAM_BYTES = 65_536
_HEADER = struct.Struct("=IHHII")
_ROUTE_TABLE = _HEADER.size + 4  # rtm_table of struct rtmsg
_GETGEN, _NEWGEN = 10 << 8 | 16, 10 << 8 | 15  # NFNL_SUBSYS_NFTABLES
_GEN_ID = 1  # NFTA_GEN_ID
_REQUEST = 1  # NLM_F_REQUEST
_GENERATION = struct.Struct("=HH4s")  # its attribute: length, type, number
_ANSWER_LIMIT_S = 5.0


class NetlinkListener:
    """One socket, listening since it was made."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket = listener

    async def receive(self) -> bytes | None:
        """The next datagram; None when the kernel dropped some, so that anything may have changed."""
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, _DATAGRAM_BYTES)
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # netlink(7): the queue overflowed and messages were lost
                raise
            return None


def nftables() -> contextlib.AbstractContextManager[NetlinkListener]:
    """Changes of nftables."""
    return _listening(_NETLINK_NETFILTER, 1 << (_NFNLGRP_NFTABLES - 1))


def network() -> contextlib.AbstractContextManager[NetlinkListener]:
    """Changes of links, addresses, routes and switches; `kinds_of` names them."""
    return _listening(_NETLINK_ROUTE, _ROUTE_GROUPS | _SWITCH_GROUPS)


def rules() -> contextlib.AbstractContextManager[NetlinkListener]:
    """Changes of the rules of routing."""
    return _listening(_NETLINK_ROUTE, _RULE_GROUPS)


def kinds_of(datagram: bytes | None) -> frozenset[str]:
    """What a datagram of `network` is about: `addresses` (and links), `routes`, `switches`, or `tunnel-routes`, which are routes
    of table 220 that were removed. That charon adds some there concerns nobody."""
    if datagram is None:
        return frozenset({"addresses", "routes", "switches", "tunnel-routes"})
    if len(datagram) < _HEADER.size:
        return frozenset()
    kind = _HEADER.unpack_from(datagram)[1]
    if kind in _ADDRESS_MESSAGES or kind in _SWITCH_MESSAGES:
        return frozenset({"addresses" if kind in _ADDRESS_MESSAGES else "switches"})
    of_tunnels = len(datagram) > _ROUTE_TABLE and datagram[_ROUTE_TABLE] == ROUTING_TABLE
    if of_tunnels:
        return frozenset({"tunnel-routes"} if kind == _DELROUTE else ())
    return frozenset({"routes"})


def nftables_generation() -> int:
    """The number of the last transaction of nftables in this network namespace (NFT_MSG_GETGEN).

    Raises:
        OSError: the kernel does not answer.
    """
    request = _HEADER.pack(_HEADER.size + 4, _GETGEN, _REQUEST, 1, 0) + bytes(4)  # nfgenmsg: any family
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as asking:
        asking.settimeout(_ANSWER_LIMIT_S)
        asking.sendto(request, (0, 0))
        answer = asking.recv(_DATAGRAM_BYTES)
    start = _HEADER.size + 4
    if len(answer) < start + _GENERATION.size or _HEADER.unpack_from(answer)[1] != _NEWGEN:
        raise OSError(errno.EBADMSG, "no generation of nftables")
    _, kind, generation = _GENERATION.unpack_from(answer, start)
    if kind != _GEN_ID:
        raise OSError(errno.EBADMSG, "no generation of nftables")
    return int.from_bytes(generation, "big")


@contextlib.contextmanager
def _listening(protocol: int, groups: int) -> Iterator[NetlinkListener]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol) as listener:
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        listener.bind((0, groups))
        yield NetlinkListener(listener)
