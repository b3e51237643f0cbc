"""What a stream replies to a message."""

import pytest

from warren_bus.acknowledgement import UNAVAILABLE, Stored, parse_acknowledgement
from warren_bus.errors import StreamRefusedError


def test_acknowledgement_names_stream_sequence_and_duplicate() -> None:
    assert parse_acknowledgement(b'{"stream": "EVENT", "seq": 7}') == Stored("EVENT", 7, False)
    assert parse_acknowledgement(b'{"stream": "EVENT", "seq": 7, "duplicate": true}') == Stored("EVENT", 7, True)


def test_refusal_has_the_codes_and_words_of_the_server() -> None:
    reply = b'{"error": {"code": 400, "err_code": 10071, "description": "wrong last sequence: 5"}, "stream": "EVENT", "seq": 0}'
    with pytest.raises(StreamRefusedError, match="wrong last sequence: 5") as caught:
        parse_acknowledgement(reply)
    assert (caught.value.code, caught.value.err_code) == (400, 10071)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"null",
        b'{"stream": "EVENT"}',
        b'{"stream": "EVENT", "seq": "x"}',
        b'{"error": 1}',
        b'{"error": {}}',
    ],
)
def test_reply_of_no_stream_is_an_error_that_passes(reply: bytes) -> None:
    with pytest.raises(StreamRefusedError, match="not an acknowledgement") as caught:
        parse_acknowledgement(reply)
    assert caught.value.code == UNAVAILABLE
