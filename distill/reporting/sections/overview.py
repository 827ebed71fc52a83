"""The first and the last section: which runs these are and what came of them, and where every number is from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distill.progress import duration
from distill.reporting.gather import Gathered
from distill.reporting.numbers import NONE, exact, interval, percent
from distill.reporting.sections.blocks import Section, Table
from distill.types import Metric, content_id

_ROLES = ("teacher", "base", "sft", "grpo")


def model(ref: Any) -> str:
    """A model as the recipe names it, without the folders of this machine."""
    text = str(ref or NONE)
    return Path(text).stem if text.startswith(("/", ".", "~")) or text.endswith(".yaml") else text


def headline(one: Gathered) -> str:
    """What came of a run in one sentence; empty where nothing is measured."""
    sets = list(dict.fromkeys(score.set for score in one.scores))
    if not sets:
        return ""
    found: dict[str, Metric | None] = {
        score.role: score.metrics.get("pass@1") for score in one.scores if score.set == sets[0]
    }
    words = [f"{role} {interval(found[role], 100)}" for role in _ROLES if found.get(role)]
    return f"pass@1 on {sets[0]} in percent, with 95 % interval: {', '.join(words)}." if words else ""


def overview(runs: Sequence[Gathered]) -> Section:
    """A column a run, a row a fact."""
    facts: dict[str, Callable[[Gathered], str]] = {
        "recipe": lambda one: str(one.recipe.get("name") or NONE),
        "teacher": lambda one: model(one.recipe.get("teacher")),
        "student": lambda one: model(one.recipe.get("student")),
        "last change": lambda one: datetime.fromtimestamp(one.changed, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "problems sampled": lambda one: exact(one.rates.problems) if one.rates else NONE,
        "traces": lambda one: exact(len(one.attempts)) if one.attempts else NONE,
        "kept for training": _kept,
        "teacher tokens": lambda one: exact(int(one.attempts.tokens.sum())) if one.attempts else NONE,
        "trained on": _trained,
        "loss, first → last": lambda one: _ends(one.summary("sft"), "loss"),
        "mean reward, first → last": lambda one: _ends(one.summary("grpo"), "reward"),
        "settings": _settings,
        "time by stage": _times,
    }
    rows = [(name, *(fact(one) for one in runs)) for name, fact in facts.items()]
    rows = [row for row in rows if any(cell != NONE for cell in row[1:])]
    head = ("", *(one.label for one in runs))
    return Section("overview", "Overview", blocks=[Table("The runs at a glance", head, tuple(rows), words=len(head))])


def provenance(runs: Sequence[Gathered]) -> Section:
    """Hashes as each stage recorded them when it ended."""
    section = Section(
        "provenance",
        "Provenance",
        "Each stage writes down a fingerprint of its settings, models and inputs, and a hash of what it made. Equal "
        "hashes mean equal content, on any machine.",
    )
    for one in runs:
        rows: list[tuple[str, ...]] = [("recipe", "settings", content_id(one.recipe))] if one.recipe else []
        for stage, record in one.stages.items():
            rows.append((stage, "fingerprint", str(record.get("fingerprint", NONE))))
            for name, stamp in (record.get("outputs") or {}).items():
                rows.append((stage, name, str((stamp or {}).get("hash", NONE))))
        if rows:
            table = Table(f"Hashes of {one.label}", ("stage", "of", "hash"), tuple(rows), words=3)
            section.blocks.append(table)
    packages = dict.fromkeys(name for one in runs for name in one.versions)
    if packages:
        head = ("", *(one.label for one in runs))
        versions = tuple((name, *(one.versions.get(name, NONE) for one in runs)) for name in packages)
        section.blocks.append(Table("Versions", head, versions, words=len(head)))
    return section


def _kept(one: Gathered) -> str:
    kept, traces = one.funnel.get("kept"), one.funnel.get("traces")
    return NONE if kept is None or not traces else f"{exact(kept)} ({percent(kept, traces)})"


def _trained(one: Gathered) -> str:
    told = one.summary("sft")
    if not told.get("rows"):
        return NONE
    set_of = f" of {one.data.folder.name}" if one.data is not one.run else ""
    return f"{exact(told['rows'])} rows{set_of}, {exact(told.get('steps'))} steps"


def _ends(told: dict[str, Any], of: str) -> str:
    first, last = told.get(f"first_{of}"), told.get(f"last_{of}")
    return NONE if first is None or last is None else f"{first:.3f} → {last:.3f}"


def _settings(one: Gathered) -> str:
    """The few that tell runs apart; the recipe has them all."""
    wanted = {
        "generate": ("samples", "stop_at", "give_up"),
        "sft": ("epochs", "learning_rate", "batch_size", "max_length", "method"),
        "grpo": ("steps", "learning_rate", "beta"),
        "eval": ("samples", "limit", "protocol"),
    }
    words = []
    for stage, names in wanted.items():
        settings = one.recipe.get(stage) or {}
        told = [f"{name} {settings[name]}" for name in names if settings.get(name) is not None]
        if told and (stage != "grpo" or stage in one.stages):
            words.append(f"{stage}: {', '.join(told)}")
    return "; ".join(words) or NONE


def _times(one: Gathered) -> str:
    words = [f"{name} {duration(stage['seconds'])}" for name, stage in one.stages.items() if stage.get("seconds")]
    return ", ".join(words) or NONE
