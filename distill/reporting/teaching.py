"""What the teacher gave: the funnel, lengths, pass rates, and where its tokens went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from distill.reporting.attempts import ENDS, OUTCOMES
from distill.reporting.blocks import Cell, Link, Section, Table, lacking, named
from distill.reporting.charts import bars, histogram
from distill.reporting.gather import Gathered
from distill.reporting.numbers import exact, percent, short
from distill.reporting.rates import BINS, Rates

_BINS = 24
_TAIL = 0.995
"""Share of the traces that the bins of lengths spread over; the last bin takes what is longer."""


def funnel(runs: Sequence[Gathered], linked: bool) -> Section:
    """
    Args:
        linked: the page has a browser that a reason can lead to.
    """
    several = len(runs) > 1
    section = Section(
        "funnel",
        "Funnel",
        "Every check judges every trace. “Left” counts those that this check and all before it let through; “only it” "
        "those that no other check rejects.",
        left_out=lacking([(one.label, one.notes["funnel"]) for one in runs if not one.funnel.get("checks")], several),
    )
    for one in runs:
        told = one.funnel
        if not told.get("checks"):
            continue
        whole = told["traces"]
        steps = [("traces", whole), *((f"after {c['check']}", c["left"]) for c in told["checks"])]
        steps += [("kept for training", told["kept"])]
        title = named("What is left after each check", one.label, several)
        section.blocks.append(bars(title, f"Of {whole:,} traces.", "traces", steps, whole))
        head = ("check", "reason", "traces", "of all", "only it", "left")
        section.blocks.append(Table(named("Rejected, by reason", one.label, several), head, _reasons(told, linked), 2))
        for by, what in (("by_set", "problem set"), ("by_length", "characters of the completion")):
            groups = told.get(by) or {}
            if len(groups) > 1:
                rows = tuple(
                    (name, exact(of["traces"]), exact(of["kept"]), percent(of["kept"], of["traces"]), _worst(of))
                    for name, of in groups.items()
                )
                head = (what, "traces", "kept", "share", "most often rejected by")
                section.blocks.append(Table(named(f"Kept by {what}", one.label, several), head, rows))
    return section


def _reasons(told: dict[str, Any], linked: bool) -> tuple[tuple[Cell, ...], ...]:
    whole = told["traces"]
    rows: list[tuple[Cell, ...]] = []
    for check in told["checks"]:
        name, total = check["check"], check["rejects"]
        of_check = (exact(total), percent(total, whole), exact(check["only"]), exact(check["left"]))
        rows.append((name, "all its reasons" if total else "rejects none", *of_check))
        for reason, count in check["reasons"].items():
            shown = Link(reason, f"#reason={name}:{reason}") if linked else reason
            rows.append(("", shown, exact(count), percent(count, whole), "", ""))
    undecidable = told.get("undecidable", 0)
    rows.append(
        ("undecidable", "no check rejects, one cannot tell", exact(undecidable), percent(undecidable, whole), "", "")
    )
    left = told.get("accepted", told["kept"]) - told["kept"]
    if left > 0:
        rows.append(("not chosen", "accepted, but not drawn into the set", exact(left), percent(left, whole), "", ""))
    rows.append(("kept", "in the set to train on", exact(told["kept"]), percent(told["kept"], whole), "", ""))
    return tuple(rows)


def _worst(of: dict[str, Any]) -> str:
    rejects = of.get("rejects") or {}
    name = max(rejects, key=rejects.__getitem__, default="")
    return f"{name} {rejects[name]:,}" if name else ""


def lengths(runs: Sequence[Gathered]) -> Section:
    """Distributions by outcome, on the same bins for all runs."""
    import numpy as np

    several = len(runs) > 1
    section = Section(
        "lengths",
        "Lengths",
        "Tokens of the model that wrote them. A cut trace would have been longer: its bar stands where it was cut.",
        left_out=lacking([(one.label, one.notes["traces"]) for one in runs if one.attempts is None], several),
    )
    for what in ("reasoning", "answer"):
        every = [getattr(one.attempts, what) for one in runs if one.attempts]
        if not any(len(found) for found in every):
            continue
        edges = _edges(max(float(np.quantile(found, _TAIL)) for found in every if len(found)))
        for one in runs:
            if one.attempts is None or not len(one.attempts):
                continue
            tokens = np.minimum(getattr(one.attempts, what), edges[-1])
            series, quantiles = {}, []
            for number, outcome in enumerate(OUTCOMES):
                mine = one.attempts.outcome == number
                if mine.any():
                    series[outcome] = [int(n) for n in np.histogram(tokens[mine], bins=[*edges, math.inf])[0]]
                    of = getattr(one.attempts, what)[mine]
                    points = [exact(float(v)) for v in np.quantile(of, (0.1, 0.5, 0.9), method="lower")]
                    quantiles.append((outcome, exact(len(of)), *points, exact(int(of.max()))))
            title = named(f"Tokens of {what}", one.label, several)
            note = f"Traces by tokens of {what}, stacked by outcome; the last bin holds all from {short(edges[-1])} on."
            labels = [short(edge) for edge in edges]
            section.blocks.append(histogram(title, note, labels, series, f"tokens of {what}", "traces", every=4))
            head = ("outcome", "traces", "10 %", "median", "90 %", "longest")
            section.blocks.append(Table(f"{title}, quantiles", head, tuple(quantiles)))
    return section


def _edges(top: float) -> list[float]:
    """Where bins of one round width begin, up to `top`."""
    rough = max(top, 1) / _BINS
    size = 10.0 ** math.floor(math.log10(rough))
    width = max(1.0, next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough))
    return [number * width for number in range(int(top / width) + 1)]


def rates(runs: Sequence[Gathered]) -> Section:
    several = len(runs) > 1
    section = Section(
        "rates",
        "Pass rates",
        "How often the teacher solves a problem: an estimate from its few samples that is right on average, whatever "
        "rule stopped the sampling, but coarse for a single problem. Where sampling was given up with none correct "
        "the rate is not 0, only too low to show.",
        left_out=lacking([(one.label, one.notes["rates"]) for one in runs if one.rates is None], several),
    )
    for one in runs:
        if one.rates:
            title = named("Problems by estimated pass rate", one.label, several)
            labels = [f"{label} %" if label in ("0", "100") else label for label in BINS]
            chart = histogram(title, _censored(one.rates), labels, one.rates.counts, "pass rate, %", "problems")
            section.blocks.append(chart)
    return section


def _censored(found: Rates) -> str:
    fewest, most = found.samples
    drawn = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    text = (
        f"{found.problems:,} problems, {drawn} samples each; {percent(found.solved, found.problems)} solved at least "
    )
    text += f"once, {percent(found.mean)} on average. The first bar is exactly 0, the last exactly 100."
    return text + (" With one sample a problem nothing in between can be seen." if most == 1 else "")


def tokens(runs: Sequence[Gathered]) -> Section:
    """Spent and wasted."""
    several = len(runs) > 1
    section = Section(
        "tokens",
        "Teacher tokens",
        "Completion tokens of every trace in the log, by what it was worth and what the filter made of it.",
        left_out=lacking([(one.label, one.notes["traces"]) for one in runs if one.attempts is None], several),
    )
    for one in runs:
        if one.attempts is None or not len(one.attempts):
            continue
        spent = _spent(one)
        whole = sum(count for _, _, _, count in spent)
        title = named("Where the tokens went", one.label, several)
        rows = [(f"{outcome}, {end}", float(count)) for outcome, end, _, count in spent]
        section.blocks.append(bars(title, _account(one, whole), "tokens", rows, whole))
        table = tuple(
            (outcome, end, exact(traces), exact(count), percent(count, whole)) for outcome, end, traces, count in spent
        )
        head = ("outcome", "filter", "traces", "tokens", "of all")
        section.blocks.append(Table(f"{title}, by trace", head, table, words=2))
    return section


def _spent(one: Gathered) -> list[tuple[str, str, int, int]]:
    """(outcome, what the filter did, traces, tokens): what was kept first, then the largest."""
    found = one.attempts
    assert found is not None
    rows = []
    for number, outcome in enumerate(OUTCOMES):
        for place, end in enumerate(ENDS):
            mine = (found.outcome == number) & (found.end == place)
            if mine.any():
                rows.append((outcome, end, int(mine.sum()), int(found.tokens[mine].sum())))
    return sorted(rows, key=lambda row: (row[1] != "kept", -row[3]))


def _account(one: Gathered, whole: int) -> str:
    found = one.attempts
    assert found is not None
    kept = int(found.tokens[found.end == ENDS.index("kept")].sum())
    count = int((found.end == ENDS.index("kept")).sum())
    text = f"{whole:,} tokens sampled"
    if count:
        text += f", {percent(kept, whole)} of them in kept traces: {whole / count:,.0f} tokens for each kept trace"
    if one.cancelled:
        text += f". {one.cancelled:,} further requests were cancelled, their problem being decided; what they had "
        text += "written is not recorded"
    price = one.price
    if price and price.output is not None:
        cost = price.of(int(found.prompt.sum()), whole, 0)
        text += f". Cost by the recipe's price: {cost:,.2f}" + (f", {cost / count:,.4f} a kept trace" if count else "")
    elif price and (seconds := one.stages.get("generate", {}).get("seconds")):
        cost = price.of(0, 0, seconds)
        text += f". By the recipe's price the last call's {seconds / 3600:,.2f} h cost {cost:,.2f} for each engine"
    return text + "."
