"""The command's HTTP client on real sockets: proxies, connections that the server has closed, streams that end too early."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from warren_cli.errors import CliError
from warren_cli.remote.http import HttpClient, ProtocolError, proxy_for

REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
Answer = Callable[[bytes], bytes | None]


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each request of a connection by `answer`, and closes it on None; yields its URL and what it received."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listening.accept()
                except OSError:
                    return
                with accepted:
                    while request := accepted.recv(65_536):
                        received.append(request)
                        reply = answer(request)
                        if reply is None:
                            break
                        accepted.sendall(reply)
                        if b"connection: close" in reply or reply == REPLY_AND_CLOSE:
                            break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", received
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(60)


REPLY_AND_CLOSE = REPLY.replace(b"ok", b"no")  # the server closes the connection without a word


def client(url: str, *, use_proxy: bool = False) -> HttpClient:
    return HttpClient(url, {"authorization": "Bearer t"}, 60.0, None, use_proxy=use_proxy)


def test_requests_use_one_connection_and_a_query_is_encoded() -> None:
    with serving(lambda _: REPLY) as (url, received):
        http = client(f"{url}/base/")
        for _ in range(2):
            found = http.request("GET", "/api/x", {"after": "a b&c", "kind": ["x", "y"], "all": True}, None, {})
            assert (found.status, found.content, found.content_type) == (200, b"ok", "text/plain")
        http.close()
    assert len(received) == 2
    assert received[0].startswith(b"GET /base/api/x?after=a%20b%26c&kind=x&kind=y&all=true HTTP/1.1\r\n")
    assert b"authorization: Bearer t\r\n" in received[0]


def test_a_connection_that_the_server_has_closed_is_made_again() -> None:
    with serving(lambda _: REPLY_AND_CLOSE) as (url, received):
        http = client(url)
        first = http.request("GET", "/one", {}, None, {})
        held = http._connection
        assert held is not None
        assert held.sock is not None
        held.sock.settimeout(60)
        assert held.sock.recv(1, socket.MSG_PEEK) == b""  # the end has arrived
        second = http.request("POST", "/two", {}, b"{}", {})
        http.close()
    assert (first.content, second.content) == (b"no", b"no")
    assert [request.split(b" ")[1] for request in received] == [b"/one", b"/two"]


def test_a_stream_is_read_line_by_line_and_its_early_end_is_an_error() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    body = b"4\r\na\r\nb\r\n4\r\nc\n\nd\r\n"
    with serving(lambda request: chunked + body + (b"0\r\n\r\n" if b"/whole" in request else b"")) as (url, _):
        http = client(url)
        with http.stream("/whole", {}, {}) as stream:
            assert list(stream.lines()) == ["a", "bc", "", "d"]
        lines: list[str] = []

        def read_all() -> None:
            with http.stream("/cut", {}, {}) as stream:
                for line in stream.lines():
                    lines.append(line)

        with pytest.raises(ProtocolError):
            read_all()
    assert lines == ["a", "bc", ""]


def test_a_proxy_of_the_environment_is_asked_with_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda _: REPLY) as (proxy, received):
        monkeypatch.setenv("http_proxy", proxy.replace("http://", "http://me:s%20t@"))
        http = client("http://fleet.example:8400", use_proxy=True)
        assert http.request("GET", "/api/health", {}, None, {}).content == b"ok"
        http.close()
    assert received[0].startswith(b"GET http://fleet.example:8400/api/health HTTP/1.1\r\nHost: fleet.example:8400\r\n")
    assert b"proxy-authorization: Basic bWU6cyB0\r\n" in received[0]


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"https_proxy": "http://proxy:3128"}, "proxy"),
        ({"ALL_PROXY": "proxy:3128"}, "proxy"),
        ({"https_proxy": "http://proxy:3128", "no_proxy": ".example"}, None),
        ({"http_proxy": "http://proxy:3128"}, None),
        ({}, None),
    ],
)
def test_the_proxy_is_that_of_the_scheme_unless_the_host_is_excepted(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], found: str | None
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(urlsplit("https://fleet.example:8400"))
    assert (proxy.hostname if proxy is not None else None) == found


def test_a_proxy_of_another_kind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://proxy:1080")
    with pytest.raises(CliError, match="kind socks5"):
        proxy_for(urlsplit("https://fleet.example"))
