"""A table of named functions that refuses duplicates and suggests names."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar


def unknown(kind: str, name: str, known: Iterable[str]) -> LookupError:
    """Return the error for a name that is not there: the nearest name, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    cure = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(names)}."
    return LookupError(f"There is no {kind} called `{name}`. {cure}")


T = TypeVar("T", bound=Callable)


class Registry(Generic[T]):
    """Functions of one kind under their own names, in the order of registration.

    Args:
        kind: What an entry is called in an error: "model", "suite", "data set".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, entry: T) -> T:
        """Add `entry` under its `__name__`; usable as a decorator.

        Raises:
            ValueError: The name is taken.
        """
        name = entry.__name__
        if name in self._entries:
            raise ValueError(f"The {self.kind} `{name}` is registered twice. Rename one of them.")
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise unknown(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
