"""The limits of pools that were given none: this machine's, measured when its first pool is made.

Once a process, from memory afterwards. The calibration is an ordinary use of pools, without a lock:
Ctrl-C ends it, and the next pool begins it again. A second thread, a signal handler, or a child after
``fork`` that comes while it runs has the usual limits.
"""

import logging
import os
import time

from impl.calibration import kept
from impl.calibration.decide import USUAL, decide, is_settled
from impl.calibration.kept import Calibration
from impl.calibration.measure import SECONDS, MakesPools, measure
from impl.errors import FlushInProgress
from impl.exclusive import Exclusive
from impl.tuning import Tuning
from model.boundary.arguments import shown
from model.errors import ColoError

log = logging.getLogger(__name__)

#: Set to "usual", nothing is measured or read: every pool has the limits that Tuning() has.
VARIABLE = "COLO_FLUSH_TUNING"

_found: list[Tuning] = []
_calibrating = Exclusive("this process is calibrating already")


def tuning_here(make_pool: MakesPools) -> Tuning:
    """The limits of this machine. Raises ColoError if ``COLO_FLUSH_TUNING`` says what it cannot."""
    chosen = os.environ.get(VARIABLE)
    if chosen == "usual":
        return USUAL
    if chosen is not None:
        raise ColoError(f"{VARIABLE} is {shown(chosen)}: set it to 'usual', or not at all")
    if not _found:
        try:
            _found.append(_calibrating.run(lambda: _loaded_or_measured(make_pool).tuning))
        except FlushInProgress:
            return USUAL
    return _found[0]


def _loaded_or_measured(make_pool: MakesPools) -> Calibration:
    """What is kept, or else measured now, unless it could not be kept: then it would be each time."""
    found = kept.load()
    if found is None:
        begun = _usual()
        try:
            # For who starts meanwhile; and if this process dies of it, it is not tried at once again.
            found = calibrate(make_pool) if kept.keep(begun) else begun
        except BaseException:
            kept.forget()
            raise
    return found


def calibrate(make_pool: MakesPools, seconds: float = SECONDS) -> Calibration:
    """Measure, decide, and keep it where that can be."""
    try:
        figures = measure(make_pool, seconds)
    except (ColoError, MemoryError) as error:
        log.info("not calibrated: %s", error)
        found = _usual()
    else:
        found = Calibration(decide(figures), figures, is_settled(figures), time.time())
    kept.keep(found)
    return found


def _usual() -> Calibration:
    return Calibration(USUAL, None, settled=False, at=time.time())
