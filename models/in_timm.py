"""Every registered model in timm: `timm.create_model("diffusify_pde_aug", num_classes=10)`.

    from harness.models import in_timm

registers the names; a model's file is imported when timm first builds it. The images are still
(N, 3, H, W) in [0, 1]: `pretrained_cfg` says mean 0 and deviation 1, since normalization is inside.
There are no weights to download; those of `harness export` are loaded from their folder, or from a
hub: `timm.create_model("local-dir:FOLDER", pretrained=True)`.
"""

from typing import Any

from timm.models import load_pretrained, register_model
from torch import nn

from harness.models.cards import MODELS, Builder
from harness.models.catalog import CATALOG

PREFIX = "diffusify_"


def entrypoint(name: str, summary: str) -> Builder:
    """Return the builder of a model in the form in which timm registers it."""

    def create(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        num_classes: int = 10,
        pretrained_model_args: Any = None,
        **arguments: Any,
    ) -> nn.Module:
        told = pretrained_cfg if isinstance(pretrained_cfg, dict) else {}
        if pretrained and not any(told.get(place) for place in ("file", "hf_hub_id")):
            raise ValueError(
                f"There are no weights of `{PREFIX}{name}` to download. Leave out `pretrained`, "
                f"and load a file of `harness train --model {name}`, or a folder of `harness "
                "export`."
            )
        model = MODELS[name](num_classes=num_classes, **arguments)
        if pretrained:
            load_pretrained(model, pretrained_cfg=told, num_classes=num_classes)
        model.num_classes = num_classes  # type: ignore[assignment]
        model.pretrained_cfg = {  # type: ignore[assignment]
            "num_classes": num_classes,
            "input_size": (3, 32, 32),
            "mean": (0.0, 0.0, 0.0),
            "std": (1.0, 1.0, 1.0),
        }
        return model

    create.__name__ = create.__qualname__ = PREFIX + name
    create.__doc__ = summary
    create.__module__ = __name__
    return create


for _name, _entry in CATALOG.items():
    globals()[PREFIX + _name] = register_model(entrypoint(_name, _entry.summary))
