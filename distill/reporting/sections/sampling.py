"""What the teacher gave: lengths, pass rates, and where its tokens went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill.reporting.charts.numbers import exact, percent, short
from distill.reporting.charts.plots import bar_chart, histogram
from distill.reporting.reading.gather import ReportedRun
from distill.reporting.reading.rates import BINS, PassRates
from distill.reporting.reading.token_use import DECISIONS, OUTCOMES
from distill.reporting.sections.blocks import Section, TableBlock, labelled_texts, run_title

if TYPE_CHECKING:
    from distill.reporting.reading.token_use import Ints

_BIN_COUNT = 24
_BINNED_SHARE = 0.995
"""Share of the traces that the bins of lengths spread over; the last bin takes what is longer."""


def lengths(runs: Sequence[ReportedRun]) -> Section:
    """The section on distributions of lengths by outcome, on the same bins for all runs."""
    import numpy as np

    several = len(runs) > 1
    section = Section(
        "lengths",
        "Lengths",
        "Tokens of the model that wrote them. A cut trace would have been longer: its bar stands where it was cut.",
        left_out=labelled_texts(
            [(run.label, run.missing_notes["traces"]) for run in runs if run.attempts is None], several
        ),
    )
    counted_runs = [(run.label, run.attempts) for run in runs if run.attempts is not None and len(run.attempts)]
    if not counted_runs:
        return section
    for part in ("reasoning", "answer"):
        top = max(float(np.quantile(getattr(attempts, part), _BINNED_SHARE)) for _, attempts in counted_runs)
        edges = _bin_edges(top)
        labels = [short(edge) for edge in edges]
        note = f"Traces by tokens of {part}, stacked by outcome; the last bin holds all from {labels[-1]} on."
        quantiles = []
        for label, attempts in counted_runs:
            tokens = getattr(attempts, part)
            series = {}
            for number, outcome in enumerate(OUTCOMES):
                outcome_tokens = tokens[attempts.outcome == number]
                if len(outcome_tokens):
                    series[outcome] = [int(n) for n in np.histogram(outcome_tokens, bins=[*edges, math.inf])[0]]
                    quantiles.append((_row_label(label, outcome, several), *_quantile_cells(outcome_tokens)))
            title = run_title(f"Tokens of {part}", label, several)
            section.blocks.append(histogram(title, note, labels, series, f"tokens of {part}", "traces", label_every=4))
        head = ("outcome", "traces", "10 %", "median", "90 %", "longest")
        section.blocks.append(TableBlock(f"Tokens of {part}, quantiles", head, tuple(quantiles)))
    return section


def _row_label(label: str, outcome: str, several: bool) -> str:
    return f"{label} · {outcome}" if several else outcome


def _quantile_cells(tokens: Ints) -> list[str]:
    """How many traces, three quantiles of their tokens, and the most."""
    import numpy as np

    quantiles = np.quantile(tokens, (0.1, 0.5, 0.9), method="lower")
    return [exact(len(tokens)), *(exact(float(value)) for value in quantiles), exact(int(tokens.max()))]


def _bin_edges(top: float) -> list[float]:
    """Where bins of one round width begin, up to `top`."""
    smallest_width = max(top, 1) / _BIN_COUNT
    magnitude = 10.0 ** math.floor(math.log10(smallest_width))
    width = max(1.0, next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= smallest_width))
    return [number * width for number in range(int(top / width) + 1)]


def rates(runs: Sequence[ReportedRun]) -> Section:
    several = len(runs) > 1
    section = Section(
        "rates",
        "Pass rates",
        "How often the teacher solves a problem: an estimate from its few samples that is right on average, whatever "
        "rule stopped the sampling, but coarse for a single problem. Where sampling was given up with none correct "
        "the rate is not 0, only too low to show.",
        left_out=labelled_texts(
            [(run.label, run.missing_notes["rates"]) for run in runs if run.rates is None], several
        ),
    )
    for run in runs:
        if run.rates:
            title = run_title("Problems by estimated pass rate", run.label, several)
            chart = histogram(
                title, _pass_rate_note(run.rates), BINS, run.rates.problems_by_ending, "pass rate, %", "problems"
            )
            section.blocks.append(chart)
    return section


def _pass_rate_note(pass_rates: PassRates) -> str:
    fewest, most = pass_rates.samples
    samples = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    samples += " samples" if most > 1 else " sample"
    solved = percent(pass_rates.solved, pass_rates.problems)
    text = f"{pass_rates.problems:,} problems, {samples} each; {solved} solved at least once, "
    text += f"{percent(pass_rates.mean_rate)} on average. The first bar is exactly 0, the last exactly 100."
    if most == 1:
        text += " With one sample a problem nothing in between can be seen."
    return text


def tokens(runs: Sequence[ReportedRun]) -> Section:
    """The section on the teacher's tokens, spent and wasted."""
    several = len(runs) > 1
    section = Section(
        "tokens",
        "Teacher tokens",
        "Completion tokens of every trace in the log, by what it was worth and what the filter made of it.",
        left_out=labelled_texts(
            [(run.label, run.missing_notes["traces"]) for run in runs if run.attempts is None], several
        ),
    )
    table_rows = []
    for run in runs:
        if run.attempts is None or not len(run.attempts):
            continue
        spending = _tokens_by_outcome(run)
        total = sum(count for _, _, _, count in spending)
        title = run_title("Where the tokens went", run.label, several)
        rows = [(f"{outcome}, {decision}", float(count)) for outcome, decision, _, count in spending]
        section.blocks.append(bar_chart(title, _token_note(run, total), "tokens", rows, total))
        for outcome, decision, traces, count in spending:
            row_label = _row_label(run.label, outcome, several)
            table_rows.append((row_label, decision, exact(traces), exact(count), percent(count, total)))
    if table_rows:
        head = ("outcome", "filter", "traces", "tokens", "of all")
        section.blocks.append(TableBlock("Traces and tokens by outcome", head, tuple(table_rows), words=2))
    return section


