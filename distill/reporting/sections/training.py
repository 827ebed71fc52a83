"""How the student learnt: the curves of fine-tuning and of GRPO, several runs in one chart."""

from __future__ import annotations

from collections.abc import Sequence

from distill.reporting.charts.plots import Line, lines
from distill.reporting.charts.svg import SERIES
from distill.reporting.gather import Gathered
from distill.reporting.numbers import NONE, exact
from distill.reporting.sections.blocks import Section, Table, lacking

_SFT = {
    "loss": ("Training loss", "loss, nats a token", "Mean over the tokens that are learnt."),
    "mean_token_accuracy": ("Token accuracy", "share", "Share of the next tokens that the student ranks first."),
    "entropy": ("Entropy", "nats a token", "Of the student's next-token distribution."),
    "grad_norm": ("Gradient norm", "norm", "Before clipping."),
    "learning_rate": ("Learning rate", "learning rate", "As scheduled."),
}
_GRPO = {
    "reward": ("Mean reward", "reward", "Over the completions of a step, weighted as the recipe says."),
    "reward_std": (
        "Spread of the rewards",
        "standard deviation",
        "Within a group; without any there is nothing to learn.",
    ),
    "frac_reward_zero_std": ("Groups without variance", "share", "Groups whose completions all earn the same."),
    "kl": ("KL to the start", "nats a token", "How far the student has moved from where it began."),
    "completion_length": ("Completion length", "tokens", "Mean over the completions of a step."),
    "clipped_ratio": ("Cut completions", "share", "Completions that the token budget cut."),
    "entropy": ("Entropy", "nats a token", "Of the student's next-token distribution; a collapse shows here first."),
    "loss": ("Policy loss", "loss", "Says little by itself: the reward tells whether the student learns."),
    "grad_norm": ("Gradient norm", "norm", "Before clipping."),
    "learning_rate": ("Learning rate", "learning rate", "As scheduled."),
}


def sft(runs: Sequence[Gathered]) -> Section:
    return _stage(runs, "sft", "Fine-tuning", _SFT)


def grpo(runs: Sequence[Gathered]) -> Section:
    section = _stage(runs, "grpo", "Reinforcement (GRPO)", _GRPO)
    for one in runs:
        parts = [name for name in one.curves.names("grpo") if name.startswith("rewards/")]
        if len(parts) > 1:
            title = "Rewards one by one" + (f": {one.label}" if len(runs) > 1 else "")
            drawn = [one.curves.line("grpo", name, name.removeprefix("rewards/")) for name in parts[:SERIES]]
            section.blocks.insert(
                1, lines(title, _said("Mean of each over a step, unweighted.", drawn), drawn, "step", "reward")
            )
    return section


def _stage(runs: Sequence[Gathered], stage: str, title: str, told: dict[str, tuple[str, str, str]]) -> Section:
    several = len(runs) > 1
    there = [one for one in runs if one.curves.rows.get(stage)]
    section = Section(
        stage, title, left_out=lacking([(one.label, one.notes[stage]) for one in runs if one not in there], several)
    )
    if not there:
        return section
    if len(there) > SERIES:
        section.left_out.append(f"the curves are of the first {SERIES} runs")
    for name, (heading, unit, note) in told.items():
        drawn = [one.curves.line(stage, name, one.label) for one in there[:SERIES] if name in one.curves.names(stage)]
        if any(line.points for line in drawn):
            section.blocks.append(lines(heading, _said(note, drawn), drawn, "step", unit))
    section.blocks.append(_ends(there, stage, f"{title}, from the first steps to the last", told))
    unread = [
        (one.label, f"{one.curves.unread:,} lines of metrics.jsonl cannot be read")
        for one in there
        if one.curves.unread
    ]
    section.left_out += lacking(unread, several)
    return section


def _ends(runs: Sequence[Gathered], stage: str, caption: str, told: dict[str, tuple[str, str, str]]) -> Table:
    """First and last value of each metric: the mean of a tenth of the steps, ten of them at most."""
    rows = []
    for name, (heading, _, _) in told.items():
        cells = [_first_last(one.curves.line(stage, name, "")) for one in runs]
        if any(cell != NONE for cell in cells):
            rows.append((heading, *cells))
    return Table(caption, ("", *(one.label for one in runs)), tuple(rows))


def _first_last(line: Line) -> str:
    values = [value for _, value in line.points if value is not None]
    if not values:
        return NONE
    some = min(10, max(1, len(values) // 10))
    return f"{exact(_mean(values[:some]))} → {exact(_mean(values[-some:]))}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _said(note: str, drawn: Sequence[Line]) -> str:
    if any(line.band for line in drawn):
        return f"{note} Each point is the mean of neighbouring steps, the band their range."
    return note
