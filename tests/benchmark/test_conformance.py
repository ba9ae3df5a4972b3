"""The conformance check passes honest methods and names the broken promise of each dishonest one."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter, median_filter
from sklearn.metrics import average_precision_score
from uasbench import Case, Config, FitContext, HealthySet, Method, MethodCard, View
from uasbench.benchmark import registry
from uasbench.benchmark.conformance import checks as conformance_checks
from uasbench.benchmark.conformance.checks import CHECKS, average_precision
from uasbench.benchmark.conformance.phantom import SHAPE, TISSUES, healthy_cases, lesion_cases
from uasbench.benchmark.conformance.run import NAMES, CheckError, CheckResult, check_method, run_checks
from uasbench.benchmark.device import DeviceError
from uasbench.benchmark.stages import drive

COUNTER = itertools.count()


class MedianResidual(Method):
    card = MethodCard(name="median-residual", title="Local median residual", year=2026, supervision="none")

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        pass

    def score(self, case: Case) -> np.ndarray:
        return np.abs(case.image - median_filter(case.image, size=(1, 5, 5))).astype(np.float32)


@dataclass(frozen=True)
class TinyConfig(Config):
    updates: int = 2000
    batch: int = field(default=8, metadata={"stage": "score"})
    window: tuple[float, float] = (-200.0, 250.0)
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"updates": 2}, "quick": {"updates": 300}}
    anatomies: ClassVar[Mapping[str, Mapping[str, Any]]] = {"lung": {"window": (-1000.0, -300.0)}}


class TinyNet(Method):
    """Predicts every pixel from the mean of its slice; the smoothed residual is the map."""

    card = MethodCard(name="tiny-net", title="A tiny network")
    Config = TinyConfig
    native_threshold = 0.2
    norm = False

    @property
    def view(self) -> View:
        return View(size=32, window=self.config.window)

    def build(self) -> None:
        import torch
        from torch import nn

        norm = nn.BatchNorm2d(8) if self.norm else nn.Identity()
        self.net = nn.Sequential(nn.Conv2d(1, 8, 1), norm, nn.ReLU(), nn.Conv2d(8, 1, 1))
        torch.nn.init.constant_(self.net[3].bias, -0.5)

    def mean(self, images: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(np.broadcast_to(images.mean((1, 2), keepdims=True), images.shape).copy())[:, None]

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        import torch

        stack, rng = healthy.array(self.view), ctx.rng("order")
        optimiser = torch.optim.Adam(self.net.parameters(), 3e-2)
        self.net.train()
        for i in range(ctx.updates(self.config.updates)):
            images, rois = stack.take(rng.integers(0, len(stack), 8))
            error = (self.net(self.mean(images))[:, 0] - torch.from_numpy(images)) ** 2
            loss = error[torch.from_numpy(rois)].mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            ctx.log(i, loss=float(loss.detach()))

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        import torch

        self.net.eval()
        with torch.no_grad():
            starts = range(0, len(array), self.config.batch)
            parts = [self.net(self.mean(array[i : i + self.config.batch]))[:, 0] for i in starts]
        return gaussian_filter(np.abs(torch.cat(parts).numpy() - array), (0, 1, 1))


def outcome(results: list[CheckResult]) -> dict[str, str]:
    return {r.name: "skipped" if r.skipped else "passed" if r.passed else r.detail for r in results}


def failures(cls: type, *only: str) -> dict[str, str]:
    return {r.name: r.detail for r in run_checks(cls, only=only or NAMES) if r.failed}


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    monkeypatch.setattr(conformance_checks, "_affordable", lambda subject, config: 150)


def test_names_are_those_of_the_checks():
    assert ("import", *CHECKS) == NAMES


def test_the_twenty_line_method_passes_in_a_process_of_its_own():
    seen: list[CheckResult] = []
    results = check_method(MedianResidual, progress=seen.append)
    assert seen == results
    assert [r.name for r in results] == list(NAMES)
    assert not [r for r in results if r.failed]
    assert [r.name for r in results if r.skipped] == ["own decision", "learns"]


@pytest.mark.slow
@pytest.mark.parametrize("anatomy", ["liver", "lung"])
def test_a_trained_network_passes_and_beats_its_untrained_self(anatomy):
    found = outcome(list(run_checks(TinyNet, anatomy=anatomy)))
    assert set(found.values()) == {"passed"}, found


@pytest.mark.parametrize("name", ["random", "hu-deviation", "roi-area"])
def test_built_ins_pass(name):
    assert not failures(registry.methods().get(name))


def test_a_registered_plugin_is_checked_by_name(install):
    text = (
        "import numpy as np\nfrom uasbench import Method, MethodCard\n"
        "print('hello from the plug-in')\n"
        "class P(Method):\n"
        "    card = MethodCard(name='byname', title='By name')\n"
        "    def fit(self, healthy, ctx):\n        print('fitting')\n"
        "    def score(self, case):\n        return case.image * np.float32(1)\n"
    )
    install("pkg-byname", {"byname_plugin.py": text}, methods={"byname": "byname_plugin:P"})
    assert not [r for r in check_method("byname") if r.failed]
    with pytest.raises(registry.RegistryError, match="did you mean 'byname'"):
        check_method("bynam")


def test_an_import_that_fails_is_a_failed_check(install):
    install("pkg-bad", {"raising_plugin.py": "1 / 0"}, methods={"raising": "raising_plugin:P"})
    results = list(run_checks("raising"))
    assert results[0].failed
    assert "ZeroDivisionError" in results[0].detail
    assert all(r.skipped for r in results[1:])


def variant(base: type[Method], **members: Any) -> type[Method]:
    return type("Variant", (base,), {"__module__": __name__, **members})


def wrong_map(change: Any) -> type[Method]:
    return variant(MedianResidual, score=lambda self, case: change(case.image.copy(), case.roi))


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
        (lambda image, roi: 1 // 0, r"(?s)ZeroDivisionError.*test_conformance\.py, line \d+"),
    ],
)
def test_a_bad_map_fails_and_the_rest_is_skipped(change, message):
    results = list(run_checks(wrong_map(change)))
    found = outcome(results)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(found["fit and score"])
    assert "median-residual" in found["fit and score"] or "Error" in found["fit and score"]
    assert found["same seed"] == found["learns"] == "skipped"
    assert found["blind to labels"] == "passed"


def test_a_tensor_gets_the_hint():
    import torch

    cls = wrong_map(lambda image, roi: torch.from_numpy(image))
    assert "call .cpu().numpy()" in failures(cls, "fit and score")["fit and score"]


def test_values_outside_the_region_do_not_count():
    assert not failures(wrong_map(lambda image, roi: np.where(roi, image, np.nan)))
    assert not failures(wrong_map(lambda image, roi: image.astype(np.float64)))


def noisy(self: Method, case: Case) -> np.ndarray:
    return (case.image + next(COUNTER)).astype(np.float32)


def test_randomness_of_ones_own_breaks_same_seed():
    found = failures(variant(MedianResidual, score=noisy))
    assert {"same seed", "order and batch", "save and load"} <= found.keys()
    assert "ctx.rng()" in found["same seed"]


def test_a_memory_of_earlier_cases_breaks_order():
    def score(self, case):
        self.seen = getattr(self, "seen", 0) + 1
        return case.image * np.float32(self.seen)

    assert "another order" in failures(variant(MedianResidual, score=score), "order and batch")["order and batch"]


def test_writing_into_the_input_is_found():
    def score(self, case):
        np.abs(case.image, out=case.image)
        return case.image.copy()

    def fit(self, healthy, ctx):
        for case in healthy:
            case.roi[0, 0, 0] = True

    assert (
        "score writes into the image"
        in failures(variant(MedianResidual, score=score), "inputs untouched")["inputs untouched"]
    )
    assert (
        "fit writes into the region"
        in failures(variant(MedianResidual, fit=fit), "inputs untouched")["inputs untouched"]
    )

    def score_view(self, array, roi, spacing):
        array *= 2
        return array.copy()

    assert "score writes" in failures(variant(TinyNet, score_view=score_view), "inputs untouched")["inputs untouched"]


def test_a_state_that_cannot_be_saved_is_found():
    def fit(self, healthy, ctx):
        self.function = lambda x: x

    found = failures(variant(MedianResidual, fit=fit))
    assert "Variant.function is a function that cannot be saved" in found["save and load"]


def test_a_state_that_is_not_saved_is_found():
    def fit(self, healthy, ctx):
        self.scale = float(ctx.rng("scale").random())

    def score(self, case):
        return case.image * np.float32(getattr(self, "scale", 1.0))

    def save(self, path):
        path.write_bytes(b"")

    def load(self, path):
        pass

    cls = variant(MedianResidual, fit=fit, score=score, save=save, load=load)
    assert "saved and loaded" in failures(cls, "save and load")["save and load"]
    assert "did not write" in failures(variant(cls, save=lambda self, path: None), "save and load")["save and load"]


def test_a_card_that_denies_the_seed_is_found():
    def fit(self, healthy, ctx):
        self.scale = float(ctx.rng("scale").random())

    def score(self, case):
        return case.image * np.float32(self.scale)

    card = MethodCard(name="liar", title="Liar", deterministic=True)
    cls = variant(MedianResidual, fit=fit, score=score, card=card)
    assert "the map follows the seed" in failures(cls, "other seed")["other seed"]
    assert not failures(variant(cls, card=MethodCard(name="honest", title="Honest")))


def test_weights_that_ignore_the_seed_are_found():
    def build(self):
        import torch

        torch.manual_seed(0)
        TinyNet.build(self)

    assert (
        "initial weights do not follow the seed" in failures(variant(TinyNet, build=build), "other seed")["other seed"]
    )


def test_batch_statistics_while_scoring_are_found():
    def score_view(self, array, roi, spacing):
        self.net.eval = lambda: self.net
        self.net.train()
        return TinyNet.score_view(self, array, roi, spacing)

    found = failures(variant(TinyNet, norm=True, score_view=score_view), "order and batch")
    assert "batch normalisation is in training mode" in found["order and batch"]


def test_a_result_that_depends_on_the_batch_size_is_found():
    def score_view(self, array, roi, spacing):
        return array * np.float32(self.config.batch)

    assert "batch=1" in failures(variant(TinyNet, score_view=score_view), "order and batch")["order and batch"]


@pytest.mark.slow
def test_training_that_does_not_help_is_found_unless_the_card_admits_it():
    def score_view(self, array, roi, spacing):
        return np.zeros_like(array)

    cls = variant(TinyNet, score_view=score_view)
    assert "training does not help" in failures(cls, "learns")["learns"]
    card = MethodCard(name="tiny-net", title="A tiny network", notes="Near chance at this budget.")
    assert not failures(variant(cls, card=card), "learns")


def test_a_method_that_asks_for_labels_is_found(install):
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


def test_settings_are_checked():
    class NotAConfig:
        pass

    assert "frozen dataclass" in failures(variant(MedianResidual, Config=NotAConfig), "settings")["settings"]

    class Bare(Config):
        size: int = 3

    assert "@dataclass(frozen=True)" in failures(variant(MedianResidual, Config=Bare), "settings")["settings"]

    @dataclass(frozen=True)
    class Odd(Config):
        size: int = 3
        profiles: ClassVar = {"smoke": {"sizes": 1}}

    assert (
        "profiles['smoke'] sets unknown fields: sizes"
        in failures(variant(MedianResidual, Config=Odd), "settings")["settings"]
    )

    @dataclass(frozen=True)
    class Strange(Config):
        size: int = 3
        profiles: ClassVar = {"fast": {"size": 1}}

    assert "unknown profiles fast" in failures(variant(MedianResidual, Config=Strange), "settings")["settings"]

    @dataclass(frozen=True)
    class Unwritable(Config):
        kernel: Any = field(default_factory=lambda: np.zeros(3))

    assert "cannot be written" in failures(variant(MedianResidual, Config=Unwritable), "settings")["settings"]


def test_a_method_that_declines_is_skipped_with_its_reason():
    results = list(run_checks(variant(MedianResidual, skip=lambda self: "needs the weights of X")))
    assert not [r for r in results if r.failed]
    by_name = {r.name: r for r in results}
    assert by_name["available"].detail == "needs the weights of X"
    assert by_name["learns"].detail == "not run: needs the weights of X"
    assert "return None to run" in failures(variant(MedianResidual, skip=lambda self: True), "available")["available"]


def test_what_a_method_cannot_do_here_is_said():
    lung = variant(MedianResidual, card=MethodCard(name="l", title="L", anatomy=("lung",)))
    by_name = {r.name: r for r in run_checks(lung)}
    assert by_name["available"].skipped
    assert "--anatomy lung" in by_name["available"].detail
    assert not [r for r in run_checks(lung, anatomy="lung") if r.failed]
    needy = variant(MedianResidual, requires=("package_that_nobody_has",))
    assert "pip install package_that_nobody_has" in {r.name: r.detail for r in run_checks(needy)}["available"]


def test_impossible_requests_are_refused():
    with pytest.raises(CheckError, match="'brain': choose liver or lung"):
        check_method("random", anatomy="brain")
    with pytest.raises(DeviceError, match="choose auto, cpu or cuda"):
        check_method("random", device="tpu")


def test_decisions_are_checked():
    assert (
        "expected a finite number"
        in failures(variant(MedianResidual, native_threshold=np.nan), "own decision")["own decision"]
    )

    def grey(self, case, scores):
        return scores

    assert (
        "postprocess returned float32"
        in failures(variant(MedianResidual, postprocess=grey), "own decision")["own decision"]
    )

    def mask(self, case, scores):
        return scores > 10

    assert not failures(variant(MedianResidual, postprocess=mask), "own decision")


def hang(self: Method, *_: object) -> None:
    time.sleep(60)


def crash(self: Method, *_: object) -> None:
    print("about to crash", flush=True)
    os._exit(7)


def test_a_method_that_hangs_is_stopped():
    start = time.perf_counter()
    results = check_method(variant(MedianResidual, fit=hang), timeout=2)
    assert time.perf_counter() - start < 30
    found = outcome(results)
    assert "not finished within 2 s" in found["fit and score"]
    assert found["card"] == "passed"
    assert [r.name for r in results] == list(NAMES)
    assert found["learns"] == "skipped"


def test_a_method_that_kills_its_process_is_a_failed_check():
    found = outcome(check_method(variant(MedianResidual, fit=crash)))
    assert found["fit and score"] == "its process ended with exit status 7; about to crash"


def test_the_data_root_is_out_of_sight(monkeypatch):
    monkeypatch.setenv("UASBENCH_" + "DATA", "/somewhere")

    def fit(self, healthy, ctx):
        assert not [k for k in os.environ if k.startswith("UASBENCH_D")]

    assert not [r for r in check_method(variant(MedianResidual, fit=fit)) if r.failed]


def test_the_tiny_scans_are_what_they_claim():
    for anatomy, tissue in TISSUES.items():
        cases = [*healthy_cases(anatomy), *(c for c, _ in lesion_cases(anatomy))]
        assert len({c.id for c in cases}) == len({c.patient for c in cases}) == 6
        for case in cases:
            assert case.image.shape == SHAPE
            assert case.image.dtype == np.float32
            assert case.roi.any(axis=(1, 2)).sum() >= 6
            assert abs(np.median(case.image[case.roi]) - tissue.organ) < tissue.noise
        for case, lesion in lesion_cases(anatomy):
            assert (lesion <= case.roi).all()
            assert 0.01 < lesion.sum() / case.roi.sum() < 0.2
        again = healthy_cases(anatomy)
        assert all(np.array_equal(a.image, b.image) for a, b in zip(cases, again, strict=False))


@given(
    scores=hnp.arrays(np.float32, 40, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, -3.0])),
    truth=hnp.arrays(bool, 40).filter(lambda t: t.any()),
)
def test_average_precision_is_scikit_learns(scores, truth):
    assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores), abs=1e-9)


def test_driving_seeds_before_construction():
    first, second, other = (
        drive.construct(TinyNet, TinyConfig(), seed=s, device="cpu").net[0].weight for s in (0, 0, 1)
    )
    assert (first == second).all()
    assert not (first == other).all()
