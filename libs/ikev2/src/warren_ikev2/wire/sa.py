"""The SA payload: proposals, transforms, attributes (RFC 7296, 3.3)."""

from warren_ikev2.algorithms import Transform
from warren_ikev2.constants import Protocol
from warren_ikev2.errors import MalformedMessageError
from warren_ikev2.suites import Proposal
from warren_ikev2.wire.reader import ByteReader

KEY_LENGTH = 14
_SHORT_ATTRIBUTE = 0x8000
_MORE_PROPOSALS = 2
_MORE_TRANSFORMS = 3


def parse_proposals(data: bytes) -> tuple[Proposal, ...]:
    """All proposals; those of a protocol that we do not know are left out. MalformedMessageError: inconsistent lengths."""
    reader = ByteReader(data)
    proposals: list[Proposal] = []
    more = True
    while more:
        more = _parse_more(reader, _MORE_PROPOSALS)
        body = ByteReader(_take_block(reader, 4))
        number, protocol, spi_size, count = (body.number(1) for _ in range(4))
        spi = body.take(spi_size)
        transforms = _parse_transforms(body, count)
        if protocol in (Protocol.IKE, Protocol.AH, Protocol.ESP):
            proposals.append(Proposal(Protocol(protocol), transforms, number, spi))
    reader.finish()
    return tuple(proposals)


def build_proposals(proposals: tuple[Proposal, ...]) -> bytes:
    """The payload's body."""
    parts = []
    for index, proposal in enumerate(proposals, 1):
        transforms = _build_transforms(proposal.transforms)
        head = bytes([proposal.number, proposal.protocol, len(proposal.spi), len(proposal.transforms)])
        body = head + proposal.spi + transforms
        more = 0 if index == len(proposals) else _MORE_PROPOSALS
        parts.append(bytes([more, 0]) + (len(body) + 4).to_bytes(2, "big") + body)
    return b"".join(parts)


def _parse_more(reader: ByteReader, marker: int) -> bool:
    last = reader.number(1)
    if last not in (0, marker):
        raise MalformedMessageError(f"last-substructure field is {last}")
    reader.take(1)
    return last == marker


def _take_block(reader: ByteReader, header: int) -> bytes:
    length = reader.number(2)
    return reader.take(length - header)


def _parse_transforms(reader: ByteReader, count: int) -> tuple[Transform, ...]:
    transforms = []
    for index in range(count):
        more = _parse_more(reader, _MORE_TRANSFORMS)
        if more != (index + 1 < count):
            raise MalformedMessageError("the number of transforms disagrees with their chain")
        body = ByteReader(_take_block(reader, 4))
        kind = body.number(1)
        body.take(1)
        transforms.append(_parse_attributes(kind, body.number(2), body))
    reader.finish()
    return tuple(transforms)


def _parse_attributes(kind: int, number: int, reader: ByteReader) -> Transform:
    key_length: int | None = None
    unknown = False
    while reader.remaining:
        attribute = reader.number(2)
        value = reader.number(2)
        if not attribute & _SHORT_ATTRIBUTE:
            reader.take(value)
            unknown = True
        elif attribute == _SHORT_ATTRIBUTE | KEY_LENGTH and key_length is None:
            key_length = value
        else:
            unknown = True
    return Transform(kind, number, key_length, unknown)


def _build_transforms(transforms: tuple[Transform, ...]) -> bytes:
    parts = []
    for index, transform in enumerate(transforms, 1):
        body = bytes([transform.type, 0]) + transform.id.to_bytes(2, "big")
        if transform.key_length is not None:
            body += (_SHORT_ATTRIBUTE | KEY_LENGTH).to_bytes(2, "big") + transform.key_length.to_bytes(2, "big")
        more = 0 if index == len(transforms) else _MORE_TRANSFORMS
        parts.append(bytes([more, 0]) + (len(body) + 4).to_bytes(2, "big") + body)
    return b"".join(parts)
