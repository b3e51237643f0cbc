"""Verify each document and accept it into the verified state. Everything else raises DocumentRefusedError.

The order of documents is their signed (epoch, revision) only; `documents` verifies, `verified_state` replaces.
"""

from collections.abc import Callable, Mapping

from warren_bus.feed import documents
from warren_bus.feed.sequence import LivePosition
from warren_bus.feed.state import FeedIdentity, version_of
from warren_bus.feed.verified_state import PageRun, VerifiedState
from warren_contracts import subjects
from warren_contracts.documents import Whoami
from warren_contracts.subjects import Audience
from warren_trust.signing import Version, stated_version

Headers = Mapping[str, str] | None


class Intake:
    """The only way of a received document into the verified state."""

    def __init__(self, identity: FeedIdentity, verified: VerifiedState) -> None:
        self._identity = identity
        self.verified = verified
        self._pages: dict[Audience, PageRun] = {}

    def reset_pages(self) -> None:
        """Forget directories of which some pages are missing."""
        self._pages.clear()

    # -- live messages -----------------------------------------------------------------------------------------------

    def accept_live(self, position: LivePosition, headers: Headers, payload: bytes) -> None:
        """Accept a live message; one of a reader that is not ours (any more) is dropped."""
        reader = position.subject.split(".")[3]
        if position.kind == "secret" or reader in self.verified.readers:
            _LIVE[position.kind](self, position.subject, reader, headers, payload)

    def _policy(self, subject: str, reader: Audience, headers: Headers, payload: bytes) -> None:
        newer_than = self.verified.policy_version(reader)
        self.verified.put_policy(
            documents.read_policy_set(self.verified.verifier, reader, headers, payload, newer_than)
        )

    def _record(self, subject: str, reader: Audience, headers: Headers, payload: bytes) -> None:
        newer_than = self.verified.record_version(reader, subject.rsplit(".", 1)[1])
        self.verified.put_record(
            reader, documents.read_record(self.verified.verifier, subject, headers, payload, newer_than)
        )

    def _digest(self, subject: str, reader: Audience, headers: Headers, payload: bytes) -> None:
        before = self.verified.digests.get(reader)
        newer_than = version_of(before) if before else None
        self.verified.put_digest(documents.read_digest(self.verified.verifier, reader, headers, payload, newer_than))

    def _secret(self, subject: str, reader: Audience, headers: Headers, payload: bytes) -> None:
        newer_than = version_of(self.verified.secret) if self.verified.secret else None
        self.verified.put_secret(
            documents.read_secret(self.verified.verifier, self._identity.peer, headers, payload, newer_than)
        )

    # -- replies -----------------------------------------------------------------------------------------------------

    def accept_whoami(self, headers: Headers, payload: bytes) -> Whoami:
        whoami, trust = documents.read_whoami(
            self._identity, self.verified.trust, headers, payload, self.verified.whoami
        )
        self.verified.accept_whoami(whoami, trust)
        return whoami

    def accept_stored_policy(self, reader: Audience, headers: Headers, payload: bytes) -> None:
        """Accept the reply to a Direct Get of a reader's set, if it is newer than ours."""
        if self._is_newer(headers, self.verified.policy_version(reader)):
            self._policy(subjects.policy(reader), reader, headers, payload)

    def accept_stored_secret(self, headers: Headers, payload: bytes) -> None:
        """Accept the reply to a Direct Get of our sealed bundle, if it is newer than ours."""
        if self._is_newer(headers, version_of(self.verified.secret) if self.verified.secret else None):
            self._secret(subjects.secret(self._identity.peer), "", headers, payload)

    def _is_newer(self, headers: Headers, than: Version | None) -> bool:
        """Whether a stored document is worth a verification: replicas may lag (c16), and another epoch's is void."""
        if documents.is_absent(headers):
            return False
        stated = stated_version(headers)
        return stated[0] >= self.verified.trust.epoch and (than is None or stated > than)

    def accept_page(self, reader: Audience, after: str, headers: Headers, payload: bytes) -> tuple[str | None, int]:
        """Accept a page of a reader's directory: where the next page begins, and how many records could not be read.

        The directory replaces the former one as soon as its last page is here (None).
        """
        page, records, unreadable = documents.read_page(
            self.verified.verifier, self._identity.peer, reader, after, headers, payload, self.verified.floors.get(reader)
        )  # fmt: skip
        version = (page.epoch, page.revision)
        run = self._pages.get(reader) if after else None
        if run is None:
            run = self._pages[reader] = PageRun({}, version)
        progress = run.add(records, version) or unreadable > 0
        if page.next_after is not None and progress:
            return page.next_after, unreadable
        del self._pages[reader]
        self.verified.put_pages(reader, run.records, run.version)
        return None, unreadable


_LIVE: dict[str, Callable[[Intake, str, Audience, Headers, bytes], None]] = {
    "policy": Intake._policy,
    "directory": Intake._record,
    "digest": Intake._digest,
    "secret": Intake._secret,
}
