"""Weights from elsewhere: read without running their code, and fitted to a model by name.

A file is what its bytes say, whatever its name: safetensors, or what `torch.save` wrote. Of the
latter only tensors are read (`weights_only`), never objects, which could run any code.
"""

import argparse
import codecs
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harness.refusal import Refusal
from harness.suites.file_kinds import describe_file

State = dict[str, Tensor]

# What programs put weights under; the first that is there is taken.
WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "network", "params")
AVERAGED = ("ema", "model_ema", "ema_state_dict", "state_dict_ema", "ema_model")
# What wrappers put before names, or into them.
PREFIXES = ("module.", "_orig_mod.", "net.", "model.", "backbone.")
INFIXES = ("._orig_mod.", ".module.")
COUNTER = "n_averaged"  # of torch's AveragedModel
TRACKED = "num_batches_tracked"  # of batch norm; evaluation does not use it
NAMED = 3  # names in a sentence
PICKLED = (b"PK\x03\x04", b"\x80")  # what `torch.save` begins with
JSON = b"{"  # what stands in a safetensors file behind the length of its header, in eight bytes
# What checkpoints hold beside weights that can do no harm: options, and numbers of NumPy.
HARMLESS: list[Any] = [
    argparse.Namespace,
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    np.float64(0).__reduce__()[0],
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")},
    codecs.encode,
]
AGAIN = "Copy or fetch it again from where it came, or give another file."


def read_foreign(path: Path) -> tuple[State, list[str]]:
    """Return the weights in a file from elsewhere by name, and notes on what was taken of it.

    Raises:
        Refusal: It holds no weights, or they cannot be read without running code.
    """
    with path.open("rb") as opened:
        start = opened.read(9)
    if start.startswith(PICKLED) and not start.endswith(JSON):
        return _unwrap(_unpickle(path), path)
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in sorted(file.keys())}, []
    except SafetensorError as error:
        what = describe_file(path) or f"holds no weights that can be read, or is damaged: {error}"
        raise Refusal(f"{path} {what}. {AGAIN}") from None


def fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """Return weights under a model's own names as far as they can be, and how they were fitted.

    Args:
        own: State of the model; of tensors that it shares between names, one name will do.
    """
    fitted, notes = max(_renamed(state), key=lambda one: len(one[0].keys() & own.keys()))
    if COUNTER in fitted and COUNTER not in own:
        del fitted[COUNTER]
    missing, twins = [k for k in own if k not in fitted], _twins(own)
    for name in missing:
        twin = next((k for k in twins[name] if k in fitted), None)
        if twin is not None:
            fitted[name] = fitted[twin]
            notes.append(f"`{name}` is `{twin}`, as in the model")
        elif name.rpartition(".")[2] == TRACKED:
            fitted[name] = own[name]
    if any(k.endswith(TRACKED) for k in missing):
        notes.append(f"`{TRACKED}`, which they lack, is not used in an evaluation")
    return fitted, notes


def _renamed(state: Mapping[str, Tensor]) -> Iterator[tuple[State, list[str]]]:
    """Weights under their names, and without what wrappers put before names or into them."""
    named, off = dict(state), list[str]()
    while True:
        yield dict(named), [f"`{''.join(off)}` is taken off their names"] * bool(off)
        for infix in INFIXES:
            plain = {k.replace(infix, "."): v for k, v in named.items()}
            if plain.keys() != named.keys() and len(plain) == len(named):
                taken = [f"`{''.join([*off, infix[1:]])}` is taken out of their names"]
                yield plain, taken
        names = [k for k in named if k != COUNTER]
        prefix = next((p for p in PREFIXES if all(k.startswith(p) for k in names)), None)
        if prefix is None or not names:
            return
        off.append(prefix)
        named = {k.removeprefix(prefix): v for k, v in named.items()}


