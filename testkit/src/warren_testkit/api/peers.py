"""Peers of a fleet in memory, as the registry replies."""

from warren_contracts.commands import GetPeer, PeerChange, PeerList, RevokePeer, SetPriority
from warren_contracts.peers import PeerSummary
from warren_contracts.scope import ListPeers
from warren_testkit.api.entries import found, page_of
from warren_testkit.api.scopes import of_scope


class FakePeers:
    """The verbs; `FakeBus` has the state."""

    peers: dict[str, PeerSummary]

    def _registry_peers(self, page: ListPeers) -> PeerList:
        entries, after = page_of(of_scope(self.peers, page.scope), page.after, page.limit)
        return PeerList(peers=entries, next_after=after)

    def _registry_peer(self, query: GetPeer) -> PeerSummary:
        return found(self.peers, query.peer, "peer")

    def _registry_retag(self, command: PeerChange) -> PeerSummary:
        held = found(self.peers, command.peer, "peer")
        self.peers[command.peer] = held.model_copy(update={"tags": command.tags})
        return self.peers[command.peer]

    def _registry_set_priority(self, command: SetPriority) -> PeerSummary:
        held = found(self.peers, command.peer, "peer")
        record = held.record.model_copy(update={"priority": command.priority})
        self.peers[command.peer] = held.model_copy(update={"record": record})
        return self.peers[command.peer]

    def _registry_revoke(self, command: RevokePeer) -> PeerSummary:
        held = found(self.peers, command.peer, "peer")
        self.peers[command.peer] = held.model_copy(update={"revoked": True})
        return self.peers[command.peer]
