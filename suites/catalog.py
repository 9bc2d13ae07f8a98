"""Names of suites, data sets and corruptions, and the modules that hold them; nothing heavy.

A module is imported when one of its names is first used, so that a command that only lists or
reads starts at once. To add one, add its name here with its module.
"""

from harness.models.registry import Registry

SUITES: Registry = Registry(
    "suite",
    {
        "clean": "harness.suites.clean",
        "robustness": "harness.suites.robustness",
        "cifar10_c": "harness.suites.cifar10_c",
        "imagenet_c": "harness.suites.imagenet_c",
        "attention": "harness.suites.attention",
        "nfe": "harness.suites.nfe",
        "stability": "harness.suites.stability",
        "ood": "harness.suites.ood",
        "adversarial": "harness.suites.adversarial",
        "generation": "harness.suites.generation",
    },
    group="harness.suites",
)

DATASETS: Registry = Registry(
    "data set",
    {
        "digits": "harness.suites.datasets",
        "cifar10": "harness.suites.datasets",
        "cifar100": "harness.suites.datasets",
        "svhn": "harness.suites.datasets",
        "stl10": "harness.suites.datasets",
        "fashion_mnist": "harness.suites.datasets",
    },
    group="harness.datasets",
)

# Family, module and names of corruptions, in the order used everywhere. `common` is the fifteen of
# the published benchmark; `validation`, and whatever is added, never enters a headline mean.
_CORRUPTIONS = (
    ("noise", "noise", "gaussian_noise shot_noise impulse_noise"),
    ("blur", "blur", "defocus_blur glass_blur motion_blur zoom_blur"),
    ("weather", "weather", "snow frost fog brightness"),
    ("digital", "digital", "contrast elastic_transform pixelate jpeg_compression"),
    ("validation", "noise", "speckle_noise"),
    ("validation", "blur", "gaussian_blur"),
    ("validation", "weather", "spatter"),
    ("validation", "digital", "saturate"),
)
FAMILIES = {
    family: tuple(
        name for other, _, names in _CORRUPTIONS if other == family for name in names.split()
    )
    for family, _, _ in _CORRUPTIONS
}
COMMON = tuple(name for f in ("noise", "blur", "weather", "digital") for name in FAMILIES[f])

CORRUPTIONS: Registry = Registry(
    "corruption",
    {
        name: f"harness.suites.corruptions.{module}"
        for _, module, names in _CORRUPTIONS
        for name in names.split()
    },
    group="harness.corruptions",
)

SEVERITIES = (1, 2, 3, 4, 5)
