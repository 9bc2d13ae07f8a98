"""A user's own code, named as `path/to/file.py:NAME`: no fork, no decorator, no import from us.

A file is imported once, under its real name, with its folder, the root of its package and the
current folder at the front of the path: it finds its neighbors, and packages of any name (`models`,
`suites`), as when it is run by itself. Python knows one module of a name, so two files whose
neighbors have one name are refused rather than given each other's.
"""

import ast
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from harness.models.registry import Registry, unknown


@dataclass(frozen=True)
class UserCode:
    """What a user's file holds under a name.

    Args:
        name: Name in the file and in tables.
        value: The function, class or object.
        sha256: Hash of the file.
    """

    name: str
    value: Any
    sha256: str


class SharedName(ValueError):
    """Two modules of one name, of which Python would take the same for both."""


LIBRARIES = tuple(
    Path(place).resolve()
    for place in {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
)
INSTALLED = {"site-packages", "dist-packages"}  # folders of that name
_FILES: dict[Path, tuple[ModuleType, str]] = {}  # each imported file with its hash


def is_installed(path: Path) -> bool:
    """Return whether a file or folder is of Python or of an installed package.

    Packages may lie elsewhere than those of this environment: a user's own, or the system's.
    """
    named = not INSTALLED.isdisjoint(path.parts)
    return named or any(path.is_relative_to(place) for place in LIBRARIES)


def is_file(spec: str) -> bool:
    """Return whether a name is that of something in a file."""
    return ".py:" in spec


def table_name(spec: str) -> str:
    """Return the name in tables of what is named on the command line."""
    if is_file(spec):
        return unicodedata.normalize("NFKC", spec.rpartition(":")[2])  # as Python spells it
    return unicodedata.normalize("NFC", spec)


def origin_of(path: Path) -> dict[str, str]:
    """Return a file's name and a digest of where it lies, which gives no path away."""
    place = hashlib.sha256(str(path.expanduser().resolve()).encode()).hexdigest()[:16]
    return {"of": path.name, "place": place}


def load_code(spec: str, kind: str) -> UserCode:
    """Return what `path/to/file.py:NAME` names.

    Args:
        kind: Noun for it in errors: "model", "suite".

    Raises:
        FileNotFoundError: There is no such file.
        LookupError: The file has no such name.
        ValueError: The file cannot be imported.
    """
    text, name = spec.rpartition(":")[0], table_name(spec)
    path = Path(text).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path} for the {kind} `{spec}`. Give the path as seen from here."
        )
    module, digest = _import(path.resolve())
    if name not in vars(module):
        own = [k for k, v in vars(module).items() if _is_own(v, module)]
        raise unknown(f"{kind} in {path}", name, own)
    return UserCode(name, vars(module)[name], digest)


def check_names(*lists: Iterable[object]) -> None:
    """Refuse two files that hold different things of one name, which tables could not tell apart.

    Args:
        lists: Names of models, suites, ... as they were given; what is no name of a file passes.

    Raises:
        ValueError: Names both.
    """
    for specs in lists:
        seen: dict[str, str] = {}
        for spec in specs:
            if isinstance(spec, str) and is_file(spec):
                other = seen.setdefault(table_name(spec), spec)
                if other != spec:
                    raise ValueError(f"`{other}` and `{spec}` have one name in tables. Rename one.")


def adopt(spec: str, registry: Registry[Any]) -> str:
    """Return the name under which a registry has `spec`; what a file holds is added first.

    Raises:
        ValueError: The name is that of an entry of ours, or of an installed package.
        FileNotFoundError, LookupError, ValueError: As of `load_code`.
    """
    if not is_file(spec):
        return spec
    code = load_function(spec, registry.kind)
    registry.add(code.name, code.value, code.sha256, spec)
    return code.name


def load_function(spec: str, kind: str) -> UserCode:
    """Return the function that `path/to/file.py:NAME` names.

    Raises:
        ValueError: It is none, or as of `load_code`.
        FileNotFoundError, LookupError: As of `load_code`.
    """
    code = load_code(spec, kind)
    if not callable(code.value):
        raise ValueError(
            f"The {kind} `{spec}` is no function: it is a {type(code.value).__name__}. "
            "Name the function itself."
        )
    return code


