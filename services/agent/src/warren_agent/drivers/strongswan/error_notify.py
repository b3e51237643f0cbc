"""Why a negotiation failed, as charon's error-notify plugin reports it (error_notify_msg.h, the same in 5.9.8 to 6.x).

The plugin writes records of a fixed 768 bytes to a stream socket: u32 type, text[384], connection name[64], peer
identity[256], address[60], texts ended by NUL. Several records may come in one read, so that they are cut by length.
From strongSwan 6.0.3 on, the VICI event `alert` carries the same types by name.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from warren_agent.drivers.strongswan.vici_codec import Section, subsection, subsections, text
from warren_contracts.status import ReasonCode

RECORD = struct.Struct("!I384s64s256s60s")
RECORD_SIZE = RECORD.size


class ErrorNotifyType(IntEnum):
    """error_notify_type_t."""

    RADIUS_NOT_RESPONDING = 1
    LOCAL_AUTH_FAILED = 2
    PEER_AUTH_FAILED = 3
    PARSE_ERROR_HEADER = 4
    PARSE_ERROR_BODY = 5
    RETRANSMIT_SEND_TIMEOUT = 6
    HALF_OPEN_TIMEOUT = 7
    PROPOSAL_MISMATCH_IKE = 8
    PROPOSAL_MISMATCH_CHILD = 9
    TS_MISMATCH = 10
    INSTALL_CHILD_SA_FAILED = 11
    INSTALL_CHILD_POLICY_FAILED = 12
    UNIQUE_REPLACE = 13
    UNIQUE_KEEP = 14
    VIP_FAILURE = 15
    AUTHORIZATION_FAILED = 16
    CERT_EXPIRED = 17
    CERT_REVOKED = 18
    NO_ISSUER_CERT = 19
    RETRANSMIT_SEND = 20
    RETRANSMIT_SEND_CLEARED = 21
    RETRANSMIT_RECEIVE = 22
    PEER_ADDR_FAILED = 23
    PEER_INIT_UNREACHABLE = 24
    INVALID_IKE_SPI = 25
    TS_NARROWED = 26
    KEEP_ON_CHILD_SA_FAILURE = 27
    IKE_SA_EXPIRED = 28
    CERT_VALIDATION_FAILED = 29
    UNTRUSTED_ROOT_CERT = 30
    CERT_EXCEEDED_PATH_LEN = 31
    CERT_POLICY_VIOLATION = 32


# What is missing here is not a reason for a tunnel to be down (a retransmission that was answered, a narrowed selector).
# 27 follows a more specific record (9, 10) on the side that refused; alone it means that the peer refused the child.
REASONS: dict[ErrorNotifyType, ReasonCode] = {
    ErrorNotifyType.RADIUS_NOT_RESPONDING: ReasonCode.PEER_AUTH_FAILED,
    ErrorNotifyType.LOCAL_AUTH_FAILED: ReasonCode.LOCAL_AUTH_FAILED,
    ErrorNotifyType.PEER_AUTH_FAILED: ReasonCode.PEER_AUTH_FAILED,
    ErrorNotifyType.RETRANSMIT_SEND_TIMEOUT: ReasonCode.PEER_UNREACHABLE,
    ErrorNotifyType.HALF_OPEN_TIMEOUT: ReasonCode.PEER_UNREACHABLE,
    ErrorNotifyType.PROPOSAL_MISMATCH_IKE: ReasonCode.PROPOSAL_MISMATCH_IKE,
    ErrorNotifyType.PROPOSAL_MISMATCH_CHILD: ReasonCode.PROPOSAL_MISMATCH_CHILD,
    ErrorNotifyType.TS_MISMATCH: ReasonCode.TS_MISMATCH,
    ErrorNotifyType.INSTALL_CHILD_SA_FAILED: ReasonCode.INSTALL_FAILED,
    ErrorNotifyType.INSTALL_CHILD_POLICY_FAILED: ReasonCode.INSTALL_FAILED,
    ErrorNotifyType.VIP_FAILURE: ReasonCode.ADDRESS_FAILED,
    ErrorNotifyType.AUTHORIZATION_FAILED: ReasonCode.PEER_AUTH_FAILED,
    ErrorNotifyType.CERT_EXPIRED: ReasonCode.CERTIFICATE_INVALID,
    ErrorNotifyType.CERT_REVOKED: ReasonCode.CERTIFICATE_INVALID,
    ErrorNotifyType.NO_ISSUER_CERT: ReasonCode.CERTIFICATE_INVALID,
    ErrorNotifyType.RETRANSMIT_SEND: ReasonCode.PEER_UNREACHABLE,
    ErrorNotifyType.PEER_ADDR_FAILED: ReasonCode.ADDRESS_FAILED,
    ErrorNotifyType.PEER_INIT_UNREACHABLE: ReasonCode.PEER_UNREACHABLE,
    ErrorNotifyType.KEEP_ON_CHILD_SA_FAILURE: ReasonCode.TS_MISMATCH,
    ErrorNotifyType.CERT_VALIDATION_FAILED: ReasonCode.CERTIFICATE_INVALID,
    ErrorNotifyType.UNTRUSTED_ROOT_CERT: ReasonCode.CERTIFICATE_INVALID,
    ErrorNotifyType.CERT_EXCEEDED_PATH_LEN: ReasonCode.CERTIFICATE_INVALID,
    ErrorNotifyType.CERT_POLICY_VIOLATION: ReasonCode.CERTIFICATE_INVALID,
}


@dataclass(frozen=True)
class Notification:
    """One record: what happened, to which connection, with which peer."""

    type: ErrorNotifyType | None  # None: newer than this table
    text: str
    connection: str  # cut at 63 bytes by the plugin; empty when no connection was chosen yet
    identity: str
    address: str

    @property
    def reason(self) -> ReasonCode:
        """The class of the failure; NONE if the record has none."""
        return REASONS.get(self.type, ReasonCode.NONE) if self.type is not None else ReasonCode.OTHER


class NotificationReader:
    """Cuts the plugin's stream into records, however they arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Notification]:
        """The records that are complete with `data`."""
        self._buffer += data
        records = []
        while len(self._buffer) >= RECORD_SIZE:
            records.append(parse_notification(bytes(self._buffer[:RECORD_SIZE])))
            del self._buffer[:RECORD_SIZE]
        return records


