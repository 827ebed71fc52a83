"""generate: the teacher's attempts at the problems, appended to traces.jsonl as they finish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from distill.backends import ChosenBackend
from distill.errors import InputError, RunError
from distill.models import presets
from distill.models.model import Model
from distill.models.presets import Teacher
from distill.problems import sets
from distill.run import Run
from distill.sampling import Logs, SamplingJob, StoppingRule, Tally, choose_backend, collect
from distill.sampling import forecast as forecasts
from distill.sampling.forecast import Forecast, Pilot
from distill.sampling.price import Price
from distill.sampling.speed import Stopwatch
from distill.stages import SamplingChoice, Stage, StageJob, StageSummary, load_problems
from distill.store import jsonl
from distill.types import NO_RESULT, Record


class Config(Record):
    problems: str | None = None
    """Problem set, as a name in data/, `name:split`, a .yaml or a .jsonl; None takes the teacher's default."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many problems are sampled; None samples all."""
    samples: int = Field(1, ge=1)
    """Most attempts at one problem."""
    stop_at: int | None = Field(None, ge=1)
    """Correct attempts after which a problem is sampled no more; None takes all `samples`."""
    give_up: int | None = Field(None, ge=1)
    """Attempts after which a problem without a correct one is sampled no more; None never gives up."""
    budgets: tuple[int, ...] = ()
    """Completion tokens at which an unfinished trace is examined: a loop ends there, any other is continued up to the
    last budget. Without any, `sampling.max_tokens` is the only one."""
    sampling: SamplingChoice = SamplingChoice()
    """Sampling parameters of the teacher, where they differ from its preset's."""
    seed: int = 0
    """Seed of sampling, from which each attempt's own is made."""
    retry_failed: Annotated[bool, NO_RESULT] = False
    """Whether requests that the engine refused in an earlier run are sent again."""
    preflight: Annotated[bool, NO_RESULT] = True
    """Whether a few tokens of one problem are sampled first, to see that engine, template and settings fit."""
    backend: ChosenBackend = ChosenBackend.of({"kind": "auto"})
    """Engine that runs the teacher, as a `kind` with that kind's settings; `auto` takes vLLM where it is installed,
    else transformers."""
    price: Annotated[Price | None, NO_RESULT] = None
    """Price of tokens or engine hours, for the live view and the forecast; None takes a hosted API's from `backend`."""

    @field_validator("budgets")
    @classmethod
    def _rising(cls, budgets: tuple[int, ...]) -> tuple[int, ...]:
        if any(budget < 1 for budget in budgets) or list(budgets) != sorted(set(budgets)):
            raise ValueError("budgets are completion tokens in rising order, such as [8192, 16384, 32768]")
        return budgets

    @model_validator(mode="after")
    def _rule(self) -> Config:
        self.rule()
        return self

    def rule(self) -> StoppingRule:
        return StoppingRule(samples=self.samples, stop_at=self.stop_at, give_up=self.give_up)


def problem_set(config: Config, teacher: Teacher) -> str:
    ref = config.problems or teacher.problems
    if ref is None:
        raise InputError("no problems to sample", where="generate.problems", fix="give --problems: a set or a .jsonl")
    return ref


class SetAside(Record):
    """A problem row that could not become a problem."""

    line: int
    reason: str


class GenerateSummary(StageSummary):
    """What was sampled, now and before."""

    problems: int
    rejected_problems: int
    first_rejected: tuple[SetAside, ...]
    solved: int
    """Problems with at least one correct attempt."""
    given_up: int
    """Problems that the rule gave up."""
    traces: int
    accepted: int
    sampled_now: int
    """Replies that this call sampled."""
    continued: int
    """Of these, those that went on from a trace in the log."""
    cancelled: int
    failed: int
    """Requests that the engine refused."""
    tokens: int
    """Completion tokens that this call sampled."""
    tokens_per_accepted: float
    tokens_per_second: float | None
    """None where nothing was sampled."""
    shares: dict[str, float]
    """Share of the tokens by what became of them."""
    engine: str

    def line(self) -> str:
        text = f"{self.traces:,} traces of {self.problems:,} problems ({self.sampled_now:,} new"
        if self.tokens_per_second:
            text += f", {self.tokens:,} tokens at {self.tokens_per_second:,.0f}/s"
        text += ")"
        if self.failed:
            text += f"; {self.failed:,} requests refused, see failures.jsonl"
        if self.rejected_problems:
            first = self.first_rejected[0]
            text += f"; {self.rejected_problems:,} problem rows set aside in problems.rejected.jsonl"
            text += f" (first: line {first.line}, {first.reason})"
        return text


