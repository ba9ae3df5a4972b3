"""What another run has made under the same address is taken over, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uasbench.benchmark.catalogue.registry import runnable
from uasbench.benchmark.commands import predicting, running
from uasbench.benchmark.planning import reuse, where
from uasbench.benchmark.planning.options import RunOptions, validated
from uasbench.benchmark.runs.folder import RunFolder, RunFolderError
from uasbench.benchmark.runs.records import FIT_SEAL, MAP_SEAL
from uasbench.common.atomic import CONTENTS
from uasbench.common.sealed import read_sealed, seal_folder
from uasbench.methods.config import resolve
from uasbench.reports.tables import tables_of

from .in_process import InProcess

Asked = Callable[..., RunOptions]


@pytest.fixture(scope="module")
def first(root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``ae``."""
    out = tmp_path_factory.mktemp("first") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, "find_executor", lambda name: InProcess)
        _, failed = running.run(_options(root, cache, out))
    assert failed == 0
    return out


def _options(root: Path, cache: Path, out: Path, **others: Any) -> RunOptions:
    settings = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0], "trials": 1, "out": out}
    return validated(**{"methods": "ae", "datasets": ["lits"], **settings, **others})


@pytest.fixture
def asked(root: Path, cache: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Return ``asked(**options)``: another run, which may take from a copy of the first; stages run in this process."""
    monkeypatch.setattr(where, "find_executor", lambda name: InProcess)
    there = shutil.copytree(first, tmp_path / "first")
    return lambda **others: _options(root, cache, **{"out": tmp_path / "second", "reuse": [there], **others})


def _stages(options: RunOptions) -> list[str]:
    return [stage["stage"] for stage in predicting.plan(options, calibrate=False).stages]


def test_trainings_and_maps_are_taken_over_and_their_numbers_are_the_same(asked, first, tmp_path):
    options = asked()
    assert _stages(options) == ["measure"]
    assert not (tmp_path / "second").exists()
    folder, failed = running.run(options)
    assert failed == 0
    (fit,), (there,) = (list(run.glob("fits/*/last.pt")) for run in (folder.path, tmp_path / "first"))
    assert fit.samefile(there)
    taken = folder.info()["taken"]
    assert sorted(taken) == [f"fits/{fit.parent.name}", "maps/ae__lits__btcv__s0"]
    assert set(taken.values()) == {str(tmp_path / "first" / name) for name in taken}
    new, old = (tables_of(RunFolder.open(run)).per_case for run in (folder.path, first))
    assert new.equals(old)
    assert _stages(options) == []
    assert set(folder.ledger.paths()) >= {folder.path / name for name in taken}


def test_a_row_of_another_name_takes_them_and_other_settings_do_not(asked):
    updates = resolve(runnable().get("ae").Config, "smoke", None, {}).updates
    same, other = f"same:ae.updates={updates}", f"longer:ae.updates={updates + 1}"
    alone = {"methods": "hu-deviation", "variants": [same]}
    assert sorted(_stages(asked(**alone))) == ["fit", "map", "measure", "measure"]
    found = predicting.plan(asked(variants=[same, other]), calibrate=False)
    assert sorted(stage["stage"] for stage in found.stages) == ["fit", "map", "measure", "measure", "measure"]
    assert any(text.endswith(": 1, maps: 2") for text in found.taken)
    nothing = predicting.plan(asked(threads=2), calibrate=False)
    assert sorted(stage["stage"] for stage in nothing.stages) == ["fit", "map", "measure"]
    assert "trainings taken" in nothing.taken[0]
    assert "has other settings, data, numerics or source" in nothing.taken[0]


@pytest.mark.parametrize("name", ["fits/*/last.pt", f"fits/*/{FIT_SEAL}", "maps/*/*.map", f"maps/*/{MAP_SEAL}"])
def test_what_is_damaged_there_is_made_anew_and_left_as_it_is(asked, first, tmp_path, name):
    (path,) = list((tmp_path / "first").glob(name))[:1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.unlink()
    path.write_bytes(content)
    folder, failed = running.run(asked())
    assert failed == 0
    assert path.read_bytes() == content
    new, old = (tables_of(RunFolder.open(run)).per_case for run in (folder.path, first))
    assert new.equals(old)
    if path.name != MAP_SEAL:  # one that is not read says nothing of what it is
        assert any(f"{path.parent}" in warning and "made again" in warning for warning in folder.info()["warnings"])


@pytest.mark.parametrize("where_it_lies", ["fits/*", "maps/*/healthy"])
def test_what_a_method_left_as_a_link_is_not_followed(asked, first, tmp_path, where_it_lies):
    """A stage refuses links; a method could have put one there later, and its name into the seal."""
    secret = tmp_path / "segmentation-0.nii"
    secret.write_bytes(b"labels")
    (folder,) = (tmp_path / "first").glob(where_it_lies)
    (folder / "weights.bin").symlink_to(secret)
    inside = folder.parent if folder.name == "healthy" else folder
    (seal,) = (inside / name for name in (FIT_SEAL, MAP_SEAL) if (inside / name).exists())
    about = {key: value for key, value in read_sealed(seal).items() if key not in ("files", "digest")}
    seal_folder(seal, about, but=[CONTENTS])
    listed = inside / CONTENTS
    listed.write_text(json.dumps([*{*json.loads(listed.read_text()), *read_sealed(seal)["files"]}]))
    assert any("weights.bin" in name for name in read_sealed(seal)["files"])
    run, failed = running.run(asked())
    assert failed == 0
    assert not any(path.name == "weights.bin" for path in run.path.rglob("*"))
    assert inside.relative_to(tmp_path / "first").as_posix() not in run.info()["taken"]
    new, old = (tables_of(RunFolder.open(at)).per_case for at in (run.path, first))
    assert new.equals(old)


def test_names_that_lead_out_of_a_folder_are_not_followed(asked, tmp_path):
    (seal,) = (tmp_path / "first").glob(f"fits/*/{FIT_SEAL}")
    secret = seal.parents[1] / "secret"
    secret.write_bytes(b"labels")
    listed = seal.parent / CONTENTS
    listed.write_text(json.dumps([*json.loads(listed.read_text()), f"../{secret.name}", str(secret), "gone"]))
    reuse.take_over(seal, tmp_path / "taken" / "fit")
    names = [path.name for path in (tmp_path / "taken").rglob("*")]
    assert sorted(names) == sorted(["fit", *(path.name for path in seal.parent.iterdir())])
    assert "curves.csv" in names


def test_without_links_files_are_copied(asked, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError

    monkeypatch.setattr(reuse.os, "link", refused)
    folder, failed = running.run(asked())
    assert failed == 0
    for seal in (*folder.path.glob(f"fits/*/{FIT_SEAL}"), *folder.path.glob(f"maps/*/{MAP_SEAL}")):
        there = tmp_path / "first" / seal.relative_to(folder.path)
        assert seal.read_bytes() == there.read_bytes()
        assert not seal.samefile(there)


def test_what_is_no_run_and_the_run_itself_are_refused(asked, first, tmp_path):
    with pytest.raises(RunFolderError):
        running.run(asked(reuse=[tmp_path]))
    with pytest.raises(RunFolderError, match="goes on with its own folder"):
        running.run(asked(out=first, reuse=[first]))
    assert not (tmp_path / "second").exists()