def parse_notification(record: bytes) -> Notification:
    """One record of exactly RECORD_SIZE bytes."""
    code, *fields = RECORD.unpack(record)
    kind = ErrorNotifyType(code) if code in ErrorNotifyType._value2member_map_ else None
    return Notification(kind, *(field.partition(b"\0")[0].decode(errors="replace") for field in fields))


def build_notification(code: int, text: str, connection: str, identity: str, address: str) -> bytes:
    """A record as the plugin writes it; texts are cut to their fields, the last byte stays NUL."""
    sizes = (383, 63, 255, 59)
    fields = (value.encode()[:size] for value, size in zip((text, connection, identity, address), sizes, strict=True))
    return RECORD.pack(code, *fields)


# Where the word of the VICI event `alert` is not the record's name in lower case with hyphens (vici_query.c, alert_names).
_ALERT_WORDS = {
    "cert-no-issuer": ErrorNotifyType.NO_ISSUER_CERT,
    "cert-untrusted-root": ErrorNotifyType.UNTRUSTED_ROOT_CERT,
}


def parse_alert(message: Section) -> Notification:
    """The VICI event `alert` (strongSwan 6.0.3 and later): a type, and the IKE_SA where there is one."""
    word = text(message, "type")
    kind = _ALERT_WORDS.get(word) or ErrorNotifyType.__members__.get(word.upper().replace("-", "_"))
    sas = subsections(subsection(message, "ike-sa"))
    connection, sa = next(iter(sas.items()), ("", {}))
    return Notification(kind, word.replace("-", " "), connection, text(sa, "remote-id"), text(sa, "remote-host"))
