"""Patient-disjoint, seeded, hashed splits: training against calibration, and validation folds."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..common.errors import DataError
from ..common.seeds import derive
from .reading.side_tables import natural_key

CALIBRATION_SHARE = 0.2
GAP_SLICES = 5
LEAVE_ONE_OUT_UP_TO = 10
FOLDS = 5

Part = tuple[str, tuple[int, int] | None]
"""Case id and its z range (start, stop), or None for the whole case."""


@dataclass(frozen=True)
class HealthySplit:
    """Which healthy cases train and which calibrate; ``hash`` addresses the manifest."""

    train: list[Part]
    calibration: list[Part]
    manifest: dict[str, Any]
    hash: str


@dataclass(frozen=True)
class Fold:
    """Thresholds tuned on the patients ``tune`` are applied to the patients ``apply``, and to nobody else."""

    index: int
    tune: tuple[str, ...]
    apply: tuple[str, ...]


def split_healthy(
    patients: Mapping[str, str],
    roi_slices: Mapping[str, Sequence[int]],
    seed: int,
    calibration: Literal["patients", "none"] = "patients",
) -> HealthySplit:
    """Hold out 20 % of the patients, at least one, for calibration; they are never trained on.

    With one patient the last fifth of each scan's ROI slices calibrates, after a gap of 5 slices, and the manifest says
    so. The result depends on the patients and the seed, not on the order of the cases.
    ``roi_slices`` are the z indices with a region of interest, ascending. ``none`` trains on everything.
    """
    if not patients:
        raise DataError("no healthy case to train on; check the data root and --exclude")
    people = sorted(set(patients.values()), key=natural_key)
    cases = sorted(patients, key=natural_key)
    if calibration == "none":
        return _finish([(c, None) for c in cases], [], patients, seed, "none", "all cases train, as asked")
    if len(people) == 1:
        return _within_one_patient(cases, patients, roi_slices, seed)
    count = max(1, int(len(people) * CALIBRATION_SHARE + 0.5))
    held = set(_shuffled(people, seed, "calibration")[:count])
    train: list[Part] = [(c, None) for c in cases if patients[c] not in held]
    calibrate: list[Part] = [(c, None) for c in cases if patients[c] in held]
    return _finish(train, calibrate, patients, seed, "patients", f"{count} of {len(people)} patients calibrate")


def hold_out(patients: Mapping[str, str], folds: int, seed: int) -> list[HealthySplit]:
    """Part healthy cases so that each is held out once: of every fold the cases of its patients, ``calibration``.

    ``patients`` gives the patient of each case.

    Raises:
        DataError: fewer patients than two, or than folds.
    """
    people = sorted(set(patients.values()), key=natural_key)
    if not 2 <= folds <= len(people):
        raise DataError(f"{len(people)} patients cannot be held out in {folds} folds; 2 to as many folds as patients")
    order, cases = _shuffled(people, seed, "hold out"), sorted(patients, key=natural_key)
    splits = []
    for fold in range(folds):
        held = set(order[fold::folds])
        train: list[Part] = [(case, None) for case in cases if patients[case] not in held]
        out: list[Part] = [(case, None) for case in cases if patients[case] in held]
        note = f"fold {fold + 1} of {folds}: {len(held)} of {len(people)} patients are held out"
        splits.append(_finish(train, out, patients, seed, "patients", note))
    return splits


def val_folds(patients: Iterable[str], seed: int) -> list[Fold]:
    """Cross-fitting folds over patients: leave-one-out up to 10 patients, 5 folds beyond; none for a single patient.

    Every patient is in ``apply`` exactly once and never in the ``tune`` of that fold.
    """
    people = sorted(set(patients), key=natural_key)
    if len(people) < 2:
        return []
    if len(people) <= LEAVE_ONE_OUT_UP_TO:
        groups = [[person] for person in people]
    else:
        order = _shuffled(people, seed, "validation")
        groups = [sorted(order[k::FOLDS], key=natural_key) for k in range(FOLDS)]
    return [Fold(index, tuple(p for p in people if p not in group), tuple(group)) for index, group in enumerate(groups)]


def no_folds_reason(patients: Iterable[str]) -> str | None:
    """Return why :func:`val_folds` gives nothing, or None."""
    count = len(set(patients))
    return None if count >= 2 else f"{count} patient: nobody else to tune the threshold on"


def _shuffled(people: Sequence[str], seed: int, purpose: str) -> list[str]:
    return sorted(people, key=lambda person: (derive(seed, "split", purpose, person), person))


def _within_one_patient(
    cases: Sequence[str], patients: Mapping[str, str], roi_slices: Mapping[str, Sequence[int]], seed: int
) -> HealthySplit:
    train: list[Part] = []
    calibrate: list[Part] = []
    for case in cases:
        zs = roi_slices[case]
        held = max(1, len(zs) // 5)
        last = len(zs) - held - GAP_SLICES - 1
        if last < 0:
            train.append((case, None))
            continue
        train.append((case, (zs[0], zs[last] + 1)))
        calibrate.append((case, (zs[-held], zs[-1] + 1)))
    if not calibrate:
        return _finish(train, [], patients, seed, "none", "one patient with too few slices to hold any out")
    note = f"one patient: the last fifth of its slices calibrates, after a gap of {GAP_SLICES}"
    return _finish(train, calibrate, patients, seed, "slices", note)


def _finish(
    train: list[Part], calibrate: list[Part], patients: Mapping[str, str], seed: int, kind: str, note: str
) -> HealthySplit:
    def rows(parts: list[Part]) -> list[dict[str, Any]]:
        return [{"case": c, "patient": patients[c], "z": list(z) if z else None} for c, z in parts]

    manifest = {"seed": seed, "calibration": kind, "note": note, "train": rows(train), "calibrate": rows(calibrate)}
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return HealthySplit(train, calibrate, manifest, hashlib.blake2b(text.encode(), digest_size=8).hexdigest())
