"""Host names to all their addresses, with the time for which these are valid.

Names are resolved here and never by a driver's daemon: charon resolves in one of its worker threads, and a name server that does
not answer keeps that thread, and with some such names every negotiation, for half a minute. getaddrinfo(3) returns no TTL.
"""

import asyncio
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from warren_agent.errors import UnresolvedNameError
from warren_contracts.addresses import IPAddress

HOSTS = Path("/etc/hosts")
RESOLV_CONF = Path("/etc/resolv.conf")
LEAST_TTL = 5.0  # s; a name of TTL 0 is not looked up for each probe
LONGEST_TTL = 3_600.0  # s; a mistake in a zone does not outlive it by a day
HOSTS_TTL = 60.0  # s between two looks at /etc/hosts
QUERY_LIMIT = 5.0  # s for one query to all name servers
MAX_HOSTS = 1_000_000  # bytes of /etc/hosts


class Resolved(NamedTuple):
    """The addresses of a name, both families in turn, and the seconds until they are to be looked up again."""

    addresses: tuple[IPAddress, ...]
    ttl_s: float
    is_complete: bool = True  # False: no answer for one of the families, which may have addresses too


async def resolve(name: str, hosts: Path = HOSTS, configuration: Path = RESOLV_CONF) -> Resolved:
    """All addresses of a name, from /etc/hosts, else by DNS; `configuration` is a resolv.conf(5).

    Raises:
        UnresolvedNameError: it does not exist, has no address, or no name server answers.
    """
    if listed := read_hosts(name, hosts):
        return Resolved(in_turn(listed), HOSTS_TTL)
    try:
        import dns.asyncresolver  # 6 MB that agents without names do not need
        import dns.exception
        import dns.resolver
    except ImportError:
        raise UnresolvedNameError(f"{name}: dnspython is not installed, which names of gateways require") from None
    try:
        resolver = dns.asyncresolver.Resolver(str(configuration))
        resolver.lifetime = QUERY_LIMIT
        queries = [resolver.resolve(name, kind, search=False) for kind in ("A", "AAAA")]
        answers = await asyncio.gather(*queries, return_exceptions=True)
    except dns.exception.DNSException as error:
        raise UnresolvedNameError(f"{name}: {error}") from None
    found: list[IPAddress] = []
    ttls, failures = [], []
    is_complete = True
    for answer in answers:
        if isinstance(answer, dns.exception.DNSException | OSError):
            failures.append(answer)
            is_complete &= isinstance(answer, dns.resolver.NXDOMAIN | dns.resolver.NoAnswer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found += [ip_address(record.to_text()) for record in answer]
            ttls.append(answer.chaining_result.minimum_ttl)
    if not found:
        raise UnresolvedNameError(f"{name}: {failures[0] if failures else 'it has no address'}"[:300])
    return Resolved(in_turn(found), min(max(min(ttls), LEAST_TTL), LONGEST_TTL), is_complete)


def in_turn(addresses: list[IPAddress]) -> tuple[IPAddress, ...]:
    """IPv6 and IPv4 addresses in turn (RFC 8305, 4), each family in order, so that an answer in another order is not a change."""
    sixes = sorted({it for it in addresses if it.version == 6}, key=int)
    fours = sorted({it for it in addresses if it.version == 4}, key=int)
    shorter = min(len(sixes), len(fours))
    pairs = [it for pair in zip(sixes, fours, strict=False) for it in pair]
    return (*pairs, *sixes[shorter:], *fours[shorter:])


def read_hosts(name: str, path: Path) -> list[IPAddress]:
    """The addresses that hosts(5) lists for a name; none if the file cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = file.read(MAX_HOSTS).splitlines()
    except OSError:
        return []
    found: list[IPAddress] = []
    wanted = name.rstrip(".").lower()
    for line in lines:
        address, *names = line.partition("#")[0].split() or [""]
        if wanted in (it.lower() for it in names):
            try:
                found.append(ip_address(address))
            except ValueError:
                continue
    return found
