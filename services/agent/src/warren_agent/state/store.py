"""The agent's state folder (0700): keys, identity, and the last intent that was verified, each in a 0600 file.

`nkey.seed` is the host's identity on the bus, `ike.seed` its raw Ed25519 IKE key; neither leaves the host. `identity.json` and
`ca.pem` are what enrolment gave, `intent.json` what the agent starts from without a server; a driver may store a file of its own.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from warren_agent.errors import BadStateError, DamagedIdentityError, NotEnrolledError
from warren_agent.state.files import read_private, write_private
from warren_bus.feed.state import FeedState
from warren_contracts.base import read
from warren_contracts.documents import SignedDocument
from warren_contracts.names import PeerId, PublicKey
from warren_process.atomic_file import rename_durably
from warren_trust.keys import KeyKind, KeyPair, read_seed, write_seed


class Enrolment(BaseModel):
    """Who this host is in its fleet, and whom it believes: the root is pinned at enrolment."""

    model_config = ConfigDict(frozen=True)

    peer: PeerId
    tags: tuple[str, ...]
    root: PublicKey
    trust: SignedDocument
    servers: tuple[str, ...]
    enrolled_at: datetime


class StateStore:
    """Reads and writes the folder. Everything that is wrong with it is a BadStateError that names the file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def nkey_file(self) -> Path:
        return self.folder / "nkey.seed"

    @property
    def ca_file(self) -> Path:
        """The CAs (PEM) that vouch for the bus's servers; no secret, and none where the bus is reached without TLS."""
        return self.folder / "ca.pem"

    def save_authorities(self, certificates: Iterable[str]) -> None:
        """Replace the CAs."""
        write_private(self.ca_file, "".join(certificates).encode())

    def prepare(self) -> None:
        """Make the folder and the two keys, where they are missing. BadStateError when that cannot be."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if stat.S_IMODE(self.folder.stat().st_mode) & 0o077:
                self.folder.chmod(0o700)
            for path, kind in ((self.nkey_file, KeyKind.USER), (self._ike_file, KeyKind.SIGNING)):
                if not path.exists():
                    write_seed(path, KeyPair.generate(kind))
        except OSError as error:
            raise BadStateError(
                f"{self.folder}: the state folder cannot be made or written ({error.strerror}): choose one with --state"
            ) from None

    @contextlib.contextmanager
    def new_keys(self) -> Iterator[None]:
        """Another identity: new keys and no enrolment within; the former ones come back if that fails."""
        kept = [self.folder / name for name in ("nkey.seed", "ike.seed", "identity.json", "ca.pem")]
        former = {path: path.with_name(f"{path.name}.former") for path in kept if path.exists()}
        for path, aside in former.items():
            rename_durably(path, aside)
        try:
            self.prepare()
            yield
        except BaseException:
            for path, aside in former.items():
                rename_durably(aside, path)
            raise
        for aside in former.values():
            aside.unlink()

    def nkey(self) -> KeyPair:
        """The bus key; InvalidKeyError when its file is damaged or open to others."""
        return read_seed(self.nkey_file, KeyKind.USER)

    def ike_key(self) -> KeyPair:
        """The IKE key; InvalidKeyError when its file is damaged or open to others."""
        return read_seed(self._ike_file, KeyKind.SIGNING)

    def identity(self) -> Enrolment:
        """NotEnrolledError where there is none."""
        data = self._read("identity.json")
        if data is None:
            raise NotEnrolledError(
                f"{self.folder}: this host is not enrolled; run `warren-agent enrol` with a join token"
            )
        try:
            return Enrolment.model_validate_json(data)
        except ValidationError:
            raise DamagedIdentityError(
                f"{self.folder}/identity.json is damaged: enrol again with a join token (the same peer id and key are known)"
            ) from None

    def save_identity(self, identity: Enrolment) -> None:
        """Replace the identity; what an earlier fleet wanted is forgotten with it."""
        try:
            same_fleet = self.identity().root == identity.root
        except (NotEnrolledError, DamagedIdentityError):
            same_fleet = False
        if not same_fleet:
            (self.folder / "intent.json").unlink(missing_ok=True)
        self._write("identity.json", identity)

    def intent(self) -> FeedState | None:
        """The last verified intent; None where there is none. A damaged file is set aside: the bus has a newer one."""
        data = self._read("intent.json")
        if data is None:
            return None
        try:
            return read(FeedState, data)
        except ValidationError:
            rename_durably(self.folder / "intent.json", self.folder / "intent.json.damaged")
            return None

    def save_intent(self, state: FeedState) -> None:
        """Replace the last verified intent."""
        self._write("intent.json", state)

    @property
    def _ike_file(self) -> Path:
        return self.folder / "ike.seed"

    def _read(self, name: str) -> bytes | None:
        path = self.folder / name
        try:
            data = read_private(path)
            if data is not None and path.stat().st_mode & 0o077 and os.name == "posix":
                raise BadStateError(f"{path} is open to others: its mode must be 0600")
        except OSError as error:
            raise BadStateError(f"{path}: {error.strerror}") from None
        return data

    def _write(self, name: str, document: BaseModel) -> None:
        write_private(self.folder / name, document.model_dump_json().encode())

    def lock(self) -> int:
        """Keep other agents out of this folder as long as this process lives; BadStateError when one is there."""
        try:
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadStateError(f"{self.folder}/lock: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise BadStateError(f"{self.folder}: another agent uses this folder") from None
        return descriptor
