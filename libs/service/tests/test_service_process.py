"""How a service process begins: what is wrong is named, in one line, with exit code 2; nothing secret is in it."""

from pathlib import Path

import pytest
from pydantic import Field

from warren_bus.errors import InvalidSettingError
from warren_bus.settings import BusSettings
from warren_service.process import EXIT_SETTINGS, ServiceSettings, launch
from warren_trust.keys import KeyKind, KeyPair, write_seed

PASSWORD = "correct-horse"


class ExampleSettings(ServiceSettings):
    postgres_dsn: str = Field(repr=False)
    example_port: int = 1


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    seed = tmp_path / "example.seed"
    write_seed(seed, KeyPair.generate(KeyKind.USER))
    good = {
        "WARREN_NATS_URL": "nats://127.0.0.1:1", "WARREN_NKEY_FILE": str(seed), "WARREN_POSTGRES_DSN": f"postgresql://u:{PASSWORD}@h/d",
        "WARREN_LOG_LEVEL": "INFO",
    }  # fmt: skip
    for name, value in good.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def run_it() -> tuple[int, list[ExampleSettings]]:
    ran: list[ExampleSettings] = []

    async def run(bus: BusSettings, settings: ExampleSettings) -> None:
        ran.append(settings)

    return launch("example", ExampleSettings, run), ran


def test_a_service_runs_with_its_settings(environment: pytest.MonkeyPatch) -> None:
    code, ran = run_it()
    assert code == 0
    assert ran[0].log_level == "info"
    assert PASSWORD not in repr(ran[0])


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WARREN_NATS_URL", None), ("WARREN_NKEY_FILE", None), ("WARREN_NKEY_FILE", "/nowhere"),
        ("WARREN_POSTGRES_DSN", None), ("WARREN_EXAMPLE_PORT", "http"), ("WARREN_LOG_LEVEL", "loud"),
        ("WARREN_LOG_FORMAT", "yaml"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str | None
) -> None:
    if value is None:
        environment.delenv(variable)
    else:
        environment.setenv(variable, value)
    code, ran = run_it()
    said = capsys.readouterr().err
    assert (code, ran) == (EXIT_SETTINGS, [])
    assert said.startswith("warren-example: ")
    assert (value if value == "/nowhere" else variable) in said
    assert len(said.splitlines()) == 1
    assert PASSWORD not in said


def test_a_setting_that_proves_wrong_later_is_named_too(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(bus: BusSettings, settings: ExampleSettings) -> None:
        raise InvalidSettingError({"WARREN_EXAMPLE_PORT": "cannot be had: Permission denied"})

    assert launch("example", ExampleSettings, run) == EXIT_SETTINGS
    assert "WARREN_EXAMPLE_PORT cannot be had: Permission denied" in capsys.readouterr().err
