import pytest

from warren_store.queries import parse_queries


def test_statements_are_found_by_name() -> None:
    queries = parse_queries("-- about this file\n\n-- name: one\n-- why\nSELECT 1;\n\n-- name: two\nSELECT 2;\n")
    assert list(queries) == ["one", "two"]
    assert queries["two"] == "-- name: two\nSELECT 2;"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"unknown statement 'three'; known are one"):
        parse_queries("-- name: one\nSELECT 1;")["three"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT 1;\n-- name: one\nSELECT 1;", "before the first"),
        ("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;", "repeats"),
        ("-- name: one\n-- nothing\n", "is empty"),
    ],
)
def test_a_malformed_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_queries(text)
