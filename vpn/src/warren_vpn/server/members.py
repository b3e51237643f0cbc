"""Who may log in: the users of server.toml and of the user file, also while one of the files cannot be used.

A server that runs does not end because somebody has mistyped, and what may have been removed is refused all the same:

    server.toml is invalid         its former settings stay; of its users those who are still listed with the same key
    nothing can be read of it      none of its users can log in until it is valid; their sessions stay
    the user file is unusable      none of its users can log in until it is usable; their sessions stay
    a user contradicts the rest    this user cannot log in, all others can
    a key or certificate is        the former ones stay in use
    unusable
"""

from collections.abc import Iterable
from pathlib import Path

from warren_cli.errors import CliError
from warren_ikev2.errors import ConfigurationError
from warren_vpn.server.connections import Connections, build_connections, contradictions
from warren_vpn.server.errors import ServerSettingError
from warren_vpn.server.folder import Keys, read_keys
from warren_vpn.server.settings import KeyUser, ServerSettings, listed_keys, parse_settings, read_settings_text
from warren_vpn.users.errors import UserFileError
from warren_vpn.users.model import Users
from warren_vpn.users.store import FILE_NAME, UserFile


class ServerMembers:
    """The users of one running server, as connections of its engine. Reads files; changes nothing."""

    def __init__(self, path: Path, settings: ServerSettings, keys: Keys) -> None:
        """`path` is that of server.toml, `settings` and `keys` what a start has read. ServerSettingError, UserFileError."""
        self._path, self.settings, self.keys = path, settings, keys
        self._file = UserFile(path.parent / FILE_NAME)
        self._users = self._file.read()
        self._unusable = False
        """Whether the user file was unusable when it was read last."""
        try:
            self.connections: Connections = build_connections(settings, keys, self._users)
        except (ConfigurationError, ValueError) as error:
            raise ServerSettingError(f"{path}: {error}") from None
        self.uncertain: frozenset[str] = frozenset()
        """Users who may have been removed from a file that cannot be read: they cannot log in, and their sessions stay."""

    def user_file_has_changed(self) -> bool:
        """Whether the user file is another one than at the last reading, or has become usable or unusable."""
        try:
            return self._file.read() is not self._users or self._unusable
        except UserFileError:
            return not self._unusable

    def reload(self) -> list[str]:
        """Read everything again, and apply what can be applied. Returns what is wrong, in words."""
        listed, problems = self._read_settings()
        try:
            self._users, self._unusable = self._file.read(), False
        except UserFileError as error:
            self._unusable = True
            problems.append(str(error))
        try:
            self.keys = read_keys(self._path.parent, self.settings)
        except CliError as error:
            problems.append(f"{error}; the former keys and certificates stay in use")
        return problems + self._apply(listed)

    def _read_settings(self) -> tuple[frozenset[tuple[str, str]] | None, list[str]]:
        """Read server.toml. Returns the users that it lists, by name and key (None: unreadable), and what is wrong."""
        try:
            text = read_settings_text(self._path)
        except CliError as error:
            return None, [str(error)]
        try:
            read = parse_settings(text, str(self._path))
        except ServerSettingError as error:
            return listed_keys(text), [str(error)]
        # everything else is for the next start: device, rules and ports are there already
        self.settings = self.settings.model_copy(update={"user": read.user, "limits": read.limits})
        return _keys_of(read.user), []

    def _apply(self, listed: frozenset[tuple[str, str]] | None) -> list[str]:
        known = Users() if self._unusable else self._users
        uncertain = {user.name for user in self._users.users} if self._unusable else set()
        if listed is None:
            uncertain |= {user.name for user in self.settings.user}
        own = tuple(
            user for user in self.settings.user if listed is not None and (user.name, user.public_key) in listed
        )
        settings = self.settings.model_copy(update={"user": own})
        refused = dict(contradictions(settings, known.users))
        usable = known.model_copy(update={"users": tuple(one for one in known.users if one.name not in refused)})
        self.connections = build_connections(settings, self.keys, usable)
        self.uncertain = frozenset(uncertain)
        return [f"{reason}; this user cannot log in" for reason in refused.values()]


def _keys_of(users: Iterable[KeyUser]) -> frozenset[tuple[str, str]]:
    return frozenset((user.name, user.public_key) for user in users)
