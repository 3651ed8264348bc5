"""How far apart two sets of embeddings are, how varied one is, and how near it comes to another."""

from typing import NamedTuple

import torch
from torch import Tensor

from wavediff.arguments import Values, as_floats
from wavediff.errors import DataError

BLOCK = 1024  # rows of a distance matrix that are held at once
NEIGHBOURS = 5  # whose distance is the radius of a row


def frechet_distance(a: Values, b: Values) -> float:
    """Squared Frechet (2-Wasserstein) distance between the Gaussians fitted to two sets.

    |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), where the last trace is computed as that of the
    symmetric (C_a^(1/2) C_b C_a^(1/2))^(1/2), whose eigenvalues are the same; C is the covariance with n - 1.

    Args:
        a: embeddings (n, d).
        b: embeddings (m, d).

    Returns:
        0 or above, in squared units of the embedding. Too large for small sets, by an amount that depends on n and m:
        only distances at equal sizes compare.

    Raises:
        DataError: fewer than two rows, other widths, or values that are NaN or infinite.

    Source: Dowson and Landau 1982 (doi 10.1016/0047-259X(82)90077-X), eq. 4; as FID, Heusel et al. 2017
    (arXiv 1706.08500).
    """
    a, b = _checked(a, b)
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(b.shape[1], -1)  # (d, d)
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * overlap
    return max(0.0, distance.item())


def kernel_distance(a: Values, b: Values) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy under the kernel (x . y / d + 1)^3.

    Args:
        a: embeddings (n, d).
        b: embeddings (m, d).

    Returns:
        0 on average for two sets from one distribution, whatever their sizes, so slightly below 0 at times.

    Raises:
        DataError: fewer than two rows, other widths, or values that are NaN or infinite.

    Source: KID, Binkowski et al. 2018 (arXiv 1801.01401), eq. 4 and section 3; the estimator is that of Gretton
    et al. 2012 (JMLR 13), eq. 3.
    """
    a, b = _checked(a, b)

    def mean_kernel(x: Tensor, y: Tensor, same: bool) -> Tensor:
        kernel = (x @ y.T / x.shape[1] + 1) ** 3
        if same:  # the pairs of a row with itself are what would bias the estimate
            return (kernel.sum() - kernel.trace()) / (len(x) * (len(x) - 1))
        return kernel.mean()

    return (mean_kernel(a, a, True) + mean_kernel(b, b, True) - 2 * mean_kernel(a, b, False)).item()


class Overlap(NamedTuple):
    """Shares, 0 to 1: of what was made that is like what is real, of what is real that is like something made, and of
    what is real that has something made within its own radius. The last bears outliers among what was made.
    """

    precision: float
    recall: float
    coverage: float


def overlap(a: Values, b: Values) -> Overlap:
    """How far the supports of two sets overlap: each row stands for the ball that reaches to its fifth neighbour.

    Args:
        a: embeddings (n, d) of what was made.
        b: embeddings (m, d) of what is real.

    Raises:
        DataError: fewer than two rows, other widths, or values that are NaN or infinite.

    Source: precision and recall, Kynkaanniemi et al. 2019 (arXiv 1904.06991), eq. 1 and 2; coverage, Naeem et al. 2020
    (arXiv 2002.09797), eq. 4.
    """
    a, b = _checked(a, b)

    def radii(rows: Tensor) -> Tensor:
        return _distances(rows, rows).kthvalue(min(NEIGHBOURS + 1, len(rows)), dim=1).values  # itself is the first

    distances = _distances(a, b)  # (n, m)
    in_real, in_made = distances <= radii(b), distances <= radii(a)[:, None]
    shares = (in_real.any(1), in_made.any(0), in_real.any(0))
    return Overlap(*(share.double().mean().item() for share in shares))


def nearest_distances(a: Values, b: Values | None = None) -> Tensor:
    """Euclidean distance of each row of `a` to the nearest one of `b`; without `b`, to the nearest other one of `a`.

    Args:
        a: embeddings (n, d).
        b: embeddings (m, d).

    Returns:
        (n,) float64.

    Raises:
        DataError: fewer than two rows, other widths, or values that are NaN or infinite.
    """
    a, others = _checked(a, a if b is None else b)
    nearest = []
    for first in range(0, len(a), BLOCK):
        distances = _distances(a[first : first + BLOCK], others)
        if b is None:
            rows = torch.arange(len(distances), device=distances.device)
            distances[rows, first + rows] = float("inf")
        nearest.append(distances.amin(1))
    return torch.cat(nearest)


def pairwise_diversity(a: Values) -> float:
    """Mean Euclidean distance between two different rows of `a` (n, d); 0 where all are alike.

    Raises:
        DataError: fewer than two rows, or values that are NaN or infinite.
    """
    a, _ = _checked(a, a)
    total = sum(_distances(rows, a).sum().item() for rows in a.split(BLOCK))
    return total / (len(a) * (len(a) - 1))


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # By differences: the quicker way by scalar products takes equal rows for slightly different ones.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _checked(a: Values, b: Values) -> tuple[Tensor, Tensor]:
    a, b = (as_floats(values, name, DataError, cure="give embeddings (n, d)") for values, name in ((a, "a"), (b, "b")))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2 or not a.shape[1]:
        raise DataError(
            f"a, b: embeddings {tuple(a.shape)} and {tuple(b.shape)} must be (n, d) and (m, d) with n and m from 2 on; "
            "give more clips"
        )
    if not (a.isfinite().all() and b.isfinite().all()):
        raise DataError("a, b: embeddings hold NaN or infinite values; leave the broken clips out")
    return a.detach().to("cpu", torch.float64), b.detach().to("cpu", torch.float64)