def _tokens_by_outcome(run: ReportedRun) -> list[tuple[str, str, int, int]]:
    """(outcome, what the filter did, traces, tokens): what was kept first, then the largest."""
    attempts = run.attempts
    assert attempts is not None
    rows = []
    for outcome_number, outcome in enumerate(OUTCOMES):
        for decision_number, decision in enumerate(DECISIONS):
            chosen = (attempts.outcome == outcome_number) & (attempts.decision == decision_number)
            if chosen.any():
                rows.append((outcome, decision, int(chosen.sum()), int(attempts.tokens[chosen].sum())))
    return sorted(rows, key=lambda row: (row[1] != "kept", -row[3]))


def _token_note(run: ReportedRun, total: int) -> str:
    attempts = run.attempts
    assert attempts is not None
    is_kept = attempts.decision == DECISIONS.index("kept")
    kept_tokens = int(attempts.tokens[is_kept].sum())
    kept_traces = int(is_kept.sum())
    text = f"{total:,} tokens sampled"
    if kept_traces:
        text += f", {percent(kept_tokens, total)} of them in kept traces: "
        text += f"{total / kept_traces:,.0f} tokens for each kept trace"
    if run.cancelled_requests:
        text += (
            f". {run.cancelled_requests:,} further requests were cancelled, their problem being decided; what they had "
        )
        text += "written is not recorded"
    price = run.price
    if price and price.output is not None:
        cost = price.cost(int(attempts.prompt.sum()), total, 0)
        text += f". Cost by the recipe's price: {cost:,.2f}"
        if kept_traces:
            text += f", {cost / kept_traces:,.4f} a kept trace"
    elif price and (seconds := run.stages.get("generate", {}).get("seconds")):
        cost = price.cost(0, 0, seconds)
        text += f". By the recipe's price the last call's {seconds / 3600:,.2f} h cost {cost:,.2f} for each engine"
    return text + "."
