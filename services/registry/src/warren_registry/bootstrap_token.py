"""The first operator's token: `python -m warren_registry.bootstrap_token --name admin --role admin`.

It needs PostgreSQL alone and prints the token once, on standard output and nowhere else.
"""

import argparse
import asyncio
import os
import sys
from datetime import UTC, datetime

from pydantic import ValidationError

from warren_bus.errors import BadSetting
from warren_bus.logs import setup_logs
from warren_bus.process import EXIT_SETTINGS, load
from warren_contracts.commands import CreateOperatorToken, OperatorToken, Role
from warren_contracts.problems import WarrenError, invalid_input
from warren_registry.adapters.postgres.database import PostgresDatabase, registry_store
from warren_registry.settings import DatabaseSettings
from warren_registry.tokens import create_operator_token


def parse_arguments(arguments: list[str] | None) -> CreateOperatorToken:
    """What is wished for; InvalidInput for a name that is none."""
    parser = argparse.ArgumentParser(
        prog="warren_registry.bootstrap_token", description="Make an operator's bearer token."
    )
    parser.add_argument("--name", required=True)
    parser.add_argument("--role", required=True, choices=[role.value for role in Role])
    parser.add_argument("--lifetime", type=int, help="seconds; without it the token stays valid")
    given = parser.parse_args(arguments)
    try:
        return CreateOperatorToken(name=given.name, role=Role(given.role), lifetime=given.lifetime, actor="bootstrap")
    except ValidationError as error:
        raise invalid_input([dict(found) for found in error.errors()]) from None


async def create(settings: DatabaseSettings, command: CreateOperatorToken) -> OperatorToken:
    async with registry_store(settings.postgres_dsn) as store, PostgresDatabase(store).transaction() as tables:
        return await create_operator_token(tables, command, os.urandom, datetime.now(UTC))


def main(arguments: list[str] | None = None) -> int:
    """Print the new token; 1 and one line on standard error when it cannot be made."""
    try:
        command = parse_arguments(arguments)
        settings = load(DatabaseSettings)
        setup_logs("bootstrap-token", settings.log_format, "warning")
        print(asyncio.run(create(settings, command)).token)
    except WarrenError as error:
        print(error.problem().line, file=sys.stderr)
        return 1
    except BadSetting as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
