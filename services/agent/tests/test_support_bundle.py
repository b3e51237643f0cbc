"""The support bundle has no secret in any spelling: markers are planted wherever one may stand."""

import base64
import json
import os
import tarfile
from pathlib import Path

import pytest

from warren_agent.doctor.bundle import known_secrets, make_bundle
from warren_agent.doctor.examine import charon_paths, examine
from warren_agent.doctor.redact import REMOVED, redacted
from warren_agent.settings import check_settings
from warren_agent.state.store import StateStore

PSK = "c0rrect-horse-battery"
TOKEN = "wj1_abcdefghij234567_abcdefghij234567abcdefghij234567"
NKEY = "SU" + "A" * 20 + "B2C3D4E5F6G7H2J3K4L5M6N7P2Q3R4S5T6U7"
JWT = "eyJhbGciOiJFZDI1NTE5In0.eyJqdGkiOiJtYXJrZXIifQ.c2lnbmF0dXJl"
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIMARKERMARKERMARKER\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        f"secret = {PSK}",
        f'"password": "{PSK}"',
        f"psk: {PSK}, next: 1",
        f'secrets {{ ike-1 {{ secret = "{PSK}" }} }}',
        f"WARREN_JOIN_TOKEN={PSK}",
        f"nats://user:{PSK}@192.0.2.1:4222",
        f"Authorization: Bearer {PSK}",
        f'{{"sealed": "{PSK}"}}',
        f"private_key='{PSK}'",
        f"charon loaded {NKEY} and went on".replace(NKEY, NKEY[:58]),
        f"token {JWT} was refused",
        PEM,
        "secret = 0sbWFya2VybWFya2VybWFya2Vy",
        "aead rfc4106(gcm(aes)) 0x00112233445566778899aabbccddeeff00112233 128",
    ],
)
def test_what_looks_like_a_secret_is_removed(text: str) -> None:
    clean = redacted(text)
    assert REMOVED in clean
    for marker in (PSK, NKEY[:58], JWT, "MARKER", "bWFya2Vy", "00112233445566778899aabb"):
        assert marker not in clean


@pytest.mark.parametrize(
    "text",
    [
        "tunnel.up peer=hub tunnel=hub+spoke",
        "the token of this host expired",
        "no shared secret found for hub",
        "spi 0xc1f2a3b4 reqid 1",
        "10.0.0.0/24 to 10.1.0.0/24, aes256gcm16, x25519",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


async def test_no_secret_of_this_host_is_in_its_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StateStore(tmp_path / "state")
    store.prepare()
    raw = [bytes(store.nkey().signing_key), bytes(store.ike_key().signing_key)]
    spellings = [
        *(base64.b64encode(it).decode().rstrip("=") for it in raw), *(it.hex() for it in raw),
        store.nkey().seed, store.ike_key().seed, PSK, TOKEN, NKEY[:58], JWT,
    ]  # fmt: skip
    # Where a mistake could put them: files of the state folder, the environment, and what a command prints.
    planted = {
        "secret": PSK,
        "note": raw[0].hex(),
        "other": base64.b64encode(raw[1]).decode(),
        "nkey": NKEY[:58],
        "jwt": JWT,
    }
    for name in ("identity.json", "settings.json", "intent.json", "strongswan.json"):
        (store.folder / name).write_text(json.dumps(planted))
        (store.folder / name).chmod(0o600)
    command = tmp_path / "bin" / "journalctl"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\necho 'psk = {PSK}'; echo 'seed {store.ike_key().seed}'; echo 'join {TOKEN}'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    environ = {"WARREN_JOIN_TOKEN": TOKEN, "WARREN_NATS_URL": f"nats://u:{PSK}@127.0.0.1:1"}
    settings = check_settings(
        {"state": str(store.folder), "vici_socket": str(tmp_path / "none"), "nats_url": "nats://127.0.0.1:1"}
    )
    target = tmp_path / "bundle.tar.gz"
    report = await examine(settings)
    names = await make_bundle(settings, report, charon_paths(settings), target, environ)
    assert target.stat().st_mode & 0o777 == 0o600
    contents: dict[str, str] = {}
    with tarfile.open(target) as archive:
        for entry in archive.getmembers():
            file = archive.extractfile(entry)
            assert file is not None
            contents[entry.name] = file.read().decode()
    assert len(contents) == len(names)
    for name, text in contents.items():
        for spelling in spellings:
            assert spelling not in text, name
    assert contents["bundle/journal-agent.txt"].count(REMOVED) == 3  # the command ran, and its secrets were found
    assert "enrolment" in contents["bundle/doctor.txt"]
    assert any(TOKEN.encode() == it for it in known_secrets(store.folder, environ))
