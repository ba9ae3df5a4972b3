"""One synthetic patient, from a seed to HU, organ labels and lesions."""

from dataclasses import dataclass

import numpy as np

from ...common.seeds import derive
from .canvas import SUB, Canvas, deformed_space
from .fields import smooth_field, tissue_texture
from .liver_anatomy import LABELS, Body, Liver
from .liver_tumours import Lesion, Strata, add_tumours, draw_count
from .scanner import Scanner, add_noise, average_slices, blur
from .spec import SizePlan, Spec
from .vessels import grow, occupy


@dataclass(frozen=True, eq=False)
class Patient:
    """A finished scan.

    Attributes:
        hu: int16, shape (z, y, x), LPS.
        labels: uint8, BTCV organ numbers.
        vessels: bool, voxels mostly filled by a portal or hepatic branch; for tests.
        noise: the noise that was added, HU; for tests.
    """

    hu: np.ndarray
    labels: np.ndarray
    tumour: np.ndarray
    vessels: np.ndarray
    noise: np.ndarray
    spacing: tuple[float, float, float]
    scanner: Scanner
    lesions: list[Lesion]


def make_patient(spec: Spec, plan: SizePlan, seed: int, *, style: str, index: Strata | None = None) -> Patient:
    """Make the patient of a seed in a scanner style; without strata of a first tumour the liver has none.

    Every part of the patient has a generator of its own, so that one part never shifts the numbers of another.
    """

    def stream(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "phantom", purpose))

    scanner = Scanner.draw(spec, style, stream("scanner"), plan.pixels, plan.spacing_mm)
    spacing = (scanner.thickness, scanner.pixel, scanner.pixel)
    space = deformed_space(stream("shape"), plan.slices, plan.pixels, spacing)
    canvas = Canvas(space, spec.entry("hu.air")["value"])
    body = Body(canvas, spec, stream("organs"), scanner.enhancement)
    liver = body.paint()
    vessels = _parenchyma(canvas, liver, spec, stream("vessels"), scanner.enhancement)

    # Voxels that look partly like something else are no liver to the annotator.
    seen = blur(scanner, average_slices(canvas.liver))
    canvas.labels[(canvas.labels == LABELS["liver"]) & (seen < scanner.label_level)] = 0
    truth, lesions = np.zeros(canvas.labels.shape, bool), []
    if index is not None:
        rng = stream("tumours")
        truth, lesions = add_tumours(canvas, liver, spec, rng, draw_count(spec, rng), index, spacing)

    clean = blur(scanner, average_slices(canvas.hu))
    clean += _texture(canvas, clean, spec, stream("texture"), spacing)
    outer = (body.half[0] + body.fat, body.half[1] + body.fat)
    noisy = add_noise(scanner, clean, stream("noise"), outer)
    hu = np.clip(np.rint(noisy), -1024, 3071).astype(np.int16)
    inside = canvas.labels == LABELS["liver"]
    return Patient(
        hu, canvas.labels, truth & inside, average_slices(vessels) >= 0.5, noisy - clean, spacing, scanner, lesions
    )


def _parenchyma(canvas: Canvas, liver: Liver, spec: Spec, rng: np.random.Generator, enhancement: float) -> np.ndarray:
    """Paint slow variation, periportal halo and both vessel trees into the liver; return the vessels' occupancy."""
    space, box = canvas.space, liver.box
    share, hu = canvas.liver[box], canvas.hu[box]
    axes = tuple(axis[part] for axis, part in zip(space.axes, box, strict=True))
    coarse = smooth_field(rng, (axes[0], axes[1], axes[2]), spec.draw(rng, "texture.liver_coarse_scale_mm"))
    coarse *= np.float32(spec.draw(rng, "texture.liver_coarse_sd"))
    depth = np.clip(-liver.distance / np.float32(45), 0, 1)
    coarse -= np.float32(spec.draw(rng, "texture.centre_drop")) * depth

    inside = np.nonzero(liver.distance < -6)
    x, y, z = (coordinate[inside] for coordinate in space.at(box))
    cloud = np.stack([x, y, z], 1).astype(float)

    def ends(name: str) -> np.ndarray:
        return cloud[rng.integers(len(cloud), size=spec.entry(f"vessels.{name}")["value"])]

    common = {
        "leaf_radius": spec.draw(rng, "vessels.leaf_radius_mm"),
        "exponent": spec.draw(rng, "vessels.murray_exponent"),
    }
    portal = grow(
        rng,
        [(12, 14, -46), (2, 8, -32), (-14, 4, -18)],
        [(-46, 4, -10), (4, -26, 8)],
        ends("portal_leaves"),
        root_radius=spec.draw(rng, "vessels.portal_root_radius_mm"),
        **common,
    )
    hepatic = grow(
        rng,
        [(-24, 30, 58), (-24, 22, 50)],
        [(-66, 14, 34), (-36, -18, 32), (4, -22, 36)],
        ends("hepatic_leaves"),
        root_radius=spec.draw(rng, "vessels.hepatic_root_radius_mm"),
        **common,
    )
    halo, drop = spec.draw(rng, "texture.periportal_width_mm"), spec.draw(rng, "texture.periportal_drop")
    if rng.random() >= spec.draw(rng, "texture.periportal_probability"):
        drop = 0.0
    portal_share, sheath = occupy(space, portal, sheath=halo)
    everywhere = {"portal": portal_share, "hepatic": occupy(space, hepatic)[0]}
    hu += (coarse - np.float32(drop) * sheath[box]) * share
    above = {
        "portal": spec.draw(rng, "hu.portal_above_liver"),
        "hepatic": spec.draw(rng, "hu.hepatic_vein_above_liver"),
    }
    for name, vessel in everywhere.items():
        value = np.float32(liver.hu + enhancement * above[name])
        hu += vessel[box] * share * (value - hu)
    # BTCV labels the part of the portal vein that lies outside the liver as an organ of its own.
    outside = everywhere["portal"] * (1 - canvas.liver)
    canvas.hu += outside * (np.float32(liver.hu + enhancement * above["portal"]) - canvas.hu)
    canvas.labels[outside[SUB // 2 :: SUB] >= 0.5] = LABELS["portal vein"]
    return np.maximum(everywhere["portal"], everywhere["hepatic"]) * canvas.liver


def _texture(
    canvas: Canvas, clean: np.ndarray, spec: Spec, rng: np.random.Generator, spacing: tuple[float, float, float]
) -> np.ndarray:
    """Return the fine texture of the parenchyma, and the coarser one of the other tissues."""
    liver = average_slices(canvas.liver)
    shape = (clean.shape[0], clean.shape[1], clean.shape[2])
    fine = tissue_texture(rng, shape, spacing, spec.draw(rng, "texture.liver_fine_scale_mm"))
    other = fine[::-1, ::-1, ::-1]
    tissue = (clean > -400) * (1 - liver)
    sd = np.float32(spec.draw(rng, "texture.liver_fine_sd"))
    return sd * fine * liver + np.float32(spec.draw(rng, "texture.tissue_sd")) * other * tissue
