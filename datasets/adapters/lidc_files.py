"""Which files of LIDC-IDRI belong together: series, segmentations and patients, found by what the headers say."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...common.errors import several
from ..reading.dicom_tags import DicomTags, read_tags
from .lidc_table import known
from .surveying import Survey, unique

OUTSIDE = frozenset({262, 291, 311, 313, 415, 423, 671, 672, 697, 785, 796, 850, 938})
"""Patients whose segmentations are known to lie outside their CT (672: in another geometry)."""
PATIENT = re.compile(r".*/(LIDC-IDRI-(\d{4}))/.+", re.IGNORECASE)
_NODULE = re.compile(r".*nodule.*", re.IGNORECASE)


@dataclass
class Found:
    """What lies below a folder: patient by series, slices by series, segmentations by the series they refer to."""

    patients: dict[str, str] = field(default_factory=dict)
    slices: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    segments: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))


def read_folders(homes: Mapping[Path, list[Path]], survey: Survey) -> Found:
    """Look at one file of each folder, at all of those with segmentations, and sort them by the series they name."""
    scans: list[tuple[str, Path]] = []
    masks: list[tuple[str, Path]] = []
    files: dict[Path, tuple[Path, ...]] = {}
    about: dict[Path, DicomTags] = {}
    others, foreign = Counter[str](), 0
    for home, inside in sorted(homes.items()):
        for path in inside:
            if (tags := read_tags(path)) is None:
                continue
            about[path] = tags
            if tags.modality == "CT":
                scans.append((tags.series, path))
                files[path] = tuple(inside)
                break
            if tags.modality != "SEG":
                others[tags.modality or "unknown"] += len(inside)
                break
            if _NODULE.fullmatch(tags.description) or _NODULE.fullmatch(home.name):
                masks.append((tags.instance, path))
            else:
                foreign += 1
    if others:
        told = ", ".join(f"{count} of modality {modality}" for modality, count in sorted(others.items()))
        survey.notes.append(f"files that are no CT are ignored: {told}")
    if foreign:
        survey.notes.append(f"{foreign} segmentations that do not say nodule in their description are ignored")
    first = unique(scans, survey)
    segments = unique(masks, survey).values()
    _refuse_strangers({path: about[path] for path in (*first.values(), *segments)}, survey)
    found = Found({uid: patient_of(path) for uid, path in first.items()}, {uid: files[p] for uid, p in first.items()})
    for path in segments:
        found.segments[about[path].referenced].append(path)
    if alone := [path for path in segments if about[path].referenced not in first]:
        people = sorted({patient_of(path) for path in alone})
        survey.problems.append(
            f"{alone[0]}: refers to series {about[alone[0]].referenced or 'without a name'}, which is not there "
            f"({len(alone)} segmentations of {several(people)}); add the CT of these patients, or move the "
            "segmentations out of the data root"
        )
    return found


def _refuse_strangers(about: Mapping[Path, DicomTags], survey: Survey) -> None:
    """Refuse files whose PatientID is not the folder's."""
    wrong = [path for path, tags in about.items() if tags.patient.upper() != patient_of(path)]
    if wrong:
        survey.problems.append(
            f"{wrong[0]}: PatientID {about[wrong[0]].patient or 'missing'} in the folder of {patient_of(wrong[0])} "
            f"({len(wrong)} files); download the patient again"
        )


def usable(found: Found, survey: Survey) -> Sequence[str]:
    """Return the series that are tested; what is left out is counted, with the reason."""
    kept: list[str] = []
    left: dict[str, list[str]] = defaultdict(list)
    for uid, patient in found.patients.items():
        count, facts = len(found.segments.get(uid, ())), known(uid)
        number = int(patient[-4:])
        if number % 2 == 0:
            left["of patients with even numbers, who are never tested, so that luna16 may train on them"].append(
                patient
            )
        elif number in OUTSIDE:
            left["whose segmentations are known to lie outside the scan"].append(patient)
        elif facts is None and count == 0:
            left["without segmentations, which may be missing"].append(patient)
        elif facts is not None and facts.annotations != count:
            left[
                "whose segmentations are not all there, or too many (one for each annotation of the collection)"
            ].append(f"{patient} has {count} of {facts.annotations}")
        else:
            kept.append(uid)
    survey.notes += [f"{len(names)} scans {why}: left out ({several(sorted(names))})" for why, names in left.items()]
    return kept


def patient_of(path: Path) -> str:
    """Return the patient in whose folder a file lies."""
    match = PATIENT.fullmatch(path.absolute().as_posix())
    assert match is not None
    return match[1].upper()
