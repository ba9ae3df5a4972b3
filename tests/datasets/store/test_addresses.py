"""What moves the address of a decoded scan, and what does not."""

import sys

import pytest
from uasbench.common.source_hash import closure_files
from uasbench.datasets.adapters.coronacases import Coronacases
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.roi import lungmask_model
from uasbench.datasets.storing import entries, store
from uasbench.datasets.storing.store import reading_source

PLUG_IN = {
    "__init__.py": "",
    "adapter.py": (
        "from uasbench.datasets.adapters.nifti_pair import NiftiPairDataset\nfrom .threshold import AIR\n"
        "class Mine(NiftiPairDataset):\n    'Our scans.'\n    def pair(self, root): raise NotImplementedError\n"
    ),
    "threshold.py": "AIR = -400\n",
    "plots.py": "",
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    folder = tmp_path / "my_scans"
    folder.mkdir()
    for name, text in PLUG_IN.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    from my_scans.adapter import Mine  # pyright: ignore[reportMissingImports]

    Mine.card = Coronacases.card
    yield Mine(), folder
    for name in [n for n in sys.modules if n.partition(".")[0] == "my_scans"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "text", "moves"),
    [
        ("adapter.py", PLUG_IN["adapter.py"].replace("Our", "Their"), False),
        ("adapter.py", PLUG_IN["adapter.py"] + "    few = True\n", True),
        ("threshold.py", "AIR = -400  # HU\n", False),
        ("threshold.py", "AIR = -500\n", True),
        ("plots.py", "colour = 1\n", False),
    ],
)
def test_a_plug_in_set_moves_with_what_its_adapter_does(mine, name, text, moves):
    dataset, folder = mine
    before = reading_source(dataset)
    (folder / name).write_text(text)
    assert (reading_source(dataset) != before) == moves


def test_the_layout_and_the_weights_of_a_segmenter_count_but_not_for_another_organ(mine, monkeypatch):
    dataset, folder = mine
    found = {reading_source(dataset)}
    monkeypatch.setattr(entries, "LAYOUT", entries.LAYOUT + 1)
    found.add(reading_source(dataset))
    liver = reading_source(LiTS())
    monkeypatch.setattr(lungmask_model, "weights", lambda: folder / "threshold.py")
    found.add(reading_source(dataset))
    assert len(found) == 3
    assert reading_source(LiTS()) == liver


def test_it_is_the_source_of_every_class_above_and_of_what_writes_entries(mine, monkeypatch):
    asked = []
    monkeypatch.setattr(store, "closure_hash", lambda module: asked.append(module) or "0")
    reading_source(mine[0])
    own = ("adapters.nifti_pair", "adapters.surveying", "dataset", "storing.entries")
    assert {*asked} == {"my_scans.adapter", *(f"uasbench.datasets.{name}" for name in own)}


@pytest.mark.parametrize(
    ("adapter", "read_by"),
    [
        ("lits", {"volume_io", "geometry", "pairing", "orientation", "side_tables"}),
        ("btcv", {"volume_io", "geometry", "pairing", "orientation", "side_tables"}),
        ("luna16", {"mhd_io", "volume_io", "geometry", "pairing", "side_tables"}),
        ("coronacases", {"volume_io", "geometry", "pairing", "orientation", "side_tables"}),
        ("covid_ct_md", {"dicom_io", "mhd_io", "slice_labels", "volume_io", "geometry", "pairing", "side_tables"}),
    ],
)
def test_a_set_is_decoded_by_its_readers_and_by_nothing_that_comes_later(adapter, read_by):
    modules = {m.removeprefix("uasbench.") for m in closure_files(f"uasbench.datasets.adapters.{adapter}")}
    assert {m.rpartition(".")[2] for m in modules if m.startswith("datasets.reading.")} == read_by
    assert ("datasets.roi.lungs" in modules) == (adapter not in ("lits", "btcv"))
    later = ("labelled", "healthy", "splits", "patients", "check", "storing", "phantom", "views.volume_view", "anatomy")
    assert not [m for m in modules if m.startswith(tuple(f"datasets.{name}" for name in later))]
    assert {m.partition(".")[0] for m in modules} == {"common", "datasets", "uasbench"}


def test_what_writes_entries_is_hashed_without_the_views():
    modules = closure_files("uasbench.datasets.storing.entries")
    assert "uasbench.datasets.case" in modules
    assert not [m for m in modules if m.startswith(("uasbench.datasets.views", "uasbench.datasets.adapters"))]
