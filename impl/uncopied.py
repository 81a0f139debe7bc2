"""Objects with memory, locks or threads behind them: not copied, and without a misspelt attribute."""

from typing import Any, NoReturn, SupportsIndex

from impl.errors import CannotBeCopied, UnknownAttribute


class Uncopied:
    """Refuses ``copy``, ``deepcopy`` and ``pickle``, each class with what to do instead.

    A copy would be a second owner. And an attribute that is set is one that there is: a log that is
    the RAM's ``dirtylog`` finds nothing.
    """

    __slots__ = ()
    _instead: str

    def __reduce_ex__(self, _protocol: SupportsIndex) -> NoReturn:
        raise CannotBeCopied(
            f"a {type(self).__name__} cannot be copied or pickled: two would share what only one can "
            f"own; {self._instead}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            known = ", ".join(one for one in dir(self) if not one.startswith("_"))
            raise UnknownAttribute(f"a {type(self).__name__} has no {name!r}: it has {known}")
        super().__setattr__(name, value)
