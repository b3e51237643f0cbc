"""list-sas and the events' SA sections as values, and what they say of a tunnel. Pure; times are passed in."""

import contextlib
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from warren_agent.drivers.strongswan.connections import HandleName, parse_handle
from warren_agent.drivers.strongswan.vici_codec import (
    Section,
    hexadecimal,
    number,
    subsection,
    subsections,
    text,
    texts,
)
from warren_contracts.selectors import WITH_PORTS, TrafficSelector, parse_ports, parse_protocol, parse_selector
from warren_contracts.status import ChildSaStatus, TrafficStats

# child_sa_state_names; a CHILD_SA in one of these carries traffic. DELETED ones linger for delete_rekeyed_delay (5 s).
CARRYING = frozenset({"INSTALLED", "REKEYING", "REKEYED", "UPDATING"})
ESTABLISHED = frozenset({"ESTABLISHED", "REKEYING", "REKEYED"})
CONNECTING = frozenset({"CREATED", "CONNECTING"})
GOING = frozenset({"DELETING", "DESTROYING"})

_CIPHER_WORDS = {"AES_CBC": "aes", "AES_CTR": "aes{}ctr", "CHACHA20_POLY1305": "chacha20poly1305", "3DES_CBC": "3des",
                 "CAMELLIA_CBC": "camellia", "NULL": "null", "NULL_AES_GMAC": "aes{}gmac"}  # fmt: skip
_INTEGRITY_WORDS = {"HMAC_SHA2_256_128": "sha256", "HMAC_SHA2_384_192": "sha384", "HMAC_SHA2_512_256": "sha512",
                    "HMAC_SHA1_96": "sha1", "AES_XCBC_96": "aesxcbc", "AES_CMAC_96": "aescmac"}  # fmt: skip
_GROUP_WORDS = {"CURVE_25519": "x25519", "CURVE_448": "x448"}


@dataclass(frozen=True, slots=True)
class ChildSa:
    """One CHILD_SA. Times in seconds, as charon counts them at the moment of the answer."""

    handle: HandleName | None  # None: not one of ours
    unique_id: int
    state: str
    spi_in: str
    spi_out: str
    cipher: str
    key_exchange: str
    esn: bool
    encap: bool
    established: int
    rekey_in: int | None
    expires_in: int | None
    local_ts: tuple[str, ...]
    remote_ts: tuple[str, ...]
    traffic: TrafficStats
    idle_in: int | None = None  # s since the last packet of the peer
    if_id_in: int = 0
    mark_in: int = 0

    @property
    def carries(self) -> bool:
        return self.state in CARRYING

    def info(self, now: datetime) -> ChildSaStatus:
        """As it is reported."""
        return ChildSaStatus(
            child=self.handle.child if self.handle else "",
            spi_in=self.spi_in,
            spi_out=self.spi_out,
            cipher=self.cipher,
            key_exchange=self.key_exchange,
            esn=self.esn,
            udp_encapsulated=self.encap,
            established_at=now - timedelta(seconds=self.established),
            rekey_in=self.rekey_in,
            expires_in=self.expires_in,
            local_ts=parse_selectors(self.local_ts),
            remote_ts=parse_selectors(self.remote_ts),
            traffic=self.traffic,
        )


@dataclass(frozen=True, slots=True)
class IkeSa:
    """One IKE_SA with its children."""

    handle: HandleName | None
    unique_id: int
    state: str
    initiator: bool
    cipher: str
    established: int | None
    local_host: str
    remote_host: str
    children: tuple[ChildSa, ...]
    local_vips: tuple[str, ...] = ()
    remote_vips: tuple[str, ...] = ()
    waiting: bool = False  # a request of ours is not answered yet
    answered: bool = False  # the peer has sent a message in it: its SPI is known

    @property
    def up(self) -> bool:
        return self.state in ESTABLISHED

    def carrying(self, child: HandleName) -> list[ChildSa]:
        """Its CHILD_SAs of one configuration that carry traffic."""
        return [sa for sa in self.children if sa.handle == child and sa.carries]

    def carrying_of(self, names: Collection[str] | None) -> list[ChildSa]:
        """Its CHILD_SAs of these children, or of all, that carry traffic, of whatever configuration."""
        carrying = [sa for sa in self.children if sa.carries]
        return carrying if names is None else [sa for sa in carrying if sa.handle and sa.handle.child in names]


def parse_ike_sas(event: Section) -> list[IkeSa]:
    """The IKE_SAs of one list-sa event (or of ike-updown and child-updown)."""
    return [_parse_ike_sa(name, section) for name, section in subsections(event).items()]


