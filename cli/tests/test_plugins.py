"""Verbs of other packages: listed, called, and named where they are missing."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from warren_cli import plugins
from warren_cli.main import app

PLUGIN = """
import typer

def register(app):
    @app.command("{verb}", help="Greet a peer.")
    def greet(name: str) -> None:
        typer.echo(f"hello {{name}}")
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of site-packages with two more packages: one with a verb, one that cannot be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, verb in (("greeter", "greet"), ("broken", "shatter")):
        information = tmp_path / f"warren_{name}-1.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: warren-{name}\nVersion: 1\n")
        (information / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{verb} = warren_{name}:register\n")
    (tmp_path / "warren_greeter.py").write_text(PLUGIN.format(verb="greet"))
    (tmp_path / "warren_broken.py").write_text("import a_module_that_is_missing\n")
    plugins.installed_verbs.cache_clear()
    yield tmp_path
    plugins.installed_verbs.cache_clear()
    plugins.group_of.cache_clear()


@pytest.mark.usefixtures("installed")
def test_a_verb_of_another_package_is_listed_and_called() -> None:
    assert "Greet a peer." in CliRunner().invoke(app, ["--help"]).stdout
    assert CliRunner().invoke(app, ["greet", "gw1"]).stdout == "hello gw1\n"
    assert "Usage: warren greet" in CliRunner().invoke(app, ["greet", "--help"]).stdout


@pytest.mark.usefixtures("installed")
def test_a_verb_that_cannot_be_imported_is_not_listed_and_says_why() -> None:
    assert "shatter" not in CliRunner().invoke(app, ["--help"]).stdout
    result = CliRunner().invoke(app, ["shatter"])
    assert (result.exit_code, result.stderr) == (
        1,
        "warren: shatter: warren-broken cannot be imported (No module named 'a_module_that_is_missing')\n",
    )


@pytest.mark.parametrize(("verb", "distribution"), list(plugins.DISTRIBUTIONS.items()))
def test_a_verb_of_a_missing_package_names_what_to_install(
    verb: str, distribution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: dict[str, EntryPoint] = {}
    monkeypatch.setattr(plugins, "installed_verbs", lambda: nothing)
    plugins.group_of.cache_clear()
    result = CliRunner().invoke(app, [verb, "--data", "/x"])
    assert (result.exit_code, result.stderr) == (1, f"warren: {verb}: not installed; pip install '{distribution}'\n")
    assert CliRunner().invoke(app, ["nothing"]).exit_code == 2
    assert verb not in CliRunner().invoke(app, ["--help"]).stdout.split()
