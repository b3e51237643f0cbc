"""Files that the documents name are there: a reader finds them, also after a module was moved."""

import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest

REPOSITORY = Path(__file__).parents[2]
TOP = (
    "bench",
    "cli",
    "deploy",
    "docs",
    "examples",
    "libs",
    "services",
    "stack",
    "testkit",
    "tests",
    "tools",
    "vpn",
    "web",
)
_QUOTED = re.compile(r"`([\w./-]+)`")
_LINK = re.compile(r"\]\(([^)#: ]+)")
_WHERE_TO_LOOK = re.compile(r"^\| (where [^|]+\?) \| (.+) \|$", re.MULTILINE)


def documents() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md", ":!changelog.d", ":!CHANGELOG.md"],
        cwd=REPOSITORY, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert "README.md" in listed
    return listed


@pytest.mark.parametrize("document", documents())
def test_each_file_that_a_document_names_exists(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    quoted = {
        it for it in _QUOTED.findall(text) if it.startswith(tuple(f"{top}/" for top in TOP)) and it.endswith(".py")
    }
    linked = {f"{PurePosixPath(document).parent / it}" for it in _LINK.findall(text)}
    assert sorted(it for it in quoted | linked if not (REPOSITORY / it).exists()) == []


def test_each_question_where_to_look_names_files_that_exist() -> None:
    answers = _WHERE_TO_LOOK.findall((REPOSITORY / "README.md").read_text())
    assert len(answers) >= 5
    for question, answer in answers:
        found = 0
        folder = REPOSITORY
        for name in _QUOTED.findall(answer):  # without a folder at the top: of the last one that has it
            if name.startswith(tuple(f"{top}/" for top in TOP)):
                path = REPOSITORY / name
                folder = path if path.is_dir() else path.parent
            else:
                path = folder / name
            assert path.exists(), f"{question} {name}"
            found += path.is_file()
        assert found, question
