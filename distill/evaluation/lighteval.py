"""lighteval's tasks on a model that we serve: run in an environment of its own, its numbers brought into scores.json.

lighteval 0.13 pins packages that cannot live beside ours, so it is called as a program, with the interpreter of the
environment that it is installed in: `pip install 'lighteval[litellm]==0.13.0' 'huggingface_hub<1' 'xxhash<4'` (with
newer ones of these two it fails). It reads its list of tasks and their data from the network. It speaks to the server
through litellm, as any client of an OpenAI-compatible API; prompts, graders and few-shot examples are its own, so its
numbers compare with other people's lighteval numbers, and with ours only roughly. Command line and results file are
those of 0.13 (`lighteval/main_endpoint.py`, `models/endpoints/litellm_model.py`, `logging/evaluation_tracker.py`).
"""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Literal

import yaml
from pydantic import Field

from distill.errors import InputError, RunError, writing
from distill.models.model import Model
from distill.progress import LOG
from distill.types import NO_RESULT, Metric, Record, Sampling, Score, content_id

Role = Literal["teacher", "base", "sft", "grpo"]
_OPENAI_PREFIX = "openai/"  # litellm's, for any server that speaks OpenAI's protocol
_STDERR_SUFFIX = "_stderr"
_SAMPLES_IN_NAME = re.compile(r"[:&][nk]=(\d+)")
_Z = NormalDist().inv_cdf(0.975)


class Config(Record):
    python: Annotated[Path, NO_RESULT]
    """Interpreter of a separate environment that has `lighteval[litellm]`."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of lighteval's tasks, `TASK` or `TASK|SHOTS`, such as `aime24|0`; `lighteval tasks list` shows all."""
    custom_tasks: Path | None = None
    """Python file of further tasks, as lighteval's own option takes it; None for lighteval's tasks only."""
    concurrency: Annotated[int, NO_RESULT] = Field(32, ge=1)
    """Most requests in flight."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many problems of each task, to try it out; None measures all. Lighteval itself says that such
    numbers mean nothing."""


def measure(config: Config, model: Model, role: Role, url: str, sampling: Sampling, folder: Path) -> list[Score]:
    """Run the tasks against a server and read what came out; a Score per task.

    Args:
        url: where the model is served, without `/v1`.
        folder: takes settings, caches, results and log; one for each set of weights, as lighteval caches replies.

    Raises:
        InputError: there is no such interpreter.
        RunError: lighteval failed, or left no results; the message names its log.
    """
    work = folder / f"{role}-{content_id(model.name, model.revision)[:10]}"
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        (work / "model.yaml").write_text(yaml.safe_dump(settings(config, model, url, sampling, work)))
    earlier_results = set(_results(work))
    log = work / "log.txt"
    command_line = command(config, Path("model.yaml"), Path("out"))
    LOG.info("lighteval: %s (log: %s)", " ".join(command_line), log)
    try:
        with writing(log), log.open("wb") as log_file:
            process = subprocess.run(
                command_line, cwd=work, stdin=subprocess.DEVNULL, stdout=log_file, stderr=subprocess.STDOUT, check=False
            )
    except RunError as error:
        raise InputError(
            f"cannot be started: {config.python}", where="eval.lighteval.python", fix="give an environment's bin/python"
        ) from error
    new_results = sorted(set(_results(work)) - earlier_results)
    if process.returncode or not new_results:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        last_line = lines[-1][:200] if lines else "it said nothing"
        raise RunError(f"lighteval ended with status {process.returncode}: {last_line}", where=str(log))
    return read_scores(new_results[-1], model.name, role)


def earlier_scores(role: Role, folder: Path) -> list[Score]:
    """The scores of the newest results that an earlier run left, if any."""
    newest = max(folder.glob(f"{role}-*/out/results/**/results_*.json"), key=lambda path: path.name, default=None)
    if newest is None:
        return []
    model = yaml.safe_load((folder / newest.relative_to(folder).parts[0] / "model.yaml").read_text())
    return read_scores(newest, str(model["model_parameters"]["model_name"]).removeprefix(_OPENAI_PREFIX), role)


def settings(config: Config, model: Model, url: str, sampling: Sampling, work: Path) -> dict[str, object]:
    """The model file that lighteval reads: where the model is and how it is sampled."""
    parameters = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_new_tokens": sampling.max_tokens,
    }
    return {
        "model_parameters": {
            "model_name": _OPENAI_PREFIX + model.name,
            "provider": "openai",
            "base_url": f"{url}/v1",
            "api_key": "none",  # the client insists on one
            "concurrent_requests": config.concurrency,
            "max_model_length": model.context,
            "cache_dir": str(work.resolve() / "cache"),
            "generation_parameters": parameters,
        }
    }


def command(config: Config, model: Path, output_dir: Path) -> list[str]:
    """lighteval's command line; run in the folder that holds the model file, since litellm caches where it stands."""
    options = []
    if config.limit:
        options += ["--max-samples", str(config.limit)]
    if config.custom_tasks:
        options += ["--custom-tasks", str(config.custom_tasks.absolute())]
    program = [str(config.python.absolute()), "-m", "lighteval", "endpoint", "litellm"]
    return [*program, str(model), ",".join(config.tasks), "--output-dir", str(output_dir), *options]


def _results(work: Path) -> list[Path]:
    return sorted((work / "out" / "results").rglob("results_*.json"))


def read_scores(path: Path, model: str, role: Role) -> list[Score]:
    """Scores of a results file: a set `lighteval:TASK|SHOTS` each, with lighteval's own metrics under their own names.

    An interval is ± 1.96 of lighteval's standard error, which is over problems. Averages over tasks are left out.

    Raises:
        RunError: the file is not one of lighteval's.
    """
    try:
        results = json.loads(path.read_bytes())["results"]  # not orjson: lighteval writes NaN
        return [
            Score(
                model=model,
                role=role,
                set=f"lighteval:{task}",
                n=_samples(values),
                metrics=_metrics(values),
            )
            for task, values in results.items()
            if task != "all" and ":_average|" not in task
        ]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"is not a results file of lighteval: {error!r}", where=str(path)) from error


def _metrics(values: Mapping[str, object]) -> dict[str, Metric]:
    metrics = {}
    for name, value in values.items():
        if name.endswith(_STDERR_SUFFIX) or not isinstance(value, int | float) or not math.isfinite(value):
            continue
        error = values.get(name + _STDERR_SUFFIX)
        if isinstance(error, int | float) and math.isfinite(error):
            metrics[name] = Metric(value=value, low=value - _Z * error, high=value + _Z * error)
        else:
            metrics[name] = Metric(value=value)
    return metrics


def _samples(values: Mapping[str, object]) -> int:
    """Samples per problem, which lighteval writes into its metrics' names: `avg@n:n=64`, `pass@k:k=1&n=16`."""
    return max((int(number) for name in values for number in _SAMPLES_IN_NAME.findall(name)), default=1)
