"""Lint one policy by itself: its crypto, options, and the peers and tags that it names."""

from collections.abc import Collection, Iterator
from itertools import chain

from warren_contracts.ipsec import ChildOptions
from warren_contracts.policy import ChildSpec, Crypto, Policy, TunnelOptions
from warren_contracts.proposals import Algorithms
from warren_contracts.subjects import Audience
from warren_intent.algorithms import ALGORITHMS, ESP_ONLY, Algorithm, Recommendation
from warren_intent.errors import UnknownProfileError
from warren_intent.findings import Code, Collector, Severity
from warren_intent.mistakes import (
    Mistake,
    mistakes_in_children,
    mistakes_in_crypto,
    mistakes_in_ends,
    mistakes_in_options,
)
from warren_intent.profiles import Profile, profile_of
from warren_intent.proposal_filter import refused_auth, refused_child_options, refused_options


class PolicyLinter:
    """Check one policy at one path (`policies/0`)."""

    def __init__(self, policy: Policy, where: str, found: Collector) -> None:
        self._policy = policy
        self._where = where
        self._found = found

    def lint(self, peers: Collection[str], tags: Collection[str]) -> None:
        """Run all checks that need neither other policies nor tunnels."""
        for field, reader in _named_readers(self._policy):
            self._reader(field, reader, peers, tags)
        self._repeats()
        self._two_ends()
        if refusal := refused_auth(self._policy.auth):
            self._error(Code.UNSUPPORTED, "auth", refusal)
        self._crypto_and_options("", self._policy.crypto, self._policy.options, self._policy.children)
        self._mistakes(
            "", mistakes_in_crypto(self._policy.crypto), mistakes_in_options(self._policy.options),
            mistakes_in_children(self._policy.children),
        )  # fmt: skip
        for index, tunnel in enumerate(self._policy.tunnels):
            own = mistakes_in_crypto(tunnel.crypto or Crypto()), mistakes_in_options(tunnel.options or TunnelOptions())
            children = mistakes_in_children(tunnel.children)
            self._mistakes(f"tunnels/{index}/", mistakes_in_ends(tunnel), *own, children)
            for number, end in enumerate(tunnel.ends):
                if end.peer is not None and end.peer not in peers:
                    self._unknown_peer(f"tunnels/{index}/ends/{number}/peer", end.peer)
            if tunnel.crypto is not None or tunnel.options is not None or tunnel.children:
                crypto, options = tunnel.crypto or self._policy.crypto, tunnel.options or self._policy.options
                self._crypto_and_options(f"tunnels/{index}/", crypto, options, tunnel.children)

    def _reader(self, field: str, reader: Audience, peers: Collection[str], tags: Collection[str]) -> None:
        kind, _, name = reader.partition("=")
        if kind == "tag" and name not in tags:
            message = f"unknown tag {name}: no peer and no join token has it; correct it, or create a join token with it first"
            self._error(Code.UNKNOWN_TAG, field, message)
        if kind == "peer" and name not in peers:
            self._unknown_peer(field, name)

    def _mistakes(self, prefix: str, *mistakes: Iterator[Mistake]) -> None:
        for mistake in chain(*mistakes):
            where = f"{self._where}/{prefix}{mistake.field}"
            self._found.add(mistake.code, mistake.severity, self._policy.id, where, mistake.message)

    def _repeats(self) -> None:
        """Warn of repeated readers; a repeated site is allowed, since it is a mesh of its members."""
        seen: set[tuple[str, Audience]] = set()
        for field, reader in _named_readers(self._policy):
            place = field.rpartition("/")[0], reader
            if place in seen and place[0] != "topology/sites":
                self._warn(Code.REPEATED, field, f"duplicate reader {reader}")
            seen.add(place)

    def _two_ends(self) -> None:
        """Refuse a topology that names only one peer, which has no tunnel."""
        named = [(field, reader) for field, reader in _named_readers(self._policy) if field.startswith("topology/")]
        if named and len({reader for _, reader in named}) == 1 and named[0][1].startswith("peer="):
            message = f"{named[0][1]} is the only member, but a tunnel needs two peers: add another peer, or a tag"
            self._error(Code.ONE_MEMBER, named[-1][0], message)

    def _unknown_peer(self, field: str, peer: str) -> None:
        self._error(Code.UNKNOWN_PEER, field, f"unknown peer {peer}: correct the id, or enrol the peer first")

    def _crypto_and_options(
        self, prefix: str, crypto: Crypto, options: TunnelOptions, children: tuple[ChildSpec, ...]
    ) -> None:
        try:
            profile = profile_of(crypto)
        except UnknownProfileError as error:
            self._error(Code.UNKNOWN_PROFILE, f"{prefix}crypto/profile", error.detail)
            return
        for index, proposal in enumerate(crypto.ike):
            self._proposal(f"{prefix}crypto/ike/{index}", proposal, profile, profile.columns[0])
            self._shape_of_ike(f"{prefix}crypto/ike/{index}", proposal)
        for index, proposal in enumerate(crypto.esp):
            self._proposal(f"{prefix}crypto/esp/{index}", proposal, profile, profile.columns[1])
            self._shape_of_esp(f"{prefix}crypto/esp/{index}", proposal)
        self._options(f"{prefix}options", options, profile)
        for number, child in enumerate(children):
            where = f"{prefix}children/{number}"
            for index, proposal in enumerate(child.esp):
                self._proposal(f"{where}/esp/{index}", proposal, profile, profile.columns[1])
                self._shape_of_esp(f"{where}/esp/{index}", proposal)
            if child.options is not None:
                for option, message in refused_child_options(child.options):
                    self._error(Code.UNSUPPORTED, f"{where}/options/{option}", message)
                self._limits(f"{where}/options", child.options, profile)
        # Peers are authenticated by Ed25519 keys, whatever the profile says.
        own_key = ALGORITHMS["ed25519"].standing(profile.columns[0])
        if own_key is Recommendation.FORBIDDEN:
            message = f"{profile.title} does not list Ed25519, which peers use for authentication"
            self._warn(Code.DOUBTFUL_ALGORITHM, f"{prefix}crypto/profile", message)

    def _proposal(self, field: str, proposal: Algorithms, profile: Profile, column: str) -> None:
        for word in proposal:
            algorithm = ALGORITHMS[word]
            standing = algorithm.standing(column)
            if standing is Recommendation.FORBIDDEN and algorithm.sure:
                message = f"{word} is forbidden by {profile.title}{_note(algorithm)}: use another algorithm"
                self._error(Code.FORBIDDEN_ALGORITHM, field, message)
            elif standing in (Recommendation.FORBIDDEN, Recommendation.DEPRECATED, Recommendation.UNLISTED):
                verb = "deprecates" if standing is Recommendation.DEPRECATED else "does not list"
                self._warn(Code.DOUBTFUL_ALGORITHM, field, f"{profile.title} {verb} {word}{_note(algorithm)}")

    def _shape_of_ike(self, field: str, proposal: Algorithms) -> None:
        if unencrypted := ESP_ONLY.intersection(proposal.encryption):
            self._error(
                Code.BAD_PROPOSAL,
                field,
                f"{', '.join(sorted(unencrypted))} does not encrypt: allowed in ESP proposals only",
            )
        if not proposal.key_exchange:
            self._error(Code.BAD_PROPOSAL, field, "an IKE proposal requires a key exchange, such as x25519")
        if proposal.is_aead and not proposal.prf:
            self._error(Code.BAD_PROPOSAL, field, f"{proposal.encryption[0]} in IKE requires a PRF, such as prfsha384")
        if proposal.esn:
            self._error(Code.BAD_PROPOSAL, field, "esn and noesn are allowed in ESP proposals only")

    def _shape_of_esp(self, field: str, proposal: Algorithms) -> None:
        if proposal.prf:
            self._error(Code.BAD_PROPOSAL, field, f"{proposal.prf[0]} is allowed in IKE proposals only")
        if not proposal.key_exchange:
            message = "without a key exchange a rekeyed CHILD_SA has no forward secrecy: add one, such as x25519"
            self._warn(Code.DOUBTFUL_ALGORITHM, field, message)

    def _options(self, field: str, options: TunnelOptions, profile: Profile) -> None:
        for option, message in refused_options(options):
            self._error(Code.UNSUPPORTED, f"{field}/{option}", message)
        if options.ike.dpd_timeout:
            message = "dpd_timeout applies to IKEv1 only; in IKEv2 the retransmission timeout decides"
            self._warn(Code.DOUBTFUL_OPTION, f"{field}/ike/dpd_timeout", message)
        self._limits(f"{field}/child", options.child, profile)

    def _limits(self, field: str, options: ChildOptions, profile: Profile) -> None:
        life_time = options.resolved().life_time
        if life_time is not None and life_time > profile.max_child_life:
            message = f"{profile.title} allows at most {profile.max_child_life} s"
            self._warn(Code.DOUBTFUL_OPTION, f"{field}/life_time", message)
        if options.replay_window < profile.min_replay_window:
            message = f"{profile.title} requires at least {profile.min_replay_window} packets"
            self._warn(Code.DOUBTFUL_OPTION, f"{field}/replay_window", message)

    def _error(self, code: Code, field: str, message: str) -> None:
        self._found.add(code, Severity.ERROR, self._policy.id, f"{self._where}/{field}", message)

    def _warn(self, code: Code, field: str, message: str) -> None:
        self._found.add(code, Severity.WARNING, self._policy.id, f"{self._where}/{field}", message)


def _note(algorithm: Algorithm) -> str:
    return f" ({algorithm.note})" if algorithm.note else ""


def _named_readers(policy: Policy) -> Iterator[tuple[str, Audience]]:
    for index, reader in enumerate(policy.applies_to):
        yield f"applies_to/{index}", reader
    if policy.topology is None:
        return
    for name in ("sites", "hubs", "spokes", "members"):
        for index, reader in enumerate(getattr(policy.topology, name, ())):
            yield f"topology/{name}/{index}", reader
