"""What the teacher gave: lengths, pass rates, and where its tokens went."""

from __future__ import annotations

import math
from collections.abc import Sequence

from distill.reporting.charts.plots import bars, histogram
from distill.reporting.gather import Gathered
from distill.reporting.numbers import exact, percent, short
from distill.reporting.rates import BINS, Rates
from distill.reporting.sections.blocks import Section, Table, lacking, named
from distill.reporting.token_use import ENDS, OUTCOMES

_BINS = 24
_TAIL = 0.995
"""Share of the traces that the bins of lengths spread over; the last bin takes what is longer."""


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
    there = [(one.label, one.attempts) for one in runs if one.attempts is not None and len(one.attempts)]
    for what in ("reasoning", "answer") if there else ():
        edges = _edges(max(float(np.quantile(getattr(found, what), _TAIL)) for _, found in there))
        labels = [short(edge) for edge in edges]
        note = f"Traces by tokens of {what}, stacked by outcome; the last bin holds all from {labels[-1]} on."
        quantiles = []
        for label, found in there:
            tokens, series = getattr(found, what), {}
            for number, outcome in enumerate(OUTCOMES):
                mine = tokens[found.outcome == number]
                if len(mine):
                    series[outcome] = [int(n) for n in np.histogram(mine, bins=[*edges, math.inf])[0]]
                    points = [exact(float(v)) for v in np.quantile(mine, (0.1, 0.5, 0.9), method="lower")]
                    who = f"{label} · {outcome}" if several else outcome
                    quantiles.append((who, exact(len(mine)), *points, exact(int(mine.max()))))
            title = named(f"Tokens of {what}", label, several)
            section.blocks.append(histogram(title, note, labels, series, f"tokens of {what}", "traces", every=4))
        head = ("outcome", "traces", "10 %", "median", "90 %", "longest")
        section.blocks.append(Table(f"Tokens of {what}, quantiles", head, tuple(quantiles)))
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
            chart = histogram(title, _censored(one.rates), BINS, one.rates.counts, "pass rate, %", "problems")
            section.blocks.append(chart)
    return section


def _censored(found: Rates) -> str:
    fewest, most = found.samples
    drawn = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    share, mean = percent(found.solved, found.problems), percent(found.mean)
    text = f"{found.problems:,} problems, {drawn} sample{'s' if most > 1 else ''} each; {share} solved at least once, "
    text += f"{mean} on average. The first bar is exactly 0, the last exactly 100."
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
    table = []
    for one in runs:
        if one.attempts is None or not len(one.attempts):
            continue
        spent = _spent(one)
        whole = sum(count for _, _, _, count in spent)
        title = named("Where the tokens went", one.label, several)
        rows = [(f"{outcome}, {end}", float(count)) for outcome, end, _, count in spent]
        section.blocks.append(bars(title, _account(one, whole), "tokens", rows, whole))
        for outcome, end, traces, count in spent:
            who = f"{one.label} · {outcome}" if several else outcome
            table.append((who, end, exact(traces), exact(count), percent(count, whole)))
    if table:
        head = ("outcome", "filter", "traces", "tokens", "of all")
        section.blocks.append(Table("Traces and tokens by outcome", head, tuple(table), words=2))
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
