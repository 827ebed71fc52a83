"""Everything that a page tells of a run, read once: each log in one pass, few numbers a row kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from distill.errors import InputError
from distill.evaluation.report import Report
from distill.progress import Progress
from distill.reporting import curves, rates, token_use
from distill.reporting.curves import Curves
from distill.reporting.rates import Rates
from distill.reporting.token_use import Attempts
from distill.run import Run
from distill.sampling.price import Price
from distill.store import jsonl
from distill.types import Score


@dataclass(frozen=True)
class Gathered:
    label: str
    """What the page calls this run: its folder's name, or more of the path where two share it."""
    run: Run
    data: Run
    """The run whose set was trained on; often the same."""
    recipe: dict[str, Any]
    stages: dict[str, dict[str, Any]]
    """As in run.json: `seconds`, `summary`, `fingerprint`, … by stage."""
    versions: dict[str, str]
    changed: float
    """When run.json was last written, Unix time."""
    funnel: dict[str, Any]
    attempts: Attempts | None
    rates: Rates | None
    curves: Curves
    scores: tuple[Score, ...]
    evals: tuple[Report, ...]
    cancelled: int
    """Requests that were stopped, their problem being decided; their tokens are not known."""
    notes: dict[str, str] = field(default_factory=dict)
    """Why a part of the page is missing, by the part's name."""

    @property
    def price(self) -> Price | None:
        """Of the teacher, where the recipe gives one."""
        settings = self.recipe.get("generate") or {}
        backend = settings.get("backend") or {}
        if settings.get("price"):
            return Price.model_validate(settings["price"])
        if backend.get("price_out") is not None:
            return Price(input=backend.get("price_in"), output=backend["price_out"])
        return None

    def summary(self, stage: str) -> dict[str, Any]:
        return dict(self.stages.get(stage, {}).get("summary") or {})


def gather(run: Run, label: str, progress: Progress) -> Gathered:
    """
    Raises:
        InputError: there is nothing of a run here, or one of its files cannot be understood.
    """
    state = run.state()
    if not state.get("recipe") and not any(map(jsonl.exists, (run.traces, run.scores, run.funnel))):
        raise InputError(
            "holds no run", where=str(run.folder), fix="give the folder of a run with --run (`distill ls runs`)"
        )
    recipe = dict(state.get("recipe") or {})
    other = (recipe.get("sft") or {}).get("data")
    data = Run(Path(other)) if other else run
    sources = [Run(Path(folder)) for folder in (recipe.get("filter") or {}).get("traces") or ()] or [data]
    there = [source for source in sources if jsonl.exists(source.traces)]
    evals = _json(run.eval / "report.json", dict).get("sets", [])
    return Gathered(
        label=label,
        run=run,
        data=data,
        recipe=recipe,
        stages=dict(state.get("stages") or {}),
        versions=dict(state.get("versions") or {}),
        changed=(run.json if run.json.is_file() else run.folder).stat().st_mtime,
        funnel=_json(data.funnel, dict),
        attempts=token_use.read(there, data, progress) if there else None,
        rates=rates.read(data),
        curves=curves.read(run),
        scores=_typed(tuple[Score, ...], _json(run.scores, list), run.scores),
        evals=_typed(tuple[Report, ...], evals, run.eval / "report.json"),
        cancelled=sum(1 for _ in jsonl.rows(data.censored)) if jsonl.exists(data.censored) else 0,
        notes=_notes(run, there, sources),
    )


def _notes(run: Run, there: list[Run], sources: list[Run]) -> dict[str, str]:
    where = f"--run {run.folder}"
    gone = ", ".join(str(source.folder) for source in sources if source not in there)
    return {
        "traces": f"no traces in {gone}: `distill generate {where}` samples them" if gone else "",
        "funnel": f"nothing is filtered yet: `distill filter {where}`",
        "rates": "pass rates are known only where `distill generate` sampled the problems",
        "sft": f"nothing is trained yet: `distill sft {where}`",
        "grpo": f"no GRPO in this run: `distill grpo {where}` after `sft`",
        "scores": f"nothing is measured yet: `distill eval {where}`",
        "evals": f"no curves or differences, eval/report.json is missing: `distill eval {where} --rescore` writes it",
    }


def _json(path: Path, kind: type) -> Any:
    if not path.is_file():
        return kind()
    try:
        loaded = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise InputError("is not JSON", where=str(path), fix="run the stage that writes it again") from error
    if not isinstance(loaded, kind):
        raise InputError(f"is no {kind.__name__}", where=str(path), fix="run the stage that writes it again")
    return loaded


def _typed(kind: Any, value: Any, path: Path) -> Any:
    try:
        return TypeAdapter[BaseModel](kind).validate_python(value, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{place}: {first['msg']}", where=str(path), fix="run `distill eval` again") from error