def find_misfit(own: Mapping[str, Tensor], fitted: Mapping[str, Tensor]) -> str:
    """Return why weights are not those of a model, with the cure; "" where they are."""
    missing, extra = sorted(own.keys() - fitted.keys()), sorted(fitted.keys() - own.keys())
    if missing or extra:
        sides = [f"lack {_some(missing)}"] * bool(missing)
        sides += [f"have {_some(extra)}, unknown to it"] * bool(extra)
        return (
            f"are of another model: they {' and '.join(sides)}. Give the `--model` that they were "
            "trained with."
        )
    wrong = [k for k in own if own[k].shape != fitted[k].shape]
    heads = {(fitted[k].shape[:1], own[k].shape[:1]) for k in wrong}
    same = all(own[k].ndim and own[k].shape[1:] == fitted[k].shape[1:] for k in wrong)
    if len(heads) == 1 and same and all(fitted[k].ndim for k in wrong):
        ((found,), (wanted,)) = heads.pop()
        return (
            f"have {found} rows in {_some(wrong)}, the model {wanted}. If these are classes, say "
            "which of them the data set has, `--labels imagenet` or a CSV; else give the "
            "`--width` that they were trained with."
        )
    if wrong:
        k = wrong[-1]
        others = f", and {len(wrong) - 1} more differ" if len(wrong) > 1 else ""
        return (
            f"do not fit: `{k}` has shape {tuple(fitted[k].shape)}, the model's is "
            f"{tuple(own[k].shape)}{others}. Give the `--width` and the data set that they were "
            "trained with."
        )
    for k in own:
        if own[k].is_floating_point() != fitted[k].is_floating_point():
            return (
                f"do not fit: `{k}` holds {fitted[k].dtype}, the model {own[k].dtype}. Give "
                "weights that are not quantized."
            )
    for k, (first, *_) in _twins(own).items():
        if not torch.equal(fitted[k], fitted[first]):
            return (
                f"do not fit: the model has one tensor as `{first}` and `{k}`, which differ in the "
                "file. Give the `--model` that they were trained with."
            )
    return ""


def describe_types(own: Mapping[str, Tensor], fitted: Mapping[str, Tensor]) -> list[str]:
    """Return a note on each type of number that becomes another one."""
    changed = {
        (fitted[k].dtype, own[k].dtype)
        for k in own
        if own[k].is_floating_point() and own[k].dtype != fitted[k].dtype
    }
    return [
        f"{str(a).removeprefix('torch.')} becomes {str(b).removeprefix('torch.')}"
        for a, b in sorted(changed, key=str)
    ]


def _unpickle(path: Path) -> Any:
    try:
        harmless = torch.serialization.safe_globals(HARMLESS)
        with path.open("rb") as file, warnings.catch_warnings(), harmless:
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it likes over bytes that it did not write
        text = str(error)
    if "TorchScript" in text:
        raise Refusal(
            f"{path} is a TorchScript program, not weights. Save those: "
            "`torch.save(torch.jit.load(PATH).state_dict(), OTHER)`."
        )
    objects = text.partition("GLOBAL ")[2].split(" ")[0] if "weights_only" in text.lower() else ""
    if objects or "Weights only load failed" in text:
        kind = f" ({objects})" if objects else ""
        raise Refusal(
            f"{path} holds Python objects{kind} beside weights, which are not loaded, since they "
            "could run any code. Save the weights alone: `torch.save(model.state_dict(), PATH)`."
        )
    what = text.strip().partition("\n")[0].rstrip(".")
    raise Refusal(f"{path} is cut off or damaged, or holds no weights: {what}. {AGAIN}")


def _unwrap(content: Any, path: Path) -> tuple[State, list[str]]:
    """The named tensors in what a file holds."""
    notes: list[str] = []
    while isinstance(content, Mapping):
        found = [k for k in WRAPPINGS + AVERAGED if _is_state(content.get(k))]
        if found:
            others = "".join(f", not `{k}`" for k in found[1:])
            notes.append(f"`{found[0]}` is taken{others}")
            content = content[found[0]]
            continue
        state = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        left = [str(k) for k in content if not isinstance(content[k], Tensor)]
        if not state:
            break
        if left:
            notes.append(f"{_some(left)} is left out")
        return state, notes
    has = f"has {_some(list(map(str, content)))}" if isinstance(content, Mapping) else ""
    raise Refusal(
        f"{path} holds no weights by name: it {has or f'is a {type(content).__name__}'}. Save "
        "`model.state_dict()`."
    )


def _is_state(content: Any) -> bool:
    """Whether something holds tensors by name, at once or in a wrapping."""
    return isinstance(content, Mapping) and any(
        isinstance(v, Tensor) or (k in WRAPPINGS + AVERAGED and _is_state(v))
        for k, v in content.items()
    )


def _twins(own: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """For each name of a model's state, all names of the same tensor, itself among them."""
    groups: dict[tuple, list[str]] = {}
    for name, v in own.items():
        place = (v.data_ptr(), v.shape, v.stride()) if v.numel() else (name,)
        groups.setdefault(place, []).append(name)
    return {name: names for names in groups.values() for name in names}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(f"`{name}`" for name in names[:NAMED]) + more
