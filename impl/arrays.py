"""Arrays as kernels see them: by address."""

from typing import Any

import numpy as np
import numpy.typing as npt


def address(array: npt.NDArray[Any]) -> np.uint64:
    """Where an array's memory starts. The caller keeps the array alive while a kernel holds this."""
    return np.uint64(array.ctypes.data)
