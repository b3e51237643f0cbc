import hashlib

import pytest

from warren_registry.bootstrap_token import main
from warren_testkit.postgres import PostgresServer

ARGUMENTS = ["--name", "admin", "--role", "admin"]


def test_the_token_is_printed_once_and_stored_as_a_hash(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    postgres.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS registry CASCADE")
    monkeypatch.setenv("WARREN_POSTGRES_DSN", postgres.dsn())
    assert main(ARGUMENTS) == 0
    output = capsys.readouterr()
    token = output.out.strip()
    assert token.startswith("wo1_")
    assert token not in output.err
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert (
        postgres.sql("SELECT name, role, encode(digest, 'hex') FROM registry.operator_token") == f"admin|admin|{digest}"
    )


def test_a_lost_token_is_replaced_and_never_created_twice(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    postgres.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS registry CASCADE")
    monkeypatch.setenv("WARREN_POSTGRES_DSN", postgres.dsn())
    assert main(ARGUMENTS) == 0
    assert main(ARGUMENTS) == 1
    assert "remove that one first" in capsys.readouterr().err
    assert main([*ARGUMENTS, "--replace"]) == 0
    digest = hashlib.sha256(capsys.readouterr().out.strip().encode()).hexdigest()
    assert postgres.sql("SELECT encode(digest, 'hex') FROM registry.operator_token") == digest
    assert postgres.sql("SELECT bus_user FROM registry.kick") == "op.admin"


def test_an_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WARREN_POSTGRES_DSN", "postgresql://registry@/warren?host=/nowhere")
    assert main(ARGUMENTS) == 1
    assert "PostgreSQL is unavailable" in capsys.readouterr().err
    assert main(["--name", "a b", "--role", "admin"]) == 1
    assert "name" in capsys.readouterr().err
    monkeypatch.delenv("WARREN_POSTGRES_DSN")
    assert main(ARGUMENTS) == 2
    assert "WARREN_POSTGRES_DSN is not set" in capsys.readouterr().err
