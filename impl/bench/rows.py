"""What the benchmark's table says of one pattern, and its targets."""

from collections.abc import Iterator
from dataclasses import dataclass

from impl.bench import guests, measures
from impl.bench.measures import Measure
from impl.bench.paired import Ratio, Times

# Dirty pages from which on the targets for large flushes hold, and a few that are to be as far ahead.
LARGE, AS_FAR_AHEAD = 5000, "100 pages"
# A quiet guest: a whole flush, the search and all, takes this many times as long as the copies alone.
QUIET, AT_MOST_TIMES_THE_COPIES = "colo-idle-512m", 1.15
#: Where there is one CPU, more threads bring nothing.
ALONE = "dynamic, 1"
#: One thread that is awake already: few pages are not worth a second.
COPY_LIMIT_ALONE = "copy limit: one thread"


@dataclass(frozen=True)
class Row:
    """What the table says of one pattern."""

    times: Times
    best_c: str | None
    """the fastest C port; None, like ``copy_limit``, where nothing in C could be built"""
    copy_limit: str | None
    default: str
    one_thread: str

    @property
    def reference(self) -> str:
        """What every ratio of the row is to."""
        return self.best_c or self.one_thread

    def ratio(self, name: str) -> Ratio:
        """How many times as fast as the reference."""
        return self.times.ratio(name, to=self.reference)

    def measures(self) -> Iterator[Measure]:
        """The row's figures against their targets, all of which are about C."""
        if self.best_c is None or self.copy_limit is None:
            return
        name, pages = self.times.pattern.name, self.times.pattern.pages
        fastest_c = self.times.ratio(self.default, to=self.best_c).median
        what = f"{name}: dynamic / fastest C port"
        ahead = pages >= LARGE or name == AS_FAR_AHEAD
        yield measures.at_least(what, fastest_c, "x", 1.3 if ahead else 1.0)
        if name == QUIET:
            times = self.times.ratio(COPY_LIMIT_ALONE, to=self.default).median
            what = f"{name}: time of dynamic / of the copies alone, one thread"
            yield measures.at_most(what, times, "x", AT_MOST_TIMES_THE_COPIES)
        if pages >= LARGE:
            limit = self.times.ratio(self.default, to=self.copy_limit).median
            yield measures.at_least(f"{name}: dynamic / copy limit", limit, "x", 0.95)
        if name in map(guests.title, guests.LARGE) and self.default != ALONE:
            ratio = self.times.ratio(self.default, to=self.one_thread).median
            yield measures.at_least(f"{name}: dynamic / one thread", ratio, "x", 1.6)
        if name == "one eighth":
            patch = self.times.fastest([n for n in self.times.by_name if n.startswith("C patch")])
            ratio = self.times.ratio(self.default, to=patch).median
            yield measures.at_least(f"{name}: dynamic / the patch in C", ratio, "x", 1.7)
        if name == "10 % random":
            serial = self.times.fastest([n for n in self.times.by_name if n.startswith("C serial")])
            ratio = self.times.ratio(self.one_thread, to=serial).median
            yield measures.at_least(f"{name}: one thread / C serial walk", ratio, "x", 1.25)
