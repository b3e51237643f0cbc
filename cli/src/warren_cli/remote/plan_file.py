"""The file of a plan: the exact policies, the versions that they replace, and the mark that binds them to the plan."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from warren_cli.errors import CliError
from warren_cli.remote.client import UsageError
from warren_contracts.plan_mark import PlanMark
from warren_contracts.policy import Policy
from warren_contracts.problems import invalid_input

KIND: Final = "warren-plan"
MAX_FILE = 8_000_000  # bytes, as of a file of policies
_BEGINNING = 256  # characters in which a plan says what it is


class PlanFile(BaseModel):
    """A plan as `warren policy plan --out` writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["warren-plan"] = KIND
    format: Literal[1] = 1
    made_at: datetime
    server: str  # the URL of the API server that made it
    fleet: str  # the public key of its trust root: two young fleets may be at one revision, with gateways of the same names
    mark: PlanMark
    expected_versions: dict[str, int]
    policies: Annotated[tuple[Policy, ...], Field(min_length=1)]


def write_plan(path: Path, plan: PlanFile) -> None:
    """Write a plan; an existing file is replaced. Raises CliError."""
    text = plan.model_dump_json(exclude_defaults=True)
    content = {"kind": KIND, "format": 1, **json.loads(text)}
    try:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise CliError(f"--out {path}: {error.strerror}") from None


def read_plan(files: Sequence[str]) -> PlanFile | None:
    """The plan, if that is what the only file is; None for policies.

    Raises:
        UsageError: a plan next to other files.
        CliError: a plan that cannot be read or was changed in its form.
    """
    plans = [name for name in files if name != "-" and _is_plan(Path(name))]
    if not plans:
        return None
    if len(files) > 1:
        raise UsageError(f"{plans[0]} is a plan: apply it without other files")
    path = Path(plans[0])
    try:
        return PlanFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        found = invalid_input(error.errors(include_url=False))
        raise CliError(f"{path}: invalid plan: {found.detail}: plan again") from None
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None


def _is_plan(path: Path) -> bool:
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE:
            return False
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING).decode("utf-8", "replace")
    except OSError:
        return False  # reading it as policies reports why
    return beginning.lstrip().startswith("{") and f'"{KIND}"' in beginning
