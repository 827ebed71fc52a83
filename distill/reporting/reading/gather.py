"""Everything that a page tells of a run, read once: each log in one pass, few numbers a row kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from distill.errors import InputError
from distill.evaluation.report import SetReport
from distill.progress import Progress
from distill.reporting.reading import curves, rates, token_use
from distill.reporting.reading.curves import Curves
from distill.reporting.reading.rates import PassRates
from distill.reporting.reading.token_use import Attempts
from distill.run import Run, StageEntry
from distill.sampling.price import Price
from distill.store import jsonl
from distill.types import Score

T = TypeVar("T")


@dataclass(frozen=True)
class ReportedRun:
    """Everything that a page tells of one run."""

    label: str
    """What the page calls this run: its folder's name, or more of the path where two share it."""
    own_run: Run
    data_run: Run
    """The run whose set was trained on; often the run itself."""
    recipe: dict[str, Any]
    stages: dict[str, StageEntry]
    """What run.json tells of each stage: `seconds`, `summary`, `fingerprint`, …"""
    versions: dict[str, str]
    changed_at: float
    """When run.json was last written, Unix time."""
    funnel: dict[str, Any]
    attempts: Attempts | None
    rates: PassRates | None
    curves: Curves
    scores: tuple[Score, ...]
    eval_reports: tuple[SetReport, ...]
    cancelled_requests: int
    """Requests that were stopped, their problem being decided; their tokens are not known."""
    missing_notes: dict[str, str] = field(default_factory=dict)
    """Why a part of the page is missing, by the part's name."""

    @property
    def price(self) -> Price | None:
        """The teacher's price, where the recipe gives one."""
        settings = self.recipe.get("generate") or {}
        backend = settings.get("backend") or {}
        if settings.get("price"):
            return Price.model_validate(settings["price"])
        if backend.get("price_out") is not None:
            return Price(input=backend.get("price_in"), output=backend["price_out"])
        return None

    def summary(self, stage: str) -> dict[str, Any]:
        return dict(self.stages.get(stage, {}).get("summary") or {})


def gather(run: Run, label: str, progress: Progress) -> ReportedRun:
    """Read all files of a run folder that a page tells of.

    Raises:
        InputError: there is nothing of a run here, or one of its files cannot be understood.
    """
    state = run.state()
    if not state.get("recipe") and not any(map(jsonl.exists, (run.traces_file, run.scores_file, run.funnel))):
        raise InputError(
            "holds no run", where=str(run.folder), fix="give the folder of a run with --run (`distill ls runs`)"
        )
    stored_recipe = state.get("recipe", {})
    data_folder = stored_recipe.get("sft", {}).get("data")
    data = Run(Path(data_folder)) if data_folder else run
    sources = [Run(Path(folder)) for folder in stored_recipe.get("filter", {}).get("traces", ())] or [data]
    present_sources = [source for source in sources if jsonl.exists(source.traces_file)]
    eval_sets = _read_json(run.eval / "report.json", dict).get("sets", [])
    return ReportedRun(
        label=label,
        own_run=run,
        data_run=data,
        recipe=dict(stored_recipe),
        stages=dict(state.get("stages") or {}),
        versions=dict(state.get("versions") or {}),
        changed_at=(run.json if run.json.is_file() else run.folder).stat().st_mtime,
        funnel=_read_json(data.funnel, dict),
        attempts=token_use.read(present_sources, data, progress) if present_sources else None,
        rates=rates.read(data),
        curves=curves.read(run),
        scores=_validated(TypeAdapter(tuple[Score, ...]), _read_json(run.scores_file, list), run.scores_file),
        eval_reports=_validated(TypeAdapter(tuple[SetReport, ...]), eval_sets, run.eval / "report.json"),
        cancelled_requests=_count_rows(data.censored),
        missing_notes=_missing_notes(run, present_sources, sources),
    )


def _missing_notes(run: Run, present_sources: list[Run], sources: list[Run]) -> dict[str, str]:
    run_option = f"--run {run.folder}"
    missing_folders = ", ".join(str(source.folder) for source in sources if source not in present_sources)
    no_traces = ""
    if missing_folders:
        no_traces = f"no traces in {missing_folders}: `distill generate {run_option}` samples them"
    no_report = "no curves or differences, eval/report.json is missing"
    return {
        "traces": no_traces,
        "funnel": f"nothing is filtered yet: `distill filter {run_option}`",
        "rates": "pass rates are known only where `distill generate` sampled the problems",
        "sft": f"nothing is trained yet: `distill sft {run_option}`",
        "grpo": f"no GRPO in this run: `distill grpo {run_option}` after `sft`",
        "scores": f"nothing is measured yet: `distill eval {run_option}`",
        "evals": f"{no_report}: `distill eval {run_option} --rescore` writes it",
    }


def _count_rows(path: Path) -> int:
    if not jsonl.exists(path):
        return 0
    return sum(1 for _ in jsonl.rows(path))


def _read_json(path: Path, expected_type: type[T]) -> T:
    if not path.is_file():
        return expected_type()
    try:
        loaded = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise InputError("is not JSON", where=str(path), fix="run the stage that writes it again") from error
    if not isinstance(loaded, expected_type):
        raise InputError(f"is no {expected_type.__name__}", where=str(path), fix="run the stage that writes it again")
    return loaded


def _validated(expected_type: TypeAdapter[T], value: object, path: Path) -> T:
    try:
        return expected_type.validate_python(value, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        field_path = ".".join(map(str, first["loc"]))
        raise InputError(f"{field_path}: {first['msg']}", where=str(path), fix="run `distill eval` again") from error
