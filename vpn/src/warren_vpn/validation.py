"""What is wrong with a file, in words for its author. Pure."""

from pydantic import ValidationError

from warren_contracts.problems import invalid_input


def detail_of(error: ValidationError) -> str:
    """The invalid fields and the remedies, without the invalid values."""
    return invalid_input(error.errors(include_url=False)).detail.replace("(root): ", "")
