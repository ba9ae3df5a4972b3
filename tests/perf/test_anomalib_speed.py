"""Training of four methods against anomalib's models: same inputs, networks, sizes and batches, one core, in one run.

Both sides are single threads, so processor time is compared, which does not depend on what else the machine does. Both
get their slices ready-made, as a loader gives them; the other side is called as its own training does, without the
framework around it. Weights are random on both sides: speed does not depend on them.
"""

import functools
import statistics
import time

import numpy as np
import pytest
import torch
from uasbench.common.seeds import seed_everything
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.features.padim import PaDiM
from uasbench.methods.features.patchcore import PatchCore
from uasbench.methods.features.stfpm import STFPM
from uasbench.methods.pseudo_anomaly.draem import DRAEM

pytest.importorskip("anomalib", reason="needs anomalib, which it is compared with: pip install 'uasbench[peers]'")

pytestmark = [pytest.mark.perf, pytest.mark.benchmark(timer=time.process_time), pytest.mark.usefixtures("one_thread")]
ROUNDS = 3
LAYERS = ["layer1", "layer2", "layer3"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def healthy_slices(count, size):
    """One scan whose slices are all organ, so that both sides keep every patch; each view of it is made once."""
    image = np.random.default_rng(0).normal(100, 30, (count, size, size)).astype(np.float32)
    healthy = HealthySet.from_cases([Case("a", "a", image, (2.0, 1.0, 1.0), np.ones(image.shape, bool))])
    healthy.array = functools.cache(healthy.array)
    return healthy


def in_colour(healthy, view):
    """The slices as the other side takes them: float32 (n, 3, H, W) in [0, 1]."""
    stack = healthy.array(view)
    return torch.from_numpy(stack.take(range(len(stack)))[0]).float().div(255)[:, None].repeat(1, 3, 1, 1)


def normalised(images):
    return (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def prepared(cls, **settings):
    method = cls(resolve(cls.Config, "paper", "liver", settings))
    seed_everything(0)
    method.build()
    return method


def compare(benchmark, name, steps, ours, theirs):
    """Alternate both, and require that ours is at least as fast in the median round."""
    other = []

    def setup():
        start = time.process_time()
        theirs()
        other.append(time.process_time() - start)

    benchmark.pedantic(ours, setup=setup, rounds=ROUNDS, warmup_rounds=1)
    own = benchmark.stats.stats.data
    other = other[-ROUNDS:]
    ratio = statistics.median(b / a for a, b in zip(own, other, strict=True))
    rate, peer = (steps / statistics.median(seconds) for seconds in (own, other))
    benchmark.extra_info.update(steps_per_s=rate, anomalib_steps_per_s=peer, ratio=ratio)
    print(f"\n{name}: {rate:.3f} steps/s, anomalib {peer:.3f} steps/s, ratio {ratio:.2f}")
    assert ratio >= 1


def test_padim_fits_as_fast_as_anomalib(benchmark):
    """A step is a batch of 16 at 224²; the Gaussians of the end are part of the time."""
    from anomalib.models.image.padim.torch_model import PadimModel

    steps, batch = 2, 16
    healthy = healthy_slices(steps * batch, 224)
    method = prepared(PaDiM, weights="random", batch=batch)
    images = in_colour(healthy, method.view)
    model = PadimModel("resnet18", LAYERS, pre_trained=False, n_features=method.dims).train()

    def theirs():
        for taken in images.split(batch):
            model(normalised(taken))
        model.fit()

    compare(benchmark, "padim", steps, lambda: method.fit(healthy, FitContext(seed=0)), theirs)


def test_patchcore_fits_as_fast_as_anomalib(benchmark, monkeypatch):
    """A step is a batch of 4 at 224² through the Wide-ResNet; the coreset, selected in as many components, counts."""
    from anomalib.models.components.sampling import k_center_greedy
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    monkeypatch.setattr(k_center_greedy, "tqdm", lambda steps, **_: steps)  # no progress bar on either side
    steps, batch = 2, 4
    patches = steps * batch * 28**2
    components = k_center_greedy.SparseRandomProjection._johnson_lindenstrauss_min_dim(patches, 0.9)
    healthy = healthy_slices(steps * batch, 224)
    method = prepared(PatchCore, weights="random", batch=batch, projection=int(components))
    images = in_colour(healthy, method.view)
    model = PatchcoreModel(["layer2", "layer3"], "wide_resnet50_2", pre_trained=False).train()

    def theirs():
        for taken in images.split(batch):
            model(normalised(taken))
        model.subsample_embedding(method.config.ratio)

    compare(benchmark, "patchcore", steps, lambda: method.fit(healthy, FitContext(seed=0)), theirs)


def test_stfpm_trains_as_fast_as_anomalib(benchmark, monkeypatch):
    """A step is a batch of 8 at 256²."""
    from anomalib.models.components import feature_extractors
    from anomalib.models.image.stfpm import torch_model
    from anomalib.models.image.stfpm.loss import STFPMLoss

    def untrained(*args, pre_trained, **kwargs):
        return feature_extractors.TimmFeatureExtractor(*args, pre_trained=False, **kwargs)

    monkeypatch.setattr(torch_model, "TimmFeatureExtractor", untrained)
    steps, batch = 2, 8
    healthy = healthy_slices(steps * batch, 256)
    method = prepared(STFPM, weights="random", batch=batch, updates=steps)
    images = in_colour(healthy, method.view)
    model, loss_of = torch_model.STFPMModel(LAYERS, "resnet18").train(), STFPMLoss()

    def theirs():
        optimiser = torch.optim.SGD(model.student_model.parameters(), lr=0.4, momentum=0.9, weight_decay=1e-4)
        for taken in images.split(batch):
            loss = loss_of(*model(normalised(taken)))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    compare(benchmark, "stfpm", steps, lambda: method.fit(healthy, FitContext(seed=0)), theirs)


def test_draem_trains_as_fast_as_anomalib(benchmark):
    """A step is a batch of 2 at 96² through the published networks; theirs have three channels, ours one.

    Textures are healthy slices here and Perlin fields there, where no picture library is given.
    """
    from anomalib.data.utils.generators import PerlinAnomalyGenerator
    from anomalib.models.image.draem.loss import DraemLoss
    from anomalib.models.image.draem.torch_model import DraemModel

    steps, batch, size = 1, 2, 96
    healthy = healthy_slices(batch, size)
    method = prepared(DRAEM, batch=batch, size=size)
    images = in_colour(healthy, method.view)
    model, loss_of, augment = DraemModel().train(), DraemLoss(), PerlinAnomalyGenerator(blend_factor=(0.1, 1.0))

    def theirs():
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
        for _ in range(steps):
            augmented, mask = augment(images)
            restored, logits = model(augmented)
            loss = loss_of(images, restored, mask, logits)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    compare(benchmark, "draem", steps, lambda: method.fit(healthy, FitContext(seed=0, max_updates=steps)), theirs)
