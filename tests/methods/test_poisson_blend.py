"""Poisson blending against a sparse direct solve, and its guidance."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import spsolve
from uasbench.methods.synthesis.poisson_blend import poisson_blend, solve_poisson


def blended_directly(own, foreign, alpha):
    """Solve the discrete Poisson equation of Pérez et al. 2003 (their eq. 7 and 13), pixel by pixel."""
    height, width = own.shape[0] - 2, own.shape[1] - 2
    number = np.arange(height * width).reshape(height, width)
    matrix, right = sparse.lil_matrix((height * width, height * width)), np.zeros(height * width)
    for y in range(height):
        for x in range(width):
            p = number[y, x]
            matrix[p, p] = 4
            for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                here, there = (y + 1, x + 1), (y + 1 + dy, x + 1 + dx)
                weak = (1 - alpha) * (own[here] - own[there])
                strong = alpha * (foreign[here] - foreign[there])
                right[p] += strong if abs(strong) > abs(weak) else weak
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    matrix[p, number[y + dy, x + dx]] = -1
                else:
                    right[p] += own[there]
    return spsolve(matrix.tocsr(), right).reshape(height, width)


@pytest.mark.parametrize("shape", [(3, 3), (4, 7), (12, 9), (23, 31)])
@pytest.mark.parametrize("alpha", [0.05, 0.5, 0.95])
def test_blend_equals_the_sparse_direct_solve(shape, alpha):
    rng = np.random.default_rng(sum(shape))
    own, foreign = rng.random((2, *shape))
    fast = poisson_blend(own, foreign, np.ones(shape, bool), alpha)
    assert fast.shape == (shape[0] - 2, shape[1] - 2)
    assert np.allclose(fast, blended_directly(own, foreign, alpha), atol=1e-9)


def test_solution_has_the_divergence_asked_for_and_is_zero_around():
    divergence = np.random.default_rng(0).normal(size=(6, 11))
    u = np.pad(solve_poisson(divergence), 1)
    laplacian = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]
    assert np.allclose(laplacian, divergence)


def test_no_foreign_gradient_and_no_share_leave_the_patch_alone():
    own, foreign = np.random.default_rng(1).random((2, 9, 9))
    everywhere = np.ones((9, 9), bool)
    assert np.allclose(poisson_blend(own, foreign, everywhere, 0.0), own[1:-1, 1:-1])
    assert np.allclose(poisson_blend(own, own + 0.3, everywhere, 0.0), own[1:-1, 1:-1])


def test_full_share_takes_the_foreign_gradients_but_not_its_level():
    own = np.full((15, 15), 0.5)
    foreign = np.zeros((15, 15))
    foreign[6:9, 6:9] = 0.3
    everywhere = np.ones_like(own, bool)
    found = poisson_blend(own, foreign, everywhere, 1.0)
    assert np.allclose(found, 0.5 + foreign[1:-1, 1:-1])
    assert np.allclose(poisson_blend(own, foreign + 0.2, everywhere, 1.0), found)


def test_gradients_across_the_edge_of_the_region_do_not_enter():
    own = np.random.default_rng(2).random((12, 12))
    foreign = own.copy()
    common = np.zeros((12, 12), bool)
    common[:, :6] = True
    foreign[~common] = 5.0
    weak = poisson_blend(own, foreign, common, 0.0)
    assert np.allclose(weak, own[1:-1, 1:-1])
    nothing = poisson_blend(own, foreign, np.zeros_like(common), 0.7)
    assert np.allclose(nothing, own[1:-1, 1:-1])
    both = poisson_blend(own, foreign, common, 0.7)
    assert np.abs(both).max() < 2
