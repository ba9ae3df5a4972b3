"""The generators of lesions against plain OpenCV and SciPy recipes: processor time, on one core and in one run."""

import time
from functools import partial

import cv2
import numpy as np
import pytest
from uasbench.methods.synthesis import stretched_noise_cpu
from uasbench.methods.synthesis.lung_lesions import LesionRecipe, generate
from uasbench.methods.synthesis.stretched_noise import StretchedNoise

pytestmark = [pytest.mark.perf, pytest.mark.benchmark(timer=time.process_time), pytest.mark.usefixtures("one_thread")]
BATCH, ROUNDS, WANTED = 4, 40, 10
SHAPE, PLAIN_CROPS, LUNG_ROUNDS, LUNG_WANTED = (32, 512, 512), 3, 15, 5


def plain_recipe(rng: np.random.Generator, ellipse: np.ndarray) -> np.ndarray:
    noise = rng.integers(0, 256, (256, 256), dtype=np.uint8)
    field = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 15), None, 0, 255, cv2.NORM_MINMAX)
    mask = cv2.threshold(field, 200, 255, cv2.THRESH_BINARY)[1]
    return cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, ellipse), cv2.MORPH_CLOSE, ellipse)


def test_generator_is_ten_times_faster_than_opencv(benchmark):
    """Rounds of both alternate, processor time is measured, and the fastest round of each counts."""
    recipe, rng = StretchedNoise(), np.random.default_rng(0)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    stretched_noise_cpu.draw(recipe, 1, rng)
    plain = []

    def setup() -> None:
        start = time.process_time()
        for _ in range(BATCH):
            plain_recipe(rng, ellipse)
        plain.append((time.process_time() - start) / BATCH)

    benchmark.pedantic(
        partial(stretched_noise_cpu.draw, fields=False), args=(recipe, BATCH, rng), setup=setup, rounds=ROUNDS
    )
    ours = benchmark.stats.stats.min / BATCH
    benchmark.extra_info.update(plain_ms=1e3 * min(plain), ours_ms=1e3 * ours, ratio=min(plain) / ours)
    assert min(plain) / ours >= WANTED


def lungs() -> tuple[np.ndarray, np.ndarray]:
    """Two ellipses with the in-plane size of lungs at 0.8 mm, and faint tissue in them."""
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    inside = np.zeros(SHAPE[1:], bool)
    for centre in (170, 342):
        inside |= ((y - 256) / 150) ** 2 + ((x - centre) / 75) ** 2 < 1
    roi = np.repeat(inside[None], SHAPE[0], axis=0)
    return np.where(roi, np.float32(0.05), np.float32(0)), roi


def test_lung_generator_is_five_times_faster_than_scipy(benchmark, module_of):
    """Full fullness, processor time, means: a crop's work varies with the lesions that it draws."""
    image, roi = lungs()
    rng = np.random.default_rng(0)
    recipe = module_of("methods/test_lung_lesions.py").plain_generator
    arguments = (LesionRecipe(), image[None], roi[None], np.ones(1), np.random.default_rng(0))
    generate(*arguments)
    start = time.process_time()
    for _ in range(PLAIN_CROPS):
        recipe(image, roi, 1.0, rng)
    plain = (time.process_time() - start) / PLAIN_CROPS
    benchmark.pedantic(generate, args=arguments, rounds=LUNG_ROUNDS)
    ours = benchmark.stats.stats.mean
    benchmark.extra_info.update(plain_s=plain, ours_s=ours, ratio=plain / ours)
    assert plain / ours >= LUNG_WANTED
