"""Medical Segmentation Decathlon: one reader for its CT tasks with lesions, which differ in their labels and organ."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...common.errors import brief, several, shortened
from ...common.json_files import read_json
from ..dataset import DatasetCard
from ..reading.orientation import flips_from_liver
from ..reading.side_tables import natural_key
from .laid import LaidOrganDataset
from .laid_lungs import LaidLungsDataset
from .nifti_pair import NiftiPairDataset, match_labels
from .surveying import Survey, by_kind, unique

INDEX = "dataset.json"
NAMED = 5
_FOLDERS = {"imagestr": "image", "labelstr": "label", "imagests": "test"}


@dataclass(frozen=True)
class Task:
    """A task of the Decathlon; ``file`` begins its file names, ``labels`` are the names that its index gives them."""

    number: int
    name: str
    file: str
    labels: Mapping[int, str]

    @property
    def title(self) -> str:
        return f"Task{self.number:02d}_{self.name}"

    @property
    def folders(self) -> tuple[str, ...]:
        """The names of its folder, in lower case: as published, and as nnU-Net writes it."""
        name = self.name.lower()
        return f"task{self.number:02d}_{name}", f"task{self.number:03d}_{name}", f"dataset{self.number:03d}_{name}"


class DecathlonDataset(NiftiPairDataset):
    """Base of an adapter for one task: imagesTr beside labelsTr, with the ``dataset.json`` that says what they are."""

    task: ClassVar[Task]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.folders = (*cls.task.folders, cls.card.name, "msd", "decathlon", "medicalsegmentationdecathlon")
        cls.case_labels = frozenset({0, *cls.task.labels})

    def search(self, root: Path, files: list[Path], survey: Survey) -> None:
        super().search(root, files, survey)
        if survey.absent and (others := _foreign_tasks(files)):
            survey.problems[-1] += f". Found {'; '.join(others)}: the sets of the Decathlon here are 3D CT"

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair imagesTr with labelsTr; scans of imagesTs have no public labels."""
        found = by_kind(files, self._identify)
        if tests := found["test"]:
            survey.notes.append(f"{len(tests)} test scans without public labels are ignored")
        for _, path in found["channel"]:
            survey.problems.append(
                f"{path}: a second channel; {self.task.title} is CT with channel _0000 alone, remove the file or use "
                "the published task"
            )
        images, labels = unique(found["image"], survey), unique(found["label"], survey)
        homes: dict[Path, list[str]] = {}
        for case, path in images.items():
            homes.setdefault(path.parents[1], []).append(case)
        sound = [self._check(home, cases, survey) for home, cases in homes.items()]
        if not all(sound):
            return {}
        return match_labels(images, labels, f"labelsTr/{self.task.file}_{{}}.nii.gz", survey)

    def _identify(self, path: Path) -> tuple[str, str] | None:
        match = re.fullmatch(rf"{self.task.file}_(\d+)(?:_(\d{{4}}))?\.nii(?:\.gz)?", path.name, re.IGNORECASE)
        kind = _FOLDERS.get(path.parent.name.lower())
        if match is None or kind is None:
            return None
        if match[2] not in (None, "0000"):
            kind = "channel"
        return kind, f"{self.task.file}_{match[1]}"

    def _check(self, home: Path, cases: Iterable[str], survey: Survey) -> bool:
        """Compare a folder with its index, and tell whether the labels mean what this task calls them."""
        path, task = home / INDEX, self.task
        if not path.is_file():
            if home.name.lower() in task.folders:
                survey.notes.append(f"{home}: no {INDEX}; the labels are taken for those of {task.title}")
                return True
            survey.problems.append(
                f"{home}: no {INDEX}, and the folder is not named {task.title}; unpack the published tar again, or "
                "name the folder so"
            )
            return False
        index, problem = _read_index(path)
        if index is None:
            survey.problems.append(problem)
            return False
        if foreign := _foreign(index):
            survey.problems.append(f"{path}: {foreign}; {task.title} is 3D CT, use the published task")
            return False
        if (names := _label_names(index)) != {value: name.lower() for value, name in task.labels.items()}:
            found, wanted = (
                shortened(", ".join(f"{k} {v}" for k, v in sorted(d.items())), 120) for d in (names, task.labels)
            )
            survey.problems.append(
                f"{path}: labels {found or 'none'}; those of {task.title} are {wanted}. What a label means depends on "
                "the task: use its published files"
            )
            return False
        self._compare(path, index, set(cases), survey)
        return True

    def _compare(self, path: Path, index: Mapping[str, Any], cases: set[str], survey: Survey) -> None:
        """Compare the cases on disk with those that the index lists; nnU-Net's lists none."""
        entries = index.get("training")
        if not isinstance(entries, list) or not entries:
            return
        named = {case for entry in entries if (case := self._listed(entry)) is not None}
        if unlisted := sorted(cases - named, key=natural_key):
            survey.problems.append(
                f"{path}: does not list {several(unlisted)} under training; use the published folder, or list them"
            )
        if gone := sorted(named - cases, key=natural_key):
            survey.notes.append(f"{path}: {len(gone)} of {len(named)} listed scans are not there: {several(gone)}")

    def _listed(self, entry: Any) -> str | None:
        name = entry.get("image") if isinstance(entry, dict) else entry
        match = re.search(rf"({self.task.file}_\d+)(?:_0000)?\.nii", name) if isinstance(name, str) else None
        return match[1] if match else None


