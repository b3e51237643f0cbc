"""The profile of Warren's own client. Pure."""

from warren_vpn.profiles.facts import BuiltProfile, ProfileFile, Secrets, ServerFacts, UnsuitableProfileError
from warren_vpn.profiles.files import build_profile
from warren_vpn.profiles.profile import (
    CaTrust,
    CertificateLogin,
    ClientProfile,
    KeyLogin,
    KeyTrust,
    Login,
    PasswordLogin,
)
from warren_vpn.users.model import User


def make_profile(facts: ServerFacts, user: User, secrets: Secrets, *, kill_switch: bool = False) -> ClientProfile:
    """The profile of a user: by its key if it has one, else by its password, else by its certificate.

    A server proves itself to users with a raw key by its own raw key, to others by its certificate if it has one.
    """
    return ClientProfile(
        name=facts.name,
        servers=facts.servers,
        server_identity=facts.identity,
        server_trust=KeyTrust(public_key=facts.public_key)
        if facts.proves_by_raw_key(user)
        else CaTrust(authorities=facts.required_authority("a login by password or certificate")),
        identity=user.certificate_identities[0] if _by_certificate(user) else user.name,
        login=_login(user, secrets),
        routes=facts.routes,
        dns_servers=facts.dns_servers,
        search_domains=facts.search_domains,
        kill_switch=kill_switch,
    )


def build(profile: ClientProfile, user: User) -> BuiltProfile:
    """The profile's file."""
    name = f"{profile.name}-{user.name}.json"
    steps = [f"on the client: warren vpn client --profile {name}"]
    if isinstance(profile.login, KeyLogin | CertificateLogin) and profile.login.key_file is not None:
        steps.insert(0, f"put the user's private key next to it, as {profile.login.key_file}, mode 0600")
    return BuiltProfile((ProfileFile(name, build_profile(profile).encode(), profile.has_secret),), tuple(steps))


def _by_certificate(user: User) -> bool:
    return user.public_key is None and user.password is None


def _login(user: User, secrets: Secrets) -> Login:
    if user.public_key is not None:
        if secrets.private_key is not None:
            return KeyLogin.model_validate({"private_key": secrets.private_key})
        return KeyLogin(key_file=f"{user.name}.key")
    if user.password is not None:
        return PasswordLogin(user=user.name)
    if secrets.certificate is None:
        raise UnsuitableProfileError(
            f"user {user.name!r} logs in by certificate: give it with --certificate (warren vpn user certificate makes one)"
        )
    chain = secrets.certificate.chain_pem
    if secrets.private_key is not None:
        return CertificateLogin.model_validate({"certificate": chain, "private_key": secrets.private_key})
    return CertificateLogin(certificate=chain, key_file=f"{user.name}.key")
