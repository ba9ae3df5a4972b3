"""The colours of the report: text is readable in both schemes, and the dark one is dark."""

import re

import pytest
from uasbench.reports.html import TEMPLATES

LEAST = 4.5
"""Contrast that WCAG 2.2 asks of text (level AA)."""


def variables(scheme):
    sheet = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    light, _, rest = sheet.partition("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([\w-]+): (#\w+);", light))
    return found | (dict(re.findall(r"--([\w-]+): (#\w+);", rest.partition("}\n}")[0])) if scheme == "dark" else {})


def luminance(colour):
    digits = colour.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("text", ["ink", "muted", "accent"])
def test_text_stands_out_from_whatever_lies_below_it(scheme, text):
    known = variables(scheme)
    assert min(contrast(known[text], known[below]) for below in ("paper", "soft", "tint")) >= LEAST


def test_the_dark_scheme_turns_light_and_dark_round():
    light, dark = variables("light"), variables("dark")
    assert luminance(light["paper"]) > 0.9 > 0.05 > luminance(dark["paper"])
    assert luminance(light["ink"]) < 0.1 < 0.5 < luminance(dark["ink"])