def _read_index(path: Path) -> tuple[dict[str, Any] | None, str]:
    try:
        index = read_json(path)
    except (OSError, ValueError) as error:
        return None, f"{path}: cannot be read as JSON ({brief(error, 120)}); unpack the published tar again"
    return (
        (index, "") if isinstance(index, dict) else (None, f"{path}: holds no object; unpack the published tar again")
    )


def _foreign(index: Mapping[str, Any]) -> str:
    """Return what a task is that is no 3D CT, or nothing."""
    channels = index.get("modality", index.get("channel_names"))
    kinds = [str(kind) for kind in channels.values()] if isinstance(channels, dict) else [str(channels)]
    size = str(index.get("tensorImageSize", "3D"))
    if [kind.upper() for kind in kinds] == ["CT"] and size.upper() == "3D":
        return ""
    return shortened(f"modality {', '.join(kinds)}, images of {size}", 120)


def _foreign_tasks(files: Iterable[Path]) -> list[str]:
    """Return the tasks below a folder that are MR or 4D, with what they are."""
    homes = {path.parents[1] for path in files if path.parent.name.lower() == "imagestr"}
    found = []
    for home in sorted(homes):
        index, _ = _read_index(home / INDEX)
        if index is not None and (foreign := _foreign(index)):
            found.append(f"{home.name} ({foreign})")
    return found[:NAMED]


def _label_names(index: Mapping[str, Any]) -> dict[int, str]:
    """Return the names of labels above 0 in lower case, of value → name as published or name → value as nnU-Net's."""
    labels = index.get("labels")
    pairs = labels.items() if isinstance(labels, dict) else ()
    turned = [(str(v), str(k)) if isinstance(v, int) else (str(k), str(v)) for k, v in pairs]
    return {
        int(value): name.strip().lower()
        for value, name in turned
        if value.isdecimal() and len(value) < 4 and int(value)
    }


_CITATION = (
    "Simpson et al., A large annotated medical image dataset for the development and evaluation of segmentation "
    "algorithms, arXiv:1902.09063, 2019; Antonelli et al., The Medical Segmentation Decathlon, Nature Communications "
    "13, 2022, 4128"
)
_PANCREAS = Task(7, "Pancreas", "pancreas", {1: "pancreas", 2: "cancer"})
_LUNG = Task(6, "Lung", "lung", {1: "cancer"})
_VESSELS = Task(8, "HepaticVessel", "hepaticvessel", {1: "Vessel", 2: "Tumour"})
_COLON = Task(10, "Colon", "colon", {1: "colon cancer primaries"})