class GenerateStage(Stage[Config]):
    summary = GenerateSummary
    models = ("teacher",)

    def inputs(self, job: StageJob[Config]) -> dict[str, Path]:
        return {str(path): path for path in sets.local_files(problem_set(job.config, job.teacher), "train")}

    def outputs(self, run: Run) -> list[Path]:
        return [run.problems, run.traces_file]

    def run(self, job: StageJob[Config]) -> GenerateSummary:
        """Sample what is missing from the run's log.

        Raises:
            InputError: the log was written by another teacher, template or sampling; or no problem can be read.
            RunError: the engine refused everything.
            Stopped: SIGTERM.
        """
        task, logs, rejected = _prepared(job)
        tally = collect(task, logs, job.progress, "generate")
        if not jsonl.exists(logs.traces):
            raise RunError("nothing was sampled", where=str(logs.failures))
        return _summary(tally, len(task.problems), rejected)


STAGE = GenerateStage()


def forecast(job: StageJob[Config], count: int) -> Forecast:
    """Sample `count` of the problems and say what all of them will take; kept in run.json.

    The traces stay in the log, where a run finds them. A pilot that was there already is not sampled again; its speed
    is then the one that the last forecast measured.

    Raises:
        InputError: as `run`.
        RunError: as `run`, or fewer than two problems of the pilot were sampled.
        Stopped: as `run`.
    """
    task, logs, _ = _prepared(job)
    pilot_problems = forecasts.draw_pilot(task.problems, count)
    watch = Stopwatch()
    tally = collect(replace(task, problems=pilot_problems, on_reply=watch.note), logs, job.progress, "forecast")
    sampled = forecasts.read_pilot(logs, pilot_problems)
    if len(sampled.problems) < 2:
        raise RunError(f"only {len(sampled.problems)} problem of the pilot was sampled", where=str(logs.failures))
    speed = watch.steady_rate()
    engines = tally.engines
    if speed is None and (stored := job.run.state().get("forecast")):
        last = Forecast.model_validate(stored)
        speed = last.tokens_per_second
        engines = last.engines
    expected = forecasts.forecast(
        sampled,
        len(task.problems),
        speed=speed,
        engines=engines,
        price=task.price,
        notes=_notes(task, watch, sampled, task.new_backend(job.run.folder).concurrency),
    )
    job.run.update(forecast=expected.model_dump())
    return expected


def _notes(task: SamplingJob, watch: Stopwatch, pilot: Pilot, concurrency: int) -> list[str]:
    """Notes on what the forecast's figures leave out."""
    notes = []
    cut = sum(spent.cut for spent in pilot.problems)
    if cut:
        cut_share = cut / sum(spent.traces for spent in pilot.problems)
        notes.append(
            f"{cut_share:.1%} of the pilot's traces were cut at {task.token_budgets[-1]:,} tokens: how long they would "
            "have been is not known, and a larger budget takes more than this"
        )
    concurrency = min(concurrency, (len(task.problems) - len(pilot.problems)) * task.rule.samples)
    if 0 < 2 * watch.most_in_flight < concurrency:
        notes.append(
            f"the pilot had at most {watch.most_in_flight:,} requests in flight, the whole may have {concurrency:,}: "
            "it should be faster than this; a larger pilot tells"
        )
    return notes


