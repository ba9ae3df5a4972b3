"""A data set of four cases in files of its own, and a store to prepare it in."""

import sys

import numpy as np
import pytest
from uasbench.datasets.storing import store
from uasbench.datasets.storing.store import Store
from uasbench.datasets.views.slice_view import View

VIEWS = (View(size=16), View(size=16, dtype="uint8", equalise=True))

ADAPTER = '''
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np

from uasbench.datasets.case import Case, Trust, Truth, warning
from uasbench.datasets.dataset import CaseRef, Dataset, DatasetCard
from uasbench.common.errors import DataError

def interrupt():
    raise KeyboardInterrupt


ENDS = {
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "abort": os.abort,
    "nothing": lambda: os._exit(0),
    "exit": lambda: sys.exit(3),
    "interrupt": interrupt,
    "warn": lambda: (warnings.warn("odd header"), os.write(2, b"ITK WARNING: odd spacing\\n")),
}


class Arrays(Dataset):
    """Cases as .npz files with image and labels; counts how often it decodes."""

    card = DatasetCard(
        name="arrays", title="Arrays", anatomy="liver", role="lesion", licence="", citation="", obtain="", layout="",
        roi_source="label", truth="voxel",
    )

    def discover(self, root):
        self.root, self.loaded = root, []
        return [
            CaseRef(p.stem, f"patient-{p.stem}", p, root / f"{p.stem}.label.npy", notes=("found",))
            for p in sorted(root.glob("*.npz"))
        ]

    def _read(self, case_id):
        self.loaded.append(case_id)
        try:
            return np.load(self.root / f"{case_id}.npz")["image"], np.load(self.root / f"{case_id}.label.npy")
        except (OSError, ValueError) as error:
            raise DataError(f"{self.root / case_id}.npz: damaged ({error})") from error

    def load(self, case_id):
        if case_id == os.environ.get("END_AT"):
            ENDS[os.environ["END_BY"]]()
        image, label = self._read(case_id)
        trust = Trust("table", False, "anatomy")
        return Case(case_id, f"patient-{case_id}", image.astype(np.float32), (2.0, 0.8, 0.7), label > 0,
                    ("read", warning("look")), trust=trust)

    def load_truth(self, case_id):
        label = np.load(self.root / f"{case_id}.label.npy")
        return Truth(case_id, label == 2)
'''


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter in a module that spawned processes can import."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "arrays_adapter.py").write_text(ADAPTER)
    sys.path.insert(0, str(folder))
    import arrays_adapter

    yield arrays_adapter
    sys.path.remove(str(folder))
    del sys.modules["arrays_adapter"]


@pytest.fixture
def data(tmp_path):
    """Four cases on disk; the last holds values that int16 cannot."""
    root = tmp_path / "data"
    root.mkdir()
    for i, name in enumerate("abcd"):
        rng = np.random.default_rng(i)
        image = rng.integers(-500, 500, (5, 20, 24)).astype(np.float32) + (0.5 if name == "d" else 0)
        image[0] = -1000
        label = np.zeros(image.shape, np.uint8)
        label[1:4, 3:15, 4:18] = 1
        label[2, 5:8, 6:9] = 2
        np.savez(root / f"{name}.npz", image=image)
        np.save(root / f"{name}.label.npy", label)
    return root


@pytest.fixture
def dataset(adapter, data):
    dataset = adapter.Arrays()
    dataset.refs = dataset.discover(data)
    return dataset


@pytest.fixture
def settled(monkeypatch):
    """Trust time stamps of files that were just written."""
    monkeypatch.setattr(store, "_SETTLED_NS", -(10**12))


def _prepare(tmp_path, dataset, **options):
    options = {"views": VIEWS, "truth": True, **options}
    return Store(tmp_path / "cache").prepare(dataset, dataset.refs, **options)


def _entries(tmp_path, kind):
    return sorted(p.name for p in (tmp_path / "cache" / kind).iterdir())


@pytest.fixture
def views():
    """Two views that the tests prepare."""
    return VIEWS


@pytest.fixture
def prepare():
    """Return ``prepare(tmp_path, dataset, **options)``: everything in a store below the folder."""
    return _prepare


@pytest.fixture
def entries():
    """Return ``entries(tmp_path, kind)``: the names of the stored entries."""
    return _entries
