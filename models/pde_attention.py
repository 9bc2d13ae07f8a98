"""ResNet-18 with self-attention whose maps diffuse, and the nulls of that diffusion.

    pde_attention           alpha = softmax(D S),  S = Q K^T / sqrt(d),  D: u_t = kappa Laplacian(u)
    plain_attention         alpha = softmax(S)
    temperature_attention   alpha = softmax(S / tau_h)

One block behind stage 3: group norm, 4 heads over the positions of the map (64 for images of 32
pixels), alpha V, a projection that starts at zero, and the sum with the input. D takes 4 explicit
steps of lam_h = kappa_h dt = sigmoid(a_h) / 4, one a_h per head, 0 at the start: stable, since
lam <= 1/4, with no flux through the border. What diffuses is `axis`:

    "key"         each query's scores as an image over the keys
    "query_key"   that, and then each key's scores as an image over the queries
    "matrix"      the matrix of scores as an image, which knows nothing of the geometry

and `where` says whether it does so before the softmax ("logits") or behind it ("probs"), where the
conservative stencil keeps the sums of the rows. With one lam per head these are identities:

    key, logits         softmax(Q (D K)^T)       attention with blurred keys
    key, probs          alpha (D V)              attention with blurred values
    query_key, logits   softmax((D Q) (D K)^T)

so the block diffuses keys, values or queries, d planes a head in place of one for each query, and
gives the same. What diffusion of attention gains, blurred keys gain: it is one thing.

The null `temperature_attention` raises the entropy of the rows as much as the diffusion of the
start would, and nothing else: while training, tau_h follows by one Newton step a batch the value
where mean row entropies agree (dH/dtau = Var_alpha(S) / tau^3); in evaluation it is frozen.

Reference: When Physics Teaches Vision (DiffusifyNet), 2026, https://diffusify.in; A. Vaswani et
al., Attention Is All You Need, NeurIPS 2017, https://arxiv.org/abs/1706.03762. Deviations: the
page says softmax(PDE(QK^T)) and no more: heads, steps, place and axis are ours.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from harness.models.base import AttentionMap, Rule
from harness.models.cards import MODELS, card
from harness.models.layers import widen
from harness.models.ops import heat
from harness.models.papers import DIFFUSIFYNET, VASWANI_2017
from harness.models.pde_layer import LIMIT, START, STEPS, channels_of
from harness.models.resnet import SmallImageResNet
from harness.models.slots import group_norm, insert

AXES = ("key", "query_key", "matrix")
PLACES = ("logits", "probs")
HEADS = 4


def diffuse_keys(scores: Tensor, lam: Tensor, steps: int, height: int, width: int) -> Tensor:
    """Diffuse scores (N, heads, Q, K) over the grid of keys, with lam (heads,) <= 1/4 a step."""
    n, heads, queries, keys = scores.shape
    planes = scores.transpose(1, 2).reshape(n * queries, heads, height, width)
    planes = heat(planes, dt=1.0, num_steps=steps, diffusivity=lam)
    return planes.view(n, queries, heads, keys).transpose(1, 2)


def diffuse_queries(scores: Tensor, lam: Tensor, steps: int, height: int, width: int) -> Tensor:
    """Diffuse scores (N, heads, Q, K) over the grid of queries."""
    swapped = scores.transpose(2, 3)
    return diffuse_keys(swapped, lam, steps, height, width).transpose(2, 3)


def row_entropy(scores: Tensor) -> Tensor:
    """Return H = -sum_k alpha log alpha of alpha = softmax(scores), the last dimension dropped."""
    log_alpha = scores.log_softmax(dim=-1)
    return -(log_alpha.exp() * log_alpha).sum(dim=-1)


class Attention(nn.Module):
    """x + P(alpha V): self-attention over the positions of a map (N, c, H, W), to the same.

    Subclasses say what becomes of the scores.
    """

    def __init__(self, channels: int, heads: int = HEADS) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(
                f"{channels} channels do not divide into {heads} heads. Choose a `width` that is a "
                f"multiple of {heads}."
            )
        self.heads = heads
        self.rule: Callable[[Tensor], Tensor] | None = None  # scores to weights, from elsewhere
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.project = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.project.weight)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (N, heads, d, H, W), queries / sqrt(d)."""
        n, channels, height, width = x.shape
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=1)
        shape = (n, self.heads, channels // self.heads, height, width)
        return q.reshape(shape) / math.sqrt(shape[2]), k.reshape(shape), v.reshape(shape)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Return S (N, heads, HW, HW) of queries and keys (N, heads, d, H, W)."""
        return q.flatten(3).transpose(2, 3) @ k.flatten(3)

    def weights(self, scores: Tensor, height: int, width: int) -> Tensor:
        """Return alpha of S, (N, heads, Q, K): the definition."""
        return scores.softmax(dim=-1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return alpha V, (N, heads, Q, d)."""
        weights = self.weights(self.scores(q, k), *k.shape[-2:])
        return weights @ v.flatten(3).transpose(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            q, k, v = self.split(widen(x))
            if self.rule is None:
                mixed = self.attend(q, k, v)
            else:
                mixed = self.rule(self.scores(q, k)) @ v.flatten(3).transpose(2, 3)
            mixed = mixed.transpose(2, 3).reshape(x.shape)
        return x + self.project(mixed)

    def attention_map(self, x: Tensor) -> AttentionMap:
        """Return scores and weights for the input x of the block."""
        with torch.autocast(x.device.type, enabled=False):
            q, k, _ = self.split(widen(x))
            scores = self.scores(q, k)
            height, width = x.shape[-2:]
            return AttentionMap(scores, self.weights(scores, height, width), height, width)


class PDEAttention(Attention):
    """Attention whose scores, or weights, diffuse.

    Args:
        axis: "key", "query_key" or "matrix".
        where: "logits" or "probs".
        literal: Whether the (Q, K) scores themselves are diffused where an identity would do.
    """

    def __init__(
        self,
        channels: int,
        axis: str = "key",
        where: str = "logits",
        steps: int = STEPS,
        literal: bool = False,
    ) -> None:
        super().__init__(channels)
        for name, value, known in (("axis", axis, AXES), ("where", where, PLACES)):
            if value not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {value!r}.")
        if steps < 0:
            raise ValueError(f"`steps` must be >= 0; got {steps}. Diffusion cannot run backwards.")
        self.axis, self.where, self.steps, self.literal = axis, where, steps, literal
        self.a = nn.Parameter(torch.zeros(self.heads))

    @property
    def lam(self) -> Tensor:
        """Diffusivity times step size of each head, (heads,)."""
        return LIMIT * self.a.sigmoid()

    def step_ratio(self) -> Tensor:
        """Step sizes over their stability limit, (heads,)."""
        return self.lam / LIMIT

    def diffuse(self, maps: Tensor, height: int, width: int) -> Tensor:
        """Diffuse maps (N, heads, Q, K) along `axis`."""
        if self.axis == "matrix":
            return heat(maps, dt=1.0, num_steps=self.steps, diffusivity=self.lam)
        maps = diffuse_keys(maps, self.lam, self.steps, height, width)
        if self.axis == "query_key":
            maps = diffuse_queries(maps, self.lam, self.steps, height, width)
        return maps

    def weights(self, scores: Tensor, height: int, width: int) -> Tensor:
        if self.where == "logits":
            return self.diffuse(scores, height, width).softmax(dim=-1)
        return self.diffuse(scores.softmax(dim=-1), height, width)

    def blur(self, features: Tensor) -> Tensor:
        """Diffuse queries, keys or values (N, heads, d, H, W), each plane on its own."""
        d = features.shape[2]
        planes = heat(
            features.flatten(1, 2),
            dt=1.0,
            num_steps=self.steps,
            diffusivity=self.lam.repeat_interleave(d),
        )
        return planes.view_as(features)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.literal or self.axis == "matrix":
            return super().attend(q, k, v)
        if self.where == "logits":
            q = self.blur(q) if self.axis == "query_key" else q
            weights = self.scores(q, self.blur(k)).softmax(dim=-1)
            return weights @ v.flatten(3).transpose(2, 3)
        mixed = self.scores(q, k).softmax(dim=-1) @ self.blur(v).flatten(3).transpose(2, 3)
        if self.axis == "query_key":  # what each query gets, as an image over the queries
            mixed = self.blur(mixed.transpose(2, 3).reshape_as(q)).flatten(3).transpose(2, 3)
        return mixed


class TemperatureAttention(Attention):
    """Attention with flatter rows, as flat as diffusion of lam = 1/8 would make them.

    Args:
        tau: Temperature of all heads, > 0; 0 matches it to the diffusion while training.
    """

    tau: Tensor

    def __init__(self, channels: int, tau: float = 0.0, steps: int = STEPS) -> None:
        super().__init__(channels)
        if tau < 0:
            raise ValueError(f"`tau` must be > 0, or 0 to match the diffusion; got {tau}.")
        self.steps, self.matched = steps, tau == 0
        self.register_buffer("tau", torch.full((self.heads,), tau or 1.0))

    def weights(self, scores: Tensor, height: int, width: int) -> Tensor:
        if self.training and self.matched:
            self.match(scores.detach(), height, width)
        return (scores / self.tau[:, None, None]).softmax(dim=-1)

    @torch.no_grad()
    def match(self, scores: Tensor, height: int, width: int) -> None:
        """Move tau one Newton step towards equal mean row entropy with the diffused scores."""
        lam = torch.full((self.heads,), START, device=scores.device)
        wanted = row_entropy(diffuse_keys(scores, lam, self.steps, height, width)).mean((0, 2))
        tau = self.tau[:, None, None]
        alpha = (scores / tau).softmax(dim=-1)
        mean = (alpha * scores).sum(-1, keepdim=True)
        variance = (alpha * (scores - mean) ** 2).sum(-1).mean((0, 2))
        off = wanted - row_entropy(scores / tau).mean((0, 2))
        step = off * self.tau**3 / variance.clamp(min=1e-12)
        # At most by half its size: the entropy is flat where the rows are nearly uniform.
        self.tau.add_(step.clamp(-0.5 * self.tau, 0.5 * self.tau)).clamp_(1e-2, 1e2)


class AttendingResNet(SmallImageResNet):
    """ResNet-18 with one block of attention behind a stage."""

    def __init__(self, num_classes: int, width: int, stage: int, attention: Attention) -> None:
        super().__init__(num_classes, width)
        insert(self, stage, attention)

    def attention_maps(self, images: Tensor) -> dict[str, AttentionMap]:
        """Return the attention of the block under the name of its stage."""
        return maps_of(self, images)

    def attend_by(self, rule: Rule | None) -> None:
        """Take the weights from `rule`, until it is None again."""
        redirect(self, rule)


def maps_of(model: SmallImageResNet, images: Tensor) -> dict[str, AttentionMap]:
    """Return the maps of every attention block of `model` for images (N, 3, H, W)."""
    found: dict[str, AttentionMap] = {}

    def look(name: str, block: Attention):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
            found[name] = block.attention_map(inputs[0])

        return block.register_forward_pre_hook(hook)

    handles = [look(n, b) for n, b in model.blocks().items() if isinstance(b, Attention)]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def redirect(model: SmallImageResNet, rule: Rule | None) -> None:
    """Let every attention block of `model` take its weights from `rule`."""
    for name, block in model.blocks().items():
        if isinstance(block, Attention):
            block.rule = None if rule is None else partial(rule, name)


@MODELS.register
@card(
    "touchpoint",
    "alpha = softmax(D Q K^T / sqrt(d)), D: u_t = kappa_h Laplacian(u) over keys",
    (DIFFUSIFYNET, VASWANI_2017),
    ("plain_attention", "temperature_attention", "resnet18"),
)
def pde_attention(
    num_classes: int = 10,
    width: int = 64,
    axis: str = "key",
    where: str = "logits",
    steps: int = STEPS,
    literal: bool = False,
    stage: int = 3,
) -> nn.Module:
    """ResNet-18 with diffused attention; without the block, `resnet18` has 2 % fewer weights.

    Args:
        axis: Axis that diffuses: "key", "query_key" or "matrix".
        where: "logits" or "probs".
        steps: Steps of the explicit scheme; 0 is `plain_attention`.
        literal: Diffuse the scores themselves even where diffusing keys or values is the same.
        stage: 1, 2 or 3.
    """
    attention = PDEAttention(channels_of(stage, width), axis, where, steps, literal)
    return AttendingResNet(num_classes, width, stage, attention)


@MODELS.register
@card(
    "null",
    "alpha = softmax(Q K^T / sqrt(d))",
    (VASWANI_2017,),
    matched=("parameters", "multiply-adds", "initial values"),
)
def plain_attention(num_classes: int = 10, width: int = 64, stage: int = 3) -> nn.Module:
    """Null model of `pde_attention`: the same block without diffusion."""
    return AttendingResNet(num_classes, width, stage, Attention(channels_of(stage, width)))


@MODELS.register
@card(
    "null",
    "alpha = softmax(Q K^T / (tau_h sqrt(d)))",
    (VASWANI_2017,),
    matched=("parameters", "multiply-adds", "initial values"),
)
def temperature_attention(
    num_classes: int = 10, width: int = 64, tau: float = 0.0, stage: int = 3
) -> nn.Module:
    """Null model of `pde_attention`: rows of the same entropy, without its geometry.

    Args:
        tau: Temperature; 0 matches it to the diffusion of `pde_attention`'s start while training.
        stage: 1, 2 or 3.
    """
    attention = TemperatureAttention(channels_of(stage, width), tau)
    return AttendingResNet(num_classes, width, stage, attention)
