"""Keys: the nkey text form, files and what they refuse."""

import json
import os
import stat
from pathlib import Path

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_trust.errors import InvalidKeyError, InvalidSignatureError
from warren_trust.keys import (
    CALLERS,
    KEY_KINDS,
    XKEY,
    KeyKind,
    KeyPair,
    create_keys,
    decode_public,
    raw_public_key,
    read_seed,
    verify,
    write_seed,
)


@given(raw=st.binary(min_size=32, max_size=32), kind=st.sampled_from(KeyKind))
def test_seed_round_trips(raw: bytes, kind: KeyKind) -> None:
    pair = KeyPair(kind, raw)
    again = KeyPair.from_seed(pair.seed, kind)
    assert (again.public, again.seed) == (pair.public, pair.seed)
    assert decode_public(pair.public, kind) == bytes(pair.signing_key.verify_key)


@pytest.mark.parametrize(("kind", "letter"), [(KeyKind.USER, "U"), (KeyKind.ACCOUNT, "A"), (KeyKind.SIGNING, "W")])
def test_letters_of_kinds(kind: KeyKind, letter: str) -> None:
    pair = KeyPair.generate(kind)
    assert pair.public[0] == letter
    assert pair.seed[:2] == "S" + letter
    assert (len(pair.public), len(pair.seed)) == (56, 58)


def test_user_seed_is_what_the_nkeys_library_reads() -> None:
    pair = KeyPair.generate(KeyKind.USER)
    other = nkeys.from_seed(bytearray(pair.seed.encode()))
    assert other.public_key.decode() == pair.public
    assert other.sign(b"nonce") == pair.sign(b"nonce")


@given(text=st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ234567=a1 ", max_size=70))
def test_malformed_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidKeyError):
        KeyPair.from_seed(text)
    with pytest.raises(InvalidKeyError):
        decode_public(text, KeyKind.USER)


def test_one_changed_letter_is_noticed() -> None:
    seed = KeyPair.generate(KeyKind.USER).seed
    changed = seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:]
    with pytest.raises(InvalidKeyError):
        KeyPair.from_seed(changed)


def test_kinds_are_not_mixed_up(tmp_path: Path) -> None:
    path = tmp_path / "x.seed"
    write_seed(path, KeyPair.generate(KeyKind.SIGNING))
    with pytest.raises(InvalidKeyError, match="not of the kind user"):
        read_seed(path, KeyKind.USER)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o777])
def test_seed_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "x.seed"
    write_seed(path, KeyPair.generate(KeyKind.USER))
    path.chmod(mode)
    with pytest.raises(InvalidKeyError, match="0600"):
        read_seed(path, KeyKind.USER)


def test_missing_seed_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(InvalidKeyError, match=r"none\.seed"):
        read_seed(tmp_path / "none.seed", KeyKind.USER)


def test_repr_and_errors_hide_the_seed(tmp_path: Path) -> None:
    pair = KeyPair.generate(KeyKind.USER)
    path = tmp_path / "x.seed"
    write_seed(path, pair)
    assert pair.seed not in repr(pair) + str(pair)
    with pytest.raises(InvalidKeyError) as caught:
        read_seed(path, KeyKind.ACCOUNT)
    assert pair.seed not in str(caught.value)


def test_create_keys_makes_them_once(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = create_keys(folder)
    seeds = {path.name: path.read_text() for path in folder.glob("*.seed")}
    assert create_keys(folder) == first
    assert {path.name: path.read_text() for path in folder.glob("*.seed")} == seeds
    assert set(first) == {*KEY_KINDS, XKEY, *(f"{name}-call" for name in CALLERS)}
    assert json.loads((folder / "public.json").read_text()) == first
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.seed")} == {0o600}
    assert not any(seed.strip() in (folder / "public.json").read_text() for seed in seeds.values())


def test_signature_of_another_message_is_refused() -> None:
    pair = KeyPair.generate(KeyKind.SIGNING)
    public = raw_public_key(pair.public_base64)
    verify(public, b"one", pair.sign(b"one"))
    with pytest.raises(InvalidSignatureError):
        verify(public, b"two", pair.sign(b"one"))
    with pytest.raises(InvalidSignatureError):
        verify(public, b"one", b"short")
