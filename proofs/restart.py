"""A flush that dies anywhere is finished by flushing again."""

from proofs.prover.obligation import Proof, claim, faulty, without
from proofs.prover.symbolic import Word, word
from proofs.worker import (
    MOST_WORDS,
    WordBefore,
    WordNow,
    a_memory,
    a_worker,
    at,
    each_step_preserves_it,
    flushed,
    flushing,
    word_before,
)


def unmarked(now: WordNow, differed: Word) -> Word:
    """Pages that differ from the checkpoint (they did, and are not copied yet) with neither bit set."""
    return differed & ~now.copied & ~(now.cache | now.host)


@claim(
    faulty("clear before copy", refutes="the invariant is preserved by: load host"),
    without("the bitmaps tell the truth", refutes="every page that differs is marked"),
)
def a_flush_can_stop_anywhere(p: Proof) -> None:
    """At every instant of a flush each page that differs from the checkpoint is still marked.

    The patch clears a bit when it finds it and copies the page later: a flush that dies between the
    two loses the page.
    """
    memory, me = a_memory(p), a_worker(p, "me")
    index, begun_at, differed = p.words("index begun_at differs")
    was = word_before(p, index)
    first, last = was.window
    p.scenario(
        "word flush",
        cache=was.cache,
        host=was.host,
        first=first,
        last=last,
        differs=differed,
    )
    p.assume("the bitmaps tell the truth", differed & ~(was.cache | was.host) == 0)
    p.assume("the flush is here", flushing(memory, me, index, begun_at, was))
    p.assume("words are left", me.word < MOST_WORDS)
    p.prefer(index == 0, me.word == 0, differed == was.dirty, was.dirty != 0)
    p.prove("every page that differs is marked", unmarked(at(memory, index), differed) == 0)
    each_step_preserves_it(p, memory, me, index, begun_at, was)


@claim(
    without("marked, as a flush leaves it", refutes="the whole word equals the checkpoint"),
)
def flushing_again_finishes(p: Proof) -> None:
    """Stopped anywhere and flushed again from the start, memory is the checkpoint's, as without a stop.

    The second flush finds the bitmaps as the first has left them (``a_flush_can_stop_anywhere``), and
    its window holds every dirty page of the word.
    """
    cache, host, copied, differed = p.words("cache host copied differs")
    left, again = WordNow(cache, host, copied), p.words("cache_again host_again copied_again")
    p.scenario("flushed again", cache=cache, host=host, copied=copied, differs=differed)
    p.assume("marked, as a flush leaves it", unmarked(left, differed) == 0)
    second = WordBefore(cache, host, cache | host, (word(0), word(0)))
    p.assume("flushed again", flushed(WordNow(*again), second))
    p.prove("the whole word equals the checkpoint", differed & ~copied & ~again[2] == 0)
    p.prove("no bit is left", again[0] | again[1] == 0)
