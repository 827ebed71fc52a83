"""eval: teacher, base and student on problems that none has seen; scores.json and the generations behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import orjson
from pydantic import Field

from distill.backends import ChosenBackend
from distill.errors import InputError
from distill.evaluation import attempts, lighteval, metrics, report
from distill.evaluation.attempts import AttemptsByProblem
from distill.evaluation.lighteval import Config as Lighteval
from distill.evaluation.protocols import DEFAULT_SAMPLES, PROTOCOLS, ProtocolName, without_system
from distill.models import chat, presets
from distill.models.model import Model
from distill.problems import sets, verifier_files
from distill.run import Run, write_json
from distill.sampling import Identity, Logs, SamplingJob, StoppingRule, choose_backend, collect
from distill.stages import SamplingChoice, Stage, StageJob, StageSummary, load_problems
from distill.types import Problem, Record, Sampling, Score

Role = Literal["teacher", "base", "sft", "grpo"]
_ORDER: tuple[Role, ...] = ("teacher", "base", "sft", "grpo")


class Config(Record):
    problems: str | None = None
    """Problem set, its `test` split unless another is named; None takes the teacher's default."""
    also: tuple[str, ...] = ()
    """Problem sets that are measured on besides `problems`."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many problems of each set are measured on; None takes all."""
    protocol: ProtocolName | None = None
    """Published way to measure: `r1` (0.6 / 0.95 / 32,768 tokens, samples per set as in the paper, no system prompt),
    `greedy`, or None for the teacher's advice. Other settings given here win over it."""
    samples: int | None = Field(None, ge=1, le=1000)
    """Attempts at each problem; None takes the protocol's number, or 4."""
    models: tuple[Role, ...] = ("teacher", "base", "sft")
    """Models to measure, by their roles in the run."""
    sampling: SamplingChoice = SamplingChoice()
    """Sampling parameters of all measured models, where they differ from the protocol's or the teacher's."""
    seed: int = 1
    """Seed of sampling, from which each attempt's own is made."""
    backend: ChosenBackend = ChosenBackend.of({"kind": "auto"})
    """Engine that runs the measured models, as a `kind` with that kind's settings; `auto` takes vLLM where it is
    installed, else transformers."""
    rescore: bool = False
    """Whether nothing is sampled and stored attempts are judged with today's verifiers and gold answers, which needs no
    model and no engine."""
    lighteval: Lighteval | None = None
    """Measures of lighteval's tasks on the model at `backend.endpoints`; None takes none."""


def set_names(config: Config, default: str | None) -> tuple[str, ...]:
    """The problem sets that a config names, each once.

    Args:
        default: the teacher's own.
    """
    primary = config.problems or default
    return tuple(dict.fromkeys(([primary] if primary else []) + list(config.also)))


def problem_sets(job: StageJob[Config]) -> tuple[str, ...]:
    """The problem sets that this eval measures on.

    Raises:
        InputError: there is none.
    """
    refs = set_names(job.config, job.teacher.problems)
    if not refs:
        raise InputError("no problems to evaluate on", where="eval.problems", fix="give --problems: a set or a .jsonl")
    return refs


class EvalSummary(StageSummary):
    """What was measured on."""

    problems: int
    rejected_problems: int
    missing: int = 0
    """Samples that the engine refused."""
    tokens_per_second: dict[Role, float]
    """Of the models that this call sampled."""

    def line(self) -> str:
        text = f"{self.problems:,} problems"
        if self.missing:
            text += f"; {self.missing:,} samples missing, see eval/*.failures.jsonl"
        return text


