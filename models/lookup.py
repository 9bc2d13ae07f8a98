"""A model's name to its builder: registered, from a user's file, or from timm.

resnet18                  a builder registered here
rk_resnet(method="heun")  the same with other arguments than its defaults
path/to/file.py:name      a function in any file, called with `num_classes` if it takes it
timm/NAME                 any architecture of timm, trained from scratch
timm/NAME.TAG             the same with the published weights of that tag
timm/hf-hub:OWNER/NAME    an architecture and its weights, as timm loads them;
timm/local-dir:FOLDER     the same from a folder
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from torch import nn

from harness.models.cards import MODELS, takes_width
from harness.models.preprocessing import Preprocessing
from harness.models.registry import read_call, unknown, write_call
from harness.models.source_code import code_of, code_of_parts
from harness.models.timm_weights import check_tag, load_pretrained
from harness.models.user_code import is_file, load_code, origin_of

REGISTERED = "registered"
WITH_WEIGHTS = ("hf-hub:", "local-dir:")  # timm's schemes that bring weights along


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Args:
        name: Its name in tables and paths.
        build: `(num_classes=...)`, and `width=...` where `scalable`, to a module.
        scalable: Whether the builder takes a `width`.
        pretrained: Whether the builder brings its own weights.
        code: Digests of the source code that it stands on, as of `source_code.code_of`.
        origin: What a person would say it is of: "registered", "timm", "memory", or the file of a
            user; and `place`, a digest of the file's path.
        arguments: Arguments given in the name, other than `num_classes` and `width`.
    """

    name: str
    build: Callable[..., nn.Module]
    scalable: bool = True
    pretrained: bool = False
    code: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=lambda: {"of": REGISTERED})
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether it is one of the program's own models, which its tests know."""
        return self.origin["of"] == REGISTERED


def source(name: str) -> Source:
    """Find the model called `name`.

    Raises:
        LookupError: There is no such model.
        ValueError: A file's model has the name of a registered one.
        FileNotFoundError: There is no such file.
    """
    if name.startswith("timm/"):
        return _timm(name)
    if is_file(name):
        return _file(name)
    if "(" in name:
        return _with_arguments(name)
    builder = MODELS[name]
    origin = {"of": f"package {builder.__module__}" if MODELS.sha256(name) else REGISTERED}
    return _of(name, builder, origin)


GIVEN = ("num_classes", "width")  # by the data set and by an option, not in a name


def _with_arguments(name: str) -> Source:
    call = read_call(name)
    if call is None:
        raise ValueError(
            f'`{name}` is no model with arguments. Write it as in `rk_resnet(method="heun")`.'
        )
    function, arguments = call
    builder = MODELS[function]
    known = [k for k in inspect.signature(builder).parameters if k not in GIVEN]
    for argument in arguments:
        if argument in GIVEN:
            raise ValueError(
                f"`{argument}` is not given in a model's name. Use `--width`, or another data set."
            )
        if argument not in known:
            raise unknown(f"argument of `{function}`", argument, known)
    defaults = {k: p.default for k, p in inspect.signature(builder).parameters.items()}
    arguments = {k: v for k, v in sorted(arguments.items()) if v != defaults[k]}
    if not arguments:  # one model, one name
        return Source(function, builder, takes_width(builder), code=code_of(builder))
    return Source(
        write_call(function, arguments),
        functools.partial(builder, **arguments),
        takes_width(builder),
        code=code_of(builder),
        arguments=arguments,
    )


def _timm(name: str) -> Source:
    architecture = name.removeprefix("timm/")
    pretrained = architecture.startswith(WITH_WEIGHTS)
    if not pretrained:
        own, dot, _ = architecture.partition(".")
        if not timm.is_model(own):
            raise unknown("timm model", own, timm.list_models())
        if dot:
            check_tag(architecture)
            pretrained = True

    def build(num_classes: int = 10) -> nn.Module:
        if pretrained:  # with its head: a wrong class count is found, not papered over
            return load_pretrained(architecture)
        return timm.create_model(architecture, num_classes=num_classes)

    code = code_of_parts([_timm, Preprocessing])
    return Source(name, build, False, pretrained, code=code, origin={"of": "timm"})


def _of(name: str, builder: Callable[..., nn.Module], origin: Mapping[str, str]) -> Source:
    build, scalable = called_with_classes(builder, name)
    return Source(name, build, scalable, code=code_of(builder), origin=origin)


def called_with_classes(
    builder: Callable[..., nn.Module], name: str
) -> tuple[Callable[..., nn.Module], bool]:
    """Return a builder that can be called with `num_classes`, and whether it takes a `width`.

    A function without that argument builds a network of so many classes as it likes, and is called
    without.

    Raises:
        ValueError: It needs another argument, or what is called has no signature.
    """
    try:
        parameters = inspect.signature(builder).parameters
    except (TypeError, ValueError):
        raise ValueError(
            f"`{name}` is no builder of models. Give a function (num_classes=...) that returns a "
            "module."
        ) from None
    single = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for argument, parameter in parameters.items():
        open_ended = parameter.default is not parameter.empty or parameter.kind in single
        if argument not in GIVEN and not open_ended:
            raise ValueError(
                f"`{name}` needs an argument `{argument}`, and is called with `num_classes` alone, "
                "and `width` if it takes one. Give the argument a default."
            )
    scalable = "width" in parameters
    if "num_classes" in parameters or any(p.kind is single[1] for p in parameters.values()):
        return builder, scalable

    def build(num_classes: int = 0, **arguments: int) -> nn.Module:
        return builder(**arguments)

    return build, scalable


def _file(name: str) -> Source:
    code = load_code(name, "model")
    if code.name in MODELS:
        raise ValueError(f"The model `{name}` has the name of a registered model. Rename it.")
    if not callable(code.value):
        raise ValueError(f"The model `{name}` is no function. Name the one that builds it.")
    return _of(code.name, code.value, origin_of(Path(name.rpartition(":")[0])))
