"""One synthetic chest, from a seed to HU, lung labels and opacities."""

from dataclasses import dataclass, replace

import numpy as np

from ...common.seeds import derive
from .airways import draw_airways, draw_vessels
from .canvas import SUB, deformed_space
from .fields import tissue_texture
from .lung_anatomy import Chest, lay
from .lung_opacities import Burden, Nodule, Opacity, Painter, add_nodules
from .scanner import Scanner, add_noise, average_slices, blur
from .spec import SizePlan, Spec

LEFT, RIGHT, AIRWAY = 1, 2, 3
MIDDLE = slice(SUB // 2, None, SUB)


@dataclass(frozen=True, eq=False)
class ChestPatient:
    """A finished scan.

    Attributes:
        hu: int16, shape (z, y, x), LPS.
        labels: uint8: 1 left lung, 2 right lung, 3 trachea and main bronchi.
        vessels, airways: bool, mostly filled by a vessel or by the air of a bronchus inside the lungs; for tests.
        noise: the noise that was added, HU; for tests.
        nodules: what ``annotations.csv`` names, centres as an index z, y, x into the arrays.
    """

    hu: np.ndarray
    labels: np.ndarray
    lesion: np.ndarray
    vessels: np.ndarray
    airways: np.ndarray
    noise: np.ndarray
    spacing: tuple[float, float, float]
    scanner: Scanner
    opacities: list[Opacity]
    nodules: list[Nodule]


def make_chest(
    spec: Spec,
    plan: SizePlan,
    seed: int,
    *,
    style: str,
    number: int = 0,
    burden: Burden | None = None,
    nodules: bool = False,
) -> ChestPatient:
    """Make the patient of a seed in a scanner style; without a burden the lungs have no opacity.

    Every part of the patient has a generator of its own, so that one part never shifts the numbers of another. The
    patients of a set go through the orientations of their style in turn, by ``number``.
    """

    def stream(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "phantom", purpose))

    scanner = Scanner.draw(spec, style, stream("scanner"), plan.pixels, plan.spacing_mm)
    turns = spec.entry(f"styles.{style}.orientations")["choice"]
    scanner = replace(scanner, orientation=turns[number % len(turns)])
    spacing = (scanner.thickness, scanner.pixel, scanner.pixel)
    space = deformed_space(stream("shape"), plan.slices, plan.pixels, spacing)
    chest = Chest(space, spec, stream("organs"), scanner.enhancement)
    lungs = chest.paint()

    hu, inside = chest.hu, lungs.share
    texture = tissue_texture(
        stream("texture"),
        space.shape,
        (spacing[0] / SUB, *spacing[1:]),
        spec.draw(stream("grain"), "lung.fine_scale_mm"),
    )
    hu += np.float32(spec.draw(stream("graininess"), "lung.fine_sd")) * texture * inside
    vessels = draw_vessels(space, lungs, spec, stream("vessels")) * inside
    lay(hu, vessels, chest.blood)
    airways = draw_airways(space, lungs, spec, stream("airways"))
    wall = np.maximum(airways.outer * inside, airways.central)
    air = airways.lumen * np.maximum(inside, airways.central)
    lay(hu, wall, chest.values["airway_wall"])
    lay(hu, air, chest.values["lumen"])

    seen = blur(scanner, average_slices(inside)) >= scanner.label_level
    labels = np.where(lungs.left[MIDDLE], LEFT, RIGHT).astype(np.uint8) * seen
    labels[(airways.central[MIDDLE] >= 0.5) & ~seen] = AIRWAY

    painter = Painter(hu, space, lungs, air, seen, spec, stream("lesions"), spacing)
    opacities = [] if burden is None else painter.paint(burden)
    painted = add_nodules(hu, space, lungs, spec, stream("nodules")) if nodules else []
    first = [float(axis[place]) for axis, place in zip(space.axes, (SUB // 2, 0, 0), strict=True)]
    found = [
        replace(nodule, centre_mm=tuple((nodule.centre_mm[2 - k] - first[k]) / spacing[k] for k in range(3)))
        for nodule in painted
    ]

    clean = blur(scanner, average_slices(hu))
    outer = (chest.half[0] + chest.fat, chest.half[1] + chest.fat)
    noisy = add_noise(scanner, clean, stream("noise"), outer)
    noise = noisy - clean
    padding = spec.draw(stream("padding"), f"styles.{style}.padding")
    stored = np.clip(np.rint(noisy), -1024, 3071)
    if padding < -1024:
        stored[:, _outside_the_circle(plan.pixels)] = padding
    return ChestPatient(
        stored.astype(np.int16),
        labels,
        painter.truth,
        average_slices(vessels) >= 0.5,
        average_slices(air * inside) >= 0.5,
        noise,
        spacing,
        scanner,
        opacities,
        found,
    )


def _outside_the_circle(pixels: int) -> np.ndarray:
    axis = np.arange(pixels) - (pixels - 1) / 2
    return np.hypot(axis[:, None], axis[None]) > pixels / 2
