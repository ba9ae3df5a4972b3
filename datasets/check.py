"""``bench data check``: which sets lie in a folder, what is wrong with them, and the fix."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..common.errors import DataError, brief
from .adapters.surveying import SurveyedDataset
from .anatomy import find_anatomy
from .dataset import CaseRef, Dataset
from .looking import look
from .patients import join_twins, overlapping
from .readers import Lost, Readers
from .reading.listening import loaded
from .reading.side_tables import left_out_of
from .storing.entries import slice_hashes
from .storing.store import lost_case


@dataclass
class CaseCheck:
    """One case: what was measured as a line of text, and its error where it cannot be used.

    ``lesion_voxels`` is None where the set has no voxel truth.
    """

    id: str
    patient: str
    measured: str = ""
    lesion_voxels: int | None = None
    slice_hashes: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None


@dataclass
class SetCheck:
    """One data set: its cases, and what holds for the set as a whole."""

    name: str
    title: str
    role: str
    wraps: str | None = None
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


def check(path: Path, adapters: Mapping[str, Dataset], readers: Readers | None = None) -> CheckReport:
    """Read every case of every set below ``path`` and report all that is wrong; never raises for bad data.

    ``path`` is the data root, or the folder of one set; a set that is not there is no error. A crash of one of the
    ``readers`` is an error of the case that it read; without them, cases are read in this process.
    """
    path = Path(path)
    report = CheckReport(path)
    if not path.is_dir():
        report.general_errors.append(f"{path}: no such folder; give the folder that holds the data sets")
        return report
    report.sets += filter(None, (_check_set(path, adapter, readers) for adapter in adapters.values()))
    if not report.sets:
        layouts = "; ".join(f"{name}: {a.card.layout} ({a.card.obtain})" for name, a in adapters.items())
        report.general_errors.append(
            f"{path}: no known data set found. Expected layouts: {layouts}. "
            "Without data, --phantom writes synthetic CT in the same layouts"
        )
    _check_patients(report)
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


def _check_set(path: Path, dataset: Dataset, readers: Readers | None) -> SetCheck | None:
    found = look(dataset, path, readers)
    if found.absent:
        return None
    dataset, card = found.dataset, found.dataset.card
    about = (card.name, card.title, card.role, card.wraps)
    result = SetCheck(*about, errors=list(found.problems), warnings=list(found.notes))
    checked, left_out = partial(_check_case, dataset), dict[str, str]()
    try:
        left_out = left_out_of(path, [card.name])
    except DataError as error:
        result.errors.append(str(error))
    if readers is None:
        result.cases += map(checked, found.refs)
    elif found.refs:
        outcomes = {ref.id: outcome for ref, outcome in readers.work(checked, found.refs)}
        result.cases += [_case_or_error(dataset, ref, outcomes[ref.id]) for ref in found.refs]
    for case in result.cases:
        if (reason := left_out.get(case.id)) is not None:
            case.notes.append(f"left out of runs by exclude.csv: {reason}")
    lesions = {case.id: case.lesion_voxels for case in result.cases if case.lesion_voxels is not None}
    if isinstance(dataset, SurveyedDataset) and not (path / "phantom.json").is_file():
        result.warnings += dataset.inspect_all(lesions)
    return result


def _case_or_error(dataset: Dataset, ref: CaseRef, outcome: CaseCheck | Lost) -> CaseCheck:
    if isinstance(outcome, Lost):
        return CaseCheck(ref.id, ref.patient, notes=list(ref.notes), error=lost_case(dataset, ref, outcome))
    return outcome


def _check_case(dataset: Dataset, ref: CaseRef) -> CaseCheck:
    result = CaseCheck(ref.id, ref.patient, notes=list(ref.notes))
    try:
        case = loaded(dataset, ref.id)
        result.slice_hashes = slice_hashes(case)
        for note in case.notes:
            (result.warnings if note.level == "warning" else result.notes).append(note.text)
        shape, spacing = "x".join(map(str, case.image.shape)), "x".join(f"{s:.3g}" for s in case.spacing)
        hu = f"HU {case.image.min():.0f} to {case.image.max():.0f}"
        result.measured = f"{shape}  {spacing} mm  {hu}  roi {np.count_nonzero(case.roi)}"
        anatomy = find_anatomy(dataset.card.anatomy)
        if anatomy.median_hu is not None:
            (low, high), median = anatomy.median_hu, float(np.median(case.image[case.roi]))
            if not low <= median <= high:
                result.warnings.append(
                    f"median of the {anatomy.title} is {median:.0f} HU, expected {low:.0f} to {high:.0f}: "
                    "the label may lie beside the organ, or the intensities are not HU"
                )
        truth = dataset.load_truth(ref.id) if dataset.card.truth != "none" else None
        if truth is not None and truth.lesion is not None:
            result.lesion_voxels = int(truth.lesion.sum())
            result.measured += f"  lesion {result.lesion_voxels}"
        if isinstance(dataset, SurveyedDataset):
            result.warnings += dataset.inspect(case, truth)
    except (Exception, SystemExit) as error:
        result.error = _describe(ref, error)
    return result


def _check_patients(report: CheckReport) -> None:
    known = {s.name for s in report.sets}
    own = [s for s in report.sets if s.wraps not in known]  # a set that shows another's scans again brings no patient
    read = {(s.name, c.id): c for s in own for c in s.cases if c.slice_hashes}
    hashes = {key: case.slice_hashes for key, case in read.items()}
    try:
        patients, warnings = join_twins(hashes, {key: case.patient for key, case in read.items()})
    except DataError as error:
        report.general_errors.append(str(error))
        return
    report.general_warnings += warnings
    for key, case in read.items():
        case.patient = patients[key]
    roles = {s.name: s.role for s in report.sets}
    train, test = (
        {key: patient for key, patient in patients.items() if roles[key[0]] == role} for role in ("healthy", "lesion")
    )
    report.general_warnings += overlapping(train, test).values()


def _describe(ref: CaseRef, error: BaseException) -> str:
    if isinstance(error, DataError):
        return str(error)
    fix = "not an error of the data alone; please report it with the file"
    return f"{ref.image}: {type(error).__name__}: {brief(error)} ({fix})"


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
        lines += [f"  {case.id:<{width}}  {case.measured}"] if case.measured else []
        lines += [f"    note: {text}" for text in case.notes]
        lines += [f"    WARNING {case.id}: {text}" for text in case.warnings]
        lines += [f"    ERROR {case.id}: {case.error}"] if case.error else []
    lines += [f"  WARNING {text}" for text in one.warnings]
    lines += [f"  ERROR {text}" for text in one.errors]
    return lines
