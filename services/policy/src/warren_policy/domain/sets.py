"""The signed, complete set of each reader: which readers a change touches, and what each of them reads.

A set is assembled from the JSON of its policies, each encoded once however many readers it has. The result is byte for
byte what `PolicySet.model_dump_json()` gives (proved by a test); the order is by policy id.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from warren_contracts.policy import MAX_POLICY_SET, Policy, PublishedPolicy
from warren_contracts.subjects import Audience
from warren_policy.domain.revisions import RevisionChange
from warren_policy.errors import PolicySetTooLargeError

# Bytes of all sets of one revision. A policy that names thousands of peers by id is sent in full to each of them: this
# keeps one command from filling the outbox and the stream. 64 MiB is 70 sets of the largest size.
MAX_REVISION = 64 * 1024 * 1024

ReadersOf = Callable[[Policy], frozenset[Audience]]


@dataclass(frozen=True, slots=True)
class ReaderSet:
    """The new set of one reader. `adds`: it gains or changes a policy (published before those that only lose some)."""

    reader: Audience
    payload: bytes
    adds: bool


def reader_sets(change: RevisionChange, epoch: int, readers_of: ReadersOf) -> tuple[ReaderSet, ...]:
    """The new sets of every reader that `change` touches, additions first; raises PolicySetTooLargeError.

    A disabled policy is sent too: agents remove its tunnels and keep its traffic protected until it is deleted. A reader that
    has lost its last policy gets an emptied set.
    """
    index = _ReaderIndex(change, readers_of)
    batch = index.touched()
    encode = _Encoder()
    sets = []
    total = 0
    for reader in batch:
        policies = index.policies(reader)
        payload = encode.policy_set(reader, epoch, change.revision, batch, policies)
        total += len(payload)
        _check_size(reader, len(payload), total, len(batch))
        sets.append(ReaderSet(reader, payload, any(published.revision == change.revision for published in policies)))
    return tuple(sorted(sets, key=lambda item: (not item.adds, item.reader)))


def every_set(
    policies: Mapping[str, PublishedPolicy],
    known: Collection[Audience],
    epoch: int,
    revision: int,
    readers_of: ReadersOf,
) -> tuple[ReaderSet, ...]:
    """The set of every reader in a new epoch, emptied where it is `known` and no policy is for it any more.

    A batch of all readers in each set would grow by their square. Nobody reads two peers' sets: so a set names the tags,
    `all` and itself, and single peers come first. A peer with the first of its sets waits for the rest of them.
    """
    index = _ReaderIndex(RevisionChange(revision, {}, policies), readers_of)
    everybody = sorted(index.readers.union(known), key=lambda reader: (_RANK.get(reader.partition("=")[0], 2), reader))
    shared = [reader for reader in everybody if not reader.startswith("peer=")]
    encode = _Encoder()
    return tuple(_whole_set(encode, index, reader, shared, epoch, revision) for reader in everybody)


_RANK = {"peer": 0, "tag": 1}


def _whole_set(
    encode: "_Encoder", index: "_ReaderIndex", reader: Audience, shared: Collection[Audience], epoch: int, revision: int
) -> ReaderSet:
    policies = index.policies(reader)
    payload = encode.policy_set(reader, epoch, revision, tuple(sorted({*shared, reader})), policies)
    if (
        len(payload) > MAX_POLICY_SET
    ):  # it was stored with less of a batch, and must be published again whatever it takes
        payload = encode.policy_set(reader, epoch, revision, (reader,), policies)
    return ReaderSet(reader, payload, adds=bool(policies))


class _ReaderIndex:
    """The readers of each policy, before and after a change."""

    def __init__(self, change: RevisionChange, readers_of: ReadersOf) -> None:
        self._change = change
        self._readers = partial(_readers, readers_of)
        self._by_reader: dict[Audience, list[PublishedPolicy]] = {}
        for id_ in sorted(change.after):
            for reader in self._readers(change.after[id_]):
                self._by_reader.setdefault(reader, []).append(change.after[id_])

    def touched(self) -> tuple[Audience, ...]:
        found: set[Audience] = set()
        for id_ in self._change.changed:
            for state in (self._change.before, self._change.after):
                if id_ in state:
                    found |= self._readers(state[id_])
        return tuple(sorted(found))

    @property
    def readers(self) -> frozenset[Audience]:
        return frozenset(self._by_reader)

    def policies(self, reader: Audience) -> tuple[PublishedPolicy, ...]:
        return tuple(self._by_reader.get(reader, ()))


def _readers(readers_of: ReadersOf, published: PublishedPolicy) -> frozenset[Audience]:
    return readers_of(published.policy)


class _Encoder:
    """Encodes each policy and each list of readers once."""

    def __init__(self) -> None:
        self._policies: dict[str, bytes] = {}
        self._batches: dict[tuple[Audience, ...], bytes] = {}

    def policy_set(
        self,
        reader: Audience,
        epoch: int,
        revision: int,
        batch: tuple[Audience, ...],
        policies: Iterable[PublishedPolicy],
    ) -> bytes:
        if batch not in self._batches:
            self._batches[batch] = json.dumps(batch, separators=(",", ":")).encode()
        head = b'{"reader":"%s","epoch":%d,"revision":%d,"batch":%s,"policies":[' % (
            reader.encode(), epoch, revision, self._batches[batch],
        )  # fmt: skip
        return head + b",".join(self._policy(published) for published in policies) + b"]}"

    def _policy(self, published: PublishedPolicy) -> bytes:
        id_ = published.policy.id
        if id_ not in self._policies:
            self._policies[id_] = published.model_dump_json().encode()
        return self._policies[id_]


def _check_size(reader: Audience, size: int, total: int, readers: int) -> None:
    if size > MAX_POLICY_SET:
        raise PolicySetTooLargeError(
            f"the set of {reader} would have {size:,} bytes, {MAX_POLICY_SET:,} is the limit:"
            " address some of its policies to other tags"
        )
    if total > MAX_REVISION:
        raise PolicySetTooLargeError(
            f"the sets of {readers:,} readers, {reader} among them, would have more than {MAX_REVISION:,} bytes"
            " in one revision: address the policy to a tag instead of to single peers, or split it"
        )
