"""The policy service next to the real registry: policies are checked against the fleet's real directory."""

from typing import Any

import pytest

from warren_bus.connection import Connection
from warren_bus.rpc import call
from warren_contracts import subjects
from warren_contracts.commands import ApplyPolicies, ApplyReply, CreateJoinToken
from warren_contracts.peers import JoinToken, JoinTokenRequest
from warren_contracts.policy import Policy
from warren_contracts.problems import UnavailableError, WarrenError
from warren_testkit.bus import RealServer
from warren_testkit.postgres import PostgresServer

COMMAND = ApplyPolicies(
    policies=(Policy.model_validate({"id": "labs", "topology": {"kind": "mesh", "members": ["tag=lab"]}}),)
)


async def apply(api: Connection) -> ApplyReply:
    return await call(api.client, subjects.rpc("policy", "apply"), COMMAND, ApplyReply, timeout=20)


async def test_a_tag_is_known_once_a_join_token_carries_it(
    bus: RealServer, database: PostgresServer, process: Any, connect: Any, environ_of: Any, ready: Any
) -> None:
    for schema in ("policy", "registry"):
        database.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    api = await connect("api")
    await process("warren_policy", environ_of("policy", database.dsn())).start()
    await ready(api, "policy")
    with pytest.raises(UnavailableError, match="registry"):  # not started yet
        await apply(api)

    own = {
        "WARREN_ROOT_KEY_FILE": str(bus.folder / "keys" / "root.seed"),
        "WARREN_POLICY_PUBLIC_KEY": bus.public_keys["policy-signing"],
    }
    await process("warren_registry", environ_of("registry", database.dsn()) | own).start()
    await ready(api, "registry")
    with pytest.raises(WarrenError) as caught:
        await apply(api)
    problem = caught.value.problem()
    assert (problem.type, problem.errors[0].field) == (
        "urn:warren:problem:unknown-tag", "policies/0/topology/members/0",
    )  # fmt: skip

    token = CreateJoinToken(request=JoinTokenRequest(tags=("lab",)))
    await call(api.client, subjects.rpc("registry", "create_join_token"), token, JoinToken, timeout=20)
    assert (await apply(api)).readers == ("tag=lab",)
