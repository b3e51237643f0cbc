"""Proposals in documents: the string of a proposal's keywords in JSON, its algorithms in Python.

The grammar is `warren_contracts.proposals`; what a profile recommends or forbids is decided in `warren_intent`.
"""

from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from warren_contracts.proposals import Algorithms, parse_proposal


def _proposal(value: object) -> Algorithms:
    if isinstance(value, Algorithms):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a proposal in strongSwan's keywords, such as aes256gcm16-prfsha384-x25519")
    return parse_proposal(value)


# One proposal for an IKE_SA or a CHILD_SA. Validation raises ValueError for what `parse_proposal` refuses.
CryptoProposal = Annotated[
    Algorithms,
    PlainValidator(_proposal),
    PlainSerializer(lambda proposal: proposal.keywords, return_type=str),
    WithJsonSchema({
        "title": "CryptoProposal", "type": "string", "examples": ["aes256gcm16-prfsha384-x25519"],
        "description": "One proposal for an IKE_SA or a CHILD_SA, in strongSwan's keywords joined by `-`.",
    }),
]  # fmt: skip
