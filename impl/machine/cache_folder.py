"""Where this user's caches are kept: compiled kernels, built ports."""

import os
from pathlib import Path


def user_cache() -> Path | None:
    """``$XDG_CACHE_HOME/colo-flush``, by default below ``~/.cache``; None for a user without a home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # A relative path is to be ignored, says the XDG specification.
        folder = base if base.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / "colo-flush"
