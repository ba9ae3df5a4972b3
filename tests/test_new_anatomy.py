"""A third organ: a package brings the organ, its data sets and a method; the engine knows no name of it."""

import numpy as np
import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.conformance.phantom import healthy_cases, lesion_cases
from uasbench.benchmark.conformance.run import run_checks
from uasbench.common.errors import DataError
from uasbench.datasets.check import check
from uasbench.datasets.phantom.disk import write_phantom

PACKAGE = """
import numpy as np
from dataclasses import dataclass
from uasbench import Anatomy, Case, CaseRef, Config, Dataset, DatasetCard, Method, MethodCard, Truth
from uasbench.datasets.anatomy import Tissue
from uasbench.methods.trivial.baselines import HuOpened, HuOpenedConfig

SPLEEN = Anatomy(
    name="spleen", title="spleen", window=(-100.0, 300.0), median_hu=(0.0, 60.0),
    tissue=Tissue(organ=100, bright=190, dark=10, outside=20, noise=8, lesions=(-50, 50)),
)

ABOUT = dict(title="t", anatomy="ORGAN", licence="-", citation="-", obtain="-", layout="NAME/*.npz", roi_source="-")

class Healthy(Dataset):
    card = DatasetCard(name="spleen-healthy", role="healthy", **ABOUT)

    def discover(self, root):
        self.files = {p.stem: p for p in sorted((root / self.card.name).glob("*.npz"))}
        return [CaseRef(id=name, patient=name, image=path) for name, path in self.files.items()]

    def load(self, case_id):
        with np.load(self.files[case_id]) as a:
            return Case(case_id, case_id, a["image"], (5.0, 2.5, 2.5), a["roi"])

    def load_truth(self, case_id):
        with np.load(self.files[case_id]) as a:
            return Truth(case_id, lesion=a["lesion"])

class Lesions(Healthy):
    card = DatasetCard(name="spleen-lesions", role="lesion", truth="voxel", partner="spleen-healthy", **ABOUT)

@dataclass(frozen=True)
class OpenedConfig(HuOpenedConfig):
    anatomies = {"spleen": {"radius": 1, "sign": "darker"}}

class Opened(HuOpened):
    card = MethodCard(name="spleen-opened", title="Opened", anatomy=("ORGAN",), deterministic=True)
    Config = OpenedConfig
"""
DATASETS = {"spleen-healthy": "spleen_pack:Healthy", "spleen-lesions": "spleen_pack:Lesions"}


@pytest.fixture
def pack(install):
    """Return ``pack()``: the package installed; ``organ`` is what its sets and its method say they are made for."""
    points = {
        "anatomies": {"spleen": "spleen_pack:SPLEEN"},
        "datasets": DATASETS,
        "methods": {"spleen-opened": "spleen_pack:Opened"},
    }
    return lambda organ="spleen": install("spleen-pack", {"spleen_pack.py": PACKAGE.replace("ORGAN", organ)}, **points)


@pytest.fixture
def data(tmp_path):
    """A data root with tiny scans of both sets."""
    scans = {
        "spleen-healthy": [(case, np.zeros_like(case.roi)) for case in healthy_cases()],
        "spleen-lesions": lesion_cases(),
    }
    for name, cases in scans.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for case, lesion in cases:
            np.savez(tmp_path / "data" / name / f"{case.id}.npz", image=case.image, roi=case.roi, lesion=lesion)
    return tmp_path / "data"


@pytest.mark.slow
def test_it_is_prepared_fitted_mapped_measured_and_reported(pack, quick_run, data, tmp_path):
    pack()
    options = {"data_root": data, "cache": tmp_path / "cache", "profile": "smoke", "seeds": [0]}
    done = quick_run("all", "spleen-lesions", out=tmp_path / "run", **options)
    assert not done.failures
    assert [r.cell.method for r in done.records] == ["spleen-opened"]
    assert done.records[0].data.anatomy == "spleen"
    assert done.records[0].config["radius"] == 1
    summary = done.table("summary").set_index(["protocol", "metric", "unit"])["mean"]
    assert summary["oracle", "dice", "patient"] > 0.1
    assert not any(str(protocol).startswith("paper-") for protocol, *_ in summary.index)
    (gallery,) = done.path.glob("maps/*/gallery.npz")
    with np.load(gallery) as pictures, np.load(next(data.glob("spleen-lesions/lesion-0.npz"))) as scan:
        names = [key.partition("/")[0] for key in pictures if key.endswith("/image")]
        grey = np.rint(np.clip((scan["image"] + 100) / 400, 0, 1) * 255).astype(np.uint8)
        assert any((grey == pictures[f"{name}/image"]).all(axis=(1, 2)).any() for name in names)
    assert "spleen-lesions" in (done.path / "report.html").read_text()


def test_checks_of_data_and_methods_know_it_and_a_phantom_that_it_lacks_is_refused(pack, data, tmp_path):
    pack()
    adapters = {name: registry.datasets().get(name)() for name in DATASETS}
    warnings = [w for one in check(data, adapters).sets for case in one.cases for w in case.warnings]
    assert any("median of the spleen is 9" in w and "expected 0 to 60" in w for w in warnings)
    results = list(run_checks("spleen-opened", anatomy="spleen", only=("card", "available", "learns")))
    assert not [r for r in results if r.failed]
    with pytest.raises(
        DataError, match="no phantom of 'spleen'; use one of kidney, liver, lung, pancreas, or --data-root"
    ):
        write_phantom(tmp_path / "phantom", anatomy="spleen", seed=0, size="smoke")


def test_an_organ_that_nobody_registered_is_refused_with_its_set_and_method(pack, quick_run, data, tmp_path):
    pack(organ="splen")
    problem = "unknown anatomy 'splen'; did you mean 'spleen'? known: colon, kidney, liver, lung, pancreas, spleen"
    assert problem in registry.datasets().broken()["spleen-lesions"]
    assert problem in registry.runnable().broken()["spleen-opened"]
    with pytest.raises(registry.RegistryError, match="splen"):
        quick_run("hu-deviation", "spleen-lesions", data_root=data, out=tmp_path / "run")
    assert not list((tmp_path / "run").rglob("fits/*"))


def test_a_card_from_the_index_is_refused_where_its_organ_went(pack):
    site = pack()
    assert registry.datasets().card("spleen-lesions").anatomy == "spleen"
    registry.datasets().write_index()
    points = next(site.glob("*.dist-info")) / "entry_points.txt"
    points.write_text(points.read_text().replace("[uasbench.anatomies]\nspleen =", "[other]\nspleen ="))
    registry.refresh()
    with pytest.raises(
        registry.RegistryError, match="unknown anatomy 'spleen'; known: colon, kidney, liver, lung, pancreas"
    ):
        registry.datasets().card("spleen-lesions")
