"""The subjects of one connection: its inbox, and what its feed reads. `permissions` grants them.

They are apart from the commands of operators, whose models would cost each agent a megabyte.
"""

from warren_contracts import subjects

_DIRECT_GET = "$JS.API.DIRECT.GET"


def live_subjects(peer: str, tags: tuple[str, ...]) -> tuple[str, ...]:
    """The subjects that a feed subscribes to, in a fixed order."""
    found = [subjects.live(subjects.secret(peer))]
    for reader in subjects.readers_of(peer, tags):
        found.append(subjects.live(subjects.policy(reader)))
        found.append(subjects.live(subjects.digest(reader)))
        found.append(subjects.live(f"{subjects.VERSION}.directory.{reader}.*"))
    return tuple(found)


def policy_get(reader: str) -> str:
    """The subject of the Direct Get of a reader's policy set: checked by the server subject by subject."""
    return f"{_DIRECT_GET}.{subjects.POLICY_STREAM}.{subjects.policy(reader)}"


def secret_get(peer: str) -> str:
    return f"{_DIRECT_GET}.{subjects.SECRET_STREAM}.{subjects.secret(peer)}"


def inbox(name: str) -> str:
    """The inbox prefix of a peer, of a service, or (before enrolment) of an nkey."""
    return f"_INBOX.{name}"
