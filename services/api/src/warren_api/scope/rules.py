"""What each route does with a token that has a scope. Pure; the one place that decides it.

Routes are named by their functions, as in the OpenAPI document (`operationId`). What is not listed here refuses such tokens.
"""

from collections.abc import Mapping
from enum import StrEnum

from warren_contracts.authentication import Authenticated
from warren_contracts.problems import ForbiddenError


class ScopeRule(StrEnum):
    """What a route does with a scope."""

    OPEN = "open"  # it asks for no token
    SAME = "same"  # it shows nothing of the fleet: the reply is that to any token
    LIMITED = "limited"  # to the peers of the scope and their tunnels; what is outside answers as if it did not exist
    NONE = "none"  # as if there were nothing of its kind in the fleet
    REFUSED = "refused"  # 403, before anything is looked up


_O, _S, _L, _N, _R = ScopeRule.OPEN, ScopeRule.SAME, ScopeRule.LIMITED, ScopeRule.NONE, ScopeRule.REFUSED

RULES: Mapping[str, ScopeRule] = {
    # peers
    "list_peers": _L,
    "get_peer": _L,
    "retag_peer": _R,  # tags are what a scope is made of
    "set_peer_priority": _R,  # among gateways of the same networks, which may be outside
    "revoke_peer": _R,  # only an administrator of the fleet gives identities, and takes them
    "register_peer": _O,
    "update_peer_status": _O,
    # tunnels
    "list_tunnels": _L,
    "get_tunnel": _L,
    "explain_tunnel": _L,
    "get_tunnel_history": _L,
    "get_tunnel_counters": _L,
    "get_fleet": _L,
    "rekey_tunnel": _L,
    "restart_tunnel": _L,
    # live
    "follow_fleet": _L,
    "follow_fleet_by_websocket": _L,
    "get_events": _L,
    # policies: one selects peers of several scopes, and its text names them and their networks
    "list_policies": _N,
    "list_rollouts": _N,
    "get_policy": _N,
    "get_policy_history": _N,
    "list_deleted_policies": _N,
    "diff_policy": _N,
    "create_policy": _R,
    "apply_policies": _R,
    "delete_policies": _R,
    "put_policy": _R,
    "delete_policy": _R,
    "plan_policies": _R,
    "roll_back_policy": _R,
    # tokens: one that creates tokens could create one with a wider scope; a join token gives tags
    "create_join_token": _R,
    "list_join_tokens": _R,
    "remove_join_token": _R,
    "create_operator_token": _R,
    "list_operator_tokens": _R,
    "remove_operator_token": _R,
    # audit
    "list_audit": _L,
    "list_policy_audit": _R,
    "verify_policy_audit": _R,
    # session: it is one more way to present the same token, and has its scope
    "get_session": _S,
    "sign_in": _O,
    "sign_out": _O,
    "create_sign_in_code": _S,
    # system
    "get_health": _L,  # without reasons and remarks, which name what they concern
    "get_live": _O,
    "advance_epoch": _R,
    "get_trust": _R,  # for readers of the bus, which a token with a scope does not open
}


def require_scope(principal: Authenticated, route: str) -> None:
    """Raise ForbiddenError if a principal has a scope and the route refuses those, or does not say what it does with one."""
    if principal.scope is not None and RULES.get(route, ScopeRule.REFUSED) is ScopeRule.REFUSED:
        raise ForbiddenError(
            f"the token of {principal.name} is for a part of the fleet (tags {', '.join(principal.scope)}): this requires one for all"
            " of it"
        )
