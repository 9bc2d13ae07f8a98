"""A table of named entries that refuses duplicates, suggests names, and imports late."""

import ast
import difflib
import hashlib
import importlib
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

LOG = logging.getLogger(__name__)
MOST = 60  # names in a sentence


def unknown(kind: str, name: str, known: Iterable[str]) -> LookupError:
    """Return the error for a name that is not there: the nearest name, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    cure = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(names[:MOST])}{more}."
    return LookupError(f"There is no {kind} called `{name}`. {cure}")


def read_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """Return the name and the arguments of `f(a=1, b="x")`; None of what is no such call."""
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            return None
        arguments = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError):
        return None
    whole = len(arguments) == len(call.keywords) and "None" not in arguments
    return (call.func.id, arguments) if whole else None


def write_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return `f(a=1, b='x')`, the arguments by name: one spelling of one model."""
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in sorted(arguments.items()))})"


def spell(name: str) -> str:
    """Return a model's name as tables spell it: that of `f(b="x",a=1)` is `f(a=1, b='x')`."""
    call = read_call(name) if "(" in name else None
    return name if call is None else write_call(*call)


T = TypeVar("T")


class Registry(Generic[T]):
    """Functions of one kind under their own names, in the order of registration.

    Args:
        kind: Noun for an entry in errors: "model", "suite", "data set".
        modules: The module of each name that is known beforehand; imported when the name is first
            used.
        others: Modules that may hold more names, imported when one is not known.
        group: Entry points of installed packages that add names; "" for none.
    """

    def __init__(
        self,
        kind: str,
        modules: Mapping[str, str] | None = None,
        others: Iterable[str] = (),
        group: str = "",
    ) -> None:
        self.kind, self.group = kind, group
        self._modules, self._others = dict(modules or {}), tuple(others)
        self._entries: dict[str, T] = {}
        self._hashes: dict[str, str] = {}  # of the files of entries that are not ours
        self._users: set[str] = set()  # names of entries from a user's files

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

    def add(self, name: str, entry: T, sha256: str, spec: str) -> None:
        """Add what a user's file holds, in place of what another file of theirs had of that name.

        Args:
            sha256: Hash of the file.
            spec: Name as it was given, for the error.

        Raises:
            ValueError: The name is taken.
        """
        if self.is_taken(name):
            raise ValueError(
                f"The {self.kind} `{spec}` has the name of a registered {self.kind}. Rename it."
            )
        self._users.add(name)
        self._entries[name], self._hashes[name] = entry, sha256

    def is_taken(self, name: str) -> bool:
        """Return whether an entry of ours, or of an installed package, has the name."""
        return name in self and name not in self._users

    def sha256(self, name: str) -> str:
        """Return the hash of the file that holds an entry; "" for one of ours."""
        self[name]
        return self._hashes.get(name, "")

    @cached_property
    def _installed(self) -> Mapping[str, EntryPoint]:
        """What installed packages add, less what has the name of one of ours."""
        points = entry_points(group=self.group) if self.group else ()
        found = {point.name: point for point in points}
        for name in self._modules.keys() & found.keys():
            point = found.pop(name)
            LOG.warning(
                "The %s `%s` of %s has the name of a registered one and is left out.",
                self.kind,
                name,
                point.value,
            )
        return found

    def _load(self, point: EntryPoint) -> T:
        try:
            entry = point.load()
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"The {self.kind} `{point.name}` cannot be loaded from {point.value}: {error}. "
                "Install its package again, or remove it."
            ) from error
        file = getattr(sys.modules[point.module], "__file__", None)
        content = Path(file).read_bytes() if file else point.value.encode()
        self._hashes[point.name] = hashlib.sha256(content).hexdigest()
        return entry

    def __getitem__(self, name: str) -> T:
        if name not in self._entries and name in self._modules:
            importlib.import_module(self._modules[name])
        if name not in self._entries and name in self._installed:
            self._entries[name] = self._load(self._installed[name])
        if name not in self._entries:
            for module in self._others:
                importlib.import_module(module)
        if name not in self._entries:
            raise unknown(self.kind, name, self)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._modules or name in self._entries or name in self._installed

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._modules, *self._entries, *self._installed])

    def __len__(self) -> int:
        return sum(1 for name in self)

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
