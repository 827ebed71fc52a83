"""The first and the last section: which runs these are and what came of them, and where every number is from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distill.progress import duration
from distill.reporting.charts.numbers import NONE, exact, interval, percent
from distill.reporting.reading.gather import ReportedRun
from distill.reporting.sections.blocks import Section, TableBlock
from distill.types import Metric, content_id

_ROLES = ("teacher", "base", "sft", "grpo")


def model_name(ref: object) -> str:
    """A model as the recipe names it, without the folders of this machine."""
    text = str(ref or NONE)
    if text.startswith(("/", ".", "~")) or text.endswith(".yaml"):
        return Path(text).stem
    return text


def headline(run: ReportedRun) -> str:
    """What came of a run in one sentence; empty where nothing is measured."""
    set_names = list(dict.fromkeys(score.set for score in run.scores))
    if not set_names:
        return ""
    pass_rates: dict[str, Metric | None] = {
        score.role: score.metrics.get("pass@1") for score in run.scores if score.set == set_names[0]
    }
    role_texts = [f"{role} {interval(pass_rates[role], 100)}" for role in _ROLES if pass_rates.get(role)]
    if not role_texts:
        return ""
    return f"pass@1 on {set_names[0]} in percent, with 95 % interval: {', '.join(role_texts)}."


def overview(runs: Sequence[ReportedRun]) -> Section:
    """The table of the runs at a glance: a column for each run, a row for each fact."""
    facts: dict[str, Callable[[ReportedRun], str]] = {
        "recipe": lambda run: str(run.recipe.get("name") or NONE),
        "teacher": lambda run: model_name(run.recipe.get("teacher")),
        "student": lambda run: model_name(run.recipe.get("student")),
        "last change": lambda run: datetime.fromtimestamp(run.changed_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "problems sampled": _problem_count,
        "traces": lambda run: exact(len(run.attempts)) if run.attempts else NONE,
        "kept for training": _kept_text,
        "teacher tokens": _token_count,
        "trained on": _trained_text,
        "loss, first → last": lambda run: _first_last(run.summary("sft"), "loss"),
        "mean reward, first → last": lambda run: _first_last(run.summary("grpo"), "reward"),
        "settings": _settings_text,
        "time by stage": _times_text,
    }
    rows = [(name, *(fact(run) for run in runs)) for name, fact in facts.items()]
    rows = [row for row in rows if any(cell != NONE for cell in row[1:])]
    head = ("", *(run.label for run in runs))
    return Section(
        "overview", "Overview", blocks=[TableBlock("The runs at a glance", head, tuple(rows), words=len(head))]
    )


def provenance(runs: Sequence[ReportedRun]) -> Section:
    """The section on hashes, as each stage recorded them when it ended, and on versions."""
    section = Section(
        "provenance",
        "Provenance",
        "Each stage writes down a fingerprint of its settings, models and inputs, and a hash of what it made. Equal "
        "hashes mean equal content, on any machine.",
    )
    for run in runs:
        rows: list[tuple[str, ...]] = []
        if run.recipe:
            rows.append(("recipe", "settings", content_id(run.recipe)))
        for stage, record in run.stages.items():
            rows.append((stage, "fingerprint", str(record.get("fingerprint", NONE))))
            for name, stamp in record.get("outputs", {}).items():
                rows.append((stage, name, stamp["hash"] if stamp else NONE))
        if rows:
            table = TableBlock(f"Hashes of {run.label}", ("stage", "of", "hash"), tuple(rows), words=3)
            section.blocks.append(table)
    packages = dict.fromkeys(name for run in runs for name in run.versions)
    if packages:
        head = ("", *(run.label for run in runs))
        versions = tuple((name, *(run.versions.get(name, NONE) for run in runs)) for name in packages)
        section.blocks.append(TableBlock("Versions", head, versions, words=len(head)))
    return section


def _problem_count(run: ReportedRun) -> str:
    return exact(run.rates.problems) if run.rates else NONE


def _token_count(run: ReportedRun) -> str:
    return exact(int(run.attempts.tokens.sum())) if run.attempts else NONE


def _kept_text(run: ReportedRun) -> str:
    kept = run.funnel.get("kept")
    traces = run.funnel.get("traces")
    if kept is None or not traces:
        return NONE
    return f"{exact(kept)} ({percent(kept, traces)})"


def _trained_text(run: ReportedRun) -> str:
    summary = run.summary("sft")
    if not summary.get("rows"):
        return NONE
    rows_text = f"{exact(summary['rows'])} rows"
    if run.data_run is not run.own_run:
        rows_text += f" of {run.data_run.folder.name}"
    return f"{rows_text}, {exact(summary.get('steps'))} steps"


def _first_last(summary: dict[str, Any], metric: str) -> str:
    first = summary.get(f"first_{metric}")
    last = summary.get(f"last_{metric}")
    if first is None or last is None:
        return NONE
    return f"{first:.3f} → {last:.3f}"


def _settings_text(run: ReportedRun) -> str:
    """The few settings that tell runs apart; the recipe has them all."""
    names_by_stage = {
        "generate": ("samples", "stop_at", "give_up"),
        "sft": ("epochs", "learning_rate", "batch_size", "max_length", "method"),
        "grpo": ("steps", "learning_rate", "beta"),
        "eval": ("samples", "limit", "protocol"),
    }
    stage_texts = []
    for stage, names in names_by_stage.items():
        settings = run.recipe.get(stage) or {}
        set_values = [f"{name} {settings[name]}" for name in names if settings.get(name) is not None]
        if set_values and (stage != "grpo" or stage in run.stages):
            stage_texts.append(f"{stage}: {', '.join(set_values)}")
    return "; ".join(stage_texts) or NONE


def _times_text(run: ReportedRun) -> str:
    stage_times = [f"{name} {duration(stage['seconds'])}" for name, stage in run.stages.items() if stage.get("seconds")]
    return ", ".join(stage_times) or NONE