def _parse_ike_sa(name: str, section: Section) -> IkeSa:
    return IkeSa(
        handle=parse_handle(name),
        unique_id=number(section, "uniqueid"),
        state=text(section, "state"),
        initiator=text(section, "initiator") == "yes",
        cipher=_ike_cipher(section),
        established=number(section, "established") if "established" in section else None,
        local_host=text(section, "local-host"),
        remote_host=text(section, "remote-host"),
        children=tuple(parse_child_sa(child) for child in subsections(subsection(section, "child-sas")).values()),
        local_vips=tuple(texts(section, "local-vips")),
        remote_vips=tuple(texts(section, "remote-vips")),
        waiting=bool(texts(section, "tasks-active")),
        answered=bool(text(section, "responder-spi").strip("0")),
    )


def parse_child_sa(section: Section) -> ChildSa:
    """One CHILD_SA section."""
    return ChildSa(
        handle=parse_handle(text(section, "name")),
        unique_id=number(section, "uniqueid"),
        state=text(section, "state"),
        spi_in=text(section, "spi-in", "0").rjust(8, "0"),
        spi_out=text(section, "spi-out", "0").rjust(8, "0"),
        cipher=_cipher(section),
        key_exchange=_key_exchange(section),
        esn=text(section, "esn") == "1",
        encap=text(section, "encap") == "yes",
        established=number(section, "install-time"),
        rekey_in=_optional(section, "rekey-time"),
        expires_in=_optional(section, "life-time"),
        local_ts=tuple(texts(section, "local-ts")),
        remote_ts=tuple(texts(section, "remote-ts")),
        traffic=TrafficStats(
            bytes_in=number(section, "bytes-in"),
            bytes_out=number(section, "bytes-out"),
            packets_in=number(section, "packets-in"),
            packets_out=number(section, "packets-out"),
        ),
        idle_in=_optional(section, "use-in"),
        if_id_in=hexadecimal(section, "if-id-in"),
        mark_in=hexadecimal(section, "mark-in"),
    )


def _optional(section: Section, key: str) -> int | None:
    return number(section, key) if key in section else None


def _ike_cipher(section: Section) -> str:
    parts = [_cipher(section), _prf(text(section, "prf-alg")), _key_exchange(section)]
    return "-".join(part for part in parts if part)


def _key_exchange(section: Section) -> str:
    """With the additional ones of RFC 9370, which strongSwan 6 lists as ake1 to ake7."""
    parts = [_group(text(section, "dh-group"))]
    parts += [f"ke{n}_{_group(text(section, f'ake{n}'))}" for n in range(1, 8) if f"ake{n}" in section]
    return "-".join(part for part in parts if part)


def _cipher(section: Section) -> str:
    name, bits = text(section, "encr-alg"), text(section, "encr-keysize")
    if name.startswith(("AES_GCM_", "AES_CCM_")):
        cipher = f"aes{bits}{name[4:7].lower()}{name[8:]}"
    else:
        word = _CIPHER_WORDS.get(name, name.lower())
        cipher = word.format(bits) if "{}" in word else word + (bits if word in ("aes", "camellia") else "")
    integrity = text(section, "integ-alg")
    return "-".join(part for part in (cipher, _INTEGRITY_WORDS.get(integrity, integrity.lower())) if part)


def _prf(name: str) -> str:
    return name.lower().replace("prf_hmac_sha2_", "prfsha").replace("prf_hmac_", "prf")


def _group(name: str) -> str:
    word = _GROUP_WORDS.get(name) or name.lower().replace("ml_kem_", "mlkem")
    return word.replace("_bp", "bp").replace("ecp_", "ecp").replace("modp_", "modp").replace("_", "s")


def parse_selectors(selectors: Iterable[str]) -> tuple[TrafficSelector, ...]:
    """Selectors as charon prints them: protocols and ports by the names of /etc/protocols and /etc/services.

    One that cannot be parsed, such as an ICMP type, is reported without its ports, and not at all without its addresses.
    """
    found: list[TrafficSelector] = []
    for printed in selectors:
        addresses, _, rest = printed.rstrip("]").replace("..", "-").partition("[")  # ranges: 10.0.0.1..10.0.0.9
        protocol, _, ports = rest.partition("/")
        with contextlib.suppress(ValueError):
            found.append(_selector(addresses, protocol, ports))
    return tuple(found)


def _selector(addresses: str, protocol: str, ports: str) -> TrafficSelector:
    selector = parse_selector(addresses)
    if not protocol:
        return selector
    number = _protocol_number(protocol)
    if not ports or number not in WITH_PORTS:
        return TrafficSelector(selector.addresses, number)
    try:
        return TrafficSelector(selector.addresses, number, parse_ports(ports))
    except ValueError:
        port = _service_port(ports, protocol)
        return TrafficSelector(selector.addresses, number, (port, port))


def _protocol_number(name: str) -> int:
    try:
        return parse_protocol(name)
    except ValueError:
        try:
            return socket.getprotobyname(name)
        except OSError:
            raise ValueError(name) from None


def _service_port(name: str, protocol: str) -> int:
    try:
        return socket.getservbyname(name, protocol)
    except OSError:
        raise ValueError(name) from None
