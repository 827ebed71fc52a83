"""From what was sampled to what is trained on: what each check leaves, and every reason with its count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from distill.reporting.charts.plots import bars
from distill.reporting.gather import Gathered
from distill.reporting.numbers import NONE, exact, percent
from distill.reporting.sections.blocks import Cell, Link, Section, Table, lacking, named

_LAST = {
    "undecidable": "no check rejects, one cannot tell",
    "not chosen": "accepted, but not drawn into the set",
    "kept": "in the set to train on",
}
"""Rows after those of the checks."""
Counts = dict[tuple[str, str], int]
"""Traces by (check, reason); with an empty reason all of the check, or one of the last rows."""


def funnel(runs: Sequence[Gathered], linked: bool) -> Section:
    """
    Args:
        linked: the page has a browser that a reason can lead to.
    """
    several = len(runs) > 1
    there = [one for one in runs if one.funnel.get("checks")]
    section = Section(
        "funnel",
        "Funnel",
        "Every check judges every trace. “Left” counts those that this check and all before it let through; “only it” "
        "those that no other check rejects.",
        left_out=lacking([(one.label, one.notes["funnel"]) for one in runs if one not in there], several),
    )
    if not there:
        return section
    for one in there:
        told, whole = one.funnel, one.funnel["traces"]
        steps = [("traces", whole), *((f"after {c['check']}", c["left"]) for c in told["checks"])]
        title = named("What is left after each check", one.label, several)
        rows = [*steps, ("kept for training", told["kept"])]
        section.blocks.append(bars(title, f"Of {whole:,} traces.", "traces", rows, whole))
    section.blocks.append(_reasons(there, linked))
    for by, what in (("by_set", "problem set"), ("by_length", "characters of the completion")):
        table = _kept(there, by, what)
        if len(table.rows) > len(there):
            section.blocks.append(table)
    return section


def _reasons(runs: Sequence[Gathered], linked: bool) -> Table:
    """One run in full; of several the counts and shares side by side."""
    counts = [_counts(one.funnel) for one in runs]
    known = list(dict.fromkeys(check for found in counts for check, _ in found if check not in _LAST)) + list(_LAST)
    keys = sorted(dict.fromkeys(key for found in counts for key in found), key=lambda key: known.index(key[0]))
    rows: list[tuple[Cell, ...]] = []
    for check, reason in keys:
        link = Link(reason, "#reason=" + quote(f"{check}:{reason}", safe=":")) if linked and reason else reason
        row: list[Cell] = [check, link if reason else _LAST.get(check, "all its reasons")]
        for one, found in zip(runs, counts, strict=True):
            count, whole = found.get((check, reason)), one.funnel["traces"]
            if len(runs) > 1:
                row.append(NONE if count is None else f"{count:,} ({percent(count, whole)})")
            else:
                row += [exact(count), percent(count or 0, whole)]
        if len(runs) == 1:
            of: dict[str, Any] = next((c for c in runs[0].funnel["checks"] if c["check"] == check and not reason), {})
            row += [exact(of["only"]), exact(of["left"])] if of else ["", ""]
        rows.append(tuple(row))
    numbers = tuple(one.label for one in runs) if len(runs) > 1 else ("traces", "of all", "only it", "left")
    return Table("Rejected, by reason", ("check", "reason", *numbers), tuple(rows), words=2)


def _counts(told: dict[str, Any]) -> Counts:
    found: Counts = {}
    for check in told["checks"]:
        found[check["check"], ""] = check["rejects"]
        found |= {(check["check"], reason): count for reason, count in check["reasons"].items()}
    left = told.get("accepted", told["kept"]) - told["kept"]
    found |= {("undecidable", ""): told.get("undecidable", 0), ("kept", ""): told["kept"]}
    return found | ({("not chosen", ""): left} if left > 0 else {})


def _kept(runs: Sequence[Gathered], by: str, what: str) -> Table:
    """The share that is kept of each group."""
    rows = []
    for one in runs:
        for name, of in (one.funnel.get(by) or {}).items():
            rejects = of.get("rejects") or {}
            most = max(rejects, key=rejects.__getitem__, default="")
            worst = f"{most} {rejects[most]:,}" if most else ""
            cells = (exact(of["traces"]), exact(of["kept"]), percent(of["kept"], of["traces"]), worst)
            rows.append((name, *((one.label,) if len(runs) > 1 else ()), *cells))
    more = ("run",) if len(runs) > 1 else ()
    head = (what, *more, "traces", "kept", "share", "most often rejected by")
    return Table(f"Kept by {what}", head, tuple(rows), words=1 + len(more))
