"""What checks of an attack amount to: shares of images, from the tensors of `suites.attacks`.

    zero_gradient   images whose gradient is exactly 0 or not finite
    wrong_gradient  images with a directional derivative that is not the difference quotient
    not_rising      images whose loss does not rise on a step of eps / 4 along the gradient
    probabilities   images whose logits are probabilities
    random          images that are classified, or scaled, otherwise in one of five calls
    black_box       images that Square breaks and no attack with gradients
    transfer        images that are broken by those made on another model, and by none of these
    noise_gain      images that random moves break and no attack with gradients
    fgsm_gain       images that one step breaks and 20 of APGD-CE do not
    more_gain       images that five times the iterations break and APGD-CE does not
    left_at_half    images that are right where all images can be made the same gray one
    control         planted points that the attack found, of the images that have one
    masking_gap     images that hold against the attack through their own solver, of those that some
                    attack breaks (see `suites.attacks.solver_matrix`)
    below_bound     images that are broken although a certificate says they cannot be
    fixed_less_eot  robust images with the randomness fixed, less those with fresh draws
    naive, headline robust accuracy after PGD alone, and after every attack
    certified       images that are right and have a certificate of at least eps
    planted         images that have a control; `by_chance` those whose point ten random moves find

All count over all images, except for `control` and `by_chance`, which count over the images that
have one; the attacks with gradients are those of GRADIENT.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]  # (N,), bool; float for `radius`
GRADIENT = ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "more", "eot")
ATTACKS = (*GRADIENT, "noise", "square")
TRANSFER, OWN = "transfer", "own"


class Share(NamedTuple):
    """A share of images: its value, from -1 to 1, and the images behind it."""

    value: float
    n: int


def share(mask: np.ndarray) -> Share:
    """Return the share of true values; NaN of none."""
    return Share(float(mask.mean()) if len(mask) else float("nan"), len(mask))


def broken(arrays: Arrays, names: Sequence[str]) -> np.ndarray:
    """Return which images one of the attacks breaks that are right without, (N,)."""
    clean = arrays["clean"]
    hits = [clean & ~arrays[name] for name in names if name in arrays]
    return np.any(hits, axis=0) if hits else np.zeros_like(clean)


def transfers(arrays: Arrays) -> list[str]:
    """Return the names of arrays after images of other models: "transfer", "transfer, NAME"."""
    return [name for name in arrays if name == TRANSFER or name.startswith(transfer_from(""))]


def transfer_from(name: str) -> str:
    """Return the name of an array after images made on the model of that name."""
    return f"{TRANSFER}, {name}"


def through_solvers(arrays: Arrays) -> list[str]:
    """Return the names of arrays after attacks tested under the model's own solver."""
    return [name for name in arrays if name.endswith(f" -> {OWN}") and not name.startswith("clean")]


def robust(arrays: Arrays) -> np.ndarray:
    """Return which images are right clean and after every attack, (N,): the per-image minimum."""
    names = (*ATTACKS, *transfers(arrays), *through_solvers(arrays))
    return arrays["clean"] & ~broken(arrays, names)


def masking_gap(arrays: Arrays) -> Share:
    """Return the share of images that other attacks break and the one through `own` does not.

    Raises:
        LookupError: The arrays have no solver matrix.
    """
    return share(_hidden(arrays))


def _hidden(arrays: Arrays) -> np.ndarray:
    own = arrays[f"{OWN} -> {OWN}"] & arrays[f"clean -> {OWN}"]
    return own & ~np.all([arrays[name] for name in through_solvers(arrays)], axis=0)


def numbers(arrays: Arrays, eps: float = 0.0) -> dict[str, Share]:
    """Return every number that the arrays allow, by name; see above.

    Args:
        arrays: All arrays of a model's checks together, under the names of their functions.
        eps: Radius of the attacks in the norm of `radius`, for `certified` and `below_bound`.
    """
    return {name: share(found[np.isfinite(found)]) for name, found in by_image(arrays, eps).items()}


def by_image(arrays: Arrays, eps: float = 0.0) -> dict[str, np.ndarray]:
    """Return what each image adds to the numbers, (N,), float; NaN where it does not count.

    The arguments are those of `numbers`.
    """
    found: dict[str, np.ndarray] = {}
    for name, array in (
        ("zero_gradient", "zero"),
        ("wrong_gradient", "disagree"),
        ("not_rising", "flat"),
        ("probabilities", "probabilities"),
        ("planted", "planted"),
    ):
        if array in arrays:
            found[name] = arrays[array]
    if "changes" in arrays:
        found["random"] = arrays["changes"] | arrays["differs"]
    if "found" in arrays:
        for name, array in (("control", "found"), ("by_chance", "by_chance")):
            found[name] = np.where(arrays["planted"], arrays[array], np.nan)
    if {"fixed", "eot"} <= arrays.keys():
        found["fixed_less_eot"] = arrays["fixed"].astype(float) - arrays["eot"]
    if f"{OWN} -> {OWN}" in arrays:
        found["masking_gap"] = _hidden(arrays)
    if "clean" in arrays:
        found |= _of_attacks(arrays)
        if "radius" in arrays:
            safe = arrays["clean"] & (arrays["radius"] >= eps)
            found["certified"] = safe
            found["below_bound"] = safe & ~robust(arrays)
    return {name: values.astype(float) for name, values in found.items()}


def _of_attacks(arrays: Arrays) -> dict[str, np.ndarray]:
    seen, found = broken(arrays, GRADIENT), {"headline": robust(arrays)}
    if "pgd" in arrays:
        found["naive"] = arrays["clean"] & arrays["pgd"]
    for name, attack in (("black_box", "square"), ("noise_gain", "noise")):
        if attack in arrays:
            found[name] = broken(arrays, [attack]) & ~seen
    if transfers(arrays):
        found["transfer"] = broken(arrays, transfers(arrays)) & ~seen
    if "apgd_ce" in arrays:
        for name, attack in (("fgsm_gain", "fgsm"), ("more_gain", "more")):
            if attack in arrays:
                found[name] = broken(arrays, [attack]) & ~broken(arrays, ["apgd_ce"])
    if "huge" in arrays:
        found["left_at_half"] = arrays["huge"]
    return found
