"""The rights of the services, and the file of nats-server."""

from pathlib import Path

from warren_service.streams import STREAMS
from warren_stack.server_config import Cluster, ServerConfig, render
from warren_stack.service_permissions import SERVICES
from warren_trust.keys import KEY_KINDS, create_keys


def test_only_the_stream_keeper_declares_streams() -> None:
    for name, rights in SERVICES.items():
        declared = {
            right.subject.rsplit(".", 1)[1]
            for right in rights.publish
            if right.subject.startswith(("$JS.API.STREAM.CREATE.", "$JS.API.STREAM.UPDATE."))
        }
        assert declared == (set(STREAMS) if name == "streams" else set())


def test_every_right_has_a_reason_and_nobody_has_all() -> None:
    for rights in SERVICES.values():
        for right in (*rights.publish, *rights.subscribe):
            assert right.reason
            assert right.subject not in (">", "*", "$JS.API.>", "warren.v1.>", "live.>", "_INBOX.>")
            assert not right.subject.startswith(("$JS.API.STREAM.DELETE", "$JS.API.STREAM.PURGE"))


def test_server_file_holds_no_seed(tmp_path: Path) -> None:
    public = create_keys(tmp_path / "keys")
    cluster = Cluster("warren", "10.0.0.1:6222", ("ROUTE_1", "ROUTE_2"))
    text = render(ServerConfig(public, store_dir=tmp_path, http_port=8222, cluster=cluster))
    for name in KEY_KINDS:
        assert (tmp_path / "keys" / f"{name}.seed").read_text().strip() not in text
    assert public["registry"] in text
    assert "$ROUTE_PASSWORD" in text