class EvalStage(Stage[Config]):
    summary = EvalSummary

    def inputs(self, job: StageJob[Config]) -> dict[str, Path]:
        paths = {str(path): path for ref in problem_sets(job) for path in sets.local_files(ref, "test")}
        for role in ("sft", "grpo"):
            if role in job.config.models:
                paths[str(_model_folder(job, role))] = _model_folder(job, role)
        return paths

    def outputs(self, run: Run) -> list[Path]:
        return [run.scores_file, run.eval]

    def facts(self, job: StageJob[Config]) -> dict[str, str]:
        """The verifiers' fingerprint: a changed verifier makes scores stale, and the attempts are judged again."""
        refs = problem_sets(job)
        kinds = {str(sets.find(ref)[0].verifier.get("kind")) for ref in refs}
        rows_files = [path for ref in refs for path in sets.local_files(ref, "test") if path.suffix == ".jsonl"]
        return {"verifiers": attempts.fingerprint(kinds.union(verifier_files.own_verifiers(rows_files)))}

    def run(self, job: StageJob[Config]) -> EvalSummary:
        """Sample each model n times per problem, judge with the problems' verifiers, write scores.json.

        Raises:
            InputError: the student is not trained yet, a problem set cannot be read, or there is nothing to score
                again.
            RunError: no sample of a set could be judged, or lighteval failed.
        """
        config = job.config
        _check_lighteval(config)
        results = _Results()
        models = {role: None if config.rescore else _model(job, role) for role in _ORDER if role in config.models}
        for ref in problem_sets(job):
            _measure(job, ref, models, results)
        _write(job.run, results)
        if config.lighteval:  # hours of sampling are scored by now, whatever another program makes of the model
            results.scores += _lighteval(job, config.lighteval, models)
            _write(job.run, results)
        return EvalSummary(
            problems=sum(set_report.problems for set_report in results.reports),
            rejected_problems=sum(set_report.rejected for set_report in results.reports),
            missing=sum(model.missing for set_report in results.reports for model in set_report.models),
            tokens_per_second={role: round(tokens / seconds, 1) for role, (tokens, seconds) in results.sampled.items()},
        )


STAGE = EvalStage()


def _write(run: Run, results: _Results) -> None:
    write_json(run.scores_file, [score.model_dump(mode="json") for score in results.scores])
    set_reports = [set_report.model_dump(mode="json") for set_report in results.reports]
    write_json(run.eval / "report.json", {"about": report.ABOUT, "sets": set_reports})


@dataclass
class _Results:
    scores: list[Score] = field(default_factory=list)
    reports: list[report.SetReport] = field(default_factory=list)
    sampled: dict[Role, tuple[int, float]] = field(default_factory=dict)
    """Tokens sampled by this call and the seconds they took."""


def _measure(job: StageJob[Config], ref: str, models: Mapping[Role, Model | None], results: _Results) -> None:
    """Measure every model on one set; adds to the results."""
    config = job.config
    name = sets.find(ref)[0].name
    loaded, rejected = _problems(config, ref)
    protocol = PROTOCOLS[config.protocol] if config.protocol else None
    sampling = _sampling(job)
    samples = config.samples or (protocol.samples_on(name) if protocol else DEFAULT_SAMPLES)
    votes = attempts.votable(loaded)
    measured: list[report.ModelReport] = []
    values: list[tuple[str, metrics.MetricValues]] = []
    for role, preset_model in models.items():
        log = job.run.eval / f"{role}.jsonl"
        if preset_model is None:
            identity = attempts.latest_identity(log, loaded)
        else:
            model = logged_model(job, role, preset_model, log)
            identity = _sample(job, role, _sampling_task(job, role, model, loaded, sampling, samples), name, results)
        judged = attempts.judge_log(log, loaded, identity, samples, sampling.max_tokens, job.progress)
        role_values = metrics.values_by_problem(judged, votes)
        values.append((role, role_values))
        scores = metrics.mean_metrics(role_values, judged)
        results.scores.append(
            Score(model=identity.model, role=role, set=loaded[0].set or name, n=samples, metrics=scores)
        )
        measured.append(report.report_model(role, identity, samples, judged, sampling.max_tokens, scores))
    results.reports.append(
        report.SetReport(
            set=loaded[0].set or name,
            commit=sets.hub_commit(ref),
            protocol=config.protocol,
            problems=len(loaded),
            rejected=len(rejected),
            models=tuple(measured),
            differences=report.differences(values),
        )
    )


def stored(
    job: StageJob[Config], role: Role
) -> Iterator[tuple[report.SetReport, report.ModelReport, AttemptsByProblem, metrics.MetricValues]]:
    """A finished eval's record of one model, set by set: the set's report, the model's part of it, and every attempt.

    Raises:
        InputError: that model was not sampled.
    """
    report_rows = orjson.loads((job.run.eval / "report.json").read_bytes())["sets"]
    for ref, row in zip(problem_sets(job), report_rows, strict=True):
        set_report = report.SetReport.model_validate(row)
        log = job.run.eval / f"{role}.jsonl"
        measured = next((model for model in set_report.models if model.role == role), None)
        if measured is None:
            raise InputError(f"has no {role}", where=str(log), fix=f"--set eval.models=[{role}]")
        loaded, _ = _problems(job.config, ref)
        identity = attempts.latest_identity(log, loaded)
        max_tokens = int(measured.sampling["max_tokens"] or 0)
        judged = attempts.judge_log(log, loaded, identity, measured.n, max_tokens, job.progress)
        yield set_report, measured, judged, metrics.values_by_problem(judged, attempts.votable(loaded))


