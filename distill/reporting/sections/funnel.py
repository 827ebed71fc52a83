"""From what was sampled to what is trained on: what each check leaves, and every reason with its count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from distill.reporting.charts.numbers import NONE, exact, percent
from distill.reporting.charts.plots import bar_chart
from distill.reporting.reading.gather import ReportedRun
from distill.reporting.sections.blocks import Cell, Link, Section, TableBlock, labelled_texts, run_title

_LAST_ROWS = {
    "undecidable": "no check rejects, one cannot tell",
    "not chosen": "accepted, but not drawn into the set",
    "kept": "in the set to train on",
}
"""The table's last rows, after those of the checks."""
Counts = dict[tuple[str, str], int]
"""Traces by (check, reason); with an empty reason all that the check rejects, or one of the last rows."""


def funnel(runs: Sequence[ReportedRun], linked: bool) -> Section:
    """The section on what each check leaves of the traces, and why the others are rejected.

    Args:
        linked: the page has a browser that a reason can lead to.
    """
    several = len(runs) > 1
    filtered_runs = [run for run in runs if run.funnel.get("checks")]
    section = Section(
        "funnel",
        "Funnel",
        "Every check judges every trace. “Left” counts those that this check and all before it let through; “only it” "
        "those that no other check rejects.",
        left_out=labelled_texts(
            [(run.label, run.missing_notes["funnel"]) for run in runs if run not in filtered_runs], several
        ),
    )
    if not filtered_runs:
        return section
    for run in filtered_runs:
        summary = run.funnel
        total = summary["traces"]
        steps = [("traces", total), *((f"after {check['check']}", check["left"]) for check in summary["checks"])]
        title = run_title("What is left after each check", run.label, several)
        rows = [*steps, ("kept for training", summary["kept"])]
        section.blocks.append(bar_chart(title, f"Of {total:,} traces.", "traces", rows, total))
    section.blocks.append(_reasons(filtered_runs, linked))
    for group_key, group_name in (("by_set", "problem set"), ("by_length", "characters of the completion")):
        table = _kept_by_group(filtered_runs, group_key, group_name)
        if len(table.rows) > len(filtered_runs):
            section.blocks.append(table)
    return section


def _reasons(runs: Sequence[ReportedRun], linked: bool) -> TableBlock:
    """A table that shows one run in full, and of several the counts and shares side by side."""
    counts = [_counts_of_checks(run.funnel) for run in runs]
    keys = list(dict.fromkeys(key for run_counts in counts for key in run_counts))
    checks = [*dict.fromkeys(check for check, _ in keys if check not in _LAST_ROWS), *_LAST_ROWS]
    keys.sort(key=lambda key: checks.index(key[0]))
    rows: list[tuple[Cell, ...]] = []
    for check, reason in keys:
        row: list[Cell] = [check, _reason_cell(check, reason, linked)]
        if len(runs) == 1:
            row += _cells_of_run(runs[0].funnel, counts[0][check, reason], check, reason)
        else:
            for run, run_counts in zip(runs, counts, strict=True):
                count = run_counts.get((check, reason))
                row.append(NONE if count is None else f"{count:,} ({percent(count, run.funnel['traces'])})")
        rows.append(tuple(row))
    number_columns = tuple(run.label for run in runs)
    if len(runs) == 1:
        number_columns = ("traces", "of all", "only it", "left")
    return TableBlock("Rejected, by reason", ("check", "reason", *number_columns), tuple(rows), words=2)


def _reason_cell(check: str, reason: str, linked: bool) -> Cell:
    if not reason:
        return _LAST_ROWS.get(check, "all its reasons")
    if not linked:
        return reason
    return Link(reason, "#reason=" + quote(f"{check}:{reason}", safe=":"))


def _cells_of_run(summary: dict[str, Any], count: int, check: str, reason: str) -> list[str]:
    """Traces and their share; for a whole check also those that no other rejects, and those that are left."""
    cells = [exact(count), percent(count, summary["traces"])]
    for check_summary in summary["checks"]:
        if check_summary["check"] == check and not reason:
            return [*cells, exact(check_summary["only"]), exact(check_summary["left"])]
    return [*cells, "", ""]


def _counts_of_checks(summary: dict[str, Any]) -> Counts:
    counts: Counts = {}
    for check in summary["checks"]:
        counts[check["check"], ""] = check["rejects"]
        counts |= {(check["check"], reason): count for reason, count in check["reasons"].items()}
    counts["undecidable", ""] = summary.get("undecidable", 0)
    counts["kept", ""] = summary["kept"]
    not_chosen = summary.get("accepted", summary["kept"]) - summary["kept"]
    if not_chosen > 0:
        counts["not chosen", ""] = not_chosen
    return counts


def _kept_by_group(runs: Sequence[ReportedRun], group_key: str, group_name: str) -> TableBlock:
    """A table of the share that is kept of each group."""
    several = len(runs) > 1
    rows = []
    for run in runs:
        for name, group in (run.funnel.get(group_key) or {}).items():
            rejects = group.get("rejects") or {}
            commonest = max(rejects, key=rejects.__getitem__, default="")
            if commonest:
                commonest = f"{commonest} {rejects[commonest]:,}"
            share = percent(group["kept"], group["traces"])
            labels = (name, run.label) if several else (name,)
            rows.append((*labels, exact(group["traces"]), exact(group["kept"]), share, commonest))
    word_columns = (group_name, "run") if several else (group_name,)
    head = (*word_columns, "traces", "kept", "share", "most often rejected by")
    return TableBlock(f"Kept by {group_name}", head, tuple(rows), words=len(word_columns))
