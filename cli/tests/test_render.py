"""Tables in terminals of any width."""

import re
from collections.abc import Callable

import pytest

from warren_cli.remote import render

COLUMNS = ("TUNNEL", "STATE", "PEERS", "CIPHER", "REASON")
ROW = ("branch-1+hub", "down", "branch-1, hub", "aes256gcm16", "branch-1: peer-unreachable (no answer in 4 tries)")


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[int], list[str]]:
    """The lines of the table in a terminal with this many columns."""

    def lines(width: int) -> list[str]:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")
        render.print_table(COLUMNS, [ROW], "none", optional=("PEERS", "CIPHER"))
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()

    return lines


def test_a_wide_terminal_shows_every_column(printed: Callable[[int], list[str]]) -> None:
    header, row = printed(200)
    assert header.split() == list(COLUMNS)
    assert row.endswith("(no answer in 4 tries)")


def test_a_narrow_terminal_loses_the_optional_columns_first(printed: Callable[[int], list[str]]) -> None:
    header, *rows = printed(80)
    assert header.split() == ["TUNNEL", "STATE", "REASON"]
    assert len(rows) == 1


@pytest.mark.parametrize("width", [60, 41])
def test_a_name_is_never_broken(printed: Callable[[int], list[str]], width: int) -> None:
    rows = printed(width)
    assert rows[1].startswith("branch-1+hub  down ")
    assert "".join("".join(row.split()) for row in rows[1:]) == "".join((*ROW[:2], *ROW[4:])).replace(" ", "")
