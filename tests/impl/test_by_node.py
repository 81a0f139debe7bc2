"""A cursor for each NUMA node: on pretended nodes, against the model; and what Linux says here."""

import mmap
import os
import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impl import Block, ColoRam, DirtyCountMismatch, FlushPool, by_node
from impl.arrays import address
from impl.kernels import flush as flushing
from impl.kernels import job_table as j
from impl.kernels import nodes as kernels
from impl.kernels.events import EventLog
from impl.machine import nodes as machine
from impl.machine.nodes import UNKNOWN
from model import shares
from model.nodes import Run, index_by_node
from model.words import either
from tests import trace
from tests.impl.test_flush import Pair
from tests.impl.test_trace_validation import mutants
from tests.support.cases import PAGE_SIZE, Case, Epoch, cases
from tests.support.needs import HUGE_PAGES, MOVE_PAGES
from tests.support.nodes import by_runs, runs_of, several_nodes
from tests.trace import Event, Log, explain

PAGE = 4096
WORD_BYTES = 64 * PAGE
NOTHING = np.zeros(0, np.uint64)


# What Linux says.


def sysfs(folder: Path, memory: str, cpus: dict[int, str]) -> None:
    folder.mkdir()
    (folder / "has_memory").write_text(memory)
    for node, listed in cpus.items():
        (folder / f"node{node}").mkdir()
        (folder / f"node{node}" / "cpulist").write_text(listed)


def test_which_cpus_and_which_memory_a_node_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysfs(tmp_path / "node", "0,2-3\n", {0: "0-1,6\n", 2: "3\n", 3: "\n", 10: "4\n"})
    monkeypatch.setattr(machine, "NODES", tmp_path / "node")
    assert machine.nodes_with_memory() == [0, 2, 3]
    assert machine.nodes_of_cpus().tolist() == [0, 0, UNKNOWN, 2, 10, UNKNOWN, 0]


@pytest.mark.parametrize("text", ["", "\n", "no list", "0-", "-3", "1-x"])
def test_where_linux_knows_of_no_nodes_there_are_none(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "NODES", tmp_path / "node")
    assert machine.nodes_with_memory() == [] and len(machine.nodes_of_cpus()) == 0
    sysfs(tmp_path / "node", text, {0: text})
    found = machine.nodes_with_memory(), machine.nodes_of_cpus().tolist()
    assert found == (([0], [0]) if text == "0-" else ([], []))


def test_this_machine_has_a_node_for_each_cpu() -> None:
    if not machine.NODES.exists():
        pytest.skip("needs a kernel that knows of NUMA nodes (CONFIG_NUMA)")
    on = machine.nodes_of_cpus()
    assert all(on[cpu] != UNKNOWN for cpu in os.sched_getaffinity(0))
    assert machine.nodes_with_memory()


def pages_of(memory: np.ndarray, step: int = PAGE) -> np.ndarray:
    return address(memory) + np.arange(0, memory.nbytes, step, dtype=np.uint64)


def anonymous(size: int) -> np.ndarray:
    return np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)


def shared(size: int) -> np.ndarray:
    file = os.memfd_create("pages")
    os.ftruncate(file, size)
    found = np.frombuffer(mmap.mmap(file, size), np.uint8)
    os.close(file)
    return found


