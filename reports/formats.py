"""How numbers are printed for readers: percent with one decimal, p values, stars, signs."""

import math

NOT_AVAILABLE = "n/a"
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def percent(value: float, decimals: int = 1) -> str:
    """Return a share as percent.

    >>> percent(0.4123), percent(float("nan"))
    ('41.2', 'n/a')
    """
    return NOT_AVAILABLE if math.isnan(value) else _signless_zero(f"{100 * value:.{decimals}f}")


def points(value: float) -> str:
    """Return a difference in percentage points, always with its sign.

    >>> points(-0.0312), points(0.2), points(0.0)
    ('−3.1', '+20.0', '0.0')
    """
    if math.isnan(value):
        return NOT_AVAILABLE
    text = _signless_zero(f"{100 * value:+.1f}".replace("+0.0", "0.0"))
    return text.replace("-", "−")


def bracket(low: float, high: float, *, signed: bool = False) -> str:
    """Return an interval in percent, empty where there is none.

    >>> bracket(0.1, 0.234)
    '[10.0, 23.4]'
    """
    if math.isnan(low) or math.isnan(high):
        return ""
    show = points if signed else percent
    return f"[{show(low)}, {show(high)}]"


def spread(value: float) -> str:
    """Return a standard deviation in percent with its sign, empty where there is none."""
    return "" if math.isnan(value) else f"± {percent(value)}"


def p_value(p: float) -> str:
    """Return a p value.

    >>> p_value(0.0004), p_value(0.0213), p_value(0.4)
    ('<0.001', '0.021', '0.40')
    """
    if math.isnan(p):
        return NOT_AVAILABLE
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def stars(p: float) -> str:
    """Return ``*`` for p ≤ 0.05, ``**`` for p ≤ 0.01, ``***`` for p ≤ 0.001.

    >>> stars(0.01), stars(0.2)
    ('**', '')
    """
    return next((mark for limit, mark in STARS if p <= limit), "")


def number(value: float, digits: int = 3) -> str:
    """Return a number with ``digits`` significant digits, thousands separated.

    >>> number(1234567.0), number(0.01834), number(20.5), number(9e-5)
    ('1,234,567', '0.0183', '20.5', '<0.001')
    """
    if math.isnan(value):
        return NOT_AVAILABLE
    if 0 < value < 0.001:
        return "<0.001"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def fixed(value: float) -> str:
    """Return a number with two decimals and a proper minus sign.

    >>> fixed(-3.786), fixed(16.0)
    ('−3.79', '16.00')
    """
    return NOT_AVAILABLE if math.isnan(value) else _signless_zero(f"{value:.2f}").replace("-", "−")


def counted(n: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "patient"), counted(0, "cell")
    ('1 patient', '0 cells')
    """
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _signless_zero(text: str) -> str:
    return text.removeprefix("-") if text.strip("-0.") == "" else text
