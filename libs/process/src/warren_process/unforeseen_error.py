"""What a command prints of an error that nobody foresaw."""


def in_one_line(error: BaseException) -> str:
    """The error without its traceback: its words where the system gave them, else its kind too."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    said = " ".join(str(error).split())
    return said if isinstance(error, OSError) and said else f"{type(error).__name__}: {said}".rstrip(": ")