def in_huge_pages(size: int) -> np.ndarray:
    region = mmap.mmap(-1, size + (2 << 20), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    region.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(region, np.uint8)
    skip = -memory.ctypes.data % (2 << 20)
    return memory[skip : skip + size]


def hugetlb(size: int) -> np.ndarray:
    try:
        file = os.memfd_create("pages", os.MFD_HUGETLB)
        os.ftruncate(file, size)
        region = mmap.mmap(file, size)
    except OSError:
        pytest.skip(HUGE_PAGES)
    os.close(file)
    return np.frombuffer(region, np.uint8)


@pytest.mark.parametrize("made", [anonymous, shared, in_huge_pages, hugetlb])
def test_memory_that_has_been_touched_lies_on_a_node(made: object) -> None:
    memory = made(4 << 20)  # type: ignore[operator]
    if machine.move_pages(pages_of(np.ones(PAGE, np.uint8))) is None:
        pytest.skip(MOVE_PAGES)
    memory[: 2 << 20] = 1
    found = machine.nodes_of_pages(pages_of(memory))
    assert set(found[:512].tolist()) <= set(machine.nodes_with_memory() or [0])
    if made in (anonymous,):
        assert (found[512:] == UNKNOWN).all(), "what was never touched lies nowhere"


def test_addresses_of_no_memory_are_unknown_and_nothing_is_touched() -> None:
    memory = anonymous(1 << 20)
    assert (machine.nodes_of_pages(np.array([0, PAGE, 1 << 46], np.uint64)) == UNKNOWN).all()
    assert (machine.nodes_of_pages(pages_of(memory)) == UNKNOWN).all()
    # Again: had the first question brought them into memory, they would have a node now.
    assert (machine.nodes_of_pages(pages_of(memory)) == UNKNOWN).all()


def test_many_pages_are_asked_about_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PAGES_A_CALL", 3)
    with several_nodes(lambda address: address % 2) as asked:
        assert machine.nodes_of_pages(np.arange(7, dtype=np.uint64)).tolist() == [0, 1] * 3 + [0]
    assert asked == [3, 3, 1]


@pytest.mark.parametrize("why", ["refused", "no number"])
def test_where_linux_does_not_say_one_cursor_does(
    why: str, monkeypatch: pytest.MonkeyPatch, pools: dict[int, FlushPool]
) -> None:
    monkeypatch.setattr(machine, "nodes_with_memory", lambda: [0, 1])
    if why == "refused":
        monkeypatch.setattr(machine, "move_pages", lambda addresses: None)
    else:
        monkeypatch.setattr(machine, "MOVE_PAGES_CALL_NUMBERS", {})
    ram = two_words()
    ram.mark_host_dirty("ram", [0, 64])
    assert pools[2].flush(ram).copied == 2
    assert not lies_on_nodes(ram)


# The words by node.


def lies_on_nodes(ram: ColoRam) -> bool:
    """Does a flush take several cursors?"""
    now = ram.installed if ram.installed.by_node is not None else ram.find_nodes()
    return now.by_node is not by_node.ONE_NODE


def two_words() -> ColoRam:
    return ColoRam([Block("ram", size=2 * WORD_BYTES)])


@given(case=cases(epochs=1), data=st.data(), nodes=st.sampled_from([2, 3, 5]))
def test_the_index_is_the_models(case: Case, data: st.DataObject, nodes: int) -> None:
    """What the kernels are given, and make of it, is what ``model.nodes`` says, word by word."""
    pair = Pair(case.layout, aligned=True)
    runs = data.draw(runs_of(case.layout, nodes))
    pair.dirty(case.epochs[0], 0)
    words = case.layout.words
    with several_nodes(by_runs(pair.ram, runs), memory=range(nodes)):
        on = by_node.nodes_of_words(pair.ram.installed.job)
        assert len(on) in (0, words)
        there = sorted(set(on.tolist()))
        several = lies_on_nodes(pair.ram)
    assert several == (len(there) > 1)
    first_pages = {bit // 64: bit for bit in sorted(case.layout.used(), reverse=True)}
    for word, bit in first_pages.items():
        assert on[word] == next(run.node for run in runs if run.lower <= bit < run.upper)
    for word in set(range(1, len(on))) - set(first_pages):
        assert on[word] == on[word - 1], "a word without memory goes with the one before"
    if not several:
        return
    union = list(map(either, pair.ram.cache_dirty.tolist(), pair.ram.host_dirty.tolist()))
    as_runs = [Run(there.index(node), 64 * w, 64 * w + 64) for w, node in enumerate(on.tolist())]
    wanted = index_by_node(union, as_runs, len(there))
    indexed(pair.ram)
    table = pair.ram.installed.by_node
    assert table is not None and table[j.place(j.NODES)] == len(there)
    begins = table[j.place(j.BEGINS) :][: len(there) + 1]
    assert begins.tolist() == list(wanted.begins)
    assert table[len(table) - words :].tolist() == wanted.words
    in_order = shares.index_of([union[word] for word in wanted.words])
    assert [level.tolist() for level in pair.ram.installed.index] == list(in_order)
    assert pair.ram.installed.job[j.place(j.BY_NODE)] == address(table)


def indexed(ram: ColoRam) -> None:
    """What the caller does before a round by node."""
    kernels.index_places(ram.job, np.uint64(0), np.uint64(ram.layout.words))
    kernels.number_nodes(ram.job, flushing.add_up_stretches(ram.job))


def test_the_node_of_a_word_is_that_of_its_first_page_that_there_is() -> None:
    blocks = [
        Block("b", size=3 * PAGE, offset=100 * PAGE),
        Block("a", size=70 * PAGE, offset=3 * PAGE),
    ]
    ram = ColoRam(blocks, page_size=PAGE)
    start = {name: ram.block(name).host.ctypes.data for name in "ab"}
    with several_nodes(lambda at: int(at in (start["a"], start["b"]))) as asked:
        assert by_node.nodes_of_words(ram.installed.job).tolist() == [1, 0]
        assert asked == [2]


@pytest.mark.parametrize(
    ("said", "on"),
    [
        ([1, UNKNOWN, UNKNOWN, 0], [1, 1, 1, 0]),
        ([UNKNOWN, UNKNOWN, 1, 0], [1, 1, 1, 0]),
        ([UNKNOWN] * 4, []),
    ],
)
def test_a_page_that_is_nowhere_goes_with_the_one_before(said: list[int], on: list[int]) -> None:
    ram = ColoRam([Block("ram", size=4 * WORD_BYTES)])
    start = ram.block("ram").host.ctypes.data
    with several_nodes(lambda at: said[(at - start) // WORD_BYTES]):
        assert by_node.nodes_of_words(ram.installed.job).tolist() == on
        assert lies_on_nodes(ram) == bool(on)


def test_a_cpu_begins_with_its_own_node_or_the_next_one_that_has_any_of_the_memory() -> None:
    cpus, there = np.array([0, 1, 2, 3, 4, 9, UNKNOWN]), np.array([1, 4])
    assert by_node.near(cpus, there).tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_a_thread_begins_with_the_node_of_the_cpu_that_it_is_on() -> None:
    here = os.sched_getaffinity(0)
    cpus = [cpu % 2 for cpu in range(max(here) + 1)]
    ram = two_words()
    start = ram.block("ram").host.ctypes.data
    with several_nodes(lambda at: int(at != start), cpus):
        assert lies_on_nodes(ram)
    try:
        for cpu in here:
            os.sched_setaffinity(0, {cpu})
            assert kernels.own_node(ram.job) == cpu % 2
    finally:
        os.sched_setaffinity(0, here)


def test_a_cpu_that_was_plugged_in_since_begins_with_the_first() -> None:
    ram = two_words()
    start = ram.block("ram").host.ctypes.data
    with several_nodes(lambda at: int(at == start), cpus=[]):
        assert lies_on_nodes(ram)
    assert kernels.own_node(ram.job) == 0


@pytest.mark.parametrize(("nodes", "several"), [(j.MOST_NODES, True), (j.MOST_NODES + 1, False)])
def test_of_more_nodes_than_there_are_cursors_one_cursor_does(
    nodes: int, several: bool, pools: dict[int, FlushPool]
) -> None:
    ram = ColoRam([Block("ram", size=nodes * WORD_BYTES)])
    start = ram.block("ram").host.ctypes.data
    with several_nodes(lambda at: (at - start) // WORD_BYTES, memory=range(nodes)):
        ram.mark_host_dirty("ram", range(0, 64 * nodes, 64))
        assert pools[3].flush(ram).copied == nodes
        assert lies_on_nodes(ram) == several
    assert not ram.host_dirty.any()


# When it is asked.


def test_on_a_machine_of_one_node_nothing_is_asked(pools: dict[int, FlushPool]) -> None:
    ram = two_words()
    before = ram.job
    with several_nodes(lambda at: 0, memory=[0]) as asked:
        ram.backup(pools[2])
        ram.mark_host_dirty("ram", [0])
        pools[2].flush(ram)
    assert asked == [] and ram.job == before


def test_a_pool_of_one_thread_asks_nothing(pools: dict[int, FlushPool]) -> None:
    ram = two_words()
    with several_nodes(lambda at: at // WORD_BYTES % 2) as asked:
        ram.backup(pools[1])
        pools[1].flush(ram)
    assert asked == []


def test_it_is_asked_once_after_each_backup_and_each_change(pools: dict[int, FlushPool]) -> None:
    ram = ColoRam([Block("ram", size=2 * WORD_BYTES, max_size=3 * WORD_BYTES)])
    start = ram.block("ram").host.ctypes.data
    pool, lies_on = pools[2], (lambda at: (at - start) // WORD_BYTES % 2)
    with several_nodes(lies_on) as asked:

        def flushed() -> list[int]:
            asked.clear()
            for _ in range(3):
                ram.mark_host_dirty("ram", range(0, 128))
                assert pool.flush(ram).copied == 128
            return list(asked)

        assert flushed() == [2]
        ram.backup(pool)
        assert asked[1:] == [2]
        assert flushed() == []
        ram.resize("ram", 3 * WORD_BYTES)
        assert flushed() == [3]
        ram.add(Block("more", size=WORD_BYTES))
        assert flushed() == [4]
        ram.remove("more")
        assert flushed() == [3]
        pool.flush(ram, "static")
        assert flushed() == []
        ram.release()


def test_memory_that_has_moved_since_is_flushed_all_the_same(pools: dict[int, FlushPool]) -> None:
    ram = ColoRam([Block("ram", size=4 * WORD_BYTES)])
    moved = False
    with several_nodes(lambda at: int(at // WORD_BYTES % 2 == moved)):
        for moved in (False, True):
            ram.block("ram").cache[:] = 1 + moved
            ram.mark_host_dirty("ram", range(256))
            assert pools[3].flush(ram).copied == 256
            assert (ram.block("ram").host == 1 + moved).all()


# Flushes.


@given(
    case=cases(),
    threads=st.integers(2, 9),
    nodes=st.sampled_from([2, 3, 5]),
    aligned=st.booleans(),
    data=st.data(),
)
def test_a_flush_by_node_does_what_the_model_does(
    pools: dict[int, FlushPool],
    case: Case,
    threads: int,
    nodes: int,
    aligned: bool,
    data: st.DataObject,
) -> None:
    pair = Pair(case.layout, aligned)
    runs = data.draw(runs_of(case.layout, nodes))
    cpus = data.draw(st.lists(st.integers(UNKNOWN, nodes), max_size=4))
    with several_nodes(by_runs(pair.ram, runs), cpus, range(nodes)):
        for number, epoch in enumerate(case.epochs):
            pair.dirty(epoch, number)
            pair.flush(pools[threads])


def test_a_large_ram_is_indexed_by_all_and_flushed(pools: dict[int, FlushPool]) -> None:
    """So large that the index is made in a round of its own, stretch by stretch."""
    pages = 64 * (9 * shares.STRETCH + 100)
    memory = [np.zeros(pages * PAGE_SIZE, np.uint8) for _ in range(2)]
    ram = ColoRam([Block("ram", host=memory[0], cache=memory[1])], page_size=PAGE_SIZE)
    word_bytes, start = 64 * PAGE_SIZE, memory[0].ctypes.data
    dirty = np.concatenate(
        [np.arange(first, first + 90) for first in range(50, pages, pages // 21)]
    )
    dirty = dirty[dirty < pages]
    memory[1].reshape(-1, PAGE_SIZE)[dirty] = 7
    with several_nodes(lambda at: (at - start) // word_bytes // 3000 % 3, memory=range(3)):
        for threads in (2, 4):
            memory[0].reshape(-1, PAGE_SIZE)[dirty] = 1
            ram.mark_host_dirty("ram", dirty)
            assert pools[threads].flush(ram).copied == len(dirty)
            assert (memory[0].reshape(-1, PAGE_SIZE)[dirty] == 7).all()
            assert not ram.host_dirty.any()
    assert lies_on_nodes(ram)


@pytest.mark.parametrize("wrong", ["a word twice, another left out", "the first word on no node"])
def test_words_that_are_not_all_there_are_noticed(wrong: str, pools: dict[int, FlushPool]) -> None:
    """The control: what compares flushes with the model would see an order that has not every word.

    All is one batch, taken by one worker: two that had a word at once might both count it.
    """
    layout = ColoRam([Block("ram", size=640 * PAGE_SIZE)], page_size=PAGE_SIZE).layout
    one_a_word = frozenset(range(0, layout.pages, 64))
    case = Case(layout, (Epoch(one_a_word, one_a_word),))
    pair = Pair(case.layout, aligned=True)
    runs = (Run(0, 0, 256), Run(1, 256, 64 * case.layout.words))
    with several_nodes(by_runs(pair.ram, runs)):
        assert lies_on_nodes(pair.ram)
    table = pair.ram.installed.by_node
    assert table is not None
    if wrong.startswith("a word"):
        table[-1] = table[-2]
    else:
        table[j.place(j.FIRST_PLACES)] = 1
    pair.dirty(case.epochs[0], 0)
    with pytest.raises(DirtyCountMismatch, match="the dirty count is 1,"):
        pair.flush(pools[3])


# Event by event.


def record(
    path: Path, threads: int, nodes: int, rounds: int, cpus: list[int], only: int | None = None
) -> Log:
    """The events of a pool's life in rounds by node; ``only``: all dirty pages lie on this node."""
    dice = np.random.default_rng(threads)
    pages = 64 * 64
    ram = ColoRam([Block("ram", size=pages * PAGE_SIZE)], page_size=PAGE_SIZE)
    start = ram.block("ram").host.ctypes.data
    events = EventLog(capacity=256 * rounds + 1000)

    def lies_on(at: int) -> int:
        return (at - start) // (64 * PAGE_SIZE) // 3 % nodes

    with (
        several_nodes(lies_on, cpus, range(nodes)),
        FlushPool(threads, serial_below_bytes=30 * PAGE_SIZE, event_log=events) as pool,
    ):
        ram.backup(pool)
        for number in range(rounds):
            dirty = np.zeros(pages, dtype=np.uint8)
            dirty[dice.integers(pages, size=600 * (number % 8 != 0))] = 1
            words = np.packbits(dirty, bitorder="little").view(np.uint64)
            if only is not None:
                words[np.arange(64) // 3 % nodes != only] = 0
            ram.set_dirty(words, words)
            pool.flush(ram, "queue" if number % 5 == 0 else "dynamic")
    events.write(path)
    return trace.load(path)


@pytest.mark.parametrize(("threads", "nodes"), [(2, 2), (3, 5), (5, 3)])
def test_the_model_explains_rounds_by_node(
    threads: int, nodes: int, tmp_path: Path, long_run: bool
) -> None:
    log = record(tmp_path / "log", threads, nodes, 5000 if long_run else 100, [0, 1] * 8)
    found = explain(log)
    assert found.accepted, found.unexplained
    asked = [event.values["node"] for own in log for event in own if event.name == trace.TAKES]
    assert set(asked) == set(range(nodes))


def test_workers_help_a_node_that_none_of_them_is_of(tmp_path: Path) -> None:
    """Every batch is off another node's cursor than the worker's own."""
    log = record(tmp_path / "log", 3, 3, 40, [0] * 64, only=2)
    assert explain(log).accepted
    batches = {
        events[place].values["node"]
        for events in log
        for place, event in enumerate(events[1:])
        if event.name == "done" and events[place].name == trace.TAKES
    }
    assert batches == {2}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    good = record(tmp_path_factory.mktemp("log") / "log", 3, 2, 10, [0, 1] * 8)
    assert explain(good).accepted
    return good


def test_a_log_with_one_event_of_a_node_wrong_is_rejected(log: Log, long_run: bool) -> None:
    of_nodes = (
        (what, name, mutant)
        for what, name, mutant in mutants(log, random.Random(19))
        if name in (trace.BEGINS, trace.TAKES) and not is_of_the_other_node(log, mutant)
    )
    tried = list(islice(of_nodes, 1000 if long_run else 100))
    assert [(what, name) for what, name, mutant in tried if explain(mutant).accepted] == []


def is_of_the_other_node(log: Log, mutant: Log) -> bool:
    """Has a worker come too late, and asked both nodes in vain, here in the other order?

    Then it is right, and the worker is of the other node: no event says of which it is.
    """
    changed = [(was, now) for was, now in zip(log, mutant, strict=True) if was != now]
    if len(changed) != 1 or len(changed[0][0]) != len(changed[0][1]):
        return False
    was, now = changed[0]
    first, *_, last = [place for place in range(len(was)) if was[place] != now[place]]
    took = [event.name for event in was[first : last + 1]] == [trace.TAKES] * 2
    return took and "done" not in [event.name for event in was[last + 1 : last + 2]]


def test_only_two_batches_taken_in_vain_may_change_places() -> None:
    left, right = (Event(trace.TAKES, {"cursor": 64, "node": node}) for node in (0, 1))
    job, done = Event("job", {"round": 1}), Event("done", {"cursor": 64})
    other = (job,)
    for was, now, legal in (
        ((job, left, right), (job, right, left), True),
        ((job, left, right, job), (job, right, left, job), True),
        ((job, left, right, done), (job, right, left, done), False),
        ((job, left, done, right), (job, right, left, done), False),
        ((job, left, done, right), (job, done, left, right), False),
        ((job, left, right), (job, left), False),
        ((job, left, right), (left, job, right), False),
    ):
        assert is_of_the_other_node((other, was), (other, now)) is legal
        assert not is_of_the_other_node((other, was), (now, was))


@pytest.mark.parametrize(
    ("name", "key", "more"),
    [(trace.BEGINS, "begin", 1), (trace.BEGINS, "node", 1), (trace.TAKES, "cursor", 32),
     (trace.TAKES, "node", 1), (trace.TAKES, "node", 7)],
)  # fmt: skip
def test_a_log_with_one_number_of_a_node_wrong_is_rejected(
    log: Log, name: str, key: str, more: int
) -> None:
    for worker, events in enumerate(log):
        for place in [place for place, event in enumerate(events) if event.name == name][:3]:
            values = {**events[place].values, key: events[place].values[key] + more}
            wrong = (*events[:place], events[place]._replace(values=values), *events[place + 1 :])
            assert not explain((*log[:worker], wrong, *log[worker + 1 :])).accepted
