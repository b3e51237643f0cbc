"""Create the first operator's token: `python -m warren_registry.bootstrap_token --name admin --role admin`.

It needs PostgreSQL only and prints the token once, on standard output and nowhere else.
"""

from warren_process.lean_start import without_pretty_tracebacks

if __name__ == "__main__":
    without_pretty_tracebacks()

import argparse
import asyncio
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime

from pydantic import ValidationError

from warren_bus.errors import InvalidSettingError
from warren_bus.logs import setup_logs
from warren_contracts.commands import CreateOperatorToken, OperatorToken, Role
from warren_contracts.problems import NotFoundError, WarrenError, invalid_input
from warren_registry.adapters.postgres.database import PostgresDatabase, registry_store
from warren_registry.audit.service import record
from warren_registry.operators.service import create_operator_token, remove_operator_token
from warren_registry.settings import DatabaseSettings
from warren_service.process import EXIT_SETTINGS, load


def parse_arguments(arguments: list[str] | None) -> tuple[CreateOperatorToken, bool]:
    """The command, and whether to replace a token of this name; InvalidInputError for an invalid name."""
    parser = argparse.ArgumentParser(
        prog="warren_registry.bootstrap_token", description="Create an operator's bearer token.", allow_abbrev=False
    )
    parser.add_argument("--name", required=True)
    parser.add_argument("--role", required=True, choices=[role.value for role in Role])
    parser.add_argument("--lifetime", type=int, help="seconds; without it the token is valid until it is removed")
    parser.add_argument("--replace", action="store_true", help="remove a token of this name first (it was lost)")
    given = parser.parse_args(arguments)
    try:
        command = CreateOperatorToken(
            name=given.name, role=Role(given.role), lifetime=given.lifetime, actor="bootstrap"
        )
    except ValidationError as error:
        raise invalid_input([dict(found) for found in error.errors()]) from None
    return command, given.replace


async def create(settings: DatabaseSettings, command: CreateOperatorToken, *, replace: bool = False) -> OperatorToken:
    """Create the token; with `replace` one of the same name is removed first, and its connections to the bus are closed."""
    now = datetime.now(UTC)
    async with registry_store(settings.postgres_dsn) as store, PostgresDatabase(store).transaction() as tables:
        if replace:
            with suppress(NotFoundError):
                await remove_operator_token(tables, command.name, now)
        made = await create_operator_token(tables, command, os.urandom, now)
        await record(tables, "create_operator_token", made.name, command, now)
        return made


def main(arguments: list[str] | None = None) -> int:
    """Print the new token; returns 1, with one line on standard error, when it cannot be created."""
    try:
        command, replace = parse_arguments(arguments)
        settings = load(DatabaseSettings)
        setup_logs("bootstrap-token", settings.log_format, "warning")
        print(asyncio.run(create(settings, command, replace=replace)).token)
    except WarrenError as error:
        print(error.problem().line, file=sys.stderr)
        return 1
    except InvalidSettingError as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
