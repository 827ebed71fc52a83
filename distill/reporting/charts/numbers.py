"""Numbers as a reader sees them."""

from __future__ import annotations

import math

from distill.types import Metric

NONE = "–"
_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def is_drawable(value: float | None) -> bool:
    """Whether it can be drawn: neither absent nor NaN nor beyond all measure."""
    return value is not None and abs(value) < 1e100  # no comparison with NaN holds


def exact(value: float | None) -> str:
    """A number for tables: `1,234`, `0.0312`, `1.5e-05`."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def short(value: float) -> str:
    """A number for axes: `1.2k`, `32k`, `0.25`, `1.5e-5`."""
    if 0 < abs(value) < 1e-3:
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    for size, letter in _STEPS:
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def percent(part: float, whole: float = 1) -> str:
    """A share as `12.5 %`; a dash where the whole is nothing."""
    return f"{100 * part / whole:.1f} %" if whole else NONE


def interval(metric: Metric | None, scale: float = 1, digits: int = 1, sign: str = "") -> str:
    """A value as `78.1 [74.3, 81.8]`, without the brackets where there is no interval."""
    if metric is None:
        return NONE
    text = f"{scale * metric.value:{sign},.{digits}f}"
    if metric.low is None or metric.high is None:
        return text
    return f"{text} [{scale * metric.low:,.{digits}f}, {scale * metric.high:,.{digits}f}]"
