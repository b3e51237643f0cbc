"""Messages of the kernel about changes of nftables (NETLINK_NETFILTER, group NFNLGRP_NFTABLES). Pure.

Layout: linux/netlink.h (nlmsghdr, nlattr), linux/netfilter/nfnetlink.h (nfgenmsg), linux/netfilter/nf_tables.h. In every message
that concerns us the attribute 1 is the name of a table; a transaction ends with NFT_MSG_NEWGEN.
"""

import struct
from collections.abc import Iterator

from warren_guard.domain.ruleset import TABLE

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_NFGENMSG_BYTES = 4
_SUBSYSTEM_NFTABLES = 10
_NEWTABLE, _DELTABLE, _NEWGEN = 0, 2, 15
_TABLE_NAME = 1
_INET = 1  # NFPROTO_INET


class TableWatch:
    """Follows our table through the kernel's messages."""

    def __init__(self) -> None:
        self._is_gone = False
        self._is_touched = False
        self._others = False

    def take_others(self) -> bool:
        """Whether there was a transaction since the last call that left our table alone, or removed it: another program's."""
        others, self._others = self._others, False
        return others

    def feed(self, datagram: bytes) -> bool | None:
        """Read one datagram. At the end of a transaction that changed our table: whether it exists now; else None."""
        outcome: bool | None = None
        for kind, family, body in _messages(datagram):
            if kind == _NEWGEN:
                if self._is_touched:
                    outcome = not self._is_gone
                self._others |= self._is_gone or not self._is_touched
                self._is_touched = False
            elif family == _INET and _table_name(body) == TABLE:
                self._is_touched = True
                if kind in (_NEWTABLE, _DELTABLE):
                    self._is_gone = kind == _DELTABLE
        return outcome


def _messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, family and attributes of each message of nftables; malformed rests are ignored."""
    offset = 0
    while offset + _HEADER.size + _NFGENMSG_BYTES <= len(datagram):
        length, kind, _, _, _ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size + _NFGENMSG_BYTES or offset + length > len(datagram):
            return
        if kind >> 8 == _SUBSYSTEM_NFTABLES:
            start = offset + _HEADER.size
            yield kind & 0xFF, datagram[start], datagram[start + _NFGENMSG_BYTES : offset + length]
        offset += (length + 3) & ~3


def _table_name(attributes: bytes) -> str:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, offset)
        if length < _ATTRIBUTE.size:
            break
        if kind == _TABLE_NAME:
            return attributes[offset + _ATTRIBUTE.size : offset + length].rstrip(b"\0").decode("ascii", "replace")
        offset += (length + 3) & ~3
    return ""
