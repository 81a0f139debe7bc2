"""Objects with memory, locks or threads behind them, of which a copy would be a second owner."""

from typing import NoReturn, SupportsIndex

from impl.errors import CannotBeCopied


class Uncopied:
    """Refuses ``copy``, ``deepcopy`` and ``pickle``, each class with what to do instead."""

    __slots__ = ()
    _instead: str

    def __reduce_ex__(self, _protocol: SupportsIndex) -> NoReturn:
        raise CannotBeCopied(
            f"a {type(self).__name__} cannot be copied or pickled: two would share what only one can "
            f"own; {self._instead}"
        )
