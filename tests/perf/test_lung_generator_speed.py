"""The lung lesions against the plain SciPy recipe, on one core and in one run."""

import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest
from uasbench.methods.synthesis.lesion_recipe import LesionRecipe
from uasbench.methods.synthesis.lung_lesions import generate

pytestmark = pytest.mark.perf
SHAPE, PLAIN_CROPS, ROUNDS, WANTED = (32, 512, 512), 3, 15, 5


def reference():
    """The module of the plain recipe: the one that the statistics are compared with."""
    path = Path(__file__).parents[1] / "methods" / "test_lung_lesions.py"
    spec = importlib.util.spec_from_file_location("plain_lung_lesions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lungs() -> tuple[np.ndarray, np.ndarray]:
    """Two ellipses with the in-plane size of lungs at 0.8 mm, and faint tissue in them."""
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    inside = np.zeros(SHAPE[1:], bool)
    for centre in (170, 342):
        inside |= ((y - 256) / 150) ** 2 + ((x - centre) / 75) ** 2 < 1
    roi = np.repeat(inside[None], SHAPE[0], axis=0)
    return np.where(roi, np.float32(0.05), np.float32(0)), roi


@pytest.mark.benchmark(timer=time.process_time)
def test_generator_is_five_times_faster_than_scipy(benchmark):
    """Full fullness, processor time, means: a crop's work varies with the lesions that it draws."""
    image, roi = lungs()
    rng = np.random.default_rng(0)
    recipe = reference().plain_generator
    arguments = (LesionRecipe(), image[None], roi[None], np.ones(1), np.random.default_rng(0))
    generate(*arguments)
    start = time.process_time()
    for _ in range(PLAIN_CROPS):
        recipe(image, roi, 1.0, rng)
    plain = (time.process_time() - start) / PLAIN_CROPS
    benchmark.pedantic(generate, args=arguments, rounds=ROUNDS)
    ours = benchmark.stats.stats.mean
    benchmark.extra_info.update(plain_s=plain, ours_s=ours, ratio=plain / ours)
    assert plain / ours >= WANTED
