"""Headers: the lean parser reads what nats-py's own reads; names are found whatever their case."""

from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client

from warren_bus.client import PatchedClient
from warren_bus.headers import header

LINES = st.lists(
    st.one_of(
        st.text(alphabet="abZ-: \t\x00\x1c\x0b\xa0\u2003é", max_size=12).map(str.encode),
        st.tuples(st.text(alphabet="abcNW-", max_size=8), st.text(alphabet="xyz: é\t\xa0\x1f", max_size=8)).map(
            lambda pair: f"{pair[0]}: {pair[1]}".encode()
        ),
        st.binary(max_size=6).filter(lambda raw: b"\r" not in raw and b"\n" not in raw),
    ),
    max_size=8,
)


@given(lines=LINES)
@example(lines=[b"Nats-Subject: a", b"Nats-Subject:b", b"x y: z", b"", b"no colon", b":empty"])
def test_lean_parser_reads_what_the_librarys_own_reads(lines: list[bytes]) -> None:
    raw = b"\r\n".join(lines) + b"\r\n\r\n"
    assert PatchedClient._parse_header_lines(raw) == Client._parse_header_lines(raw)


def test_name_is_found_whatever_its_case() -> None:
    assert header({"Content-Type": "a"}, "content-type") == "a"
    assert header({"content-type": "a"}, "content-type") == "a"
    assert header(None, "x") == header({}, "x") == header({"y": "z"}, "x") == ""
