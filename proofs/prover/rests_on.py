"""Which subject rests on which, and for what: the map that a reader follows from the theorem down.

The edges are stated here and not derived: that one proof uses another's functions says little, and what
carries a fact from one claim to another is often a sentence (``SOUNDNESS.md``, P3).
"""

from collections.abc import Mapping

#: For each subject those under it, each with what it says that is needed above.
RESTS_ON: Mapping[str, Mapping[str, str]] = {
    "flush_is_the_spec": {
        "whole_flush": "protocol, workers and memory in one system, from begin to return",
        "blocks": "a page lies in one thread's window of its block, under static shares",
        "shares": "it lies in one batch, under dynamic ones",
        "work_queue": "its word is taken once, off the queue",
        "interleaving": "a worker flushes its words whatever the others do",
        "check_in": "all of it is done when the flush returns",
        "static_rounds": "each share is flushed once when a static round returns",
        "strays": "a stray bit is refused before anything is written",
        "race_free": "memory may be taken for sequentially consistent",
        "compiled": "compiled to LLVM IR, the model's functions compute the same",
    },
    "progress": {
        "check_in": "who is blocked is woken",
        "work_queue": "a round off the queue comes to its end",
        "static_rounds": "every helper completes a static round",
    },
    "restart": {"worker": "a bit is cleared after its page is copied"},
    "count": {"walk": "the patch's walk clears each bit of its window once"},
    "resize": {"shares": "every page that is there has an owner"},
    "blocks": {"shares": "shares are whole words and lie end to end"},
    "interleaving": {"worker": "what one worker does to a word, and to no other"},
    "race_free": {
        "check_in": "who is inside, in every state",
        "compiled": "the kernels access what is listed, in that order",
    },
    "strays": {"words": "the bits of a word that lie in a gap"},
    "whole_flush": {
        "worker": "what a worker does to a word, step by step",
        "check_in": "who has which batch, and that all are flushed at return",
        "static_rounds": "who has flushed its share",
        "work_queue": "who has which word off the queue",
    },
    "walk": {},
    "worker": {"words": "masks, population and the next page of a word"},
    "work_queue": {"frames": "what a step leaves alone"},
    "static_rounds": {"check_in": "who is inside, who has completed, in every state"},
    "check_in": {"frames": "what a step leaves alone"},
    "nodes": {"shares": "batches off one cursor"},
    "shares": {},
    "words": {},
    "frames": {},
    "compiled": {},
}

#: For who has never seen this: a question, its answer, the claim, and the control that shows it fail.
BEGIN_HERE = (
    (
        "Why are shares cut at whole words, and what happens if not?",
        "A bit is cleared by loading its 64-bit word and storing it without the bit. If two threads do"
        " that to one word, the later store brings back the bit that the earlier one has cleared.",
        "shares.no_word_shared",
        "shares not cut at words",
    ),
    (
        "Two threads write one word: what becomes of it?",
        "A bit comes back. The pages are right, and the count is; it is found one checkpoint later.",
        "blocks.a_bitmap_of_its_own_needs_aligned_blocks",
        "without: the block begins at a whole word",
    ),
    (
        "Why is a page copied before its bit is cleared?",
        "So that a flush which dies anywhere is finished by flushing again.",
        "restart.a_flush_can_stop_anywhere",
        "clear before copy",
    ),
    (
        "When may the flush return?",
        "When it has closed the job and nobody is inside: a helper that comes later must not come in.",
        "check_in.flush_returns_when_all_have_finished",
        "never closes",
    ),
)
