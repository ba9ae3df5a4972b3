"""``bench data check``: which sets lie in a folder, what is wrong with them, and the fix."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..common.errors import DataError, did_you_mean
from .adapters.surveying import SurveyedDataset
from .anatomy import Anatomy, find_anatomy
from .case import Case, Spacing
from .dataset import CaseRef, Dataset
from .patients import join_twins, overlapping, slice_hashes
from .reading.side_tables import CaseKey


@dataclass
class CaseCheck:
    """One case: what was measured, and its error where it cannot be used.

    ``hu`` is the range after clipping; ``lesion_voxels`` is None where the set has no voxel truth.
    """

    id: str
    patient: str
    shape: tuple[int, ...] = ()
    spacing: Spacing | None = None
    hu: tuple[float, float] | None = None
    roi_voxels: int = 0
    lesion_voxels: int | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None


@dataclass
class SetCheck:
    """One data set: its cases, and what holds for the set as a whole."""

    name: str
    title: str
    role: str
    cases: list[CaseCheck] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def lesion_free(self) -> list[str]:
        """Readable cases of a lesion set without a lesion."""
        return [case.id for case in self.cases if case.lesion_voxels == 0]


@dataclass
class CheckReport:
    """Everything found below ``path``."""

    path: Path
    sets: list[SetCheck] = field(default_factory=list)
    general_errors: list[str] = field(default_factory=list)
    general_warnings: list[str] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        inner = [e for s in self.sets for e in [*s.errors, *(c.error for c in s.cases if c.error)]]
        return [*self.general_errors, *inner]

    @property
    def warnings(self) -> list[str]:
        inner = [w for s in self.sets for w in [*s.warnings, *(w for c in s.cases for w in c.warnings)]]
        return [*self.general_warnings, *inner]

    @property
    def ok(self) -> bool:
        return not self.errors


def check(
    path: Path,
    adapters: Mapping[str, Dataset],
    names: Iterable[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> CheckReport:
    """Read every case of every set below ``path`` and report all that is wrong; never raises for bad data.

    Args:
        path: the data root, or the folder of one set.
        names: report these sets, also where they are absent; by default those found.
        progress: called with (set, cases done, cases in all).
    """
    path = Path(path)
    report = CheckReport(path)
    wanted = list(dict.fromkeys(names)) if names is not None else None
    for name in wanted or ():
        if name not in adapters:
            hint = did_you_mean(name, adapters)
            report.general_errors.append(f"unknown data set {name!r}{hint} (known: {', '.join(sorted(adapters))})")
    if not path.is_dir():
        report.general_errors.append(f"{path}: no such folder; give the folder that holds the data sets")
        return report
    hashes: dict[CaseKey, tuple[str, ...]] = {}
    for name in wanted if wanted is not None else adapters:
        if name in adapters:
            found = _check_set(path, adapters[name], wanted is not None, hashes, progress)
            if found is not None:
                report.sets.append(found)
    if not report.sets and not report.general_errors:
        layouts = "; ".join(f"{name}: {a.card.layout} ({a.card.obtain})" for name, a in adapters.items())
        report.general_errors.append(
            f"{path}: no known data set found. Expected layouts: {layouts}. "
            "Without data, --phantom writes synthetic CT in the same layouts"
        )
    _check_patients(report, hashes)
    return report


def format_report(report: CheckReport) -> str:
    """Return the report as text: a table of cases per set, then warnings and errors."""
    lines: list[str] = []
    for one in report.sets:
        lines += [*_set_lines(one), ""]
    for title, texts in (("Warnings", report.general_warnings), ("Errors", report.general_errors)):
        if texts:
            lines += [title, *(f"  {text}" for text in texts), ""]
    errors, warnings = len(report.errors), len(report.warnings)
    cases = sum(len(one.cases) for one in report.sets)
    verdict = "ready to use" if report.ok else "fix the errors before a run"
    lines.append(
        f"{report.path}: {len(report.sets)} sets, {cases} cases, {warnings} warnings, {errors} errors: {verdict}"
    )
    return "\n".join(lines)


def _check_set(
    path: Path,
    dataset: Dataset,
    asked: bool,
    hashes: dict[CaseKey, tuple[str, ...]],
    progress: Callable[[str, int, int], None] | None,
) -> SetCheck | None:
    card = dataset.card
    result = SetCheck(card.name, card.title, card.role)
    refs, absent = _discover(path, dataset, result)
    if absent and not asked:
        return None
    for done, ref in enumerate(refs):
        if progress is not None:
            progress(card.name, done, len(refs))
        result.cases.append(_check_case(dataset, ref, hashes))
    if progress is not None and refs:
        progress(card.name, len(refs), len(refs))
    lesions = {case.id: case.lesion_voxels for case in result.cases if case.lesion_voxels is not None}
    if isinstance(dataset, SurveyedDataset) and not (path / "phantom.json").is_file():
        result.warnings += dataset.inspect_all(lesions)
    return result


def _discover(path: Path, dataset: Dataset, result: SetCheck) -> tuple[list[CaseRef], bool]:
    try:
        if isinstance(dataset, SurveyedDataset):
            survey = dataset.survey(path)
            result.errors += survey.problems
            result.warnings += survey.notes
            return survey.refs, survey.absent
        return dataset.discover(path), False
    except Exception as error:
        result.errors.append(_describe(error))
        return [], not (path / dataset.card.name).is_dir()


def _check_case(dataset: Dataset, ref: CaseRef, hashes: dict[CaseKey, tuple[str, ...]]) -> CaseCheck:
    result = CaseCheck(ref.id, ref.patient, notes=list(ref.notes))
    try:
        case = dataset.load(ref.id)
        hashes[dataset.card.name, ref.id] = slice_hashes(case.image)
        _measure(case, find_anatomy(dataset.card.anatomy), result)
        truth = dataset.load_truth(ref.id) if dataset.card.truth != "none" else None
        if truth is not None and truth.lesion is not None:
            result.lesion_voxels = int(truth.lesion.sum())
        if isinstance(dataset, SurveyedDataset):
            result.warnings += dataset.inspect(case, truth)
    except Exception as error:
        result.error = _describe(error)
    return result


def _measure(case: Case, anatomy: Anatomy, result: CaseCheck) -> None:
    result.shape, result.spacing = case.image.shape, case.spacing
    result.hu = float(case.image.min()), float(case.image.max())
    result.roi_voxels = int(case.roi.sum())
    for note in case.notes:
        (result.warnings if note.level == "warning" else result.notes).append(note.text)
    if anatomy.median_hu is not None:
        (low, high), median = anatomy.median_hu, float(np.median(case.image[case.roi]))
        if not low <= median <= high:
            result.warnings.append(
                f"median of the {anatomy.title} is {median:.0f} HU, expected {low:.0f} to {high:.0f}: "
                "the label may lie beside the organ, or the intensities are not HU"
            )


def _check_patients(report: CheckReport, hashes: Mapping[CaseKey, tuple[str, ...]]) -> None:
    patients = {(s.name, c.id): c.patient for s in report.sets for c in s.cases if (s.name, c.id) in hashes}
    roles = {s.name: s.role for s in report.sets}
    try:
        twins = join_twins(hashes, patients)
    except DataError as error:
        report.general_errors.append(str(error))
        return
    report.general_warnings += twins.warnings
    for one in report.sets:
        for case in one.cases:
            case.patient = twins.patients.get((one.name, case.id), case.patient)
    train = {key: patient for key, patient in twins.patients.items() if roles[key[0]] == "healthy"}
    test = {key: patient for key, patient in twins.patients.items() if roles[key[0]] == "lesion"}
    report.general_warnings += overlapping(train, test).values()


def _describe(error: Exception) -> str:
    if isinstance(error, DataError):
        return str(error)
    return f"{type(error).__name__}: {error} (not an error of the data alone; please report it with the file)"


def _set_lines(one: SetCheck) -> list[str]:
    usable = sum(case.error is None for case in one.cases)
    patients = len({case.patient for case in one.cases})
    lines = [
        f"{one.name} ({one.role}): {one.title}",
        f"  {usable} of {len(one.cases)} cases usable, {patients} patients",
    ]
    if one.lesion_free:
        lines.append(f"  without lesion: {', '.join(one.lesion_free)}")
    width = max((len(case.id) for case in one.cases), default=0)
    for case in one.cases:
        if case.spacing is not None and case.hu is not None:
            shape = "x".join(map(str, case.shape))
            spacing = "x".join(f"{s:.3g}" for s in case.spacing)
            lesion = "" if case.lesion_voxels is None else f"  lesion {case.lesion_voxels}"
            lines.append(
                f"  {case.id:<{width}}  {shape}  {spacing} mm  HU {case.hu[0]:.0f} to {case.hu[1]:.0f}"
                f"  roi {case.roi_voxels}{lesion}"
            )
        lines += [f"    note: {text}" for text in case.notes]
        lines += [f"    WARNING {case.id}: {text}" for text in case.warnings]
        lines += [f"    ERROR {case.id}: {case.error}"] if case.error else []
    lines += [f"  WARNING {text}" for text in one.warnings]
    lines += [f"  ERROR {text}" for text in one.errors]
    return lines
