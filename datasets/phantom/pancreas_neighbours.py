"""What lies against the pancreas: antrum and duodenum around its head, and the vessels behind it."""

import numpy as np

from .canvas import Canvas
from .liver_anatomy import LABELS
from .pancreas_anatomy import Axis, Surroundings
from .spec import Spec
from .vessels import Tree, occupy

ANTRUM = ((44.0, -42.0, -10.0), (24.0, -42.0, -20.0), (6.0, -36.0, -25.0), (-12.0, -25.0, -24.0))
DUODENUM = (
    (-18.0, -20.0, -23.0),
    (-34.0, -7.0, -26.0),
    (-42.0, 7.0, -40.0),
    (-43.0, 11.0, -60.0),
    (-38.0, 15.0, -80.0),
    (-20.0, 17.0, -92.0),
    (4.0, 15.0, -95.0),
    (27.0, 12.0, -86.0),
    (38.0, 3.0, -68.0),
)
MESENTERIC_VEIN = ((8.0, -6.0, -112.0), (7.0, 2.0, -76.0), (5.0, 7.0, -52.0), (4.0, 9.0, -36.0))
PORTAL = ((4.0, 9.0, -36.0), (-4.0, 10.0, -22.0), (-16.0, 6.0, -6.0))
MESENTERIC_ARTERY = ((16.0, 27.0, -34.0), (15.0, 14.0, -46.0), (14.0, 7.0, -74.0), (15.0, -2.0, -112.0))
HILUM_OF_SPLEEN = (80.0, 25.0, 1.0)
FROM_NECK = 0.5


def paint_gut(canvas: Canvas, spec: Spec, rng: np.random.Generator, body: Surroundings) -> None:
    """Paint the antrum and the duodenal loop: fat, wall, content, and some gas in the antrum and the bulb."""
    shift = rng.normal(0, 2.0, 3).clip(-4, 4)
    for path, label, name in ((ANTRUM, LABELS["stomach"], "antrum_radius_mm"), (DUODENUM, 0, "duodenum_radius_mm")):
        points = np.array(path) + shift + rng.normal(0, 1.2, (len(path), 3))
        radius = spec.draw(rng, f"gut.{name}") * np.exp(0.10 * rng.standard_normal(len(path) - 1).clip(-2, 2))
        wall, content = body.hu["stomach_wall"], spec.draw(rng, "gut.content")
        _tube(canvas, points, radius + 2.0, body.hu["fat"])
        _tube(canvas, points, radius, wall, label)
        _tube(canvas, points, radius - spec.draw(rng, "gut.wall_mm"), content, label)
        if rng.random() < spec.draw(rng, "gut.gas_share"):
            up = points[:3] - np.array((0.0, 0.45 * radius[0], 0.0))
            _tube(canvas, up, 0.35 * radius[:2], body.hu["air"], label)


def paint_vessels(
    canvas: Canvas, spec: Spec, rng: np.random.Generator, body: Surroundings, axis: Axis, portal: float
) -> None:
    """Paint the superior mesenteric vessels, the portal vein behind the neck, and the splenic vein along the back.

    ``portal`` is the HU of the blood in the veins.
    """
    artery = np.array(MESENTERIC_ARTERY) + rng.normal(0, 1.0, 3)
    size = spec.draw(rng, "vessels.mesenteric_artery_radius_mm")
    _tube(canvas, artery, np.full(len(artery) - 1, size + 3.5), body.hu["fat"])
    _tube(canvas, artery, np.full(len(artery) - 1, size), body.hu["aorta"])
    neck = axis.at(FROM_NECK)
    move = np.array((neck[0] - 2.0, neck[1] + 6.0, neck[2] + 33.0))  # both veins go with the neck, which lies on them
    for path, name in ((MESENTERIC_VEIN, "mesenteric_vein_radius_mm"), (PORTAL, "portal_radius_mm")):
        points = np.array(path) + move
        _tube(canvas, points, np.full(len(path) - 1, spec.draw(rng, f"vessels.{name}")), portal, LABELS["portal vein"])
    size = spec.draw(rng, "vessels.splenic_vein_radius_mm")
    own = np.flatnonzero(axis.share >= FROM_NECK)[::4]
    back = axis.points[own] + np.column_stack([0 * own, axis.radius[own] + 0.6 * size, 0 * own + 1.0])
    points = np.vstack([np.array(PORTAL[0]) + move, back, HILUM_OF_SPLEEN])
    _tube(canvas, points, np.full(len(points) - 1, size), portal, LABELS["portal vein"])


def _tube(canvas: Canvas, points: np.ndarray, radius: np.ndarray, hu: float, label: int = 0) -> None:
    share, _ = occupy(canvas.space, Tree(points[:-1], points[1:], radius))
    canvas.paint((slice(0, canvas.space.shape[0]), slice(None), slice(None)), share, hu, label)
