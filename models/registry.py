"""A table of named entries that refuses duplicates, suggests names, and imports late."""

import ast
import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, TypeVar


def unknown(kind: str, name: str, known: Iterable[str]) -> LookupError:
    """Return the error for a name that is not there: the nearest name, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    cure = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(names)}."
    return LookupError(f"There is no {kind} called `{name}`. {cure}")


T = TypeVar("T")


class Registry(Generic[T]):
    """Functions of one kind under their own names, in the order of registration.

    Args:
        kind: What an entry is called in an error: "model", "suite", "data set".
        modules: The module of each name that is known beforehand; imported when the name is first
            asked for.
        others: Modules that may hold more names, imported when one is not known.
    """

    def __init__(
        self, kind: str, modules: Mapping[str, str] | None = None, others: Iterable[str] = ()
    ) -> None:
        self.kind = kind
        self._modules, self._others = dict(modules or {}), tuple(others)
        self._entries: dict[str, T] = {}

    def register(self, entry: T) -> T:
        """Add `entry` under its `__name__`; usable as a decorator.

        Raises:
            ValueError: The name is taken.
        """
        name = entry.__name__  # type: ignore[attr-defined]
        if name in self._entries:
            raise ValueError(f"The {self.kind} `{name}` is registered twice. Rename one of them.")
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> T:
        if name not in self._entries and name in self._modules:
            importlib.import_module(self._modules[name])
        if name not in self._entries:
            for module in self._others:
                importlib.import_module(module)
        if name not in self._entries:
            raise unknown(self.kind, name, self)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._modules or name in self._entries

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._modules, *self._entries])

    def __len__(self) -> int:
        return len(self._modules.keys() | self._entries.keys())

    @property
    def registered(self) -> list[str]:
        """The names whose modules have been imported, in the order of registration."""
        return list(self._entries)

    def summary(self, name: str) -> str:
        """Return the first line of an entry's docstring, read from its file without importing it.

        Raises:
            LookupError: There is no such entry.
        """
        if name in self._entries or name not in self._modules:
            return (self[name].__doc__ or "").strip().partition("\n")[0]
        # Finding a module imports the packages around it, all but the outermost.
        package, *parts = self._modules[name].split(".")
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None
        path = Path(spec.origin).parent.joinpath(*parts).with_suffix(".py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return (ast.get_docstring(node) or "").partition("\n")[0]
        raise unknown(self.kind, name, self)
