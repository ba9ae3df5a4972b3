"""Full disks of ten sizes, for the run folder and for the cache: a clear end, and the same bits once there is room."""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .bits import bits, differing, leftovers
from .commands import ENDS_WITHIN_S, LIGHT, Bench
from .mounting import can_mount
from .parts import work_off

SIZES_KIB = {
    "run folder": (40, 80, 150, 300, 500, 800, 1200, 1800, 2600, 4000),
    "cache": (16, 40, 80, 150, 250, 350, 500, 650, 800, 1000),
}
CASES = [(what, size) for what, sizes in SIZES_KIB.items() for size in sizes]
ROOM = "2g"
REASONS = ("disk is full", "No space left", "free space")
# The disk lives as long as this shell, so the shell makes it small, makes room, goes on and copies what is there. A run
# folder's disk gets small once the plan, which asks for more than these sizes, is written.
SCRIPT = """
disk=$1 size=$2 room=$3 kept=$4 plan=$5; shift 5
mount -t tmpfs -o size=$room tmpfs "$disk" || exit 99
[ "$plan" ] || mount -o remount,size=${size}k "$disk" || exit 99
"$@" > "$kept.first" 2>&1 & bench=$!
while [ "$plan" ] && [ ! -e "$plan" ] && kill -0 $bench 2>&-; do sleep 0.01; done
if [ "$plan" ]; then
    until mount -o remount,size=$(( $(df -k --output=used "$disk" | tail -n 1) + size ))k "$disk" 2>&-; do :; done
fi
wait $bench; echo $? > "$kept.statuses"
mount -o remount,size=$room "$disk" || exit 99
"$@" > "$kept.second" 2>&1; echo $? >> "$kept.statuses"
cp -a "$disk" "$kept"
"""


def fill(bench: Bench, whole: dict[str, str], folder: Path, what: str, size: int, counts: Counter[str]) -> None:
    """Run on a small disk, make room, run again."""
    disk, kept = folder / "disk", folder / "kept"
    disk.mkdir()
    run = disk / "run" if what == "run folder" else folder / "run"
    cache = disk / "cache" if what == "cache" else folder / "cache"
    script = LIGHT.replace("{tables!r}", repr(str(bench.tables)))
    words = [sys.executable, "-P", "-c", script, *bench.run(run, cache)]
    plan = run / "run.json" if what == "run folder" else ""
    shell = ["unshare", "-m", "sh", "-c", SCRIPT, "sh", str(disk), str(size), ROOM, str(kept), str(plan), *words]
    subprocess.run(shell, check=True, timeout=2 * ENDS_WITHIN_S, cwd=folder)
    first, second = ((folder / f"kept.{which}").read_text() for which in ("first", "second"))
    statuses = [int(line) for line in (folder / "kept.statuses").read_text().split()]
    counts[f"{what}: exit {statuses[0]} on the full disk"] += 1
    assert "Traceback" not in first, f"{what}, {size} KiB: {first[-600:]}"
    assert statuses[0] in (0, 2, 3), f"{what}, {size} KiB: exit {statuses[0]}: {first[-600:]}"
    assert not statuses[0] or any(reason in first for reason in REASONS), first[-600:]
    assert statuses[1] == 0, f"{what}, {size} KiB, with room: exit {statuses[1]}: {second[-600:]}"
    counts[f"{what}: completed once there was room"] += 1
    run = kept / "run" if what == "run folder" else run
    assert not differing(bits(run), whole), f"other bits: {differing(bits(run), whole)}"
    assert not leftovers(kept, folder / "run", folder / "cache")


@pytest.mark.endurance
@pytest.mark.timeout(0)
@pytest.mark.skipif(not can_mount(), reason="needs root and unshare, to mount small disks")
def test_full_disks(ledger, bench, whole, tmp_path):
    def trial(seed: int, counts: Counter[str]) -> None:
        folder = tmp_path / str(seed)
        folder.mkdir()
        fill(bench, whole.bits, folder, *CASES[seed % len(CASES)], counts)
        shutil.rmtree(folder)

    work_off(ledger, "full disks", trial, len(CASES))
