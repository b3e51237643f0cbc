"""F13: wrong tokens from one address locked out right ones that the API server had not cached; a forged X-Forwarded-For lifted it."""

import pytest

from warren_api.auth import FILTER_SECONDS, Authenticator
from warren_api.errors import TooManyFailedTokensError
from warren_api.settings import ApiSettings
from warren_contracts.commands import CreateOperatorToken, OperatorToken, Role
from warren_contracts.problems import UnauthorizedError
from warren_testkit.api import FakeBus


@pytest.fixture
async def exhausted() -> tuple[Authenticator, FakeBus, list[float]]:
    """An address that has sent many wrong tokens."""
    now, bus = [100.0], FakeBus()
    authenticator = Authenticator(bus, lambda: now[0])
    for number in range(40):
        with pytest.raises((UnauthorizedError, TooManyFailedTokensError)):
            await authenticator.authenticate(f"Bearer wrong-{number}", "proxy")
    return authenticator, bus, now


def asked(bus: FakeBus, verb: str) -> int:
    return sum(1 for _, called, _ in bus.calls if called == verb)


async def test_a_right_token_is_accepted_next_to_any_number_of_wrong_ones(
    exhausted: tuple[Authenticator, FakeBus, list[float]],
) -> None:
    authenticator, bus, now = exhausted
    now[0] += FILTER_SECONDS
    for role in Role:
        await bus.call(
            "registry", "create_operator_token", CreateOperatorToken(name=role.value, role=role), OperatorToken
        )
    for role in Role:  # none was seen before
        assert (await authenticator.authenticate(f"Bearer new-token-of-{role.value}", "proxy")).role is role
        for number in range(30):
            with pytest.raises((UnauthorizedError, TooManyFailedTokensError)):
                await authenticator.authenticate(f"Bearer more-{role}-{number}", "proxy")
        now[0] += 0.1
    assert asked(bus, "authenticate") < 30
    assert asked(bus, "operator_tokens") <= 2


async def test_a_token_that_was_just_created_is_accepted_soon(
    exhausted: tuple[Authenticator, FakeBus, list[float]],
) -> None:
    authenticator, bus, now = exhausted
    with pytest.raises(TooManyFailedTokensError):
        await authenticator.authenticate("Bearer new-token-of-new", "proxy")
    await bus.call(
        "registry", "create_operator_token", CreateOperatorToken(name="new", role=Role.VIEWER), OperatorToken
    )
    now[0] += FILTER_SECONDS
    assert (await authenticator.authenticate("Bearer new-token-of-new", "proxy")).role is Role.VIEWER


async def test_another_address_is_not_concerned(exhausted: tuple[Authenticator, FakeBus, list[float]]) -> None:
    authenticator, bus, _ = exhausted
    with pytest.raises(UnauthorizedError):
        await authenticator.authenticate("Bearer mistyped", "elsewhere")
    assert asked(bus, "operator_tokens") == 1


def test_no_proxy_is_trusted_by_default() -> None:
    assert ApiSettings().trusted_proxies == ""
    assert ApiSettings(trusted_proxies="127.0.0.1, 10.0.0.0/8").trusted_proxies == "127.0.0.1, 10.0.0.0/8"
    for wrong in ("*", "proxy.example", "10.0.0.0/8;x"):
        with pytest.raises(ValueError, match="trusted_proxies"):
            ApiSettings(trusted_proxies=wrong)
