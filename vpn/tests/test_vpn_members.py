"""Who may log in while server.toml or the user file cannot be used: what may have been removed is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from warren_vpn.server.errors import ServerSettingError
from warren_vpn.server.folder import make_folder, public_text, read_keys
from warren_vpn.server.members import ServerMembers
from warren_vpn.server.settings import listed_keys, read_settings
from warren_vpn.users.edits import Options, add, change, remove
from warren_vpn.users.store import UserFile

PLAIN = 'identity = "vpn.example.org"\n[tunnel]\npools = ["10.66.0.0/24"]\n'
INVALID = "[limits]\ninactivity_s = 1\n"


class World:
    """A server's folder: alice and bob are in server.toml, carol and dave in the user file."""

    def __init__(self, folder: Path) -> None:
        self.path = make_folder(folder, "vpn.example.org", certificate=False).settings
        self.keys = {name: public_text(Ed25519PrivateKey.generate().public_key()) for name in ("alice", "bob")}
        self.users = UserFile(folder / "users.json")
        for name in ("carol", "dave"):
            key = public_text(Ed25519PrivateKey.generate().public_key())
            add(self.users, name, None, False, Options(public_key=key))
        self.write()
        settings = read_settings(self.path)
        self.members = ServerMembers(self.path, settings, read_keys(folder, settings))

    def write(self, *names: str, more: str = "") -> None:
        """Replace server.toml; without names both are in it."""
        users = (f'[[user]]\nname = "{name}"\npublic_key = "{self.keys[name]}"\n' for name in names or ("alice", "bob"))
        self.path.write_text(PLAIN + more + "".join(users))

    @property
    def admitted(self) -> set[str]:
        """Who may log in, by the engine's connections."""
        return {connection.name.removeprefix("key-") for connection in self.members.connections.engine}

    @property
    def uncertain(self) -> set[str]:
        return set(self.members.uncertain)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    assert made.admitted == {"alice", "bob", "carol", "dave"}
    return made


def test_what_is_removed_from_a_server_toml_with_an_invalid_setting_is_refused(world: World) -> None:
    world.write("alice", more=INVALID)
    (problem,) = world.members.reload()
    assert "limits/inactivity_s" in problem
    assert world.admitted == {"alice", "carol", "dave"}
    assert not world.uncertain
    assert world.members.settings.limits.inactivity_s == 60


def test_a_replaced_key_in_an_invalid_server_toml_refuses_both_keys(world: World) -> None:
    world.keys["bob"] = public_text(Ed25519PrivateKey.generate().public_key())
    world.write(more=INVALID)
    world.members.reload()
    assert world.admitted == {"alice", "carol", "dave"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("identity = "),
        lambda path: path.write_text('user = "alice"'),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.unlink(),
    ],
    ids=["no TOML", "no users", "no text", "no file"],
)
def test_the_users_of_an_unreadable_server_toml_cannot_log_in_until_it_is_valid(
    world: World, spoil: Callable[[Path], object]
) -> None:
    spoil(world.path)
    assert world.members.reload()
    assert (world.admitted, world.uncertain) == ({"carol", "dave"}, {"alice", "bob"})
    remove(world.users, "carol")  # what is readable is followed
    assert world.members.user_file_has_changed()
    world.members.reload()
    assert (world.admitted, world.uncertain) == ({"dave"}, {"alice", "bob"})
    world.write()
    assert world.members.reload() == []
    assert (world.admitted, world.uncertain) == ({"alice", "bob", "dave"}, set())


def test_the_users_of_an_unusable_user_file_cannot_log_in_until_it_is_usable(world: World) -> None:
    content = world.users.path.read_bytes()
    world.users.path.write_bytes(b"{")
    assert world.members.user_file_has_changed()
    (problem,) = world.members.reload()
    assert "users.json" in problem
    assert (world.admitted, world.uncertain) == ({"alice", "bob"}, {"carol", "dave"})
    assert not world.members.user_file_has_changed()  # it is reported once
    world.users.path.write_bytes(content)
    assert world.members.user_file_has_changed()
    assert world.members.reload() == []
    assert (world.admitted, world.uncertain) == ({"alice", "bob", "carol", "dave"}, set())
    assert not world.members.user_file_has_changed()


@pytest.mark.parametrize(
    ("change_of_carol", "reason"),
    [
        ({"addresses": ("10.99.0.1",)}, "10.99.0.1 is in no pool"),
        ({"certificate_identities": ("Alice",)}, "identity 'alice' is another user's"),
        ({"certificate_identities": ("dave",)}, "identity 'dave' is another user's"),
    ],
)
def test_a_user_who_contradicts_the_rest_does_not_keep_others_from_being_removed(
    world: World, change_of_carol: dict[str, object], reason: str
) -> None:
    change(world.users, "carol", change_of_carol)
    world.write("alice")
    (problem,) = world.members.reload()
    assert reason in problem
    assert world.admitted == {"alice", "dave"}
    with pytest.raises(ServerSettingError, match=reason):  # a start refuses it
        ServerMembers(world.path, world.members.settings, world.members.keys)


def test_unusable_keys_leave_the_former_ones_in_use(world: World) -> None:
    before = world.members.keys
    (world.path.parent / "server.key").write_text("no key")
    (problem,) = world.members.reload()
    assert "server.key" in problem
    assert world.members.keys is before
    assert world.admitted == {"alice", "bob", "carol", "dave"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1", frozenset()),
        ('[[user]]\nname = "a"\npublic_key = "k"\n[[user]]\nname = 3', frozenset({("a", "k"), ("3", "None")})),
        ("user = [1]", None),
        ("[user]\nname = 1", None),
        ("x =", None),
    ],
)
def test_the_users_that_an_invalid_file_lists(text: str, expected: frozenset[tuple[str, str]] | None) -> None:
    assert listed_keys(text) == expected
