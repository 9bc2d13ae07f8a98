"""Packages under two import names: the same modules, whichever is imported.

The first edition was imported as `suites`. A second copy of the modules would have its own
registries, so that what a script adds under one name were missing under the other.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType


class _Same(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds OLD.x as the module NEW.x itself."""

    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new
        self._spec: dict[str, importlib.machinery.ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(f"{self._old}."):
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._new + spec.name.removeprefix(self._old))
        self._spec[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        module.__spec__ = self._spec[spec.name]


def alias(old: str, new: str) -> None:
    """Make the package `old`, which is being imported, and all in it the same as `new`."""
    warnings.warn(f"Import `{new}` in place of `{old}`.", DeprecationWarning, stacklevel=3)
    sys.modules[old] = importlib.import_module(new)
    sys.meta_path.insert(0, _Same(old, new))
