"""Training of four methods against anomalib's models: same inputs, sizes and batches, one core, in one run.

Both sides are single threads, so processor time is compared; rounds of both alternate, and the fastest of each counts.
Weights are random on both sides: speed does not depend on them.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.seeds import seed_everything
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.features.padim import PaDiM
from uasbench.methods.features.patchcore import PatchCore
from uasbench.methods.features.stfpm import STFPM
from uasbench.methods.pseudo_anomaly.draem import DRAEM

pytest.importorskip("anomalib", reason="needs anomalib, which it is compared with: pip install 'uasbench[peers]'")

pytestmark = pytest.mark.perf
ROUNDS = 3
LAYERS = ["layer1", "layer2", "layer3"]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def healthy_slices(count: int, size: int) -> HealthySet:
    """One scan whose slices are all organ, so that both sides keep every patch."""
    image = np.random.default_rng(0).normal(100, 30, (count, size, size)).astype(np.float32)
    return HealthySet.from_cases([Case("a", "a", image, (2.0, 1.0, 1.0), np.ones(image.shape, bool))])


def colour(healthy: HealthySet, view) -> torch.Tensor:
    """The slices as anomalib takes them: three channels, normalised."""
    stack = healthy.array(view)
    grey = torch.from_numpy(stack.take(range(len(stack)))[0]).float()[:, None] / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (grey - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


def prepared(cls, **settings):
    method = cls(resolve(cls.Config, "paper", "liver", settings))
    seed_everything(0)
    method.build()
    return method


def seconds(function) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def compare(name, steps, ours, theirs, record_property, wanted=1.0):
    """Alternate both, print steps per second, and require ours to be at least as fast."""
    ours(), theirs()
    rounds = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    own, other = (min(column) for column in zip(*rounds, strict=True))
    record_property("ratio", other / own)
    print(f"\n{name}: {steps / own:.3f} steps/s, anomalib {steps / other:.3f} steps/s, ratio {other / own:.2f}")
    assert other / own >= wanted


def test_padim_fits_as_fast_as_anomalib(record_property):
    from anomalib.models.image.padim.torch_model import PadimModel

    healthy = healthy_slices(8, 224)
    method = prepared(PaDiM, weights="random", batch=4)
    images = colour(healthy, method.view)
    model = PadimModel(LAYERS, "resnet18", pre_trained=False, n_features=100).train()

    def theirs():
        for batch in images.split(4):
            model(batch)
        model.fit()

    def ours():
        method.seen = 0
        method.fit(healthy, FitContext(seed=0))

    compare("padim", 2, ours, theirs, record_property)


def test_patchcore_fits_as_fast_as_anomalib(record_property):
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    healthy = healthy_slices(8, 224)
    method = prepared(PatchCore, weights="random", backbone="resnet18.tv_in1k", batch=4)
    images = colour(healthy, method.view)
    model = PatchcoreModel(["layer2", "layer3"], "resnet18", pre_trained=False).train()

    def theirs():
        model.embedding_store.clear()
        for batch in images.split(4):
            model(batch)
        model.subsample_embedding(0.1)

    compare("patchcore", 2, lambda: method.fit(healthy, FitContext(seed=0)), theirs, record_property)


def test_stfpm_trains_as_fast_as_anomalib(record_property, monkeypatch):
    from anomalib.models.components import feature_extractors
    from anomalib.models.image.stfpm import torch_model
    from anomalib.models.image.stfpm.loss import STFPMLoss

    def untrained(*args, pre_trained, **kwargs):
        return feature_extractors.TimmFeatureExtractor(*args, pre_trained=False, **kwargs)

    monkeypatch.setattr(torch_model, "TimmFeatureExtractor", untrained)
    healthy = healthy_slices(4, 256)
    method = prepared(STFPM, weights="random", batch=4, updates=2)
    images = colour(healthy, method.view)
    model, loss_of = torch_model.STFPMModel(LAYERS, "resnet18").train(), STFPMLoss()
    optimiser = torch.optim.SGD(model.student_model.parameters(), lr=0.4, momentum=0.9, weight_decay=1e-4)

    def theirs():
        for _ in range(2):
            loss = loss_of(*model(images))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    compare("stfpm", 2, lambda: method.fit(healthy, FitContext(seed=0)), theirs, record_property)


def test_draem_trains_as_fast_as_anomalib(record_property):
    """Anomalib's textures come from its Perlin generator without a picture library; its networks have 3 channels."""
    from anomalib.data.utils.generators import PerlinAnomalyGenerator
    from anomalib.models.image.draem.loss import DraemLoss
    from anomalib.models.image.draem.torch_model import DraemModel

    healthy = healthy_slices(2, 256)
    method = prepared(DRAEM, batch=2)
    images = colour(healthy, method.view).clamp(0, 1)
    model, loss_of, augment = DraemModel().train(), DraemLoss(), PerlinAnomalyGenerator(blend_factor=(0.1, 1.0))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def theirs():
        augmented, mask = augment(images)
        restored, logits = model(augmented)
        loss = loss_of(images, restored, mask, logits)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    compare("draem", 1, lambda: method.fit(healthy, FitContext(seed=0, max_updates=1)), theirs, record_property)