def _problems(config: Config, ref: str) -> tuple[list[Problem], list[sets.RejectedProblem]]:
    """The problems of a set, as the protocol shows them, and its rejected rows."""
    loaded, rejected = load_problems(ref, "test", config.limit)
    if config.protocol and not PROTOCOLS[config.protocol].system_prompt:
        loaded = [without_system(problem) for problem in loaded]
    return loaded, rejected


def _sampling(job: StageJob[Config]) -> Sampling:
    advice = job.teacher.sampling
    if job.config.protocol:
        advice = PROTOCOLS[job.config.protocol].sampling(advice)
    return job.config.sampling.over(advice)


def _sampling_task(
    job: StageJob[Config], role: Role, model: Model, loaded: Sequence[Problem], sampling: Sampling, samples: int
) -> SamplingJob:
    hardware = job.teacher.hardware if role == "teacher" else job.student.hardware
    return SamplingJob(
        problems=loaded,
        model=model,
        sampling=sampling,
        rule=StoppingRule(samples=samples),
        seed=job.config.seed,
        backend=choose_backend(job.config.backend, model, hardware),
    )


def _sample(job: StageJob[Config], role: Role, task: SamplingJob, name: str, results: _Results) -> Identity:
    """Sample the attempts that the log lacks; returns the identity by which they are told from others in it."""
    logs = Logs(job.run.eval / f"{role}.jsonl", job.run.eval / f"{role}.failures.jsonl")
    tally = collect(task, logs, job.progress, f"eval {role} on {name}")
    if tally.seconds:
        tokens, seconds = results.sampled.get(role, (0, 0.0))
        results.sampled[role] = (tokens + tally.tokens, seconds + tally.seconds)
    model = task.model
    template = chat.Tokenizer(model.path, model.revision, model.template).template_hash
    steering = task.new_backend(logs.traces.parent).steering
    return Identity(model.name, model.revision, template, task.sampling, steering)


def _model_folder(job: StageJob[Config], role: Role) -> Path:
    return job.run.student if role == "sft" else job.run.grpo


def _model(job: StageJob[Config], role: Role) -> Model:
    if role == "teacher":
        return presets.as_model(job.teacher)
    if role == "base":
        return presets.as_model(job.student).model_copy(update={"name": f"{job.student.name}-base"})
    folder = _model_folder(job, role)
    if not (folder / "config.json").is_file():
        raise InputError(
            "the student is not trained yet",
            where=str(folder),
            fix=f"run `distill {role}` first, or --set eval.models=[base]",
        )
    trained = {"name": f"{job.student.name}-{role}", "model": str(folder)}
    read_from_folder = dict.fromkeys(("revision", "template", "context"))  # the folder has its own
    return presets.as_model(job.student.model_copy(update={**trained, **read_from_folder}))


def logged_model(job: StageJob[Config], role: Role, model: Model, log: Path) -> Model:
    """Teacher or base at the revision of the attempts that are there, where only the shipped preset has moved on."""
    newest = attempts.newest_trace(log) if role in ("teacher", "base") else None
    if newest is None:
        return model
    logged = (newest.model, newest.revision)
    if role == "teacher":
        return presets.at_logged_revision("teacher", job.teacher, model, logged, log)
    return presets.at_logged_revision("student", job.student, model, logged, log)


def _check_lighteval(config: Config) -> None:
    """Refuse lighteval on several models or without an address.

    Raises:
        InputError: it is not clear which server holds which model.
    """
    if config.lighteval and not config.rescore and (len(config.models) != 1 or not config.backend.endpoints):
        raise InputError(
            "lighteval needs one model and the address where it is served",
            where="eval.lighteval",
            fix="--set eval.models=[sft] --endpoint http://HOST:8000",
        )


def _lighteval(job: StageJob[Config], config: Lighteval, models: Mapping[Role, Model | None]) -> list[Score]:
    folder = job.run.eval / "lighteval"
    scores: list[Score] = []
    for role, model in models.items():
        if model is None:
            scores += lighteval.earlier_scores(role, folder)
            continue
        url = job.config.backend.endpoints[0].rstrip("/").removesuffix("/v1")
        scores += lighteval.measure(config, model, role, url, _sampling(job), folder)
    return scores
