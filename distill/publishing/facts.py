"""What a run folder tells about itself, gathered once for cards and licences."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from distill.errors import InputError
from distill.models import presets
from distill.models.presets import Preset
from distill.run import Run, stamp
from distill.types import Sampling, Score, content_id

Role = Literal["sft", "grpo"]


@dataclass(frozen=True)
class Model:
    """A teacher or base as a card names it: never by a path of this machine."""

    name: str
    hub: str | None
    """Its Hub id; None for a local folder."""
    revision: str | None
    licence: str | None

    @property
    def shown(self) -> str:
        return self.hub or self.name


@dataclass
class Rows:
    """What the set to train on holds, counted row by row."""

    columns: tuple[str, ...] = ()
    count: int = 0
    tokens: int = 0
    """Of the assistant's turns, in the student's tokens."""
    sets: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    licences: Counter[str | None] = field(default_factory=Counter)
    teachers: Counter[str | None] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Facts:
    run: Run
    data: Run
    """The run whose set was trained on; often the same."""
    recipe: dict[str, Any]
    stages: dict[str, Any]
    """Summaries by stage, of the runs that each was done in."""
    versions: dict[str, str]
    teachers: tuple[Model, ...]
    base: Model
    rows: Rows
    funnel: dict[str, Any]
    """Empty where no filter has run."""
    scores: tuple[Score, ...]
    report: dict[str, Any]
    """eval/report.json; empty where there is none."""
    schedule: dict[str, Any]
    """Learning rate, epochs, … as trained; empty where it is not recorded."""
    sampling: Sampling
    """How the student was measured, or what the teacher's authors advise."""
    measured: bool
    """Whether `sampling` is how it was measured."""
    role: Role | None
    """Which checkpoint is published; None where there is none."""

    @property
    def checkpoint(self) -> Path:
        return self.run.student if self.role != "grpo" else self.run.folder / "grpo"

    def parts(self) -> dict[str, str | None]:
        """Hashes of what a publication came from, by part; None for what this run does not have."""
        done = self.data.state().get("stages", {})
        traces = done.get("generate", {}).get("outputs", {}).get("traces.jsonl")
        found = {
            "traces": stamp(self.data.traces, traces),
            "set": stamp(self.data.sft / "train.parquet"),
            "scores": stamp(self.run.scores),
        }
        hashes = {name: str(one["hash"]) if one else None for name, one in found.items()}
        return {"recipe": content_id(self.recipe), **hashes}


def gather(run: Run) -> Facts:
    """
    Raises:
        InputError: this is no run folder, or a file of it cannot be understood.
    """
    state = run.state()
    recipe = state.get("recipe")
    if not isinstance(recipe, dict) or not recipe.get("student"):
        raise InputError("holds no run", where=str(run.folder), fix="give the folder of a finished run with --run")
    other = (recipe.get("sft") or {}).get("data")
    data = Run(Path(other)) if other else run
    rows = _rows(data.sft / "train.parquet")
    student = presets.student(recipe["student"])
    role: Role | None = next((r for r, f in (("grpo", "grpo"), ("sft", "student")) if _is_model(run.folder / f)), None)  # type: ignore[misc]
    scores = _scores(run.scores)
    report = _json(run.eval / "report.json")
    sampling, measured = _sampling(recipe, report, role)
    stages = {**data.state().get("stages", {}), **state.get("stages", {})}
    return Facts(
        run=run,
        data=data,
        recipe=recipe,
        stages={name: dict(stage.get("summary") or {}) for name, stage in stages.items()},
        versions=dict(state.get("versions") or {}),
        teachers=tuple(_teachers(recipe, rows)),
        base=_model(student),
        rows=rows,
        funnel=_json(data.funnel),
        scores=scores,
        report=report,
        schedule=_json(run.folder / "training" / "job.json").get("schedule") or {},
        sampling=sampling,
        measured=measured,
        role=role,
    )


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()


def _model(preset: Preset) -> Model:
    local = Path(preset.model).exists() or preset.model.count("/") != 1
    return Model(preset.name, None if local else preset.model, preset.revision, preset.licence)


def _teachers(recipe: dict[str, Any], rows: Rows) -> list[Model]:
    """The models that wrote the rows, or the recipe's where the rows do not tell."""
    names = [name for name in rows.teachers if name] or [str(recipe["teacher"])]
    found = []
    for name in dict.fromkeys(names):
        known = name.lower() in presets.names("teacher")  # open sets write DeepSeek-R1
        try:
            found.append(_model(presets.teacher(name.lower() if known else name)))
        except InputError:  # imported traces name whoever wrote them, and no preset need know that model
            found.append(Model(name, None, None, None))
    return found


def _rows(path: Path) -> Rows:
    found = Rows()
    if not path.is_file():
        return found
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            wanted = ["tokens", "set", "language", "licence", "teacher", "source"]
            found.columns = tuple(file.schema_arrow.names)
            columns = [name for name in wanted if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=columns):
                told = {name: batch.column(name).to_pylist() for name in columns}
                found.count += batch.num_rows
                found.tokens += sum(told.get("tokens", ()))
                found.sets.update(told.get("set", ()))
                found.languages.update(told.get("language", ()))
                found.licences.update(told.get("licence", ()))
                found.teachers.update(told.get("teacher", ()))
                found.sources.update(one for one in told.get("source", ()) if one)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), fix="run `distill filter` again") from error
    return found


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        loaded = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise InputError("is not JSON", where=str(path), fix="run the stage that writes it again") from error
    return loaded if isinstance(loaded, dict) else {}


def _scores(path: Path) -> tuple[Score, ...]:
    if not path.is_file():
        return ()
    try:
        return TypeAdapter(tuple[Score, ...]).validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError("is not a list of scores", where=str(path), fix="run `distill eval` again") from error


def _sampling(recipe: dict[str, Any], report: dict[str, Any], role: Role | None) -> tuple[Sampling, bool]:
    for one in report.get("sets", ()):
        for model in one.get("models", ()):
            if model.get("role") == (role or "sft"):
                return Sampling.model_validate(model["sampling"]), True
    return presets.teacher(recipe["teacher"]).sampling, False
