"""The commands of an endpoint about its sessions, until the first message of their exchange is on its way."""

from collections.abc import Sequence

from warren_ikev2 import maintenance
from warren_ikev2.addresses import IPAddress, Path
from warren_ikev2.auth.login import LoginVerdict
from warren_ikev2.deadlines import Deadlines
from warren_ikev2.endpoint_state import EndpointState
from warren_ikev2.errors import CommandError
from warren_ikev2.events import DeleteReason, SessionId, SessionRole, State
from warren_ikev2.exchanges.create_child_sa import CreateChild
from warren_ikev2.exchanges.ike_auth_responder import conclude_login
from warren_ikev2.exchanges.ike_sa_init import IkeSaInit
from warren_ikev2.exchanges.informational import DeleteChild, DeleteIke, Liveness, SendRedirect
from warren_ikev2.exchanges.mobike import change_addresses, start_move
from warren_ikev2.exchanges.redirect import build_gateway
from warren_ikev2.exchanges.rekey_ike import RekeyIke
from warren_ikev2.handshake import Handshake
from warren_ikev2.ike_sa import IkeSa, IkeSession, Task
from warren_ikev2.keylog import DecryptionKeys
from warren_ikev2.session import SessionState


class EndpointCommands:
    """The implementation of `engine.EngineCommands`, which documents the calls."""

    def __init__(self, state: EndpointState, deadlines: Deadlines) -> None:
        self._state = state
        self._deadlines = deadlines

    def initiate(
        self, connection: str, path: Path, now: float, *, redirected_from: IPAddress | None = None
    ) -> SessionId:
        """See EngineCommands."""
        state = self._state
        configuration = state.configuration.connection(connection)
        if configuration is None:
            raise CommandError(f"no connection {connection!r} is configured")
        session: IkeSession = SessionState(state.new_session_id(), SessionRole.INITIATOR, path, configuration)
        handshake = Handshake((configuration,))
        if redirected_from is not None:
            handshake.redirected_from = build_gateway(str(redirected_from))
        sa = IkeSa(state, session, initiator=True, spi_i=state.new_ike_spi(), handshake=handshake)
        session.ike_sa = sa
        state.open_session(session)
        state.add(sa)
        self._enqueue(sa, IkeSaInit(), now)
        return session.id

    def answer_login(self, session: SessionId, verdict: LoginVerdict, now: float) -> None:
        """See EngineCommands."""
        found = self._state.sessions.get(session)
        if found is None or found.ike_sa is None or not conclude_login(found.ike_sa, verdict, now):
            raise CommandError(f"no login of session {session} waits for a verdict")
        self._finish(found.ike_sa)

    def create_child(self, session: SessionId, name: str, now: float) -> None:
        """See EngineCommands."""
        sa = self._state.established_ike_sa(session)
        configuration = sa.session.connection.child(name)
        if configuration is None:
            raise CommandError(f"connection {sa.session.connection.name!r} has no child {name!r}")
        self._enqueue(sa, CreateChild(configuration), now)

    def rekey_ike(self, session: SessionId, now: float) -> None:
        """See EngineCommands."""
        self._enqueue(self._state.established_ike_sa(session), RekeyIke(), now)

    def rekey_child(self, session: SessionId, spi_in: int, now: float) -> None:
        """See EngineCommands."""
        sa, child = self._state.child_of(session, spi_in)
        maintenance.rekey_child(sa, child, now)
        self._finish(sa)

    def delete_child(self, session: SessionId, spi_in: int, now: float) -> None:
        """See EngineCommands."""
        sa, child = self._state.child_of(session, spi_in)
        self._enqueue(sa, DeleteChild(child, DeleteReason.LOCAL), now)

    def delete(self, session: SessionId, now: float) -> None:
        """See EngineCommands."""
        found = self._state.sessions.get(session)
        if found is None or found.ike_sa is None:
            raise CommandError(f"no session {session}")
        sa = found.ike_sa
        if sa.state == State.ESTABLISHED:
            self._enqueue(sa, DeleteIke(DeleteReason.LOCAL), now)
        elif sa.state != State.DELETING:
            sa.close(DeleteReason.LOCAL, "deleted", now)
            self._finish(sa)

    def check_liveness(self, session: SessionId, now: float) -> None:
        """See EngineCommands."""
        self._enqueue(self._state.established_ike_sa(session), Liveness(), now)

    def change_path(self, session: SessionId, path: Path, now: float) -> None:
        """See EngineCommands."""
        sa = self._state.established_ike_sa(session)
        if not sa.session.peer.mobike or sa.session.role != SessionRole.INITIATOR:
            raise CommandError("only the initiator changes the path, and only if both sides support MOBIKE")
        own = sa.session.mobility.own
        sa.session.mobility.own = own if not own or path.local.host in own else (path.local.host, *own)
        start_move(sa, path, now)
        self._finish(sa)

    def set_addresses(self, session: SessionId, addresses: Sequence[IPAddress], now: float) -> None:
        """See EngineCommands."""
        sa = self._state.established_ike_sa(session)
        if not sa.session.peer.mobike:
            raise CommandError("the peer does not support MOBIKE")
        change_addresses(sa, tuple(addresses), now)
        self._finish(sa)

    def redirect(self, session: SessionId, gateway: str, now: float) -> None:
        """See EngineCommands."""
        sa = self._state.established_ike_sa(session)
        if not sa.session.peer.redirect:
            raise CommandError("the peer does not support redirection")
        self._enqueue(sa, SendRedirect(gateway), now)

    def decryption_keys(self, session: SessionId) -> DecryptionKeys:
        """See EngineCommands."""
        sa = self._state.established_ike_sa(session)
        suite, keys = sa.protection.suite_and_keys()
        algorithms = (suite.encryption, suite.key_length, suite.integrity)
        return DecryptionKeys(sa.spi_i, sa.spi_r, *algorithms, keys.ei, keys.er, keys.ai, keys.ar)

    def _enqueue(self, sa: IkeSa, task: Task, now: float) -> None:
        sa.enqueue(task, now)
        self._finish(sa)

    def _finish(self, sa: IkeSa) -> None:
        self._state.touch(sa)
        self._deadlines.update()
