"""How far a sample of images is from a sample of real ones: formulas, in NumPy.

Samples x_1, ..., x_n and real images y_1, ..., y_n come in pairs that share a class, as numbers:
features of a small classifier, or projections of pixels. None of these numbers is the Fréchet
distance of Inception features (FID): the features are not Inception's, and no Gaussian is fitted.

Differences that depend on which images were compared by chance are told apart from others by the
same numbers of training images, drawn anew by class: that is what the best sampler would get.
"""

import numpy as np

NEIGHBORS = 3  # Kynkäänniemi et al. 2019
BLOCKS = 20
AT_A_TIME = 2**24  # entries of a matrix of pairs


def sliced_wasserstein(x: np.ndarray, y: np.ndarray) -> float:
    """Return the sliced 2-Wasserstein distance of two samples of equal size.

        SW^2 = mean over directions of W_2^2(projections of x, projections of y),

    and on a line W_2^2 is the mean squared difference of the sorted numbers.

    Args:
        x: (n, L), projections of the first sample on L unit vectors; `y` likewise.

    Reference: N. Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, Journal of
    Mathematical Imaging and Vision 51, 2015, section 3.
    """
    difference = np.sort(x.astype(float), axis=0) - np.sort(y.astype(float), axis=0)
    return float(np.sqrt(np.square(difference).mean()))


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return (x.y / d + 1)^3 of all pairs, (n, m).

    Reference: M. Bińkowski et al., Demystifying MMD GANs, ICLR 2018, section 4.
    """
    return (x @ y.T / x.shape[1] + 1) ** 3


def mmd2(x: np.ndarray, y: np.ndarray, blocks: int = BLOCKS) -> tuple[float, float, float]:
    """Return the squared maximum mean discrepancy without bias, and its 95 % interval.

        MMD^2 = 1 / (n (n - 1)) sum over i != j of
                k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i),

    whose mean is 0 where both samples are of one distribution, also one by class, since pairs of
    one class (i = j) do not enter. An estimate without bias may be below 0. The interval is that
    of the jackknife that leaves out one block of pairs (x_i, y_i) at a time, with Student's t.

    Args:
        x: (n, d), features of samples; `y` of real images, in pairs of one class.
        blocks: How many; pair i is in block i modulo their number.

    Reference: A. Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012, lemma 6, equation 4.
    """
    x, y, n = x.astype(float), y.astype(float), len(x)
    blocks = min(blocks, n // 2)
    if blocks < 2:
        return np.nan, np.nan, np.nan
    member = np.eye(blocks)[np.arange(n) % blocks]  # (n, blocks)
    sums = np.zeros((blocks, blocks))
    for rows in np.array_split(np.arange(n), -(-n * n // AT_A_TIME)):
        cross = kernel(x[rows], y) + kernel(y[rows], x)
        h = kernel(x[rows], x) + kernel(y[rows], y) - cross  # (rows, n)
        h[np.arange(len(rows)), rows] = 0
        sums += member[rows].T @ h @ member
    size, total = member.sum(axis=0), sums.sum()
    left = n - size
    without = (total - 2 * sums.sum(axis=1) + np.diag(sums)) / (left * (left - 1))
    value = float(total / (n * (n - 1)))
    spread = np.sqrt((blocks - 1) / blocks * np.square(without - without.mean()).sum())
    from scipy.special import stdtrit

    half = float(stdtrit(blocks - 1, 0.975) * spread)
    return value, value - half, value + half


def covered(x: np.ndarray, y: np.ndarray, neighbors: int = NEIGHBORS) -> np.ndarray:
    """Return whether each x lies on the manifold of all y, (n,) booleans.

    That is the union of balls around every y, each as large as the distance to its k-th nearest
    neighbor among the others. Precision is the share of samples on the manifold of real images,
    recall the share of real images on that of samples.

    Reference: T. Kynkäänniemi et al., Improved Precision and Recall Metric for Assessing Generative
    Models, NeurIPS 2019, https://arxiv.org/abs/1904.06991, equation 1.
    """
    x, y = x.astype(float), y.astype(float)
    if len(y) <= neighbors:
        return np.zeros(len(x), bool)
    own = squared_distances(y, y)
    np.fill_diagonal(own, np.inf)
    radii = np.partition(own, neighbors - 1, axis=1)[:, neighbors - 1]
    inside: np.ndarray = squared_distances(x, y) <= radii
    return np.any(inside, axis=1, keepdims=True)[:, 0]


def nearest_label(x: np.ndarray, labels: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the label of the x that is nearest to each y, (m,).

    Args:
        x: (n, d), with `labels` (n,).
        y: (m, d).
    """
    return labels[squared_distances(y.astype(float), x.astype(float)).argmin(axis=1)]


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return |x_i - y_j|^2 of all pairs, (n, m); exactly 0 for equal rows is not promised."""
    found = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
    return np.maximum(found, 0)
