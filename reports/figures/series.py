"""Pictures that compare: patients from easy to hard, methods on one patient, the largest errors of a method."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...benchmark.scoring.pictured_series import DENSE, GAP, MISSED, SERIES
from .gallery import Gallery, quantiles, shortened_patient
from .panels import Slice, compose

OUTCOME = "outcome"
COLOURS = "Outcome: found green, missed blue, false orange."
SERIES_CAPTION = (
    "Up to five patients from easy to hard: by the ranks of their lesion volume and of its contrast in units of noise, "
    "whatever a method makes of them; the slice with most lesion of each. Right: what the method's own decision finds, "
    f"or, where it has none, a threshold that was tuned on other patients. {COLOURS}"
)
METHODS_CAPTION = (
    "The same patients, one picture each, easy ones first. Restored: what a method makes of the scan, named beside the "
    f"row. Colours of a map run over that method's own scores. {COLOURS}"
)
ERRORS_CAPTION = (
    "The largest connected part that was missed, and that was marked in error, of up to three patients each, by the "
    "method's own decision where it has one. A rule tells false parts apart, and nobody has looked at them: in scans "
    "whose slices lie further apart than those of any scan that was trained on they are slice-gap candidates, in all "
    f"others candidates for other dense tissue, such as fibrosis. {COLOURS}"
)
ERROR_KINDS = {MISSED: "missed", GAP: "false, slice-gap candidates", DENSE: "false, candidates for other dense tissue"}


def series_figure(gallery: Gallery, pictures: Sequence[str] | None, title: str, path: Path) -> Path | None:
    """Draw one row per patient of the series: input, what the method made of it, map, outcome; None without a series.

    Args:
        pictures: titles of what is shown of the method, None for all; with titles the map is left out.
    """
    slices = gallery.named(SERIES)
    if not slices:
        return None
    shown = list(dict.fromkeys(t for one in slices for t in one.restored)) if pictures is None else pictures
    low, high = quantiles(slices)
    columns = ["input", *shown, *(["anomaly map"] if pictures is None else []), OUTCOME]
    return compose(title, columns, [(_lesion(s), _row(s, shown, low, high, columns)) for s in slices], path)


def methods_figures(
    galleries: Mapping[str, Gallery], pictures: Sequence[str] | None, title: str, folder: Path
) -> list[Path]:
    """Draw every patient of the series apart, one row per method: input, what it made of it, map, outcome.

    Methods make different things of a scan: the column shows the first one of each, or the first one named in
    ``pictures``; its title stands beside the row.
    """
    written = []
    scales = {method: quantiles(gallery.named(SERIES)) for method, gallery in galleries.items()}
    longest = max((len(gallery.named(SERIES)) for gallery in galleries.values()), default=0)
    for number in range(1, longest + 1):
        rows, patient = [], ""
        for method, gallery in galleries.items():
            one = gallery.slices.get(f"{SERIES}-{number}")
            if one is None:
                continue
            patient = str(one.meta.get("patient", ""))
            first = next((t for t in (one.restored if pictures is None else pictures) if t in one.restored), None)
            label = "\n".join([*_folded(method), *(_folded(first) if first else [])])
            panels = [
                one.input(),
                None if first is None else one.made(first),
                one.scores(*scales[method]),
                one.outcome(),
            ]
            rows.append((label, panels))
        columns = ("input", "restored", "anomaly map", OUTCOME)
        written.append(compose(f"{title}, {patient}", columns, rows, folder / f"methods-{number}.png"))
    return written


def errors_figure(gallery: Gallery, kind: str, title: str, path: Path) -> Path | None:
    """Draw the largest parts of a kind of error: input, map, outcome; None where there are none."""
    slices = gallery.named(kind)
    if not slices:
        return None
    low, high = quantiles(gallery.named(*ERROR_KINDS))
    rows = [(_part(s), [s.input(), s.scores(low, high), s.outcome()]) for s in slices]
    return compose(title, ("input", "anomaly map", OUTCOME), rows, path)


def _row(one: Slice, shown: Sequence[str], low: float, high: float, columns: Sequence[str]) -> list[Any | None]:
    middle = [one.made(title) for title in shown]
    map_ = [one.scores(low, high)] if "anomaly map" in columns else []
    return [one.input(), *middle, *map_, one.outcome()]


def _lesion(one: Slice) -> str:
    meta = one.meta
    lines = [shortened_patient(meta)]
    if (ml := meta.get("lesion_ml")) is not None:
        lines.append(f"{ml:.3g} ml")
    if (contrast := meta.get("contrast_hu")) is not None:
        lines.append(f"{contrast:+.0f} HU")
    if noise := meta.get("noise_hu"):
        lines.append(f"noise {noise:.0f} HU")
    return "\n".join([*lines, str(meta.get("protocol", ""))])


def _part(one: Slice) -> str:
    meta = one.meta
    kind = str(meta["which"]).rpartition("-")[0]
    return "\n".join(
        [
            ERROR_KINDS[kind].partition(",")[0],
            shortened_patient(meta),
            f"{meta['ml']:,.{0 if meta['ml'] >= 100 else 1}f} ml",
            f"{meta['hu']:.0f} HU",
            f"{meta['slices']} × {meta['slice_mm']:.3g} mm",
            str(meta.get("protocol", "")),
        ]
    )


def _folded(text: str, width: int = 15) -> list[str]:
    import textwrap

    return textwrap.wrap(text.replace("@", " @"), width)
