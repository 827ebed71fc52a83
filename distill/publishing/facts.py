"""What a run folder tells about itself, gathered once for cards and licences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from distill.errors import InputError
from distill.models import presets
from distill.models.presets import Preset
from distill.run import Run, stamp
from distill.types import Sampling, Score, content_id

Role = Literal["sft", "grpo"]


@dataclass(frozen=True)
class CardModel:
    """A teacher or base as a card names it: never by a path of this machine."""

    name: str
    hub: str | None
    """The model's Hub id; None for a local folder."""
    revision: str | None
    licence: str | None

    @property
    def display_name(self) -> str:
        """The model's name in a card."""
        return self.hub or self.name


class MeasuredModel(BaseModel):
    """A model in eval/report.json, as far as a card tells of it."""

    role: str
    sampling: Sampling


class MeasuredSet(BaseModel):
    """A set in eval/report.json, as far as a card tells of it."""

    set: str
    commit: str | None = None
    """Commit of the Hub dataset, where it is one."""
    problems: int | None = None
    models: tuple[MeasuredModel, ...] = ()


@dataclass
class SetCounts:
    """What the set to train on holds, counted row by row."""

    columns: tuple[str, ...] = ()
    count: int = 0
    tokens: int = 0
    """Length of all the assistant's turns, in the student's tokens."""
    sets: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    licences: Counter[str | None] = field(default_factory=Counter)
    teachers: Counter[str | None] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Facts:
    """What cards and licences need to know of a run."""

    run: Run
    data_run: Run
    """The run whose set was trained on; often the run itself."""
    recipe: dict[str, Any]
    stages: dict[str, Any]
    """Summary of each stage, from the run that it was done in."""
    versions: dict[str, str]
    teachers: tuple[CardModel, ...]
    base: CardModel
    rows: SetCounts
    funnel: dict[str, Any]
    """The filter's summary; empty where no filter has run."""
    scores: tuple[Score, ...]
    measured_sets: tuple[MeasuredSet, ...]
    """The sets of eval/report.json; empty where there is none."""
    schedule: dict[str, object]
    """Learning rate, epochs, … as trained; empty where it is not recorded."""
    sampling: Sampling
    """How the student was measured, or what the teacher's authors advise."""
    sampling_is_measured: bool
    """Whether `sampling` is how the student was measured."""
    role: Role | None
    """Which checkpoint is published; None where there is none."""

    @property
    def checkpoint(self) -> Path:
        """The folder of the model that is published."""
        if self.role == "grpo":
            return self.run.folder / "grpo"
        return self.run.student

    def part_hashes(self) -> dict[str, str | None]:
        """Hashes of what a publication came from, by part; None for what this run does not have."""
        data_stages = self.data_run.state().get("stages", {})
        trace_stamp = data_stages.get("generate", {}).get("outputs", {}).get("traces.jsonl")
        stamps = {
            "traces": stamp(self.data_run.traces_file, trace_stamp),
            "set": stamp(self.data_run.sft / "train.parquet"),
            "scores": stamp(self.run.scores_file),
        }
        hash_by_part = {name: str(file_stamp["hash"]) if file_stamp else None for name, file_stamp in stamps.items()}
        return {"recipe": content_id(self.recipe), **hash_by_part}


def gather(run: Run) -> Facts:
    """Read what a run folder tells about itself.

    Raises:
        InputError: this is no run folder, or a file of it cannot be understood.
    """
    state = run.state()
    recipe = state.get("recipe")
    if not isinstance(recipe, dict) or not recipe.get("student"):
        raise InputError("holds no run", where=str(run.folder), fix="give the folder of a finished run with --run")
    data_folder = (recipe.get("sft") or {}).get("data")
    data = Run(Path(data_folder)) if data_folder else run
    rows = _count_rows(data.sft / "train.parquet")
    student = presets.student(recipe["student"])
    role: Role | None = None
    if _holds_model(run.folder / "grpo"):
        role = "grpo"
    elif _holds_model(run.folder / "student"):
        role = "sft"
    scores = _read_scores(run.scores_file)
    measured_sets = _read_measured_sets(run.eval / "report.json")
    sampling, measured = _measured_sampling(recipe, measured_sets, role)
    stages = {**data.state().get("stages", {}), **state.get("stages", {})}
    return Facts(
        run=run,
        data_run=data,
        recipe=dict(recipe),
        stages={name: dict(stage.get("summary") or {}) for name, stage in stages.items()},
        versions=dict(state.get("versions") or {}),
        teachers=tuple(_teachers(recipe, rows)),
        base=_model(student),
        rows=rows,
        funnel=_read_json(data.funnel),
        scores=scores,
        measured_sets=measured_sets,
        schedule=_read_json(run.folder / "training" / "job.json").get("schedule") or {},
        sampling=sampling,
        sampling_is_measured=measured,
        role=role,
    )


def _holds_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()


def _model(preset: Preset) -> CardModel:
    is_local = Path(preset.model).exists() or preset.model.count("/") != 1
    return CardModel(preset.name, None if is_local else preset.model, preset.revision, preset.licence)


def _teachers(recipe: Mapping[str, object], rows: SetCounts) -> list[CardModel]:
    """The models that wrote the rows, or the recipe's where the rows do not tell."""
    names = [name for name in rows.teachers if name] or [str(recipe["teacher"])]
    models = []
    for name in dict.fromkeys(names):
        is_preset = name.lower() in presets.names("teacher")  # open sets write DeepSeek-R1
        try:
            models.append(_model(presets.teacher(name.lower() if is_preset else name)))
        except InputError:  # imported traces name whoever wrote them, and no preset need know that model
            models.append(CardModel(name, None, None, None))
    return models


def _count_rows(path: Path) -> SetCounts:
    counts = SetCounts()
    if not path.is_file():
        return counts
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            counted_columns = ["tokens", "set", "language", "licence", "teacher", "source"]
            counts.columns = tuple(file.schema_arrow.names)
            columns = [name for name in counted_columns if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=columns):
                values = {name: batch.column(name).to_pylist() for name in columns}
                counts.count += batch.num_rows
                counts.tokens += sum(values.get("tokens", ()))
                counts.sets.update(values.get("set", ()))
                counts.languages.update(values.get("language", ()))
                counts.licences.update(values.get("licence", ()))
                counts.teachers.update(values.get("teacher", ()))
                counts.sources.update(source for source in values.get("source", ()) if source)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), fix="run `distill filter` again") from error
    return counts


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        loaded = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise InputError("is not JSON", where=str(path), fix="run the stage that writes it again") from error
    return loaded if isinstance(loaded, dict) else {}


def _read_scores(path: Path) -> tuple[Score, ...]:
    if not path.is_file():
        return ()
    try:
        return TypeAdapter(tuple[Score, ...]).validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError("is not a list of scores", where=str(path), fix="run `distill eval` again") from error


def _read_measured_sets(path: Path) -> tuple[MeasuredSet, ...]:
    try:
        return TypeAdapter(tuple[MeasuredSet, ...]).validate_python(_read_json(path).get("sets", ()))
    except ValidationError as error:
        raise InputError("is not a report of sets", where=str(path), fix="run `distill eval` again") from error


def _measured_sampling(
    recipe: Mapping[str, object], measured_sets: Sequence[MeasuredSet], role: Role | None
) -> tuple[Sampling, bool]:
    for measured_set in measured_sets:
        for model in measured_set.models:
            if model.role == (role or "sft"):
                return model.sampling, True
    return presets.teacher(str(recipe["teacher"])).sampling, False
