"""The kernel's dirty log, on the real kernel: exact, and no write between two syncs is lost."""

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numba
import numpy as np
import pytest

from impl.dirtylog import KernelDirtyLog, Watched
from impl.errors import DirtyLogError
from tests.support import needs
from tests.support.bits import pages_of
from tests.support.children import in_a_child

HOST_PAGE = mmap.PAGESIZE
HUGE_PAGE = 2 << 20
MAP_HUGETLB = 0x40000


pytestmark = needs.needs_dirty_log


def private(size: int) -> Any:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def shared(size: int) -> Any:
    return mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)


def memfd(size: int) -> Any:
    descriptor = os.memfd_create("ram")
    os.ftruncate(descriptor, size)
    try:
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


def transparent_huge(size: int) -> Any:
    memory = private(size)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def hugetlb(size: int) -> Any:
    size = -(-size // HUGE_PAGE) * HUGE_PAGE
    try:
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB)
    except OSError:
        pytest.skip(needs.HUGE_PAGES)


def array(memory: Any, size: int | None = None) -> Any:
    return np.frombuffer(memory, np.uint8)[:size]


@pytest.fixture
def log() -> Iterator[KernelDirtyLog]:
    with KernelDirtyLog() as log:
        yield log


@pytest.mark.parametrize("allocate", [private, shared, memfd, transparent_huge])
@pytest.mark.parametrize("touched_before", [True, False])
@pytest.mark.parametrize("page_size", [1024, 4096, 65536])
def test_reports_exactly_the_written_pages(
    log: KernelDirtyLog, allocate: Callable[[int], Any], touched_before: bool, page_size: int
) -> None:
    """First over fresh or touched memory, then again and again; pages smaller and larger than the
    host's; the block begins in the middle of a word and ends in the middle of a host page."""
    size, first_bit = 5 * HUGE_PAGE + 3 * page_size, 77
    memory = array(allocate(size), size)
    if touched_before:
        memory[:] = 1
    log.start([Watched("ram", memory, first_bit, size)], page_size)
    host_dirty = np.zeros((first_bit + size // page_size + 63) // 64, np.uint64)
    rng = np.random.default_rng(page_size)
    for count in (0, 1, 300, 0, 40):
        bytes_written = rng.integers(0, size, count)
        memory[bytes_written] += 1
        memory[HUGE_PAGE : HUGE_PAGE + 9 * HOST_PAGE * (count > 1)] = 3  # and one long run
        host_pages = {int(b) // HOST_PAGE for b in bytes_written}
        host_pages |= set(range(512, 521)) if count > 1 else set()
        log.sync(host_dirty)
        assert pages_of(host_dirty) == {
            first_bit + page
            for page in range(size // page_size)
            if any(
                host in host_pages
                for host in range(
                    page * page_size // HOST_PAGE, ((page + 1) * page_size - 1) // HOST_PAGE + 1
                )
            )
        }
        host_dirty[:] = 0


def test_explicit_huge_pages_are_reported_whole(log: KernelDirtyLog) -> None:
    memory = array(hugetlb(4 * HUGE_PAGE))
    log.start([Watched("ram", memory, 0, memory.nbytes)])
    memory[HUGE_PAGE + 5] = 1
    host_dirty = np.zeros(memory.nbytes // HOST_PAGE // 64, np.uint64)
    log.sync(host_dirty)
    assert pages_of(host_dirty) == set(range(512, 1024))


def test_more_runs_than_one_scan_returns(log: KernelDirtyLog) -> None:
    """Every second page of 160 MiB: 20,480 runs, more than the kernel is given room for."""
    memory = array(private(160 << 20))
    log.start([Watched("ram", memory, 0, memory.nbytes)])
    memory[:: 2 * HOST_PAGE] = 1
    for collect in (log.fetch, log.sync):
        host_dirty = np.zeros(memory.nbytes // HOST_PAGE // 64, np.uint64)
        collect(host_dirty)
        assert set(host_dirty.tolist()) == {0x5555_5555_5555_5555}
    host_dirty[:] = 0
    log.sync(host_dirty)
    assert not host_dirty.any()


def test_fetch_reports_again_until_rearm(log: KernelDirtyLog) -> None:
    """Around a flush: what the flush writes itself is gone after rearm, what comes later is not."""
    memory = array(private(64 * HOST_PAGE))
    log.start([Watched("ram", memory, 0, memory.nbytes)])
    host_dirty = np.zeros(1, np.uint64)
    memory[3 * HOST_PAGE] = 1
    log.fetch(host_dirty)
    assert pages_of(host_dirty) == {3}
    memory[7 * HOST_PAGE] = 1  # a page of the cache that the flush copies
    log.fetch(host_dirty)
    assert pages_of(host_dirty) == {3, 7}
    host_dirty[:] = 0
    log.rearm()
    memory[9 * HOST_PAGE] = 1
    log.fetch(host_dirty)
    assert pages_of(host_dirty) == {9}


def test_blocks_share_a_word_and_come_in_any_order(log: KernelDirtyLog) -> None:
    low, high = array(private(3 * HOST_PAGE)), array(private(253 * HOST_PAGE))
    log.start([Watched("high", high, 3, high.nbytes), Watched("low", low, 0, low.nbytes)])
    low[2 * HOST_PAGE] = high[0] = high[252 * HOST_PAGE] = 1
    host_dirty = np.zeros(4, np.uint64)
    host_dirty[0] = 1 << 9  # marked by somebody else
    log.sync(host_dirty)
    assert pages_of(host_dirty) == {2, 3, 9, 255}


def test_memory_hot_added_and_resized(log: KernelDirtyLog) -> None:
    first, second = array(private(64 * HOST_PAGE)), array(private(64 * HOST_PAGE))
    log.start([Watched("first", first, 0, 32 * HOST_PAGE)])
    host_dirty = np.zeros(2, np.uint64)
    first[5 * HOST_PAGE] = first[40 * HOST_PAGE] = second[0] = 1
    log.watch(Watched("second", second, 64, second.nbytes))
    log.resize("first", 64 * HOST_PAGE)
    second[6 * HOST_PAGE] = first[50 * HOST_PAGE] = 1
    log.fetch(host_dirty)
    assert pages_of(host_dirty) == {5, 50, 70}, "clean when they join; page 5 is not forgotten"
    host_dirty[:] = 0
    log.resize("first", 6 * HOST_PAGE)
    log.sync(host_dirty)
    assert pages_of(host_dirty) == {5, 70}, "nothing beyond the used length"


def test_growth_within_a_host_page(log: KernelDirtyLog) -> None:
    """Pages of 1 KiB: the host page in which the old end lay keeps its mark, pages beyond are clean."""
    memory, host_dirty = array(private(4 * HOST_PAGE)), np.zeros(1, np.uint64)
    log.start([Watched("ram", memory, 0, HOST_PAGE + 1024)], page_size=1024)
    memory[HOST_PAGE] = memory[3 * HOST_PAGE] = 1
    log.resize("ram", 4 * HOST_PAGE)
    log.sync(host_dirty)
    assert pages_of(host_dirty) == {4, 5, 6, 7}


def test_the_kernels_own_writes_are_found(log: KernelDirtyLog) -> None:
    """read(2) into the memory, and another process writing through this one's mapping."""
    memory = array(shared(64 * HOST_PAGE))
    log.start([Watched("ram", memory, 0, memory.nbytes)])
    with Path("/dev/urandom").open("rb", buffering=0) as source:
        assert source.readinto(memory[2 * HOST_PAGE : 2 * HOST_PAGE + 10].data) == 10
    poke = textwrap.dedent(f"""
        import os
        with open("/proc/{os.getpid()}/mem", "r+b", buffering=0) as memory:
            memory.seek({memory.ctypes.data + 4 * HOST_PAGE})
            memory.write(b"x")
    """)
    if subprocess.run([sys.executable, "-c", poke], stderr=subprocess.DEVNULL).returncode:
        memory[4 * HOST_PAGE] = ord("x")  # a kernel that forbids ptrace between siblings
    host_dirty = np.zeros(1, np.uint64)
    log.sync(host_dirty)
    assert memory[4 * HOST_PAGE] == ord("x")
    assert pages_of(host_dirty) == {2, 4}


def test_a_write_through_another_mapping_is_not_ours(log: KernelDirtyLog) -> None:
    """The limit that the documentation states: each process logs its own mapping."""
    descriptor = os.memfd_create("ram")
    os.ftruncate(descriptor, 64 * HOST_PAGE)
    ours, theirs = (array(mmap.mmap(descriptor, 64 * HOST_PAGE)) for _ in range(2))
    os.close(descriptor)
    log.start([Watched("ram", ours, 0, ours.nbytes)])
    theirs[0] = ours[HOST_PAGE] = 1
    host_dirty = np.zeros(1, np.uint64)
    log.sync(host_dirty)
    assert pages_of(host_dirty) == {1}


def _write_each(memory: Any, order: Any) -> None:
    for page in order:
        memory[page * 4096 + 8 * (page & 255)] += 1


write_each = numba.njit(nogil=True)(_write_each)


def pages_behind(memory: Any, collect: Callable[[], list[int]], rounds: int) -> int:
    """A guest thread writes each page once, in random order, while ``collect`` runs over and over;
    every page that it reports is copied to a shadow. Pages in which that lags behind at the end."""
    pages = memory.nbytes // HOST_PAGE
    shadow = np.zeros_like(memory).reshape(pages, HOST_PAGE)
    rng = np.random.default_rng(5)

    def follow() -> None:
        dirty = collect()
        shadow[dirty] = memory.reshape(pages, HOST_PAGE)[dirty]

    for _ in range(rounds):
        guest = threading.Thread(target=write_each, args=(memory, rng.permutation(pages)))
        guest.start()
        while guest.is_alive():
            follow()
        follow()
        behind = int((shadow != memory.reshape(pages, HOST_PAGE)).any(axis=1).sum())
        if behind:
            return behind
    return 0


def lost_writes(
    log: KernelDirtyLog, memory: Any, collect: Callable[[Any], None], rounds: int
) -> int:
    """Pages that lag behind what ``collect`` puts into a bitmap while a guest writes."""
    host_dirty = np.zeros(memory.nbytes // HOST_PAGE // 64, np.uint64)
    log.start([Watched("ram", memory, 0, memory.nbytes)])

    def reported() -> list[int]:
        collect(host_dirty)
        dirty = sorted(pages_of(host_dirty))
        host_dirty[:] = 0
        return dirty

    return pages_behind(memory, reported, rounds)


@pytest.mark.parametrize("allocate", [private, shared, memfd, transparent_huge])
def test_no_write_is_lost_while_syncs_run(
    log: KernelDirtyLog, allocate: Callable[[int], Any], long_run: bool
) -> None:
    write_each(np.zeros(4096, np.uint8), np.array([0]))  # compile before the race
    memory = array(allocate(2048 * HOST_PAGE))
    assert lost_writes(log, memory, log.sync, rounds=2000 if long_run else 20) == 0


def test_the_race_is_real(log: KernelDirtyLog) -> None:
    """Control: report first, protect afterwards, and writes in between are lost."""

    def in_two_steps(host_dirty: Any) -> None:
        log.fetch(host_dirty)
        log.rearm()

    assert lost_writes(log, array(private(2048 * HOST_PAGE)), in_two_steps, rounds=2000) > 0


# An exception that is raised within a destructor is only printed by Python, not passed on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_sync_loses_nothing(log: KernelDirtyLog) -> None:
    """Ctrl-C at any moment of a sync: what it had taken from the kernel, the next one delivers."""

    class InterruptedByAlarm(Exception):
        pass

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise InterruptedByAlarm

    memory = array(private(4096 * HOST_PAGE))
    log.start([Watched("ram", memory, 0, memory.nbytes)])
    host_dirty = np.zeros(64, np.uint64)
    before = signal.signal(signal.SIGALRM, interrupt)
    rng = np.random.default_rng(7)
    interrupted = 0
    try:
        for _ in range(300):
            written = set(rng.choice(4096, 64, replace=False).tolist())
            memory[np.array(sorted(written)) * HOST_PAGE] += 1
            try:
                signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(1e-6, 200e-6)))
                log.sync(host_dirty)
                log.sync(host_dirty)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptedByAlarm:
                interrupted += 1
            log.sync(host_dirty)
            assert pages_of(host_dirty) == written
            host_dirty[:] = 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 0


def test_life_cycle(log: KernelDirtyLog) -> None:
    """Stop without start and twice does nothing; the rest says what to do."""
    memory, host_dirty = array(private(64 * HOST_PAGE)), np.zeros(1, np.uint64)
    watched = Watched("ram", memory, 0, memory.nbytes)
    log.stop()
    actions: list[Callable[[], object]]
    actions = [lambda: log.sync(host_dirty), log.rearm, lambda: log.watch(watched)]
    for action in actions:
        with pytest.raises(DirtyLogError, match="start it first"):
            action()
    log.start([watched])
    with pytest.raises(DirtyLogError, match="stop it before"):
        log.start([watched])
    with KernelDirtyLog() as second, pytest.raises(DirtyLogError, match="stop that one first"):
        second.start([watched])
    log.stop()
    log.stop()
    memory[0] = 1
    log.start([watched])
    log.sync(host_dirty)
    assert not host_dirty.any(), "every page begins clean"


def test_refused_memory_leaves_nothing_watched(log: KernelDirtyLog) -> None:
    good = array(private(64 * HOST_PAGE))
    read_only = good.view()
    read_only.flags.writeable = False
    refusals = {
        "does not start": good[64 : 64 + HOST_PAGE],
        "contiguous": good[::2],
        "uint8": good.view(np.uint64),
        "read-only": read_only,
        "share host pages": good[HOST_PAGE:],
        "watched already": array(private(HOST_PAGE)),
    }
    for message, memory in refusals.items():
        name = "good" if message == "watched already" else "bad"
        with pytest.raises(DirtyLogError, match=message):
            log.start([Watched("good", good, 0, 64), Watched(name, memory, 64, 0)])
        with pytest.raises(DirtyLogError, match="not running"):
            log.rearm()
    with pytest.raises(DirtyLogError, match="use lengths and bits that exist"):
        log.start([Watched("good", good, 0, 65 * HOST_PAGE)])
    with KernelDirtyLog() as other:
        other.start([Watched("good", good, 0, 64)])  # nobody else holds it
        with pytest.raises(DirtyLogError, match="may grow into"):
            other.resize("good", 65 * HOST_PAGE)


@pytest.mark.parametrize("host_dirty", [np.zeros(1, np.uint64), np.zeros(9, np.uint8)])
def test_a_bitmap_that_does_not_fit_takes_nothing_from_the_log(
    log: KernelDirtyLog, host_dirty: Any
) -> None:
    memory = array(private(65 * HOST_PAGE))
    log.start([Watched("ram", memory, 0, memory.nbytes)])
    memory[64 * HOST_PAGE] = 1
    with pytest.raises(DirtyLogError, match="needs 2 words of uint64"):
        log.sync(host_dirty)
    enough = np.zeros(2, np.uint64)
    log.sync(enough)
    assert pages_of(enough) == {64}


def test_memory_unmapped_under_the_log_is_not_called_clean(log: KernelDirtyLog) -> None:
    memory = array(private(64 * HOST_PAGE))
    log.start([Watched("ram", memory, 0, memory.nbytes)])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    fixed = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = ctypes.c_void_p(memory.ctypes.data)
    length = ctypes.c_size_t(memory.nbytes)
    assert libc.mmap(address, length, protection, fixed, -1, ctypes.c_long(0))
    memory[0] = 1
    with pytest.raises(DirtyLogError, match="mapped anew"):
        log.sync(np.zeros(1, np.uint64))


def test_a_forked_child_is_told_to_start_its_own(log: KernelDirtyLog) -> None:
    memory, host_dirty = array(shared(64 * HOST_PAGE)), np.zeros(1, np.uint64)
    log.start([Watched("ram", memory, 0, memory.nbytes)])

    def child() -> None:
        with pytest.raises(DirtyLogError, match="forked"):
            log.sync(host_dirty)
        log.stop()
        log.start([Watched("ram", memory, 0, memory.nbytes)])
        memory[5 * HOST_PAGE] = 1
        log.sync(host_dirty)
        assert pages_of(host_dirty) == {5}

    assert in_a_child(child) == 0
    memory[6 * HOST_PAGE] = 1
    log.sync(host_dirty)
    assert pages_of(host_dirty) == {6}, "the parent's log goes on"


# A seccomp filter (BPF) that makes one system call, or one ioctl request, fail with an errno.
DENY = """
import ctypes, struct, sys
from impl import DirtyLogUnavailable
from impl.dirtylog import KernelDirtyLog, Watched
import numpy as np, mmap

def deny(number, request, code):
    load, equal, give = 0x20, 0x15, 0x06
    program = [(load, 0, 0, 0), (equal, 0, 3, number), (load, 0, 0, 24), (equal, 0, 1, request),
               (give, 0, 0, 0x00050000 | code), (give, 0, 0, 0x7FFF0000)]
    if request is None:
        program = [(load, 0, 0, 0), (equal, 0, 1, number), *program[4:]]
    code = b"".join(struct.pack("HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(code)
    filter = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.create_string_buffer(filter), 0, 0) == 0

deny(*[None if a == "-" else int(a, 0) for a in sys.argv[1:]])
log = KernelDirtyLog()
memory = np.frombuffer(mmap.mmap(-1, 8192), np.uint8)
try:
    log.start([Watched("ram", memory, 0, 8192)])
except DirtyLogUnavailable as error:
    print(error)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs x86-64: it names system calls")
@pytest.mark.parametrize(
    ("number", "request_code", "code", "says"),
    [
        ("323", "-", 1, "the userfaultfd system call is refused here (Operation not permitted)"),
        ("323", "-", 38, "the userfaultfd system call is refused here (Function not implemented)"),
        ("16", "0xC018AA3F", 22, "asynchronous write-protection (UFFD_FEATURE_WP_ASYNC)"),
        ("16", "0xC0606610", 25, "the PAGEMAP_SCAN ioctl is refused here"),
    ],
)
def test_a_kernel_or_sandbox_without_it_says_what_is_needed(
    number: str, request_code: str, code: int, says: str
) -> None:
    """The real system call, denied by a real seccomp filter in a process of its own."""
    command = [sys.executable, "-c", DENY, number, request_code, str(code)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert says in ran.stdout
    assert "needs Linux 6.7 or later" in ran.stdout
    assert "mark_host_dirty" in ran.stdout
