"""python -m tests.guest: a guest rolled back, a COLO pair, two NUMA nodes, by our flush: README.md."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from impl import FlushPool, FlushStats
from impl.display.terminal import Table, console
from impl.recorder import qemu
from impl.recorder.recording import Recording
from model.boundary.command import run
from model.boundary.options import Parser, count
from model.boundary.output import check_outputs, run_command
from tests.guest import image
from tests.guest.colo import pair_from
from tests.guest.machine import Guest, boot, scratch
from tests.guest.nodes import run_in_two_nodes
from tests.guest.rollback import Checkpoint
from tests.guest.workload import PAGE_BYTES, GuestWrong, Report, check_history, last_round, reports


def main(given: Sequence[str] | None = None) -> int:
    """0 if the guest was right every time, 1 if not, 2 if it cannot run here."""
    arguments = _arguments(given)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "image":
        print(image.build())
        return 0
    if lack := image.missing_tools():
        print(f"a real guest needs more: {lack}", file=sys.stderr)
        return 2
    {"rollback": show_rollbacks, "colo": show_pair, "nodes": show_nodes}[arguments.command](
        arguments
    )
    return 0


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tests.guest", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("image", help="fetch Debian's kernel and build the initramfs")
    rollback = commands.add_parser("rollback", help="roll one guest back, again and again")
    rollback.add_argument("--times", type=count, default=10, metavar="N")
    rollback.add_argument(
        "--leave-one-page-out", action="store_true", help="the control: the guest must notice"
    )
    colo = commands.add_parser("colo", help="primary and secondary, checkpoint after checkpoint")
    colo.add_argument("--epochs", type=count, default=5, metavar="N")
    colo.add_argument("-o", "--output", type=Path, metavar="TRACE.npz", help="record the bitmaps")
    commands.add_parser("nodes", help="flush in a guest of two NUMA nodes")
    for command in (rollback, colo):
        command.add_argument("--threads", type=count, help="default: the CPUs this process may use")
    return parser.parse_args(given)


def show_nodes(arguments: argparse.Namespace) -> None:
    """What was seen in a guest of two NUMA nodes."""
    for line in run_in_two_nodes():
        print(f"seen in the guest: {line}")


def show_rollbacks(arguments: argparse.Namespace) -> None:
    """One row for each rollback: what was dirty, how fast it went, where the guest is."""
    table = _table(
        *("#", "dirty pages", "sync ms", "flush ms", "GB/s", "differ"),
        *("round", "back in", "says"),
    )
    with (
        scratch() as folder,
        FlushPool(arguments.threads) as pool,
        boot(image.build(), folder).guest(folder / "guest") as guest,
    ):
        checkpoint = Checkpoint(guest, pool, folder / "checkpoint")
        try:
            for number in range(1, arguments.times + 1):
                checkpoint.run_on()
                left_out = None
                if arguments.leave_one_page_out:
                    left_out, theirs = checkpoint.page_the_guest_would_miss()
                    print(f"leaving out page {left_out} of RAM, the workload's page {theirs}")
                done = checkpoint.roll_back(left_out)
                table.add_row(
                    *(str(number), f"{done.stats.copied:,}", f"{done.sync_seconds * 1e3:.0f}"),
                    *(*_speed(done.stats), f"{done.pages_left}"),
                    *(f"{done.round_before + 1}", f"{checkpoint.round + 1}", _says(done.news)),
                )
                check_history(done.history)
        finally:
            console().print(table)


def _says(news: list[Report]) -> str:
    rounds = [report for report in news if report.kind == "round"]
    verdict = "ok" if all(report.right for report in news) else "corrupt"
    return f"{rounds[0].number}-{rounds[-1].number} {verdict}"


def show_pair(arguments: argparse.Namespace) -> None:
    """One row for each checkpoint: what either guest wrote, how fast the flush went."""
    check_outputs(arguments.output)
    table = _table(
        *("#", "cache dirty", "host dirty", "both", "sync ms", "flush ms", "GB/s"),
        *("differ before", "after"),
    )
    with (
        scratch() as folder,
        FlushPool(arguments.threads) as pool,
        pair_from(boot(image.build(), folder), folder, pool) as pair,
    ):
        recording = _recording(pair.primary)
        try:
            for number in range(1, arguments.epochs + 1):
                pair.run_apart()
                apart = pair.differences()
                epoch = pair.checkpoint()
                stats, left = epoch.stats, pair.differences()
                recording.add(epoch.cache_dirty, epoch.host_dirty, stats.seconds)
                table.add_row(
                    *(str(number), f"{stats.cache_dirty:,}", f"{stats.host_dirty:,}"),
                    *(f"{stats.both_dirty:,}", f"{epoch.sync_seconds * 1e3:.0f}", *_speed(stats)),
                    *(f"{apart:,}", f"{left:,}"),
                )
                if left:
                    raise GuestWrong(f"epoch {number}: {left} pages differ after the flush")
                pair.hand_over()
            pair.run_apart()
        finally:
            console().print(table)
            if arguments.output and recording.flush_seconds:
                recording.save(arguments.output)
        rounds = last_round(reports(pair.primary.said))
        print(f"both ran on from the last checkpoint to round {rounds}, every checksum right")


def _recording(primary: Guest) -> Recording:
    source = (
        f"{qemu.describe(primary.monitor)}, a COLO pair run by tests/guest: at each checkpoint what the "
        "primary and the secondary had written, as content differences, flushed by colo-flush"
    )
    observed, file = qemu.find_ram(primary.monitor, primary.ram_file)
    file.close()
    return Recording(qemu.ram_blocks(primary.monitor), observed, source)


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _speed(stats: FlushStats) -> tuple[str, str]:
    return f"{stats.seconds * 1e3:.1f}", f"{stats.copied * PAGE_BYTES / stats.seconds / 1e9:.1f}"


if __name__ == "__main__":
    run(main)
