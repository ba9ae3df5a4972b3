"""MosMedData COVID19_1110: chest CT of 8 mm slices without and with signs of COVID-19, from the same hospitals."""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...common.errors import DataError, several
from ...common.seeds import derive
from ..case import Case, Truth, warning
from ..dataset import DatasetCard
from ..reading.side_tables import is_number, natural_key, read_table
from ..reading.volume_io import read_grid
from .laid_lungs import LaidLungsDataset
from .lung_folders import MIN_LESION_VOXELS, has_few_voxels
from .surveying import Survey, by_kind, unique

CATEGORIES = {
    "CT-0": range(1, 255),
    "CT-1": range(255, 939),
    "CT-2": range(939, 1064),
    "CT-3": range(1064, 1109),
    "CT-4": range(1109, 1111),
}
"""The studies of each category by their published numbers; CT-0 has no sign of viral pneumonia."""
MASKED = range(255, 305)
CONTROLS = 50
STEP_MM = (7.5, 8.5)
_SEED = 0

_STUDY = re.compile(r"study_(\d{4})(_mask)?\.nii(?:\.gz)?", re.IGNORECASE)
_REGISTRIES = ("dataset_registry.xlsx", "dataset_registry.csv")
_CITATION = (
    "Morozov et al., MosMedData: data set of 1110 chest CT scans performed during the COVID-19 epidemic, Digital "
    "Diagnostics 1, 2020, 49-59; arXiv:2005.06465"
)
_LAYOUT = (
    "[studies/]CT-0 to CT-4/study_NNNN.nii.gz, masks/study_NNNN_mask.nii.gz, optionally dataset_registry.xlsx or .csv"
)


@dataclass
class Release:
    """What lies below a folder: the studies of each category and the masks, by case id."""

    studies: dict[str, dict[str, Path]] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)


class COVID1110(LaidLungsDataset):
    """Base of the two sets that the release gives: every study is a patient, and no lungs are labelled."""

    folders = ("mosmed", "mosmeddata", "covid19_1110", "mosmed_covid19_1110", "mosmeddata-covid19_1110")
    pattern = r"study_\d{4}(_mask)?\.nii(\.gz)?|dataset_registry\.(xlsx|csv)"
    case_labels = frozenset({0, 1})

    def pair(self, files: list[Path], survey: Survey) -> Mapping[str, tuple[Path, Path | None]]:
        """Sort the studies of the release, refuse what contradicts it, and keep those of this set."""
        pairs = self.choose(_read_release(files, survey), survey)
        self.lay(pairs)
        return pairs

    @abstractmethod
    def choose(self, found: Release, survey: Survey) -> Mapping[str, tuple[Path, Path | None]]:
        """Return the scans of this set with their masks."""

    def load(self, case_id: str) -> Case:
        """Read scan and lungs.

        Raises:
            DataError: as :class:`..dataset.Dataset`; no value below 0 HU.
        """
        case = super().load(case_id)
        if (low := float(case.image.min())) >= 0:
            raise DataError(
                f"{self._ref(case_id).image}: no value below 0 HU (lowest {low:g}), so that the rescale intercept is "
                f"missing; use the published file, or leave it out with --exclude {self.card.name}:{case_id}"
            )
        if STEP_MM[0] <= case.spacing[0] <= STEP_MM[1]:
            return case
        note = warning(f"slices {case.spacing[0]:g} mm apart, 8 mm in the release: another conversion of the scan")
        return replace(case, notes=(*case.notes, note))


class MosMed(COVID1110):
    """Mild COVID-19 pneumonia (CT-1) with masks of ground glass and consolidation, and controls of CT-0 without any.

    Masks with fewer than 100 voxels are no cases, as in Yao et al. 2021: study_0287 of the release. The 50 controls are
    those of CT-0 with the smallest hash of seed and id, whatever else lies on disk; the partner set leaves them out.
    """

    card = DatasetCard(
        name="mosmed",
        title="MosMedData COVID19_1110: masked studies of CT-1, and controls of CT-0",
        anatomy="lung",
        role="lesion",
        licence="CC BY-NC-ND 3.0: not commercial, no derivatives; pass on neither scans nor maps that show them",
        citation=f"{_CITATION}. Only mild disease (CT-1, below a quarter of the lungs) has masks, 50 of 684 studies",
        obtain="mosmed.ai/datasets/covid19_1110, after registration",
        layout=_LAYOUT,
        roi_source="rois/mosmed > 0; without a mask there the lungs are segmented, the release labels none",
        partner="mosmed-healthy",
        reference="hu-opened",
        truth="voxel",
        finding="pneumonia",
    )
    lesion_labels = frozenset({1})
    counts_voxels = True

    def choose(self, found: Release, survey: Survey) -> Mapping[str, tuple[Path, Path | None]]:
        ill = found.studies["CT-1"]
        if missing := sorted(case for case in ill if int(case[-4:]) in MASKED and case not in found.masks):
            survey.problems.append(
                f"{ill[missing[0]]}: study without its mask (no masks/{missing[0]}_mask.nii.gz; {len(missing)} in all: "
                f"{several(missing)}); add the published masks, or move the studies out of the data root"
            )
        few = [case for case in found.masks if case in ill and has_few_voxels(found.masks[case], self.lesion_labels)]
        pairs = {case: (ill[case], mask) for case, mask in found.masks.items() if case in ill and case not in few}
        if few:
            (survey.notes if pairs else survey.problems).append(
                f"{len(few)} of {len(few) + len(pairs)} masked studies excluded by rule, fewer than "
                f"{MIN_LESION_VOXELS} lesion voxels: {several(sorted(few))} (study_0287 in the release)"
            )
        unused = Counter({name: len(found.studies[name]) for name in ("CT-1", "CT-2", "CT-3", "CT-4")})
        unused["CT-1"] -= len(pairs) + len(few) + len(missing)
        if counts := ", ".join(f"{count} of {name}" for name, count in unused.items() if count > 0):
            survey.notes.append(f"studies without masks are ignored, they are ill and have no voxel truth: {counts}")
        if not pairs:
            if found.studies["CT-0"] and not survey.problems:
                survey.absent = True
                survey.problems.append(
                    f"{next(iter(found.studies['CT-0'].values())).parent}: no study of CT-1 with a mask beside it; "
                    "add studies/CT-1 and masks of the release"
                )
            return {}
        return {**pairs, **{case: (path, None) for case, path in found.studies["CT-0"].items() if is_control(case)}}

    def load_truth(self, case_id: str) -> Truth:
        """Read the mask; a control has an empty one, because it was read as free of viral pneumonia."""
        ref = self._ref(case_id)
        if ref.label is not None:
            return super().load_truth(case_id)
        shape = read_grid(ref.image).lps_shape
        return Truth(case_id, np.zeros(shape, bool), np.zeros(shape[0], bool))


