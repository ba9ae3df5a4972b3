"""nnU-Net, the self-configuring supervised top line, through its own package."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ...common.boxes import bounding_box
from ...datasets.case import Case
from ..card import MethodCard, same
from ..config import Config
from ..context import FitContext
from ..method import SupervisedMethod
from ..state import load_state
from .parts.nnunet_layout import DATASET, organ_image, write_raw, write_split

if TYPE_CHECKING:
    import torch

    from ...datasets.labelled import LabelledSet

EXTRA = "uasbench[nnunet]"
LESION = 1
_SCORE = {"stage": "score"}


@dataclass(frozen=True)
class NNUNetConfig(Config):
    """Settings of :class:`NNUNet`; what is not here, the package configures from the data.

    Attributes:
        planner, trainer: names of nnU-Net's classes, such as ``nnUNetTrainer_100epochs`` and ``nnUNetTrainerAdam1en3``.
        configuration: ``3d_fullres`` or ``2d``.
        epochs: None is the trainer's own number.
        iterations: updates per epoch.
        validation_iterations: batches per epoch of one training patient, for a curve.
        memory_gb: GPU memory that patch and batch are planned for; None is the planner's own.
        masked: set HU outside the region of interest to −1024.
        margin: voxels by which the crop exceeds the bounding box of the region of interest.
        processes: workers for preprocessing.
        augmenters: workers for augmentation; with more than 0 their order, and so the result, is not reproducible.
        mirror: average over mirrored copies at test.
        step: step of the sliding window as a share of the patch.
    """

    planner: str = "ExperimentPlanner"
    trainer: str = "nnUNetTrainer"
    configuration: Literal["3d_fullres", "2d"] = "3d_fullres"
    epochs: int | None = None
    iterations: int = 250
    validation_iterations: int = 50
    memory_gb: float | None = None
    masked: bool = True
    margin: int = 0
    processes: int = 8
    augmenters: int = 12
    mirror: bool = field(default=True, metadata=_SCORE)
    step: float = field(default=0.5, metadata=_SCORE)

    profiles: ClassVar = {
        "smoke": {
            "configuration": "2d",
            "epochs": 1,
            "iterations": 2,
            "validation_iterations": 1,
            "memory_gb": 0.5,
            "processes": 1,
            "augmenters": 0,
            "mirror": False,
        },
        "quick": {
            "trainer": "nnUNetTrainerAdam1en3",
            "configuration": "2d",
            "epochs": 3,
            "iterations": 16,
            "validation_iterations": 1,
            "memory_gb": 0.2,
            "processes": 1,
            "augmenters": 0,
            "mirror": False,
        },
        "standard": {
            "configuration": "2d",
            "epochs": 16,
            "iterations": 50,
            "validation_iterations": 2,
            "memory_gb": 0.2,
            "processes": 1,
            "augmenters": 0,
        },
    }


class NNUNet(SupervisedMethod):
    """Trains nnU-Net on crops to the organ, one model per fold of the test set's patients.

    Attributes:
        plans, dataset: nnU-Net's plans and description of the data set, JSON.
        mirror_axes: spatial axes that may be mirrored at test.
        updates: optimiser updates done.
    """

    card = MethodCard(
        name="nnunet",
        title="nnU-Net",
        year=2021,
        supervision="full",
        family="supervised",
        citation="Isensee et al.: nnU-Net: a self-configuring method for deep learning-based biomedical image "
        "segmentation, Nature Methods 18, 2021",
        reference="doi:10.1038/s41592-020-01008-z",
        uses="labels",
        figures=(
            ("input", "planned from the data", "planned from the data, cropped to the organ"),
            same("network", "planned from the data"),
            same("loss", "Dice + cross-entropy, deep supervision"),
            same("optimiser", "SGD 0.01, Nesterov 0.99, decay 3·10⁻⁵, polynomial"),
            same("length", "1,000 epochs of 250 updates"),
        ),
        notes="A top line. The package's second version stands in for the first. Within a fold of the run it trains "
        "one model on all training patients; the curve training_patient is the loss on one of them, not on held-out "
        "data. The last weights are scored, as the probability of lesion. It sees the crop to the region of interest, "
        "the rest set to −1024 HU. Precision, compilation and augmentation are its own; on a GPU its results vary a "
        "little.",
    )
    Config = NNUNetConfig
    needs = ("nnunetv2",)
    native_threshold = 0.5

    def skip(self) -> str | None:
        return None if find_spec("nnunetv2") else f"the package nnunetv2 is not installed; install {EXTRA}"

    def build(self) -> None:
        """Wait: nnU-Net plans its network from the training cases."""
        self.updates = 0

    def fit(self, labelled: LabelledSet, ctx: FitContext) -> None:
        """Write the cases as a data set of nnU-Net into a temporary folder, train there, keep weights and plans.

        Raises:
            DataError: the cases show no lesion.
            TrainingError: nnU-Net stopped with an error.
        """
        import torch

        from .parts.nnunet_process import train_apart

        c = self.config
        with tempfile.TemporaryDirectory(prefix="uasbench-nnunet-") as scratch:
            folder = Path(scratch)
            patients = write_raw(folder / "raw" / DATASET, labelled, margin=c.margin, masked=c.masked)
            write_split(folder / "preprocessed" / DATASET, patients)
            job = SimpleNamespace(
                **asdict(c),
                limit=ctx.max_updates,
                seed=ctx.seed_for("nnunet"),
                device=ctx.device,
                threads=torch.get_num_threads(),
            )

            def on_epoch(report: dict[str, Any]) -> None:
                self.updates = report["done"]
                ctx.log(report["done"] - 1, loss=report["train"], training_patient=report["training_patient"])
                ctx.progress(report["done"], report["total"])

            trained = train_apart(folder, job, on_epoch)
        self.plans, self.dataset, self.mirror_axes = (trained[key] for key in ("plans", "dataset", "mirror_axes"))
        self.net = self._network()
        self.net.load_state_dict(trained["weights"])
        self.net.to(self.device)

    def score(self, case: Case) -> np.ndarray:
        """Return the probability of lesion, averaged over overlapping patches; 0 outside the region of interest."""
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # pyright: ignore[reportMissingImports]

        c = self.config
        out = np.zeros(case.image.shape, np.float32)
        if not case.roi.any():
            return out
        box = bounding_box(case.roi, c.margin)
        predictor = nnUNetPredictor(
            tile_step_size=c.step,
            use_mirroring=c.mirror,
            perform_everything_on_device=self.device.startswith("cuda"),
            device=torch.device(self.device),
            allow_tqdm=False,
        )
        plans, configuration, dataset = self._plans()
        predictor.manual_initialization(
            self.net, plans, configuration, [self.net.state_dict()], dataset, c.trainer, self.mirror_axes or None
        )
        image = organ_image(case, box, masked=c.masked)[None]
        _, probability = predictor.predict_single_npy_array(
            image, {"spacing": list(case.spacing)}, save_or_return_probabilities=True
        )
        out[box] = np.where(case.roi[box], probability[LESION], 0)
        return out

    def load(self, path: Path) -> None:
        """Read a state: the plans first, because they say what the network is."""
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)
        self.plans, self.dataset = state["plans"][1], state["dataset"][1]
        self.net = self._network()
        load_state(self, path)

    def _plans(self) -> tuple[Any, Any, dict[str, Any]]:
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # pyright: ignore[reportMissingImports]

        plans = PlansManager(json.loads(self.plans))
        return plans, plans.get_configuration(self.config.configuration), json.loads(self.dataset)

    def _network(self) -> torch.nn.Module:
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name  # pyright: ignore[reportMissingImports]

        plans, configuration, dataset = self._plans()
        heads = plans.get_label_manager(dataset).num_segmentation_heads
        trainer = recursive_find_trainer_class_by_name(self.config.trainer)
        return trainer.build_network_architecture(
            plans, configuration, len(dataset["channel_names"]), heads, enable_deep_supervision=False
        )


class NNUNetUnseen(NNUNet):
    """Trains nnU-Net on all lesion sets of the organ but the one that it is tested on."""

    card = MethodCard(
        name="nnunet-unseen",
        title="nnU-Net-Unseen",
        year=2021,
        supervision="full",
        family="supervised",
        citation=NNUNet.card.citation,
        reference=NNUNet.card.reference,
        uses="labels",
        figures=NNUNet.card.figures,
        notes="As nnunet, trained on the other lesion sets of the organ in the data root and never on a case of the "
        "tested set. The paper trains on two sets and does not name the third; how many there were is in the record.",
    )
    training: ClassVar[Literal["cross-fit", "unseen"]] = "unseen"