def _prepared(job: StageJob[Config]) -> tuple[SamplingJob, Logs, list[sets.RejectedProblem]]:
    """The task, its logs, and the rows that are no problem; writes the problems down."""
    config = job.config
    run_folder = job.run
    model = logged_model(run_folder, job.teacher)
    backend = choose_backend(
        config.backend, model, job.teacher.hardware
    )  # first: without an engine nothing else matters
    loaded, rejected = load_problems(problem_set(config, job.teacher), "train", config.limit)
    task = SamplingJob(
        problems=loaded,
        model=model,
        sampling=config.sampling.over(job.teacher.sampling),
        rule=config.rule(),
        budgets=config.budgets,
        seed=config.seed,
        backend=backend,
        graded=True,
        retry_failed=config.retry_failed,
        preflight=config.preflight,
        system_prompt=job.teacher.system_prompt,
        price=_price(config),
        on_metrics=lambda row: run_folder.add_metrics([row]),
    )
    _same_source(run_folder, task)
    jsonl.write(run_folder.problems, loaded)
    jsonl.write(run_folder.rejected, rejected)
    logs = Logs(
        run_folder.traces_file,
        run_folder.failures,
        run_folder.grades,
        run_folder.rates,
        run_folder.censored,
        run_folder.replies,
    )
    return task, logs, rejected


def _price(config: Config) -> Price | None:
    price_out = config.backend.setting("price_out")
    if config.price or price_out is None:
        return config.price
    return Price.model_validate({"input": config.backend.setting("price_in"), "output": price_out})


def _summary(tally: Tally, problems: int, rejected: Sequence[sets.RejectedProblem]) -> GenerateSummary:
    return GenerateSummary(
        problems=problems,
        rejected_problems=len(rejected),
        first_rejected=tuple(SetAside(line=row.line, reason=row.reason) for row in rejected[:3]),
        solved=tally.solved,
        given_up=tally.given_up,
        traces=tally.logged_traces + tally.replies - tally.continued,
        accepted=tally.accepted,
        sampled_now=tally.replies,
        continued=tally.continued,
        cancelled=tally.cancelled,
        failed=tally.refused,
        tokens=tally.tokens,
        tokens_per_accepted=round(tally.tokens_per_accepted, 1),
        tokens_per_second=round(tally.tokens_per_second, 1) if tally.seconds else None,
        shares={fate: round(fraction, 4) for fate, fraction in tally.fate_shares().items()},
        engine=tally.engine,
    )


def logged_model(run_folder: Run, teacher: Teacher) -> Model:
    """The teacher at the revision that the run's traces came from, where only the shipped preset has moved on since."""
    model = presets.as_model(teacher)
    source = run_folder.state().get("source")
    if not source or not jsonl.size(run_folder.traces_file):
        return model
    logged_revision = source["revision"]
    assert logged_revision is None or isinstance(logged_revision, str)
    logged = (str(source["model"]), logged_revision)
    return presets.at_logged_revision("teacher", teacher, model, logged, run_folder.traces_file)


def _same_source(run_folder: Run, task: SamplingJob) -> None:
    """Refuse to mix traces of two teachers or samplings in one log; remembers the first in run.json.

    The rule and the token budgets may change: a later run samples, or continues, what is missing.
    """
    source: dict[str, object] = {
        "model": task.model.name,
        "revision": task.model.revision,
        "think": task.model.tags.model_dump(),
        "template": task.model.template,
        "sampling": task.sampling.identity(),
        "seed": task.seed,
    }
    if steering := task.new_backend(run_folder.folder).steering:
        source["steering"] = dict(steering)
    earlier = run_folder.state().get("source")
    if earlier and earlier != source and jsonl.size(run_folder.traces_file):
        changed_keys = [key for key in {**source, **earlier} if earlier.get(key) != source.get(key)]
        changed = "; ".join(f"{key}: {earlier.get(key)} → {source.get(key)}" for key in changed_keys)
        raise InputError(
            f"its traces were sampled differently ({changed})",
            where=str(run_folder.traces_file),
            fix="change that back, or give another folder with --run (filter can read both: --traces A --traces B)",
        )
    run_folder.update(source=source)