def _card(task: Task, masks: str = ", and rois/{}/{}_NNN.nii.gz for the organ", **about: Any) -> DatasetCard:
    return DatasetCard(
        role="lesion",
        licence="CC BY-SA 4.0",
        obtain=f"download and unpack {task.title}.tar from medicaldecathlon.com",
        layout=(
            f"{task.title}/ with dataset.json, imagesTr/{task.file}_NNN.nii.gz and labelsTr/ of the same names, or "
            f"nnU-Net's Dataset{task.number:03d}_{task.name}/ with imagesTr/{task.file}_NNN_0000.nii.gz"
            + masks.format(about["name"], task.file)
        ),
        truth="voxel",
        finding="tumour",
        **about,
    )


class MSDPancreas(DecathlonDataset):
    """Portal-venous CT before resection of a pancreatic mass: pancreas (1) and mass (2), tumour or cyst."""

    task = _PANCREAS
    card = _card(
        _PANCREAS,
        masks="",
        name="msd-pancreas",
        title="Medical Segmentation Decathlon, task 7: pancreas",
        anatomy="pancreas",
        citation=f"{_CITATION}. Label 2 is any mass, cysts too",
        roi_source="label >= 1 (pancreas or mass)",
        partner="pancreas-ct",
        reference="hu-deviation",
    )
    roi_labels = frozenset({1, 2})
    lesion_labels = frozenset({2})


class MSDLung(DecathlonDataset, LaidLungsDataset):
    """Chest CT of patients with lung cancer, of which the tumour alone is labelled."""

    task = _LUNG
    card = _card(
        _LUNG,
        masks=", and rois/{}/{}_NNN.nii.gz for the organ where you have masks",
        name="msd-lung",
        title="Medical Segmentation Decathlon, task 6: lung",
        anatomy="lung",
        citation=f"{_CITATION}. The release labels no lungs",
        roi_source="rois/msd-lung > 0; without a mask there the lungs are segmented",
        partner="luna16",
        reference="hu-opened",
    )
    lesion_labels = frozenset({1})

    def pair(self, files: list[Path], survey: Survey) -> dict[str, tuple[Path, Path]]:
        """Pair imagesTr with labelsTr, and both with the lung masks that a user laid beside the data."""
        pairs = super().pair(files, survey)
        self.lay(pairs)
        return pairs


class MSDVessels(DecathlonDataset, LaidOrganDataset):
    """CT of patients with liver tumours (2); of the vessels (1) too few are labelled to be of use."""

    task = _VESSELS
    card = _card(
        _VESSELS,
        name="msd-vessels",
        title="Medical Segmentation Decathlon, task 8: hepatic vessels, its liver tumours",
        anatomy="liver",
        citation=f"{_CITATION}. The release labels no livers, and the vessels (1) are neither region nor truth here",
        roi_source="masks in rois/msd-vessels; the release labels no livers",
        partner="btcv",
        reference="hu-deviation",
    )
    lesion_labels = frozenset({2})
    find_flips = staticmethod(flips_from_liver)
    tools = "TotalSegmentator (--roi_subset liver) or an nnU-Net makes them"


class MSDColon(DecathlonDataset, LaidOrganDataset):
    """CT of patients with colon cancer, of which the primary tumour alone is labelled."""

    task = _COLON
    card = _card(
        _COLON,
        name="msd-colon",
        title="Medical Segmentation Decathlon, task 10: colon",
        anatomy="colon",
        citation=f"{_CITATION}. The release labels no colon, and no set here shows healthy ones",
        roi_source="masks in rois/msd-colon; the release labels no colon",
        reference="hu-deviation",
    )
    lesion_labels = frozenset({1})
    tools = "TotalSegmentator (--roi_subset colon) makes them"
