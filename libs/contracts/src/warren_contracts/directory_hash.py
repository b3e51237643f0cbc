"""The hash of a reader's directory, by which an agent and the registry compare what they hold (`ReaderDigest.directory_hash`).

It is part of the wire contract, so this is the only place that computes it.
"""

import hashlib
from collections.abc import Mapping

from warren_contracts.names import PeerId


def directory_hash(revisions: Mapping[PeerId, int]) -> str:
    """Hexadecimal SHA-256 over the lines `<peer> <revision>`, sorted by peer, each ended by a line feed.

    `revisions` holds the records that are not withdrawn.
    """
    lines = "".join(f"{peer} {revision}\n" for peer, revision in sorted(revisions.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
