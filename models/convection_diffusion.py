"""Classifiers that diffuse over the graph of a batch, and their nulls. Transductive.

    diff_resnet    z = x + fc2(relu(fc1 x)),   z <- z - step L z, n times,   logits = C z
    coin           u = softmax(C(x + relu(A x))),   u <- u - step L u, n times,   logits = log u

x (N, 8 width) are the features of a ResNet-18, L is the Laplacian of the graph of their batch, see
`harness.models.graph`. In the first, L 1 = 0 and an affine classifier make it the diffusion of
logits: the two differ by the softmax before or after. n = 10, n_top = 8, s = 4, step = 0.5 or 0.9
of its limit, whichever is less; so u stays a convex combination.

What diffuses are samples, not pixels: the answer for an image depends on the images it is seen
with, 1,024 of them in the order of the data set. It is another question than that of the other
models, and no number of theirs is compared with these without saying so. With graph_batch=1 nothing
diffuses.

Reference: T. Wang, C. Bao, Z. Shi, Convection-Diffusion Equation: A Theoretically Certified
Framework for Neural Networks, https://arxiv.org/abs/2403.15726 (coin); T. Wang, Z. Dou, C. Bao,
Z. Shi, Diffusion Mechanism in Residual Neural Network: Theory and Applications, IEEE TPAMI 46(2),
2024, https://arxiv.org/abs/2105.03155 (diff_resnet). Deviations: features and head are trained
together by the one recipe on the graphs of training batches, where the papers train heads on frozen
features; features have unit length in the graph alone; steps are cut to the limit; no training
images are added to the graph of the test images.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.models import graph
from harness.models.cards import MODELS, card
from harness.models.layers import widen
from harness.models.papers import WANG_COIN, WANG_DIFF
from harness.models.resnet import SmallImageResNet

GRAPH_BATCH = 1024
MATCHED = ("parameters", "multiply-adds", "initial values")
Spread = Callable[[Tensor, Tensor], Tensor]  # (u (N, k), W (N, N)) to u


def diffusion(num_steps: int, step: float) -> Spread:
    """Return explicit diffusion with steps cut to their limit."""
    if num_steps < 0 or not step >= 0:
        raise ValueError(
            f"`num_steps` and `step` must be >= 0; got {num_steps} and {step}. Diffusion cannot "
            "run backwards."
        )

    def spread(u: Tensor, W: Tensor) -> Tensor:
        L = graph.laplacian(W)
        return graph.diffuse(u, L, graph.safe_step(L, step), num_steps)

    return spread


def neighbor_mean(u: Tensor, W: Tensor) -> Tensor:
    """Return the mean of u over each row's neighbors, itself included."""
    near = (W > 0).to(u.dtype)
    return near @ u / near.sum(1, keepdim=True).clamp(min=1)


def label_propagation(u: Tensor, W: Tensor) -> Tensor:
    """Return u after ten rounds of u <- 0.9 P u + 0.1 u(0), P = W with rows that sum to one."""
    degree = W.sum(1, keepdim=True)
    P = torch.where(degree > 0, W / degree.clamp(min=graph.TINY), torch.eye(len(W)).to(W))
    first = u
    for _ in range(10):
        u = 0.9 * P @ u + 0.1 * first
    return u


def shuffle(spread: Spread) -> Spread:
    """Return `spread` on the same graph between other samples: equal degrees, no meaning."""

    def on_another(u: Tensor, W: Tensor) -> Tensor:
        # Multiplicative hashing: an order that has nothing to do with the images, always the same.
        order = (torch.arange(len(W), device=W.device) * 2654435761 % 2**32).argsort()
        return spread(u, W[order][:, order])

    return on_another


class GraphClassifier(nn.Module):
    """images (N, 3, H, W) in [0, 1] to logits (N, num_classes), of the whole batch together.

    Args:
        probabilities: Whether probabilities are spread, or features.
    """

    transductive = True

    def __init__(
        self,
        num_classes: int,
        width: int,
        spread: Spread,
        *,
        probabilities: bool,
        graph_batch: int = GRAPH_BATCH,
    ) -> None:
        super().__init__()
        if graph_batch < 1:
            raise ValueError(f"`graph_batch` must be at least 1 image; got {graph_batch}.")
        self.backbone = SmallImageResNet(num_classes, width)
        net: Any = self.backbone.net
        net.fc = nn.Identity()
        features = 8 * width
        self.fc1 = nn.Linear(features, features)
        self.fc2 = nn.Identity() if probabilities else nn.Linear(features, features)
        self.classifier = nn.Linear(features, num_classes)
        self.spread, self.probabilities, self.graph_batch = spread, probabilities, graph_batch

    def forward(self, images: Tensor) -> Tensor:
        x = self.backbone(images)
        z = x + self.fc2(torch.relu(self.fc1(x)))
        with torch.autocast(images.device.type, enabled=False):
            W = graph.weights(nn.functional.normalize(widen(x), dim=1))
            if not self.probabilities:
                return self.classifier(self.spread(widen(z), W))
            u = self.classifier(widen(z)).softmax(dim=1)
            return self.spread(u, W).clamp(min=1e-12).log()

    def blocks(self) -> Mapping[str, nn.Module]:
        """Return the blocks of the backbone."""
        return self.backbone.blocks()


