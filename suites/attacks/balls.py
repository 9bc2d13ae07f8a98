"""The set in which an adversarial image may lie, and its geometry in two norms.

    B(x) = {v : |v - x| <= eps} intersected with [0, 1]^D,

|.| the maximum ("linf") or the Euclidean norm ("l2") over all values of an image. Every function
works row by row, so that an image's result does not depend on its batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NORMS = ("linf", "l2")


def column(values: Tensor) -> Tensor:
    """Return values (N,), one for each image, as (N, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Ball:
    """Images at most `eps` from a clean one.

    Args:
        eps: Radius, in units of images in [0, 1].
        norm: "linf" or "l2".
    """

    eps: float
    norm: str

    def size(self, moves: Tensor) -> Tensor:
        """Return the norm of each move, (N, C, H, W) to (N,)."""
        flat = moves.flatten(1)
        return flat.abs().amax(1) if self.norm == "linf" else flat.square().sum(1).sqrt()

    def project(self, points: Tensor, images: Tensor) -> Tensor:
        """Return `points` moved into the ball around `images`, then clipped to [0, 1].

        Clipping never leads out of the ball, since `images` lie in [0, 1].
        """
        if self.norm == "linf":
            inside = torch.minimum(torch.maximum(points, images - self.eps), images + self.eps)
        else:
            moves = points - images
            size = self.size(moves).clamp_min(torch.finfo(points.dtype).tiny)
            inside = images + moves * column((self.eps / size).clamp_max(1))
        return inside.clamp(0, 1)

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the steepest move of size 1: sign(g), or g / |g|_2; 0 where g is 0.

        It depends on no factor of g, however small: g is first divided by its largest value, since
        the squares of values below 1e-19 are 0 in float32.
        """
        if self.norm == "linf":
            return gradient.sign()
        scaled = unit_scale(gradient)
        return scaled / column(self.size(scaled).clamp_min(1))  # 0, or at least 1


def unit_scale(gradient: Tensor) -> Tensor:
    """Return gradients with the largest absolute value of each image 1, or 0 throughout."""
    largest = gradient.flatten(1).abs().amax(1)
    # In two steps: the inverse of a subnormal number is infinite.
    return gradient / column(torch.where(largest > 0, largest, 1))


def move_onto_plane(points: Tensor, normals: Tensor, values: Tensor, norm: str) -> Tensor:
    """Return the smallest moves of `points` that reach a plane inside [0, 1].

    The plane is values + <normals, move> = 0. With w = +-normals so that the value v at the point
    is >= 0, and room_i the distance to the face of the box against the sign of w_i,

        move_i = -sign(w_i) min(lam c_i, room_i),   c_i = 1 ("linf") or |w_i| ("l2"),
        f(lam) = sum_i |w_i| min(lam c_i, room_i) = v,

    and all of the room where no lam is enough. f is concave, increasing and piecewise linear:
    Newton's method from lam = 0 never passes the root and ends, in finitely many steps, on it. The
    set of values at their face only grows; a row that has ended does not change while others go on.

    Args:
        points, normals: (N, C, H, W).
        values: (N,).
        norm: "linf" or "l2".
    """
    largest = normals.flatten(1).abs().amax(1)
    largest = torch.where(largest > 0, largest, 1)
    w = (normals / column(largest)).flatten(1) * torch.where(values >= 0, 1, -1)[:, None]
    v, flat = values.abs() / largest, points.flatten(1)
    room = torch.where(w > 0, flat, 1 - flat)
    weight = w.abs()
    gains, slopes = weight * room, weight.square() if norm == "l2" else weight
    at_face = torch.zeros_like(w, dtype=torch.bool)
    while True:
        used, slope = (gains * at_face).sum(1), (slopes * ~at_face).sum(1)
        # The largest number, not infinity: its product with a weight of 0 is 0.
        lam = torch.where(slope > 0, (v - used).clamp_min(0) / slope, math.inf)
        lam = lam.clamp_max(torch.finfo(w.dtype).max)[:, None]
        reach = lam * weight if norm == "l2" else lam
        grown = at_face | (reach > room)
        if torch.equal(grown, at_face):
            return (-w.sign() * torch.minimum(reach, room)).view_as(points)
        at_face = grown
