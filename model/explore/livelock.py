"""Ways to run for ever, in the graph of all states."""

from array import array
from itertools import pairwise


class Graph:
    """Where the steps of each state lead; states are numbers, added in order."""

    def __init__(self) -> None:
        self._steps = array("l")
        self._ends = array("l", [0])

    def add(self, steps: list[int]) -> None:
        """The next state, and the states one step away from it."""
        self._steps.extend(steps)
        self._ends.append(len(self._steps))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def after(self, number: int) -> "array[int]":
        """The states one step away."""
        return self._steps[self._ends[number] : self._ends[number + 1]]

    def trapped(self) -> list[int]:
        """The states from which steps lead to no final state. (Where no step is possible is one.)"""
        steps, at = self._steps, self._ends
        ends = bytearray(before == behind for before, behind in pairwise(at))
        changed = True
        while changed:
            changed = False
            for number in reversed(range(len(self))):
                if not ends[number]:
                    for index in range(at[number], at[number + 1]):
                        if ends[steps[index]]:
                            ends[number] = changed = True
                            break
        return [number for number, end in enumerate(ends) if not end]

    def shortest_loop(self, start: int, below: int) -> list[int]:
        """The states of a shortest way from ``start`` back to it, of fewer than ``below`` steps."""
        came_from: dict[int, int] = {}
        frontier = [start]
        for _ in range(below - 1):
            found = []
            for number in frontier:
                for after in self.after(number):
                    if after not in came_from:
                        came_from[after] = number
                        found.append(after)
            if start in came_from:
                loop = [start]
                while len(loop) == 1 or loop[-1] != start:
                    loop.append(came_from[loop[-1]])
                return loop[-2::-1]
            frontier = found
        return []
