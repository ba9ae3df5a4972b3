"""The conformance check passes honest methods and names the broken promise of each dishonest one."""

import itertools
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from uasbench import Case, Config, Method, MethodCard
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.conformance.run import run_checks

COUNTER = itertools.count()


@pytest.fixture
def wrong_map(variant, median_residual):
    """Return ``wrong_map(change)``: a method whose map is what ``change(image, roi)`` gives."""
    return lambda change: variant(median_residual, score=lambda self, case: change(case.image.copy(), case.roi))


def with_nan(image: np.ndarray, roi: np.ndarray) -> np.ndarray:
    image[roi] = np.nan
    return image


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image, roi: image[1:], r"map has shape \(7, 64, 64\), expected \(8, 64, 64\)"),
        (lambda image, roi: image.astype(np.float16), "map is float16, expected float32"),
        (lambda image, roi: image > 0, "map is bool, expected float32"),
        (lambda image, roi: image.astype(np.int16), "map is int16"),
        (lambda image, roi: image.tolist(), "map is a list, expected a NumPy array"),
        (lambda image, roi: None, "map is a NoneType"),
        (with_nan, "inside the region of interest are NaN or infinite"),
        (lambda image, roi: image.astype(np.float64) * 1e300, "NaN or infinite"),
        (lambda image, roi: 1 // 0, r"(?s)ZeroDivisionError.*test_conformance_checks\.py, line \d+"),
    ],
)
def test_a_bad_map_fails_and_the_rest_is_skipped(outcome, wrong_map, change, message):
    results = list(run_checks(wrong_map(change)))
    found = outcome(results)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(found["fit and score"])
    assert "median-residual" in found["fit and score"] or "Error" in found["fit and score"]
    assert found["same seed"] == found["learns"] == "skipped"
    assert found["blind to labels"] == "passed"


def test_a_tensor_gets_the_hint(wrong, wrong_map):
    import torch

    assert "call .cpu().numpy()" in wrong("fit and score", wrong_map(lambda image, roi: torch.from_numpy(image)))


def test_values_outside_the_region_do_not_count(failures, wrong_map):
    assert not failures(wrong_map(lambda image, roi: np.where(roi, image, np.nan)))
    assert not failures(wrong_map(lambda image, roi: image.astype(np.float64)))


def noisy(self: Method, case: Case) -> np.ndarray:
    return (case.image + next(COUNTER)).astype(np.float32)


def test_randomness_of_ones_own_breaks_same_seed(median_residual, failures):
    found = failures(median_residual, score=noisy)
    assert {"same seed", "order and batch", "save and load"} <= found.keys()
    assert "ctx.rng()" in found["same seed"]


def test_a_memory_of_earlier_cases_breaks_order(median_residual, wrong):
    def score(self, case):
        self.seen = getattr(self, "seen", 0) + 1
        return case.image * np.float32(self.seen)

    assert "another order" in wrong("order and batch", median_residual, score=score)


def test_writing_into_the_input_is_found(median_residual, tiny_net, wrong):
    def score(self, case):
        np.abs(case.image, out=case.image)
        return case.image.copy()

    def fit(self, healthy, ctx):
        for case in healthy:
            case.roi[0, 0, 0] = True

    def score_view(self, array, roi, spacing):
        array *= 2
        return array.copy()

    assert "score writes into the image" in wrong("inputs untouched", median_residual, score=score)
    assert "fit writes into the region" in wrong("inputs untouched", median_residual, fit=fit)
    assert "score writes" in wrong("inputs untouched", tiny_net, score_view=score_view)


def test_a_state_that_cannot_be_saved_is_found(median_residual, failures):
    def fit(self, healthy, ctx):
        self.function = lambda x: x

    found = failures(median_residual, fit=fit)
    assert "Variant.function is a function that cannot be saved" in found["save and load"]


@pytest.fixture
def scaled(median_residual, variant) -> type[Method]:
    """Return a method whose map follows the seed."""

    def fit(self, healthy, ctx):
        self.scale = float(ctx.rng("scale").random())

    def score(self, case):
        return case.image * np.float32(getattr(self, "scale", 1.0))

    return variant(median_residual, fit=fit, score=score)


def test_a_state_that_is_not_saved_is_found(scaled, wrong):
    nothing = {"save": lambda self, path: path.write_bytes(b""), "load": lambda self, path: None}
    assert "saved and loaded" in wrong("save and load", scaled, **nothing)
    assert "did not write" in wrong("save and load", scaled, save=lambda self, path: None)


def test_a_card_that_denies_the_seed_is_found(scaled, wrong, failures):
    card = MethodCard(name="liar", title="Liar", deterministic=True)
    assert "the map follows the seed" in wrong("other seed", scaled, card=card)
    assert not failures(scaled, card=MethodCard(name="honest", title="Honest"))


