"""How a port's failure reads: the rules it breaks, and the words of the bitmaps in which it does."""

import textwrap
from dataclasses import replace

from tests.conformance import VERSION
from tests.conformance.call import Block, Call
from tests.conformance.expected import expect
from tests.conformance.finding import Finding
from tests.conformance.process import Subject
from tests.conformance.report import explain
from tests.conformance.rules import Violation, violations
from tests.conformance.suite import Effort

#: Two blocks that share word 0. Dirty: pages 3 and 39 of block a, pages 1, 24 and 59 of block b.
CALL = Call(
    page_size=1024,
    blocks=(Block(0, 40 << 10, 40 << 10, 0), Block(40, 60 << 10, 60 << 10, 40 << 10)),
    cache=(1 << 39 | 1 << 41, 1),
    host=(1 << 3 | 1 << 41, 1 << 35),
    dirty_pages=3,
    threads=2,
)
#: Word 1 is right, so only word 0 is drawn. Page 39 of block a holds what nobody wrote; page 1 of block b
#: was not copied, and is still marked. Under ``got`` is whose content each page has, under ``left`` the
#: bits still set, and ``^`` marks what is not as it should be.
DRAWN = f"""\
      copies-right: page 39 of block 0 holds neither its old content nor the cache's
      copies-dirty: page 1 of block 1 is dirty and was not copied
      clears: cache bitmap: 1 bit(s) left set, the first 41

    The rule: a page is copied from its own page in the cache.

    page_size 1024, threads 2, 2 words, dirty_pages 3, memory placed high
    block 0 'a': bits from 0, used 40 pages, max 40 pages, offset 0x0
    block 1 'b': bits from 40, used 60 pages, max 60 pages, offset 0xa000

    word 0    blocks  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbb
              dirty   ...H...................................C.B......................
              expect  hhhchhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhchchhhhhhhhhhhhhhhhhhhhhh
              got     hhhchhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhxhhhhhhhhhhhhhhhhhhhhhhhh
              left    .........................................C......................
              wrong                                          ^ ^

    dirty: C in the cache bitmap, H in the host bitmap, B in both; - no page
    pages: c has the cache's content, h still the host's own, x neither

    Kit {VERSION}, seed 0, effort 1."""
#: Nothing is known of what it did: every word with a dirty page is drawn, as it was and should have been.
DIED = """\
    word 0    blocks  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbb
              dirty   ...H...................................C.B......................
              expect  hhhchhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhchchhhhhhhhhhhhhhhhhhhhhh

    word 1    blocks  bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb----------------------------
              dirty   C..................................H............................
              expect  chhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhc----------------------------
"""


def test_a_failure_reads_like_this() -> None:
    right = expect(CALL)
    a, b = right.pages
    wrong = replace(right, pages=(f"{a[:39]}x", f"{b[0]}h{b[2:]}"), cache=(1 << 41, 0))
    finding = Finding(tuple(violations(CALL, right, wrong)), (CALL,), wrong)
    assert explain(finding, Subject(), Effort()) == textwrap.dedent(DRAWN)


def test_a_port_that_died_reads_like_this() -> None:
    finding = Finding((Violation("no-crash", "died of SIGSEGV"),), (CALL,))
    text = explain(finding, Subject(), Effort())
    assert textwrap.dedent(DIED) in text
    assert "got" not in text and "wrong" not in text