class MosMedHealthy(COVID1110):
    """Studies without signs of viral pneumonia (CT-0), but for the controls that `mosmed` tests."""

    card = DatasetCard(
        name="mosmed-healthy",
        title="MosMedData COVID19_1110: studies of CT-0",
        anatomy="lung",
        role="healthy",
        licence=MosMed.card.licence,
        citation=(
            f"{_CITATION}. Healthy is a convention here: CT-0 was read as normal lung without signs of viral "
            "pneumonia, from the images alone; nodules, emphysema and fibrosis are not excluded"
        ),
        obtain=MosMed.card.obtain,
        layout=_LAYOUT,
        roi_source="rois/mosmed-healthy > 0; without a mask there the lungs are segmented, the release labels none",
        truth="none",
    )

    def choose(self, found: Release, survey: Survey) -> Mapping[str, tuple[Path, Path | None]]:
        normal = found.studies["CT-0"]
        if held := [case for case in normal if is_control(case)]:
            survey.notes.append(f"{len(held)} of {len(normal)} studies of CT-0 are controls of mosmed: left out")
        return {case: (path, None) for case, path in normal.items() if not is_control(case)}


def controls() -> frozenset[str]:
    """Return the ids of the 50 studies of CT-0 that are tested and never trained on."""
    ranked = sorted(map(_case, CATEGORIES["CT-0"]), key=lambda case: (derive(_SEED, "mosmed", case), case))
    return frozenset(ranked[:CONTROLS])


def is_control(case: str) -> bool:
    """Whether a study of CT-0 is tested as free of lesions."""
    return case in _CONTROLS


def _case(number: int) -> str:
    return f"study_{number:04d}"


_CONTROLS = controls()


def _identify(path: Path) -> tuple[str, str] | None:
    if path.name.lower() in _REGISTRIES:
        return "registry", path.name
    match = _STUDY.fullmatch(path.name)
    if match is None:
        return None
    kind = "mask" if match[2] else path.parent.name.upper()
    return (kind, f"study_{match[1]}") if kind == "mask" or kind in CATEGORIES else None


def _read_release(files: Iterable[Path], survey: Survey) -> Release:
    """Sort files by category; problems are masks without studies, and studies in the wrong category."""
    named = by_kind(files, _identify)
    everything = unique((item for name in CATEGORIES for item in named[name]), survey)
    found = Release({name: {} for name in CATEGORIES}, unique(named["mask"], survey))
    said = _registered([path for _, path in named["registry"]], survey) if everything else {}
    for case in sorted(everything, key=natural_key):
        path = everything[case]
        category = path.parent.name.upper()
        found.studies[category][case] = path
        if int(case[-4:]) not in CATEGORIES[category]:
            right = next((name for name, numbers in CATEGORIES.items() if int(case[-4:]) in numbers), None)
            text = f"the release has it in {right}" if right else "the release ends at study_1110"
            survey.problems.append(f"{path}: {case} lies in {category}, {text}; use the published folders")
        elif said.get(case, category) != category:
            survey.problems.append(
                f"{path}: {case} lies in {category}, the registry says {said[case]}; use both of one release"
            )
    masks = sorted(found.masks, key=natural_key)
    if wrong := [case for case in masks if int(case[-4:]) not in MASKED]:
        survey.problems.append(
            f"{found.masks[wrong[0]]}: the release has masks of study_0255 to study_0304 alone, all in CT-1, and none "
            f"of {several(wrong)}; remove it"
        )
    elif bare := [case for case in masks if case not in everything]:
        survey.problems.append(
            f"{found.masks[bare[0]]}: mask without its study (no studies/CT-1/{bare[0]}.nii.gz; {len(bare)} in all); "
            "add the study, or move the mask out of the data root"
        )
    return found


def _registered(tables: list[Path], survey: Survey) -> dict[str, str]:
    """Return the category of each study by the registry, where it lies there; several have to say the same."""
    said: dict[str, str] = {}
    for table in tables:
        rows = read_table(table, ("study_id", "category"))
        if odd := [row["study_id"] for _, row in rows if not is_number(row["study_id"])]:
            survey.problems.append(f"{table}: study_id {odd[0]}, expected a number; use the published registry")
            return {}
        found = {_case(int(row["study_id"])): row["category"].upper() for _, row in rows}
        if said and found != said:
            raise DataError(
                f"the registry lies in versions that differ: {', '.join(map(str, tables))}; keep one of them"
            )
        said = found
    return said
