"""Of which source code a number is: the files that a function stands on, and their digest.

A file counts with every file of ours or of the user's that it imports, anywhere in it, as it is
written less comments, docstrings and layout; a package that is installed counts by its version.
PyTorch, NumPy and what belongs to them do not count: they compute what they always did, up to
rounding, and every result says which they were. What only names and describes (`DECLARATIONS`)
does not count either, so that a new model leaves the numbers of the others alone.
"""

import ast
import functools
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from importlib import metadata
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from torch import Tensor, nn

from harness.models.user_code import is_installed

# Modules of ours that hold names, tables and signatures; no number depends on them.
DECLARATIONS = frozenset(
    f"harness.{name}"
    for name in (
        "models",
        "models.base",
        "models.cards",
        "models.catalog",
        "models.in_memory",
        "models.papers",
        "models.registry",
        "models.source_code",
        "models.user_code",
        "suites",
        "suites.attention_metrics",
        "suites.base",
        "suites.catalog",
        "suites.lookup",
        "suites.metrics",
        "suites.nfe_metrics",
        "suites.ood_metrics",
        "suites.stability_metrics",
    )
)
DESCRIBING = ("card", "MODELS.register", "SUITES.register", "DATASETS.register")  # decorators
RECORDED = {
    *("PIL", "cuda", "matplotlib", "numpy", "pandas", "scipy", "sklearn", "torch", "torchvision"),
}
PACKAGE = Path(__file__).parent.parent  # of `harness`
GENERATED = ("__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__")
KERNELS = ("*.cu", "*.cuh")
Code = Mapping[str, str]  # digests by file or package


def code_of(thing: Any) -> dict[str, str]:
    """Return the digests of the files that a function, class or module stands on, by their names.

    Of what was typed in, and lies in no file, its instructions count and those of what it names.
    """
    module = thing if isinstance(thing, ModuleType) else inspect.getmodule(thing)
    if module is None or _file_of(module) is None or _is_typed_in(thing):
        return {"typed in": _hash(_instructions(thing))}
    return dict(sorted(_closure(module.__name__, _file_of(module)).items()))


def digest(*codes: Code) -> str:
    """Return one digest of all these."""
    return _hash(repr([sorted(code.items()) for code in codes]))


def difference(old: Code, new: Code) -> list[str]:
    """Return the names of files and packages that differ, or are in one alone."""
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def in_words(changed: Sequence[str], most: int = 3) -> str:
    """Return what `difference` gives, in words: "a, b, c and 2 more"."""
    more = f" and {len(changed) - most} more" if len(changed) > most else ""
    return f"{', '.join(changed[:most])}{more}"


def settings_of(model: nn.Module) -> str:
    """Return a digest of what a network holds beside its state: numbers, texts, plain tensors.

    Two networks of one class and equal weights may still be built with other constants. Objects of
    other kinds count by their type.
    """
    said: list[tuple[str, str, Any]] = []
    for name, part in model.named_modules():
        own = {k: v for k, v in vars(part).items() if k not in _OF_TORCH and not k.startswith("__")}
        said.append((name, type(part).__qualname__, {k: _plain(own[k]) for k in sorted(own)}))
        hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
        said.append((name, "hooks", [_plain(hook) for hook in hooks]))
        transient = sorted(part._non_persistent_buffers_set)
        said.append((name, "buffers", {k: _plain(part._buffers[k]) for k in transient}))
    return _hash(repr(said))


def _plain(value: Any) -> Any:
    """A value as what can be told apart by its text."""
    if isinstance(value, Tensor):
        numbers = value.detach().cpu().contiguous()
        return str(numbers.dtype), tuple(numbers.shape), _hash(numbers.numpy(force=True).tobytes())
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        made = [_plain(v) for v in value]
        return sorted(map(repr, made)) if isinstance(value, set | frozenset) else made
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        return repr(value)
    if inspect.isfunction(value) or inspect.ismethod(value):
        return _instructions(getattr(value, "__func__", value))
    return type(value).__qualname__


_OF_TORCH = frozenset(vars(nn.Module()))


def code_of_parts(parts: Iterable[Any]) -> dict[str, str]:
    """Return the digests of what several functions and classes stand on."""
    found: dict[str, str] = {}
    for part in parts:
        for name, value in code_of(part).items():
            known = found.setdefault(name, value)
            if known != value:  # several that were typed in
                found[name] = _hash(known + value)
    return found


def _closure(name: str, path: Path | None) -> dict[str, str]:
    """The digests of a module and of all that it imports."""
    found: dict[str, str] = {}
    todo, seen, own = [(name, path)], set[str](), set[str]()
    while todo:
        name, path = todo.pop()
        if name in seen or name in DECLARATIONS:
            continue
        seen.add(name)
        top = name.partition(".")[0]
        if path is None:  # not a file of ours or the user's, or no module at all
            if top not in {*RECORDED, "harness"} and (version := _version(top)):
                found[f"package {top}"] = version
            continue
        own.add(top)
        label = name if name.startswith("harness.") else path.name
        if label in found:  # two files of one name in different folders
            label = f"{path.parent.name}/{label}"
        found[label] = _digest_of_file(path, path.stat().st_mtime_ns)
        for kernel in sorted(k for kind in KERNELS for k in (path.parent / "csrc").glob(kind)):
            found[kernel.name] = _hash(kernel.read_bytes())
        if path.suffix == ".py":
            imported = _imports(name, path, path.stat().st_mtime_ns)
            todo += [(other, _find(other, path)) for other in imported]
    return {key: value for key, value in found.items() if key.removeprefix("package ") not in own}


