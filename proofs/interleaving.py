"""Workers side by side: why any interleaving of any number of them equals the serial flush."""

from model import worker
from model.worker import STEPS, STORE_CACHE, STORE_HOST
from proofs.prover.obligation import Proof, claim, without
from proofs.prover.symbolic import every, implies
from proofs.worker import (
    MOST_WORDS,
    a_memory,
    a_worker,
    at,
    each_step_preserves_it,
    flushed,
    flushing,
    word_before,
)


@claim(
    without("different words", refutes="before or after: load cache"),
)
def steps_on_different_words_commute(p: Proof) -> None:
    """Two workers at different words: whichever goes first, memory and both workers come out the same.

    So any interleaving of any number of workers that hold no word in common can be sorted, step by
    step, into the serial one. On one word they lose an update.
    """
    memory, one, other = a_memory(p), a_worker(p, "one"), a_worker(p, "other")
    take_step = p.lift_words(worker.step)
    p.assume("steps", one.step <= STORE_HOST, other.step <= STORE_HOST)
    p.assume("different words", one.word != other.word)
    p.scenario(
        "two orders",
        cache=[memory.cache[0], memory.cache[1]],
        host=[memory.host[0], memory.host[1]],
        copied=[memory.copied[0], memory.copied[1]],
        one=list(one),
        other=list(other),
    )
    p.prefer(one.word == 0, other.word == 0, *(w.last <= 64 for w in (one, other)))
    between, one_first = take_step(memory, one)
    after, other_second = take_step(between, other)
    between, other_first = take_step(memory, other)
    after_too, one_second = take_step(between, one)
    same = every(
        *(array == array_too for array, array_too in zip(after, after_too, strict=True)),
        *(field == field_too for field, field_too in zip(one_first, one_second, strict=True)),
        *(field == field_too for field, field_too in zip(other_second, other_first, strict=True)),
    )
    for step, name in enumerate(STEPS):
        p.prove(f"before or after: {name}", implies(one.step == step, same))
    p.prove("the order does not matter", same)


@claim(
    without("no word in common", refutes="a step of another worker preserves the invariant"),
)
def any_interleaving_is_the_serial_flush(p: Proof) -> None:
    """In any interleaving of any number of workers every word ends as the serial flush leaves it.

    The invariant of one arbitrary word and the one worker that holds it is kept by that worker's
    steps and by those of any other; and it says that a word left behind is flushed, whatever the
    order.
    """
    memory, owner, other = a_memory(p), a_worker(p, "owner"), a_worker(p, "other")
    index, begun_at = p.words("index begun_at")
    was = word_before(p, index)
    p.assume("between two steps", flushing(memory, owner, index, begun_at, was))
    p.assume("another worker's step", other.step <= STORE_HOST)
    p.assume("no word in common", other.word != index)
    p.scenario(
        "lost update",
        cache=was.cache,
        host=was.host,
        one=list(was.window),
        other=[other.first, other.last],
    )
    p.prefer(index == 0, owner.word == 0, other.word == 0, was.cache == 3, was.host == 0)
    p.prefer(owner.first == 0, owner.last == 1, other.first == 1, other.last == 2)
    p.prefer(owner.step == STORE_HOST, other.step == STORE_CACHE, other.cache == 3)
    p.assume("words are left", owner.word < MOST_WORDS)
    after, _ = p.lift_words(worker.step)(memory, other)
    p.prove(
        "a step of another worker preserves the invariant",
        flushing(after, owner, index, begun_at, was),
    )
    each_step_preserves_it(p, memory, owner, index, begun_at, was)
    p.prove(
        "a word that its worker has left is flushed",
        implies((begun_at <= index) & (index < owner.word), flushed(at(memory, index), was)),
    )
