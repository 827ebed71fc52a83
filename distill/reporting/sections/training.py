"""How the student learnt: the curves of fine-tuning and of GRPO, several runs in one chart."""

from __future__ import annotations

from collections.abc import Sequence

from distill.reporting.charts.numbers import NONE, exact
from distill.reporting.charts.plots import Curve, line_chart
from distill.reporting.charts.svg import MAX_SERIES
from distill.reporting.reading.gather import ReportedRun
from distill.reporting.sections.blocks import Section, TableBlock, labelled_texts, run_title

_SFT_METRICS = {
    "loss": ("Training loss", "loss, nats a token", "Mean over the tokens that are learnt."),
    "mean_token_accuracy": ("Token accuracy", "share", "Share of the next tokens that the student ranks first."),
    "entropy": ("Entropy", "nats a token", "Of the student's next-token distribution."),
    "grad_norm": ("Gradient norm", "norm", "Before clipping."),
    "learning_rate": ("Learning rate", "learning rate", "As scheduled."),
}
_GRPO_METRICS = {
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


def sft(runs: Sequence[ReportedRun]) -> Section:
    return _stage_section(runs, "sft", "Fine-tuning", _SFT_METRICS)


def grpo(runs: Sequence[ReportedRun]) -> Section:
    section = _stage_section(runs, "grpo", "Reinforcement (GRPO)", _GRPO_METRICS)
    for run in runs:
        reward_names = [name for name in run.curves.names("grpo") if name.startswith("rewards/")]
        if len(reward_names) > 1:
            title = run_title("Rewards one by one", run.label, len(runs) > 1)
            curves = [
                run.curves.curve("grpo", name, name.removeprefix("rewards/")) for name in reward_names[:MAX_SERIES]
            ]
            note = _note_on_band("Mean of each over a step, unweighted.", curves)
            section.blocks.insert(1, line_chart(title, note, curves, "step", "reward"))
    return section


def _stage_section(
    runs: Sequence[ReportedRun], stage: str, title: str, metrics: dict[str, tuple[str, str, str]]
) -> Section:
    several = len(runs) > 1
    trained_runs = [run for run in runs if run.curves.rows.get(stage)]
    missing = [(run.label, run.missing_notes[stage]) for run in runs if run not in trained_runs]
    section = Section(stage, title, left_out=labelled_texts(missing, several))
    if not trained_runs:
        return section
    if len(trained_runs) > MAX_SERIES:
        section.left_out.append(f"the curves are of the first {MAX_SERIES} runs")
    for name, (heading, unit, note) in metrics.items():
        drawn_runs = [run for run in trained_runs[:MAX_SERIES] if name in run.curves.names(stage)]
        curves = [run.curves.curve(stage, name, run.label) for run in drawn_runs]
        if any(curve.points for curve in curves):
            section.blocks.append(line_chart(heading, _note_on_band(note, curves), curves, "step", unit))
    section.blocks.append(_first_last_table(trained_runs, stage, f"{title}, from the first steps to the last", metrics))
    unread_notes = [
        (run.label, f"{run.curves.unreadable_lines:,} lines of metrics.jsonl cannot be read")
        for run in trained_runs
        if run.curves.unreadable_lines
    ]
    section.left_out += labelled_texts(unread_notes, several)
    return section


def _first_last_table(
    runs: Sequence[ReportedRun], stage: str, caption: str, metrics: dict[str, tuple[str, str, str]]
) -> TableBlock:
    """A table of each metric's first and last value: the mean of a tenth of the steps, ten of them at most."""
    rows = []
    for name, (heading, _, _) in metrics.items():
        cells = [_first_last(run.curves.curve(stage, name, "")) for run in runs]
        if any(cell != NONE for cell in cells):
            rows.append((heading, *cells))
    return TableBlock(caption, ("", *(run.label for run in runs)), tuple(rows))


def _first_last(curve: Curve) -> str:
    values = [value for _, value in curve.points if value is not None]
    if not values:
        return NONE
    edge_count = min(10, max(1, len(values) // 10))
    return f"{exact(_mean(values[:edge_count]))} → {exact(_mean(values[-edge_count:]))}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _note_on_band(note: str, curves: Sequence[Curve]) -> str:
    if any(curve.band for curve in curves):
        return f"{note} Each point is the mean of neighbouring steps, the band their range."
    return note
