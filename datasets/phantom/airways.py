"""What branches inside the lungs: pulmonary arteries and veins, and the bronchi with their walls."""

from dataclasses import dataclass

import numpy as np

from .lung_anatomy import HILA, SIDES, Lungs
from .shapes import Point, Space
from .spec import Spec
from .vessels import Tree, filled_share, grow

CARINA: Point = (0.0, 16.0, 30.0)


@dataclass(frozen=True, eq=False)
class Airways:
    """Shares per sample: air inside the airways, airways with their walls, and the air of trachea and main bronchi."""

    lumen: np.ndarray
    outer: np.ndarray
    central: np.ndarray


def draw_vessels(space: Space, lungs: Lungs, spec: Spec, rng: np.random.Generator) -> np.ndarray:
    """Return the share of pulmonary vessel in every sample; vessels end a few millimetres before the pleura."""
    share = np.zeros(space.shape, np.float32)
    pleura = spec.draw(rng, "vessels.pleura_mm")
    common = {
        "leaf_radius": spec.draw(rng, "vessels.leaf_radius_mm"),
        "exponent": spec.draw(rng, "vessels.murray_exponent"),
    }
    for side, sign in SIDES.items():
        hilum = np.asarray(HILA[side])
        for kind, shift, back in (("arteries", 4.0, (10, -14, 14)), ("veins", -14.0, (0, 8, -22))):
            root = hilum + np.asarray([0, 0, shift])
            tree = grow(
                rng,
                [(sign * abs(back[0]), back[1], back[2]), tuple(root)],
                _lobes(root, sign),
                _ends(space, lungs, rng, sign, spec.draw(rng, f"vessels.{kind}"), pleura),
                root_radius=spec.draw(rng, "vessels.root_radius_mm"),
                **common,
            )
            np.maximum(share, filled_share(space, tree), out=share)
    return share


def draw_airways(space: Space, lungs: Lungs, spec: Spec, rng: np.random.Generator) -> Airways:
    """Return trachea, main bronchi and the bronchial tree of each lung, with walls that thin out with the lumen."""
    trachea = spec.draw(rng, "airways.trachea_radius_mm")
    root = spec.draw(rng, "airways.root_radius_mm")
    pieces = [_pipe([(0.0, 8.0, 200.0), (0.0, 13.0, 80.0), CARINA], trachea)]
    central = [*pieces]
    for side, sign in SIDES.items():
        hilum = np.asarray(HILA[side]) + np.asarray([0, 4, 4])
        tree = grow(
            rng,
            [CARINA, tuple(hilum)],
            _lobes(hilum, sign),
            _ends(space, lungs, rng, sign, spec.draw(rng, "airways.leaves"), spec.draw(rng, "airways.depth_mm")),
            root_radius=root,
            leaf_radius=spec.draw(rng, "airways.leaf_radius_mm"),
            exponent=spec.draw(rng, "airways.murray_exponent"),
        )
        pieces.append(tree)
        central.append(_pipe([CARINA, tuple(hilum)], root))
    inside = _join(pieces)
    walls = inside.radius * spec.draw(rng, "airways.wall_share") + spec.draw(rng, "airways.wall_mm")
    outside = Tree(inside.start, inside.stop, inside.radius + walls)
    return Airways(filled_share(space, inside), filled_share(space, outside), filled_share(space, _join(central)))


def _lobes(hilum: np.ndarray, sign: float) -> list[Point]:
    """Return where the first branches go: upper, middle and lower lobe."""
    ways = np.asarray([(20.0 * sign, -4.0, 42.0), (26.0 * sign, -32.0, -14.0), (18.0 * sign, 30.0, -34.0)])
    return [tuple(point) for point in hilum + ways]


def _ends(space: Space, lungs: Lungs, rng: np.random.Generator, sign: float, count: int, depth: float) -> np.ndarray:
    """Draw end points in one lung, anatomical x, y, z in mm, at least ``depth`` mm below the pleura."""
    inside = np.nonzero((lungs.distance < -depth) & (lungs.left == (sign > 0)))
    picked = rng.integers(len(inside[0]), size=count)
    z, y, x = (coordinate[tuple(part[picked] for part in inside)] for coordinate in space.warped)
    return np.stack([x, y, z], 1).astype(float)


def _pipe(path: list[Point], radius: float) -> Tree:
    points = np.asarray(path, float)
    return Tree(points[:-1], points[1:], np.full(len(points) - 1, radius))


def _join(trees: list[Tree]) -> Tree:
    return Tree(*(np.concatenate([getattr(tree, name) for tree in trees]) for name in ("start", "stop", "radius")))
