"""What a command prints of an error that nobody foresaw."""

import pytest

from warren_process.unforeseen_error import in_one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (OSError(), "OSError"),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (BaseExceptionGroup("of tasks", [ExceptionGroup("inner", [TypeError("first")])]), "TypeError: first"),
    ],
)
def test_an_error_is_its_words_and_its_kind_where_these_say_too_little(error: BaseException, line: str) -> None:
    assert in_one_line(error) == line
