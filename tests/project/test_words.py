"""The glossary of README.md: one word for a thing, so the words that it replaces do not come back."""

import re
from pathlib import Path

import pytest

from tests.support.needs import ROOT, tracked

#: What is not said, and what is said instead.
INSTEAD = {
    "whim": "spurious wake-up",
    "standstill": "deadlock",
    "bedtime": "spin_deadline",
    "go to bed": "park",
    "doze": "park",
    "slip": "fault, mutant or bug",
    "the mail": "the patch, or the reply: author and date, TRAPS.md has them",
    "join protocol": "check-in protocol",
    "so many": "the number, or the argument that holds it",
    "nobody waits for ever": "no deadlock, no lost wake-up",
    "three readings": "three domains",
    "work_off_claims": "work_off_batches",
    "alone_bytes": "serial_below_bytes",
}
TEXTS = (".py", ".md", ".c", ".h", ".rs", ".json", ".yaml", ".toml", "run")


def dialect(text: str) -> list[str]:
    """The words of the list that occur in a text, line breaks and comment signs aside."""
    plain = re.sub(r"\s+(?:[#*|]:?\s+)?", " ", text)
    pattern = "|".join(rf"\b{re.escape(word)}s?\b" for word in INSTEAD)
    return [found.group(0) for found in re.finditer(pattern, plain, re.IGNORECASE)]


def files() -> list[Path]:
    """The project's own texts; without git, or a clone, all that lie here."""
    here = tracked() or [
        path.relative_to(ROOT)
        for top in ("model", "impl", "proofs", "tests")
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    # The list itself, and what tells how things were called before.
    left_out = {Path(__file__).relative_to(ROOT), Path(".github/CHANGELOG.md")}
    return [path for path in here if path.name.endswith(TEXTS) and path not in left_out]


def test_one_word_for_a_thing() -> None:
    found = {}
    for path in files():
        if words := dialect((ROOT / path).read_text(encoding="utf-8")):
            found[str(path)] = words
    assert not found, {w: INSTEAD.get(w.lower()) for words in found.values() for w in words}


@pytest.mark.parametrize(
    "text", ["a  whim\nof", "#: so\n#: many", "Standstills", "`alone_bytes=0`"]
)
def test_the_check_can_fail(text: str) -> None:
    assert dialect(text)


def test_longer_words_are_not_meant() -> None:
    assert not dialect("a slippery whimper, alone_bytes_left")