def test_weights_that_ignore_the_seed_are_found(tiny_net, wrong):
    def build(self):
        import torch

        torch.manual_seed(0)
        tiny_net.build(self)

    assert "initial weights do not follow the seed" in wrong("other seed", tiny_net, build=build)


def test_batch_statistics_while_scoring_and_a_map_that_follows_the_batch_size_are_found(tiny_net, wrong):
    def in_training(self, array, roi, spacing):
        self.net.eval = lambda: self.net
        self.net.train()
        return tiny_net.score_view(self, array, roi, spacing)

    found = wrong("order and batch", tiny_net, norm=True, score_view=in_training)
    assert "batch normalisation is in training mode" in found
    scaled = {"score_view": lambda self, array, roi, spacing: array * np.float32(self.config.batch)}
    assert "batch=1" in wrong("order and batch", tiny_net, **scaled)


@pytest.mark.slow
def test_a_method_that_asks_for_labels_is_found(failures, install):
    text = (
        "import numpy as np\nfrom uasbench import Method, MethodCard\n"
        "class P(Method):\n"
        "    card = MethodCard(name='peeker', title='Peeker')\n"
        "    def fit(self, healthy, ctx):\n        pass\n"
        "    def score(self, case):\n"
        "        from .helper import mask\n        return case.image\n"
    )
    files = {
        "peeker_plugin/__init__.py": "",
        "peeker_plugin/method.py": text,
        "peeker_plugin/helper.py": "def mask(dataset, case):\n    return dataset.load_truth(case.id).lesion\n",
    }
    install("pkg-peeker", files, methods={"peeker": "peeker_plugin.method:P"})
    found = failures(registry.methods().get("peeker"))
    assert "peeker_plugin.helper, line 2: load_truth reads labels" in found["blind to labels"]


class Bare(Config):
    size: int = 3


@dataclass(frozen=True)
class Odd(Config):
    size: int = 3
    profiles: ClassVar = {"smoke": {"sizes": 1}}


@dataclass(frozen=True)
class Strange(Config):
    size: int = 3
    profiles: ClassVar = {"fast": {"size": 1}}


@dataclass(frozen=True)
class Unwritable(Config):
    kernel: Any = field(default_factory=lambda: np.zeros(3))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict, "frozen dataclass"),
        (Bare, "@dataclass(frozen=True)"),
        (Odd, "profiles['smoke'] sets unknown fields: sizes"),
        (Strange, "unknown profiles fast"),
        (Unwritable, "cannot be written"),
    ],
)
def test_settings_are_checked(median_residual, wrong, config, message):
    assert message in wrong("settings", median_residual, Config=config)


def test_a_method_that_declines_is_skipped_with_its_reason(median_residual, wrong, variant):
    results = list(run_checks(variant(median_residual, skip=lambda self: "needs the weights of X")))
    assert not [r for r in results if r.failed]
    by_name = {r.name: r for r in results}
    assert by_name["available"].detail == "needs the weights of X"
    assert by_name["learns"].detail == "not run: needs the weights of X"
    assert "return None to run" in wrong("available", median_residual, skip=lambda self: True)


def test_what_a_method_cannot_do_here_is_said(median_residual, variant):
    lung = variant(median_residual, card=MethodCard(name="l", title="L", anatomy=("lung",)))
    by_name = {r.name: r for r in run_checks(lung)}
    assert by_name["available"].skipped
    assert "--anatomy lung" in by_name["available"].detail
    assert not [r for r in run_checks(lung, anatomy="lung") if r.failed]
    needy = variant(median_residual, requires=("package_that_nobody_has",))
    assert "pip install package_that_nobody_has" in {r.name: r.detail for r in run_checks(needy)}["available"]


def test_decisions_are_checked(median_residual, failures, wrong):
    assert "expected a finite number" in wrong("own decision", median_residual, native_threshold=np.nan)
    found = wrong("own decision", median_residual, postprocess=lambda self, case, scores: scores)
    assert "postprocess returned float32" in found
    assert not failures(median_residual, "own decision", postprocess=lambda self, case, scores: scores > 10)


def test_what_a_method_shows_of_a_scan_is_checked(tiny_net, failures, wrong):
    def showing(**shown):
        return lambda self, array, roi, scores, spacing: {title: make(array) for title, make in shown.items()}

    for shown, said in (
        (lambda *_: None, "return a dictionary of arrays by title"),
        (showing(half=lambda a: a[:, :2]), "'half': the map has shape"),
        (showing(lost=lambda a: np.full(a.shape, np.nan)), "NaN or infinite"),
        (lambda self, array, roi, scores, spacing: {str(array.mean()): array.astype(np.float32)}, "the same for all"),
    ):
        assert said in wrong("restorations", tiny_net, restore_view=shown)
    assert not failures(tiny_net, "restorations", restore_view=showing(mask=lambda a: a > 0))