def _find(name: str, beside: Path) -> Path | None:
    """The file of a module of ours or of the user's; None for all others."""
    parts = name.split(".")
    if parts[0] == "harness":
        return _find_ours(tuple(parts[1:]))
    if parts[0] in sys.stdlib_module_names or parts[0] in RECORDED:
        return None
    if (module := sys.modules.get(name)) is not None:
        path = _file_of(module)
        return None if path is None or is_installed(path) else path
    for root in (beside.parent, *beside.parents[1:4], Path.cwd()):
        if (path := _in(root, parts)) is not None:
            return None if is_installed(path) else path
    return None


@functools.cache  # no module of ours comes or goes while the program runs
def _find_ours(parts: tuple[str, ...]) -> Path | None:
    return _in(PACKAGE, parts) if parts[:1] in (("models",), ("suites",)) and parts[1:] else None


def _in(root: Path, parts: Sequence[str]) -> Path | None:
    """The file of a module below a folder."""
    place = root.joinpath(*parts)
    for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if file.is_file():
            return file.resolve()
    return None


@functools.cache
def _version(package: str) -> str:
    """The version of an installed package; "" for a part of Python."""
    if package in sys.stdlib_module_names:
        return ""
    names = _distributions().get(package, [package])
    try:
        return ", ".join(sorted(f"{name} {metadata.version(name)}" for name in set(names)))
    except metadata.PackageNotFoundError:
        return "not installed as a package"


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file and Path(file).is_file() else None


@functools.cache
def _imports(name: str, path: Path, written: int) -> tuple[str, ...]:
    """The modules that a file imports, and what it takes out of packages, if that are modules."""
    package = (name if path.name == "__init__.py" else name.rpartition(".")[0]).split(".")
    found: dict[str, None] = {}
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found |= dict.fromkeys(_with_parents(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            near = package[: len(package) - node.level + 1] if node.level else []
            # A script outside a package may try a relative import: its neighbor is meant.
            base = ".".join(filter(None, [*near, node.module]))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else []
            found |= dict.fromkeys(_with_parents(names))
    return tuple(found)


def _with_parents(names: Iterable[str]) -> Iterator[str]:
    """Names of modules and of the packages that they lie in."""
    for name in names:
        parts = name.split(".")
        yield from (".".join(parts[:i]) for i in range(1, len(parts) + 1))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


@functools.cache
def _digest_of_file(path: Path, written: int) -> str:
    """The digest of a file: of a Python file what it does, of another its bytes."""
    if path.suffix != ".py":
        return _hash(path.read_bytes())
    tree = _tree(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
            if not isinstance(node, ast.Module):
                node.decorator_list = [d for d in node.decorator_list if not _describes(d)]
    return _hash(ast.unparse(tree))


def _describes(decorator: ast.expr) -> bool:
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(call) in DESCRIBING


def _hash(content: str | bytes) -> str:
    content = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(content).hexdigest()[:16]


def _instructions(thing: Any) -> str:
    """The instructions of a function or class, and of all that they name where they were typed."""
    found, seen = dict[str, str](), set[int]()
    todo: list[tuple[str, Any]] = [(getattr(thing, "__qualname__", type(thing).__name__), thing)]
    while todo:
        name, part = todo.pop()
        if name in found or id(part) in seen:
            continue
        if inspect.isclass(part) or inspect.isfunction(part):
            seen.add(id(part))
        if (package := _package_of(part)) is not None:
            found[name] = package
        elif inspect.isclass(part):
            found[name] = part.__name__
            todo += [(f"{name}.{k}", getattr(v, "__func__", v)) for k, v in vars(part).items()]
            todo += [(base.__qualname__, base) for base in part.__bases__ if _is_typed_in(base)]
        elif inspect.isfunction(part):
            codes = list(_codes(part.__code__))
            constants = [[c for c in k.co_consts if not isinstance(c, CodeType)] for k in codes]
            found[name] = repr([(k.co_code, c) for k, c in zip(codes, constants, strict=True)])
            found[name] += repr((part.__defaults__, part.__kwdefaults__))
            cells = zip(part.__code__.co_freevars, part.__closure__ or (), strict=False)
            todo += [(f"{name}: {n}", cell.cell_contents) for n, cell in cells]
            named = {n for k in codes for n in k.co_names} & part.__globals__.keys()
            todo += [(n, part.__globals__[n]) for n in sorted(named)]
        elif isinstance(part, bool | int | float | str | tuple | None):
            found[name] = repr(part)
    return repr(sorted(found.items()))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _package_of(thing: Any) -> str | None:
    """The installed package that a function or class is of, and its version where that counts."""
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return None
    module = sys.modules.get(thing.__module__ or "")
    path = _file_of(module) if module is not None else None
    top = (thing.__module__ or "").partition(".")[0]
    if top != "builtins" and (path is None or top == "harness" or not is_installed(path)):
        return None
    return f"{top} {'' if top in RECORDED else _version(top)}"


def _is_typed_in(thing: Any) -> bool:
    """Whether a function or class was typed, or made of a text, whatever its module says."""
    parts = vars(thing) if inspect.isclass(thing) else {}
    made = GENERATED if is_dataclass(thing) else ()
    functions = [thing, *(part for name, part in parts.items() if name not in made)]
    codes = (getattr(getattr(f, "__func__", f), "__code__", None) for f in functions)
    return any(code is not None and not Path(code.co_filename).is_file() for code in codes)
