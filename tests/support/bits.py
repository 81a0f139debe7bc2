"""What the bits of a bitmap say."""

from typing import Any

import numpy as np


def pages_of(words: Any) -> set[int]:
    """The positions of the bits that are set in a bitmap of 64-bit words."""
    return set(np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist())
