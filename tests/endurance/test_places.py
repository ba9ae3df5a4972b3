"""Folders that are moved, deleted, or cannot be written, and data that change behind the back of a run."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from .bits import bits, differing, tables
from .commands import ENDS_WITHIN_S, LIGHT, Bench, Started, Whole
from .mounting import can_mount
from .parts import work_off

READ_ONLY = """
for folder in $1; do mount --bind "$folder" "$folder" && mount -o remount,bind,ro "$folder" || exit 99; done
shift; exec "$@"
"""


class Place:
    """A copy of a whole run, its data and its cache, and what is done to them."""

    def __init__(self, bench: Bench, whole: Whole, folder: Path, *, finished: bool = True) -> None:
        self.whole, self.folder = whole, folder
        self.run, self.cache, self.data = folder / "run", folder / "cache", folder / "data"
        shutil.copytree(bench.data, self.data)
        shutil.copytree(whole.cache, self.cache)
        self.bench = replace(bench, data=self.data)
        if finished:
            assert self.go() == 0

    def words(self, command: str = "run") -> list[str]:
        return self.bench.run(self.run, self.cache) if command == "run" else [command, str(self.run)]

    def go(self, command: str = "run") -> int:
        """Run a command to its end; what it said is :meth:`said`."""
        (self.folder / "log").unlink(missing_ok=True)
        return self.bench.finish(self.words(command), self.folder / "log")

    def said(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def interrupted(self, file: str) -> None:
        """Start the run and kill it once a file is there."""
        started: Started = self.bench.start(self.words(), self.folder / "log")
        while started.process.poll() is None and not next(self.run.glob(file), None):
            pass
        started.kill()

    def same(self) -> None:
        wrong = differing(bits(self.run), self.whole.bits)
        assert not wrong, f"other bits: {wrong}"

    def read_only(self, command: str, *folders: Path) -> int:
        """Run a command while folders cannot be written."""
        script = LIGHT.replace("{tables!r}", repr(str(self.bench.tables)))
        shell = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", " ".join(map(str, folders))]
        with (self.folder / "log").open("wb") as log:
            return subprocess.run(
                [*shell, sys.executable, "-P", "-c", script, *self.words(command)],
                **{"stdout": log, "stderr": log, "cwd": self.folder, "timeout": ENDS_WITHIN_S, "check": False},
            ).returncode

    def refused(self, status: int) -> None:
        assert status == 2, f"exit {status}: {self.said()[-600:]}"
        assert "Traceback" not in self.said()


def moved(place: Place) -> None:
    place.interrupted("records/*.json")
    elsewhere = place.folder / "moved" / "elsewhere"
    elsewhere.parent.mkdir()
    place.run.rename(elsewhere)
    place.run = elsewhere
    assert place.go() == 0, place.said()[-600:]
    place.same()
    assert place.go("rescore") == 0, place.said()[-600:]
    expected = {name.removeprefix("tables/"): v for name, v in place.whole.bits.items() if name.startswith("tables/")}
    assert tables(place.run) == expected


def without_cache(place: Place) -> None:
    shutil.rmtree(place.cache)
    assert place.go() == 0, place.said()[-600:]
    place.same()
    shutil.rmtree(place.cache)
    place.refused(place.go("rescore"))


def cache_lost_in_the_middle(place: Place) -> None:
    started = place.bench.start(place.words(), place.folder / "log")
    while started.process.poll() is None and not next(place.run.glob("fits/*/fit.json"), None):
        pass
    shutil.rmtree(place.cache, ignore_errors=True)
    assert started.ended() in (0, 2, 3), place.said()[-600:]
    assert place.go() == 0, place.said()[-600:]
    place.same()


def _changed(path: Path) -> None:
    """Change what a file holds and keep its size and time."""
    before, image = path.stat(), nib.load(path)
    values = np.flip(np.asanyarray(image.dataobj), axis=0).copy()
    nib.save(nib.Nifti1Image(values, image.affine, image.header), path)
    os.truncate(path, before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def voxels_changed(place: Place) -> None:
    _notices(place, "volume-0.nii")


def labels_changed(place: Place) -> None:
    _notices(place, "segmentation-0.nii")


def _notices(place: Place, name: str) -> None:
    before = tables(place.run)
    (path,) = place.data.rglob(name)
    _changed(path)
    status = place.go()
    assert status in (0, 2), place.said()[-600:]
    if status == 0:
        assert tables(place.run) != before, "numbers of other data"
        assert list((place.run / "stale").iterdir())


def read_only_run(place: Place) -> None:
    for command in ("run", "report", "clean", "rescore"):
        place.refused(place.read_only(command, place.run))
    assert place.go() == 0
    place.same()


def read_only_cache(place: Place) -> None:
    shutil.rmtree(place.run)
    status = place.read_only("run", place.cache)
    assert status in (0, 2), place.said()[-600:]
    assert "Traceback" not in place.said()
    shutil.rmtree(place.cache)
    place.cache.mkdir()
    shutil.rmtree(place.run, ignore_errors=True)
    place.refused(place.read_only("run", place.cache))


ON_A_FINISHED_RUN: dict[str, Callable[[Place], None]] = {
    "the cache is deleted": without_cache,
    "voxels change, size and time do not": voxels_changed,
    "labels change, size and time do not": labels_changed,
    "the run cannot be written": read_only_run,
    "the cache cannot be written": read_only_cache,
}
FROM_THE_START: dict[str, Callable[[Place], None]] = {
    "the run moves while it is interrupted": moved,
    "the cache is lost in the middle": cache_lost_in_the_middle,
}


@pytest.mark.endurance
@pytest.mark.timeout(0)
@pytest.mark.skipif(not can_mount(), reason="needs root and unshare, to make folders read-only")
def test_places(ledger, small_bench, small_whole, tmp_path):
    scenes = {**ON_A_FINISHED_RUN, **FROM_THE_START}

    def trial(seed: int, counts: Counter[str]) -> None:
        name, folder = [*scenes][seed % len(scenes)], tmp_path / str(seed)
        folder.mkdir()
        try:
            scenes[name](Place(small_bench, small_whole, folder, finished=name in ON_A_FINISHED_RUN))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        counts["as it should be"] += 1
        shutil.rmtree(folder)

    work_off(ledger, "places", trial, len(scenes))
