"""A thresholded map, part by part replaced by what SAM sees there: a pure function of scan, map and threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..scoring.lesions import Components
from .prompts import MarkedSlice, Prompt, prompts

LEAST_IOU = 0.7
MOST_TIMES = 4


class Predictor(Protocol):
    """A model that draws masks where it is asked to."""

    def look(self, pixels: np.ndarray) -> None:
        """Take a slice, uint8 (y, x)."""
        ...

    def predict(self, points: np.ndarray, boxes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the masks, bool (n, y, x), and the IoU that the model expects of each, float32 (n,).

        Of the slice that it took last, for points (n, 2) and, where they are given, boxes (n, 4) in pixels, x first.
        """
        ...


@dataclass(frozen=True)
class Healthy:
    """What held-out healthy scores say: the threshold, above which a voxel is marked, and the lowest score."""

    threshold: float
    lowest: float


@dataclass(frozen=True, eq=False)
class Refined:
    """A mask, bool (z, y, x), and of how many questions to SAM the answer was kept."""

    mask: np.ndarray
    asked: int
    kept: int


def refine(
    pixels: np.ndarray,
    roi: np.ndarray,
    scores: np.ndarray,
    healthy: Healthy,
    predictor: Predictor,
    prompt: Prompt,
    seed: int = 0,
) -> Refined:
    """Return the mask of a case in which SAM's answers stand for parts of the thresholded map.

    An answer is kept where SAM expects an IoU of at least 0.7 of it and it has between one pixel and four times those
    of the part that it stands for; elsewhere the part stays as it is. Nothing reaches beyond the region of interest,
    and a slice without a voxel above the threshold stays empty.

    Args:
        pixels: the windowed scan, uint8 (z, y, x).
        roi: the region that is measured, bool, the same shape.
        scores: the map, float32, the same shape.
        healthy: of held-out healthy scans, never of test scans.
        seed: of the case, for prompts that are drawn.
    """
    components = Components.of((scores > np.float32(healthy.threshold)) & roi)
    labels = np.zeros(roi.shape, np.int32)
    labels[components.box] = components.labels
    mask, asked, kept = np.zeros(roi.shape, bool), 0, 0
    for z in np.flatnonzero(labels.any(axis=(1, 2))):
        where = MarkedSlice(int(z), scores[z], roi[z], labels[z], healthy.lowest, seed)
        questions = prompts(prompt, where)
        predictor.look(pixels[z])
        boxes = [question.box for question in questions]
        masks, ious = predictor.predict(
            np.array([question.point for question in questions], np.float32),
            None if None in boxes else np.array(boxes, np.float32),
        )
        parts = [question.part for question in questions]
        chosen = _chosen(parts, masks, ious)
        for part, answer, takes in zip(parts, masks, chosen, strict=True):
            mask[z] |= answer if takes else part
        asked, kept = asked + len(questions), kept + sum(chosen)
    return Refined(mask & roi, asked, kept)


def _chosen(parts: Sequence[np.ndarray], masks: np.ndarray, ious: np.ndarray) -> list[bool]:
    """Return whose answer is kept."""
    found = []
    for part, mask, iou in zip(parts, masks, ious, strict=True):
        area, most = np.count_nonzero(mask), MOST_TIMES * np.count_nonzero(part)
        found.append(bool(iou >= LEAST_IOU and 0 < area <= most))
    return found


def to_bytes(image: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Return HU as grey values: uint8, 0 and 255 at and beyond the ends of the window."""
    low, high = window
    return np.rint(np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)
