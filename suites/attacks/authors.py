"""The authors' own attacks, the package pyautoattack: something to check ours against.

It draws for a batch as a whole, from PyTorch's global generator, which is seeded anew for each call
and put back afterwards: its numbers depend on the size of batches, ours do not.
"""

import warnings
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from harness.suites.attacks.problem import Classifier

PACKAGE = "pyautoattack"
NAMES = {"linf": "Linf", "l2": "L2"}


def version() -> str:
    """Return the package's name and version, for a result's provenance.

    Raises:
        ValueError: It is not installed.
    """
    if find_spec(PACKAGE) is None:
        raise ValueError(
            f"`--attack-source {PACKAGE}` needs the package {PACKAGE}, which is not installed. Run "
            f"`pip install {PACKAGE}`, or leave the option out."
        )
    return f"{PACKAGE} {metadata.version(PACKAGE)}"


def authors(name: str) -> Callable[..., Tensor]:
    """Return the package's attack of one of our names, with the arguments of ours.

    Raises:
        LookupError: The package has none of that name.
    """

    def attacked(
        subject: Classifier,
        images: Tensor,
        labels: Tensor,
        *,
        eps: float,
        norm: str = "linf",
        indices: Tensor | None = None,
        seed: int = 0,
        nearest: bool = False,
        **settings: int,
    ) -> Tensor:
        # Without `nearest`, points beyond eps are not returned; the search is the same.
        with torch.no_grad():
            classes = subject(images[:1]).shape[1]
        common = {"eps": eps, "norm": NAMES[norm], "seed": seed, "device": images.device}
        attack = _attack(name, subject, classes, common, settings)
        flat = images.detach().clone(memory_format=torch.contiguous_format)  # it asks for views
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of gradients that are 0
            return attack(flat, labels.clone()).detach()

    return attacked


def _attack(
    name: str, subject: Classifier, classes: int, common: dict[str, Any], settings: dict[str, int]
) -> Callable[[Tensor, Tensor], Tensor]:
    """The function of images and labels of one of the package's classes."""
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    from pyautoattack.fab_pt import FABAttack_PT
    from pyautoattack.square import SquareAttack

    common = common | {"n_restarts": settings.get("restarts", 1)}
    if name == "square":
        queries = settings.get("queries", 5000)
        return SquareAttack(subject, n_queries=queries, resc_schedule=False, **common).perturb
    common["n_iter"] = settings.get("iterations", 100)
    if name in ("apgd_ce", "apgd_dlr"):
        return APGDAttack(subject, loss=name.removeprefix("apgd_"), **common).perturb
    common["n_target_classes"] = min(settings.get("targets", 9), classes - 1)
    if name == "apgd_t":
        return APGDAttack_targeted(subject, **common).perturb
    if name == "fab_t":
        return FABAttack_PT(subject, targeted=True, **common).perturb
    raise LookupError(f"The package {PACKAGE} has no `{name}`. Leave out `--attack-source`.")
