"""Grad-CAM: where the features lie that speak for a class.

    m = max(0, sum_k w_k A_k),   w_k = mean over places of d logit_class / d A_k,

for the features A (N, c, H, W) behind a block, on their own grid.

Reference: R. R. Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization, ICCV 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def grad_cam(
    model: Callable[[Tensor], Tensor],
    blocks: Mapping[str, nn.Module],
    images: Tensor,
    classes: Tensor | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the maps behind the last block of each resolution, and the classes they speak for.

    Args:
        model: Images (N, 3, H, W) to logits; in evaluation mode.
        blocks: Blocks of the model, in the order of evaluation; those that give no grid are passed
            over.
        images: Images in [0, 1].
        classes: (N,); by default those that the model predicts.

    Returns:
        {"HxW": (N, H, W), sums to one, NaN for a map without a positive place}, and (N,).
    """
    kept: dict[str, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            kept[f"{output.shape[2]}x{output.shape[3]}"] = output

    handles = [block.register_forward_hook(keep) for block in blocks.values()]
    try:
        # The caller may have switched gradients off; tensors made so cannot get them any more.
        with torch.inference_mode(False), torch.enable_grad():
            logits = model(images.clone().requires_grad_())
            if classes is None:
                classes = logits.detach().argmax(dim=1)
            chosen = logits.gather(1, classes.clone()[:, None]).sum()
            found = torch.autograd.grad(chosen, list(kept.values()))
    finally:
        for handle in handles:
            handle.remove()
    maps = {}
    for (name, features), gradient in zip(kept.items(), found, strict=True):
        weights = gradient.float().mean((2, 3), keepdim=True)
        m = (weights * features.detach().float()).sum(dim=1).clamp(min=0)
        maps[name] = m / m.sum((1, 2), keepdim=True)  # 0 / 0 is NaN
    return maps, classes
