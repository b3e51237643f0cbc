"""What `ip xfrm` and `ip -json route` print, as values (ip-xfrm(8) has no JSON). Pure.

States come without keys (`nokeys`). Policies of single sockets (charon's own, for IKE) have no direction line and are left out.
"""

import json
import re
from collections.abc import Iterator
from ipaddress import ip_network

from warren_guard.domain.leftovers import CharonRoute, SelectorPorts, XfrmPolicy, XfrmState

_STATE = re.compile(r"^src (?P<source>\S+) dst (?P<destination>\S+)\n\s+proto esp spi 0x(?P<spi>[0-9a-f]+)")
_POLICY = re.compile(
    r"^src (?P<source>\S+) dst (?P<destination>\S+)(?P<rest>[^\n]*)\n"
    r"\s+dir (?P<direction>in|out|fwd) [^\n]*\bindex (?P<index>\d+)[^\n]*\bptype main"
)
_TEMPLATE = re.compile(r"tmpl src (?P<source>\S+) dst (?P<destination>\S+)\n\s+proto esp(?: spi 0x(?P<spi>[0-9a-f]+))?")
_MARK = re.compile(r"^\s+mark (0x[0-9a-f]+|\d+)/(0x[0-9a-f]+|\d+)", re.MULTILINE)
_IF_ID = re.compile(r"\bif_id (0x[0-9a-f]+|\d+)")


def parse_states(text: str) -> Iterator[XfrmState]:
    """The ESP SAs of `ip xfrm state list nokeys`."""
    for part in _parts(text):
        match = _STATE.match(part)
        if match is not None:
            mark, mask = _mark(part)
            yield XfrmState(match["source"], match["destination"], match["spi"].rjust(8, "0"), mark, mask)


def parse_policies(text: str) -> Iterator[XfrmPolicy]:
    """The policies of `ip -stats xfrm policy list`; those without an ESP template have no outer addresses."""
    for part in _parts(text):
        match, template = _POLICY.match(part), _TEMPLATE.search(part)
        if match is None:
            continue
        mark, mask = _mark(part)
        if_id = _IF_ID.search(part)
        yield XfrmPolicy(
            direction=match["direction"], source=ip_network(match["source"]), destination=ip_network(match["destination"]),
            ports=_ports(match["rest"]), index=int(match["index"]), outer_source=template["source"] if template else "",
            outer_destination=template["destination"] if template else "",
            spi=(template["spi"] if template else None) or "00000000", mark=mark, mark_mask=mask,
            if_id=int(if_id[1], 0) if if_id else 0,
        )  # fmt: skip


def parse_routes(text: str, everything: str) -> Iterator[CharonRoute]:
    """The routes of `ip -json route show` of one family; `everything` is the network that ip(8) calls `default`.

    Raises:
        ValueError: it is not what ip(8) prints.
    """
    for entry in json.loads(text or "[]"):
        destination, device = str(entry.get("dst", "")), str(entry.get("dev", ""))
        if destination and device:
            yield CharonRoute(ip_network(everything if destination == "default" else destination), device)


def _parts(text: str) -> list[str]:
    return re.split(r"^(?=src )", text, flags=re.MULTILINE)


def _ports(rest: str) -> SelectorPorts:
    words = rest.split()
    found = {"proto": "", "sport": "", "dport": ""}
    more = []
    for name, value in zip(words[::2], words[1::2], strict=False):
        if name in found:
            found[name] = value
        elif name != "uid":
            more.append(f"{name} {value}")
    return SelectorPorts(found["proto"], found["sport"], found["dport"], tuple(more))


def _mark(part: str) -> tuple[int, int]:
    match = _MARK.search(part)
    return (int(match[1], 0), int(match[2], 0)) if match else (0, 0)
