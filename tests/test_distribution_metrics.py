"""Distances between sets of embeddings, against closed forms; and copies told by their spectrograms."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.errors import DataError
from wavediff.metrics import frechet_distance, kernel_distance, nearest_distances, overlap, pairwise_diversity
from wavediff.metrics.clip_sets import best_matches, coarse_spectrogram


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(mean: Tensor, covariance: Tensor, count: int, seed: int = 0) -> Tensor:
    """(count, d) with exactly this sample mean and covariance."""
    x = normal(count, len(mean), seed=seed)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def covariance(d: int, seed: int) -> Tensor:
    x = normal(d, 2 * d, seed=seed)
    return x @ x.T / d


def test_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    d = 6
    mean_a, mean_b = normal(2, d, seed=1)
    cov_a, cov_b = covariance(d, 2), covariance(d, 3)
    root = scipy.linalg.sqrtm((cov_a @ cov_b).numpy()).real  # of a matrix that is not symmetric: another way
    expected = float((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * np.trace(root))
    a, b = with_moments(mean_a, cov_a, 50, 4), with_moments(mean_b, cov_b, 80, 5)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_commuting_covariances_is_that_of_their_axes() -> None:
    spread_a, spread_b, shift = torch.tensor([[1.0, 2.0, 0.5], [3.0, 1.0, 0.5], [0.0, 1.0, -2.0]]).double()
    a = with_moments(torch.zeros(3).double(), spread_a.square().diag(), 40)
    b = with_moments(shift, spread_b.square().diag(), 40, 1)
    assert frechet_distance(a, b) == pytest.approx(4 + 1 + 5, rel=1e-9)


def test_equal_sets_have_no_frechet_distance_even_with_fewer_clips_than_dimensions() -> None:
    a = normal(10, 64)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, a + 2) == pytest.approx(64 * 4, rel=1e-6)
    assert frechet_distance(a.float(), a.flip(0).float()) == pytest.approx(0, abs=1e-5)


def test_overlap_counts_the_rows_in_the_balls_of_the_other_set() -> None:
    made, real = normal(30, 3) * 0.7, normal(40, 3, seed=1)

    def inside(row: Tensor, of: Tensor) -> list[bool]:
        radii = [sorted((centre - other).norm().item() for other in of)[5] for centre in of]  # 0 is itself
        return [(row - centre).norm().item() <= radius for centre, radius in zip(of, radii, strict=True)]

    precision = sum(any(inside(row, real)) for row in made) / 30
    recall = sum(any(inside(row, made)) for row in real) / 40
    coverage = sum(any(hits) for hits in zip(*(inside(row, real) for row in made), strict=True)) / 40
    assert overlap(made, real) == pytest.approx((precision, recall, coverage))
    assert len({precision, recall, coverage}) == 3


def test_what_is_all_alike_is_precise_and_recalls_little() -> None:
    real = normal(200, 4)
    alike = overlap(real[:1] + 1e-3 * normal(50, 4, seed=1), real)
    assert (alike.precision, alike.recall < 0.05, alike.coverage < 0.2) == (1, True, True)
    assert overlap(real, real) == (1, 1, 1)
    assert overlap(real + 100, real) == (0, 0, 0)


def test_kernel_distance_is_the_mean_over_pairs() -> None:
    a, b = normal(5, 3), normal(4, 3, seed=1) + 1

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 3 + 1) ** 3

    within_a = [kernel(a[i], a[j]) for i in range(5) for j in range(5) if i != j]
    within_b = [kernel(b[i], b[j]) for i in range(4) for j in range(4) if i != j]
    across = [kernel(x, y) for x in a for y in b]
    expected = np.mean(within_a) + np.mean(within_b) - 2 * np.mean(across)
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_is_unbiased_and_frechet_distance_is_not() -> None:
    draws = [(normal(12, 4, seed=2 * seed), normal(20, 4, seed=2 * seed + 1)) for seed in range(400)]
    kernel = np.array([kernel_distance(*pair) for pair in draws])
    assert abs(kernel.mean()) < 4 * kernel.std() / math.sqrt(len(kernel))
    assert (kernel < 0).any()  # as an unbiased estimate of zero has to be at times
    frechet = np.array([frechet_distance(*pair) for pair in draws[:50]])
    assert frechet.mean() > 10 * frechet.std() / math.sqrt(len(frechet))


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_the_farther_set_has_the_larger_distance(distance) -> None:  # type: ignore[no-untyped-def]
    a, b = normal(60, 8), normal(60, 8, seed=1)
    distances = [distance(a, b + shift) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert distances == sorted(distances)
    assert distances[-1] > 4 * abs(distances[0])
    assert distance(a, 2 * b) > distance(a, b)


def test_nearest_distances_leave_out_the_row_itself_and_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavediff.metrics.distribution.BLOCK", 2)
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0], [100.0, 0.0], [100.0, 0.0]])
    assert nearest_distances(a).tolist() == pytest.approx([5, 1, 1, 0, 0])
    assert nearest_distances(a, a).tolist() == [0] * 5
    assert nearest_distances(torch.tensor([[0.0, 1.0], [3.0, 8.0]]), a).tolist() == pytest.approx([1, 3])


def test_diversity_is_the_mean_distance_of_two_rows() -> None:
    assert pairwise_diversity(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])) == pytest.approx(10 / 3)
    assert pairwise_diversity(torch.ones(7, 3)) == 0


def test_sets_that_do_not_compare_are_refused() -> None:
    a = normal(5, 3)
    for wrong in (a[:1], a[:, :2], a[0], torch.full_like(a, float("nan"))):
        for distance in (frechet_distance, kernel_distance, nearest_distances):
            with pytest.raises(DataError, match="embeddings"):
                distance(a, wrong)
    with pytest.raises(DataError, match="give more clips"):
        pairwise_diversity(a[:1])


def spectrogram(steps: int, seed: int) -> Tensor:
    return normal(16, steps, seed=seed).float().abs()


def test_a_copy_correlates_by_one_at_any_level_and_delay() -> None:
    others = [spectrogram(steps, steps) for steps in (9, 20, 13)]
    copy = 0.5 * others[1] + 3
    delayed = F.pad(others[2], (4, 0), value=float(others[2].mean()))
    match = best_matches([copy, delayed], others)
    assert match.place.tolist() == [1, 2]
    assert match.correlation[0] == pytest.approx(1, abs=1e-5)
    assert match.correlation[1] > 0.8


def test_correlation_is_that_of_numpy_at_the_best_delay() -> None:
    a, b = spectrogram(7, 1), spectrogram(5, 2)
    x, y = (part - part.mean(0) - part.mean(1, keepdim=True) + part.mean() for part in (a, b))
    products = [(F.pad(x, (20, 20))[:, 20 + lag : 20 + lag + 5] * y).sum() for lag in range(-5, 8)]
    expected = max(products) / (x.norm() * y.norm())
    assert best_matches([a], [b]).correlation.item() == pytest.approx(expected.item(), abs=1e-5)
    assert best_matches([a, b]).correlation.tolist() == pytest.approx([expected.item()] * 2, abs=1e-5)


def test_an_excerpt_from_the_start_is_found_and_itself_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavediff.metrics.clip_sets.BLOCK", 2)
    long = spectrogram(40, 3)
    others = [spectrogram(10, seed) for seed in range(4, 8)]
    match = best_matches([long[:, :10], others[3]], [*others, long])
    assert match.place.tolist() == [4, 3]
    assert match.correlation.tolist() == pytest.approx([1, 1], abs=1e-5)
    assert best_matches(others).correlation.max() < 0.9
    assert best_matches([*others, others[0]]).place[[0, 4]].tolist() == [4, 0]


def test_a_spectrum_and_an_envelope_alone_resemble_nothing() -> None:
    silence = coarse_spectrogram(torch.full((64, 9), 0.3))
    assert silence.shape == (32, 1)
    plain = normal(32, 1).float() + normal(1, 4, seed=1).float()
    assert best_matches([silence, plain], [silence, plain]).correlation.tolist() == [0, 0]


def test_what_is_compared_is_the_loud_part_in_overlapping_steps() -> None:
    bands = torch.full((8, 18), 0.3)  # 42 dB below the loudest
    bands[:, 5:15] = 0.5 + 0.5 * torch.rand(8, 10, generator=torch.Generator().manual_seed(0))
    coarse = coarse_spectrogram(bands) + 1 / 3
    assert coarse.shape[0] == 4
    assert coarse[0, 0] == pytest.approx(bands[:2, 5:9].mean())
    assert coarse[0, 1] == pytest.approx(bands[:2, 7:11].mean())
    assert coarse[3, 3] == pytest.approx(bands[6:, 11:15].mean())
    assert coarse.shape[1] <= 5