@MODELS.register
@card(
    "convection-diffusion",
    "transductive: z <- z - step L z over the graph of a batch",
    (WANG_DIFF,),
    (
        "diff_resnet_steps0",
        "knn_features",
        "label_propagation_features",
        "diff_resnet_random_graph",
        "resnet18",
    ),
)
def diff_resnet(
    num_classes: int = 10,
    width: int = 64,
    num_steps: int = graph.STEPS,
    step: float = graph.STEP,
    graph_batch: int = GRAPH_BATCH,
) -> nn.Module:
    """ResNet-18 whose features diffuse over a batch; the head adds 5 % of the weights.

    Args:
        num_steps: Number of steps of diffusion.
        step: Its size, cut to the limit of each graph.
        graph_batch: Images that are seen together in evaluation.
    """
    spread = diffusion(num_steps, step)
    return GraphClassifier(num_classes, width, spread, probabilities=False, graph_batch=graph_batch)


@MODELS.register
@card("null", "transductive in form: z as it is", (WANG_DIFF,), matched=MATCHED)
def diff_resnet_steps0(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `diff_resnet`: no steps."""
    return diff_resnet(num_classes, width, num_steps=0)


@MODELS.register
@card("null", "transductive: z <- mean of z over its neighbors", matched=MATCHED)
def knn_features(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `diff_resnet`: one mean over neighbors."""
    return GraphClassifier(num_classes, width, neighbor_mean, probabilities=False)


@MODELS.register
@card("null", "transductive: z <- 0.9 P z + 0.1 z(0)", matched=MATCHED)
def label_propagation_features(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `diff_resnet`: label propagation of the features on the same graph."""
    return GraphClassifier(num_classes, width, label_propagation, probabilities=False)


@MODELS.register
@card("null", "transductive: z <- z - step L z over a random graph", matched=(*MATCHED, "degrees"))
def diff_resnet_random_graph(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `diff_resnet`: the same diffusion between samples taken at random."""
    spread = shuffle(diffusion(graph.STEPS, graph.STEP))
    return GraphClassifier(num_classes, width, spread, probabilities=False)


@MODELS.register
@card(
    "convection-diffusion",
    "transductive: u <- u - step L u over the graph of a batch",
    (WANG_COIN,),
    ("coin_steps0", "knn_probabilities", "label_propagation_head", "coin_random_graph", "resnet18"),
)
def coin(
    num_classes: int = 10,
    width: int = 64,
    num_steps: int = graph.STEPS,
    step: float = graph.STEP,
    graph_batch: int = GRAPH_BATCH,
) -> nn.Module:
    """ResNet-18 whose class probabilities diffuse over a batch; 2 % more weights in the head.

    Args:
        num_steps: Number of steps of diffusion.
        step: Its size, cut to the limit of each graph.
        graph_batch: Images that are seen together in evaluation.
    """
    spread = diffusion(num_steps, step)
    return GraphClassifier(num_classes, width, spread, probabilities=True, graph_batch=graph_batch)


@MODELS.register
@card("null", "transductive in form: u as it is", (WANG_COIN,), matched=MATCHED)
def coin_steps0(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `coin`: no steps."""
    return coin(num_classes, width, num_steps=0)


@MODELS.register
@card("null", "transductive: u <- mean of u over its neighbors", matched=MATCHED)
def knn_probabilities(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `coin`: one mean over neighbors."""
    return GraphClassifier(num_classes, width, neighbor_mean, probabilities=True)


@MODELS.register
@card("null", "transductive: u <- 0.9 P u + 0.1 u(0)", matched=MATCHED)
def label_propagation_head(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `coin`: label propagation of the probabilities on the same graph."""
    return GraphClassifier(num_classes, width, label_propagation, probabilities=True)


@MODELS.register
@card("null", "transductive: u <- u - step L u over a random graph", matched=(*MATCHED, "degrees"))
def coin_random_graph(num_classes: int = 10, width: int = 64) -> nn.Module:
    """Null model of `coin`: the same diffusion between samples taken at random."""
    spread = shuffle(diffusion(graph.STEPS, graph.STEP))
    return GraphClassifier(num_classes, width, spread, probabilities=True)