def _is_own(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module.__name__


def _import(path: Path) -> tuple[ModuleType, str]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if path in _FILES:
        if _FILES[path][1] != digest:
            raise ValueError(f"{path} has changed since it was read. Start Python again.")
        return _FILES[path]
    parts, root = [] if path.stem == "__init__" else [path.stem], path.parent
    while (root / "__init__.py").is_file():
        parts, root = [root.name, *parts], root.parent
    places = list(dict.fromkeys([root, path.parent, Path.cwd()]))
    package = parts[0] if len(parts) > 1 or path.stem == "__init__" else ""
    try:
        _refuse_shared_names(path, places, package)
        sys.path[:] = [*map(str, places), *(p for p in sys.path if p not in map(str, places))]
        _read_afresh(places)
        if package:
            module = importlib.import_module(".".join(parts))
        else:
            module = _execute(path, path.stem if _is_free(path) else f"{path.stem}_{digest[:12]}")
    except SharedName:
        raise
    except (Exception, SystemExit) as error:
        raise ValueError(_sentence(error, path)) from error
    _FILES[path] = module, digest
    return _FILES[path]


class _Fresh(SourceFileLoader):
    """Compiles a file as it is now.

    Python takes its compiled form for that of a file that was changed within the same second and
    kept its size: then the answers were those of the old code, under the new one's name.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


_PLACES: set[Path] = set()  # whose files are read afresh


def _find_afresh(place: str) -> FileFinder:
    folder = Path(place).resolve()
    if is_installed(folder) or not any(folder.is_relative_to(own) for own in _PLACES):
        raise ImportError
    return FileFinder(place, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Fresh, SOURCE_SUFFIXES))


def _read_afresh(places: Iterable[Path]) -> None:
    """Let files below these folders be compiled anew by every process."""
    _PLACES.update(places)
    if _find_afresh not in sys.path_hooks:
        sys.path_hooks.insert(0, _find_afresh)
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


def _is_free(path: Path) -> bool:
    """Return whether a file that lies in no package can be a module of its own name."""
    name = path.stem
    if name in sys.modules or name in sys.stdlib_module_names or not name.isidentifier():
        return False
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin == str(path)


def _execute(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, loader=_Fresh(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pickle and dataclasses look for what is defined in it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _sentence(error: BaseException, path: Path) -> str:
    """Say what is wrong with a user's file, and where."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}. Correct it and run it again."
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    where = f"{path}, line {frames[-1].lineno}" if frames else str(path)
    cure = "Correct it and run it again."
    if isinstance(error, ImportError):
        cure = "Install what it needs, or run the command from the folder that holds it."
    return f"{where}: {type(error).__name__}: {str(error).rstrip('.')}. {cure}"


def _refuse_shared_names(path: Path, places: Sequence[Path], package: str) -> None:
    """Refuse a file that, or whose neighbors, would import another module of the same name."""
    seen, todo = {"", "harness"}, [(path, {package} | _imported(path))]
    while todo:
        file, names = todo.pop()
        for name in sorted(names - seen):
            seen.add(name)
            own, other = _place_of(name, places), _origin(sys.modules.get(name))
            if own is not None and other not in (None, own):
                raise SharedName(
                    f"{file} imports `{name}`, and means {own}; but {other} has that name and is "
                    "imported already. Rename one, or evaluate them in commands of their own."
                )
            if own is not None and own.is_file():
                todo.append((own, _imported(own)))


def _imported(path: Path) -> set[str]:
    """Return the top-level names that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def _place_of(name: str, places: Sequence[Path]) -> Path | None:
    """Return the module, or the folder of modules, of that name in the first place that has one."""
    for place in places:
        for file in (place / name / "__init__.py", place / f"{name}.py"):
            if file.is_file():
                return file.resolve()
        if any((place / name).glob("*.py")):
            return (place / name).resolve()
    return None


def _origin(module: ModuleType | None) -> Path | None:
    """Return the file or folder that a module is; None for none, and for one without a file."""
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return None if place is None else Path(place).resolve()
