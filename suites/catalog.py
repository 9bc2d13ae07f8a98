"""Names of suites, data sets and corruptions, and the modules that hold them; nothing heavy.

One line an entry. A module is imported when one of its names is first asked for, so that a command
that only lists or reads starts at once.
"""

from harness.models.registry import Registry

SUITES: Registry = Registry(
    "suite",
    {
        "clean": "harness.suites.clean",
        "robustness": "harness.suites.robustness",
        "cifar10_c": "harness.suites.cifar10_c",
        "attention": "harness.suites.attention",
        "nfe": "harness.suites.nfe",
        "stability": "harness.suites.stability",
    },
)

DATASETS: Registry = Registry(
    "data set",
    dict.fromkeys(
        ("digits", "cifar10", "cifar100", "svhn", "stl10", "fashion_mnist"),
        "harness.suites.datasets",
    ),
)

# By family, in the order used everywhere. `validation` never enters a headline mean.
FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "validation": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
COMMON = tuple(name for family in FAMILIES for name in FAMILIES[family] if family != "validation")

CORRUPTIONS: Registry = Registry(
    "corruption",
    dict.fromkeys(
        ("gaussian_noise", "shot_noise", "impulse_noise"), "harness.suites.corruptions.noise"
    )
    | dict.fromkeys(
        ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        "harness.suites.corruptions.blur",
    )
    | dict.fromkeys(("snow", "frost", "fog", "brightness"), "harness.suites.corruptions.weather")
    | dict.fromkeys(
        ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
        "harness.suites.corruptions.digital",
    )
    | {
        "speckle_noise": "harness.suites.corruptions.noise",
        "gaussian_blur": "harness.suites.corruptions.blur",
        "spatter": "harness.suites.corruptions.weather",
        "saturate": "harness.suites.corruptions.digital",
    },
)

SEVERITIES = (1, 2, 3, 4, 5)
