"""COVID-19-20: lung lesions of the COVID-19 Lung CT Lesion Segmentation Challenge, its second release."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ...common.errors import several
from ..case import Case, warning
from ..dataset import DatasetCard
from .laid_lungs import LaidLungsDataset
from .nifti_pair import match_labels
from .surveying import Survey, unique

ACCEPT = "accept-v1.txt"
"""A file of this name beside the first release says that whoever laid it there knows what is wrong with it."""

_NAME = re.compile(r"volume-covid19-(A-\d{4}(?:_\d+|_day\d{3})?)_(ct|seg)\.nii(?:\.gz)?", re.IGNORECASE)
_SECOND = re.compile(r"covid-?19-?20[-_ ]?v2", re.IGNORECASE)
_FIRST_RELEASE = "the first release of COVID-19-20, in which volumes were doubled and labels wrong"
_FETCH = "use the published COVID-19-20_v2 in a folder of that name"


class Covid1920(LaidLungsDataset):
    """Chest CT of COVID-19 patients with masks of lesions (1); the scans of one number belong to one patient."""

    card = DatasetCard(
        name="covid-19-20",
        title="COVID-19-20, COVID-19 Lung CT Lesion Segmentation Challenge (second release)",
        anatomy="lung",
        role="lesion",
        licence=(
            "not found: neither the page of the challenge nor the repositories that were read state one; the scans "
            "come from the collection CT Images in COVID-19 (TCIA). Read the terms that you accept when you register"
        ),
        citation=(
            "Roth et al., Rapid artificial intelligence solutions in a pandemic: the COVID-19-20 Lung CT Lesion "
            "Segmentation Challenge, Medical Image Analysis 82, 2022, 102605"
        ),
        obtain="register at covid-segmentation.grand-challenge.org and unpack COVID-19-20_v2.zip with its folder",
        layout=(
            "COVID-19-20_v2/Train/volume-covid19-A-NNNN[_N|_dayNNN]_ct.nii.gz with ..._seg.nii.gz; Validation has no "
            "labels"
        ),
        roi_source="rois/covid-19-20 > 0; without a mask there the lungs are segmented, the release labels none",
        partner="luna16",
        reference="hu-opened",
        truth="voxel",
        finding="pneumonia",
    )
    folders = ("covid-19-20", "covid-19-20_v2", "covid-19-20-v2", "covid19-20", "covid19-20_v2", "covid_19_20")
    pattern = r"volume-covid19-a-\d{4}.*\.nii(\.gz)?|accept-v1\.txt"
    case_labels = frozenset({0, 1})
    lesion_labels = frozenset({1})

    def __init__(self) -> None:
        super().__init__()
        self._accepted: dict[str, Path] = {}

    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        super().search(root, files, survey)
        for place, ref in enumerate(survey.refs):
            patient = f"covid19-{ref.id.partition('_')[0]}" if ref.patient == ref.id else ref.patient
            accepted = (self._accepted[ref.id],) if ref.id in self._accepted else ()
            survey.refs[place] = replace(ref, patient=patient, extra=(*ref.extra, *accepted))

    def load(self, case_id: str) -> Case:
        case = super().load(case_id)
        if case_id not in self._accepted:
            return case
        return replace(case, notes=(*case.notes, warning(f"taken for {_FIRST_RELEASE}, as {ACCEPT} accepts")))

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair the scans of Train with their labels; the first release and labels corrected by others are refused."""
        self._accepted = {}
        named = [path for path in files if path.name.lower() != ACCEPT]
        marks = {path.parent: path for path in files if path.name.lower() == ACCEPT}
        if corrected := [path for path in named if "_corr" in path.name.lower()]:
            survey.problems.append(
                f"{corrected[0]}: a correction of the first release by somebody else ({len(corrected)} files, named "
                f"_corr...); {_FETCH}"
            )
            return {}
        found = _sorted(named, survey)
        images, labels = unique(found["ct"], survey), unique(found["seg"], survey)
        if first := sorted({path.parent for path in (*images.values(), *labels.values()) if not _is_second(path)}):
            marked = {home: mark for home in first for mark in [_mark(home, marks)] if mark is not None}
            if refused := [home for home in first if home not in marked]:
                survey.problems.append(
                    f"{refused[0]}: not below a folder COVID-19-20_v2, so that these files may be {_FIRST_RELEASE}; "
                    f"{_FETCH}, or lay an empty file {ACCEPT} there to use them all the same"
                )
                return {}
            self._accepted = {case: marked[path.parent] for case, path in images.items() if path.parent in marked}
        pairs = match_labels(images, labels, "file of the same name in _seg", survey, ct="file of the same name in _ct")
        self.lay(pairs)
        return pairs


def _sorted(files: Iterable[Path], survey: Survey) -> dict[str, list[tuple[str, Path]]]:
    """Return the scans and labels of Train by kind; those of Validation are counted, and labels there refused."""
    found: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    waiting, invented, foreign = 0, [], []
    for path in files:
        match = _NAME.fullmatch(path.name)
        if match is None:
            foreign.append(path.name)
        elif "validation" in path.parent.name.lower():
            waiting += match[2].lower() == "ct"
            invented += [path] if match[2].lower() == "seg" else []
        else:
            found[match[2].lower()].append((f"A{match[1][1:].lower()}", path))
    if waiting:
        survey.notes.append(f"{waiting} validation scans without public labels are ignored")
    if foreign:
        survey.notes.append(f"{len(foreign)} files of other names are ignored ({several(sorted(foreign))})")
    if invented:
        survey.problems.append(
            f"{invented[0]}: labels of the validation scans are not public, whose are these? ({len(invented)} files); "
            "move them out of the data root"
        )
    return found


def _is_second(path: Path) -> bool:
    return any(_SECOND.fullmatch(parent.name) for parent in path.absolute().parents)


def _mark(home: Path, marks: dict[Path, Path]) -> Path | None:
    """Return the file that accepts the first release, in a folder or in the one above it."""
    return marks.get(home) or marks.get(home.parent)
