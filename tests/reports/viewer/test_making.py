"""The scripts of the viewer: they hold what the tables print, and say what is gone."""

import base64
import json
import shutil
import zlib

import numpy as np
import pytest
from uasbench import api
from uasbench.benchmark.planning.again import Source
from uasbench.benchmark.runs.folder import RunFolderError
from uasbench.datasets.readers import Readers
from uasbench.reports.viewer.chunks import packed
from uasbench.reports.viewer.making import make


def content(folder, name):
    head, _, rest = (folder / f"{name}.js").read_text().partition(",")
    assert head == f'uasbench.put("{name}"'
    return json.loads(rest.removesuffix(");\n"))


def test_every_dice_of_the_record_is_that_of_the_shown_counts(viewed):
    out = viewed.path / "report"
    (part,) = content(out, "index")["sets"]
    compared = 0
    for n, cell in enumerate(part["cells"]):
        record = next(r for r in viewed.records if r.cell.method == cell["method"])
        known = {(v.protocol, v.case): v.value for v in record.per_case if v.metric == "dice"}
        for i, case in enumerate(part["cases"]):
            shown = content(out, f"map-0-{i}-{n}")
            assert len(shown["variants"]) >= 1
            for protocol, cut in shown["cuts"].items():
                one, edge = shown["variants"][cut["variant"]], cut["edge"]
                positives, tp = sum(one["hit"]), sum(one["hit"][edge + 1 :])
                dice = 2 * tp / (sum(one["every"][edge + 1 :]) + positives) if positives else None
                assert dice == known[protocol, case["id"]] == cell["dice"][protocol][i]
                compared += 1
    assert compared > 20


def test_the_protocols_of_a_map_are_those_of_its_record(viewed):
    out = viewed.path / "report"
    (part,) = content(out, "index")["sets"]
    for n, cell in enumerate(part["cells"]):
        record = next(r for r in viewed.records if r.cell.method == cell["method"])
        patient = part["cases"][0]["patient"]
        used = {t.protocol for t in record.thresholds if patient in t.patients and t.threshold is not None}
        assert set(content(out, f"map-0-0-{n}")["cuts"]) == used - {"paper-liver"}


def test_arrays_come_back_from_their_text():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 90, 1000, dtype=np.uint8)
    content = zlib.decompress(base64.b64decode(packed(levels)))
    np.testing.assert_array_equal(np.cumsum(np.frombuffer(content, np.uint8), dtype=np.uint8), levels)
    image = rng.integers(-1024, 3072, (3, 7, 5)).astype(np.int16)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed(image))), np.uint8).reshape(2, -1)
    values = np.cumsum(np.ascontiguousarray(planes.T).view("<i2").reshape(-1), dtype=np.int16)
    np.testing.assert_array_equal(values.reshape(image.shape), image)
    bits = rng.random((3, 5)) > 0.5
    found = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(packed(bits))), np.uint8), count=15)
    np.testing.assert_array_equal(found.reshape(bits.shape), bits)


@pytest.fixture
def copy(viewed, tmp_path):
    shutil.copytree(viewed.path, tmp_path / "run", ignore=shutil.ignore_patterns("report", "mlruns"))
    return api.Run(tmp_path / "run").folder


def made(folder, cache, data_root=None):
    with Readers(1) as readers:
        return make(folder, Source(data_root, cache), readers)


def test_maps_that_are_gone_are_named_and_the_others_shown(copy, cache):
    gone = next(r for r in copy.records() if r.cell.method == "ae")
    shutil.rmtree(copy.map_dir(gone.cell))
    (said,) = made(copy, cache)
    assert said.startswith("ae: its maps are gone")
    (part,) = content(copy.viewer_dir, "index")["sets"]
    assert [cell["method"] for cell in part["cells"] if "gone" in cell] == ["ae"]
    assert list(copy.viewer_dir.glob("map-0-0-*.js"))


def test_scans_that_are_gone_leave_an_index_that_says_so(copy, cache, tmp_path):
    (said,) = made(copy, tmp_path / "no-cache", tmp_path / "nothing")
    assert said.startswith("The scans are not at hand: ")
    (part,) = content(copy.viewer_dir, "index")["sets"]
    assert part["gone"] == said
    assert not list(copy.viewer_dir.glob("case-*.js"))


def test_a_link_is_not_written_through(copy, cache, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    copy.viewer_dir.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFolderError, match="is a link"):
        made(copy, cache)
    assert not list((tmp_path / "elsewhere").iterdir())
