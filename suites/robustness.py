"""Accuracy and calibration under common corruptions at five severities.

By default the seven noise and blur corruptions of Hendrycks and Dietterich, made here from the
test images: these are not the published CIFAR-10-C files. The severity constants are those of
CIFAR-10-C for images up to 64 pixels and those of ImageNet-C above. With others, or with images
made by the package imagecorruptions, the data set's name in tables says so.

Reference: D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations, ICLR 2019, https://arxiv.org/abs/1903.12261.

Not measured: adversarial noise, adaptation at test time.
"""

from functools import partial

from harness.models.registry import unknown
from harness.models.source_code import code_of, digest
from harness.models.user_code import is_file
from harness.suites.base import Cell, Setting, Suite
from harness.suites.catalog import COMMON, CORRUPTIONS, FAMILIES, SEVERITIES, SUITES
from harness.suites.corruptions.contract import CONSTANTS, Corruption, usual_constants
from harness.suites.corruptions.external import external, version
from harness.suites.corruptions.kinds import corruption_of
from harness.suites.observe import classification, logits

ALL = tuple(name for names in FAMILIES.values() for name in names)
LISTS = {"common": COMMON, "all": ALL} | FAMILIES  # names that stand for several
SOURCES = ("harness", "imagecorruptions")


def select_corruptions(names: tuple[str, ...]) -> tuple[Corruption, ...]:
    """Return the corruptions of these names, lists or files (path/to/file.py:NAME), each once.

    Raises:
        LookupError: There is no such corruption and no such list.
        ValueError: A user's corruption does not keep the contract, or its name is taken.
    """
    found: dict[str, Corruption] = {}
    for name in names:
        if not is_file(name) and name not in CORRUPTIONS and name not in LISTS:
            raise unknown("corruption", name, [*CORRUPTIONS, *LISTS])
        for one in LISTS.get(name, (name,)):
            kind = corruption_of(one)
            if kind.__name__ in ("clean", *LISTS):
                raise ValueError(f"The corruption `{one}` has the name of a list. Rename it.")
            found[kind.__name__] = kind
    return tuple(found.values())


def constants_of(setting: Setting) -> str:
    """Return the set of constants of a setting.

    Raises:
        LookupError: There is no such set.
        ValueError: The package has constants of its own.
    """
    if setting.constants not in (*CONSTANTS, "auto"):
        raise unknown("set of constants", setting.constants, (*CONSTANTS, "auto"))
    if setting.source == "imagecorruptions":
        if setting.constants == "cifar10_c":
            raise ValueError(
                "The package imagecorruptions has the constants of `imagenet_c` alone, not those "
                "of `cifar10_c`. Leave out `--constants`."
            )
        return "imagenet_c"
    usual = usual_constants(setting.image_size)
    return usual if setting.constants == "auto" else setting.constants


def variant(setting: Setting) -> str:
    """Return "[imagecorruptions]" or "[imagenet_c]" where images are not made as usual."""
    if setting.source == "imagecorruptions":
        return "[imagecorruptions]"
    constants = constants_of(setting)
    return "" if constants == usual_constants(setting.image_size) else f"[{constants}]"


def cells(setting: Setting) -> tuple[Cell, ...]:
    if setting.source not in SOURCES:
        raise unknown("source of corruptions", setting.source, SOURCES)
    constants, ours = constants_of(setting), setting.source == "harness"
    corrupted = []
    for kind in select_corruptions(setting.corruptions or ("noise", "blur")):
        made_by = made_with(kind, constants) if ours else made_by_package()
        make = kind if ours else external(kind)
        for severity in SEVERITIES:
            prepare = partial(make, severity=severity, constants=constants)
            corrupted.append(Cell(kind.__name__, severity, prepare, made_by))
    return (Cell("clean"), *corrupted)


def made_with(kind: Corruption, constants: str) -> dict[str, str]:
    """Return what determines a corruption's images other than its name and severity."""
    codec = getattr(kind, "codec", None)  # of corruptions that reproduce one
    said = {"codec": codec(constants)} if codec else {}
    code = code_of(getattr(kind, "function", kind))
    return {"constants": constants} | said | {"code": digest(code)}


def made_by_package() -> dict[str, str]:
    """Return the same of images that the package imagecorruptions makes."""
    return {"source": version(), "code": digest(code_of(external))}


@SUITES.register
def robustness() -> Suite[Cell]:
    """Accuracy and calibration under common corruptions at five severities."""
    return Suite(1, cells, observe=logits, measure=classification, variant=variant)
