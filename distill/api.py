"""The Python face: what the commands do, as functions for a notebook or a program; `import distill` offers them.

A stage takes a recipe or a run and gives the run back, so that stages follow one another as the commands do. What a
command does, its function does as well: it skips what is fresh, goes on where it was stopped, and raises a
`distill.errors.DistillError` that names the value, the place and the remedy.

    recipe = distill.load_recipe("tiny", {"generate.limit": 200})
    run = distill.generate(recipe, "runs/mine", progress=True)
    distill.filter(run)
    distill.sft(run)
    distill.evaluate(run).scores()

A script keeps such calls below `if __name__ == "__main__":`, since the worker processes import it again.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from distill import pipeline
from distill import recipe as recipes
from distill.errors import InputError, from_validation, suggest
from distill.evaluation import answer_pairs
from distill.progress import LOG, LogLines, Progress, Silent, log_to, shown_on_stderr
from distill.recipe import Recipe, StageName
from distill.run import Run
from distill.stages import publish as publishing
from distill.types import Outcome

Changes = Mapping[str, object]
"""Settings to change, by dotted name as in `--set`: `{"sft.epochs": 2}`."""


def load_recipe(ref: str | Path, changes: Changes | None = None) -> Recipe:
    """Load a shipped recipe by its name, or one of your own by the path of its .yaml.

        recipe = distill.load_recipe("tiny", {"generate.limit": 200, "sft.epochs": 2})

    Raises:
        InputError: an unknown recipe, setting or kind, or a value of the wrong type; names the place and the choices.
    """
    return recipes.load(str(ref), option_changes=changes)


def generate(
    source: Recipe | Run, folder: str | Path | None = None, changes: Changes | None = None, *, progress: bool = False
) -> Run:
    """Sample the teacher until enough traces of each problem are right.

        run = distill.generate(distill.load_recipe("tiny"), "runs/mine", {"generate.limit": 200})
        pandas.DataFrame(run.traces())[["problem_id", "reasoning", "answer", "finish"]]

    Args:
        source: a recipe, or a run, whose own recipe counts.
        folder: of the run; the run's own when not given, `runs/NAME` for a recipe.
        changes: settings to change in the recipe, by dotted name.
        progress: say on stderr how far it is; without it only warnings are shown. The run's log.txt has all of it.

    Raises:
        InputError: what was given is wrong, or the folder holds a run of another recipe.
        RunError: the input was fine, and a server, a process or the disk failed.
    """
    return _run_stage("generate", source, folder, changes, progress)


def filter(
    source: Recipe | Run, folder: str | Path | None = None, changes: Changes | None = None, *, progress: bool = False
) -> Run:
    """Judge every trace by every check, and write the set to train on; arguments and errors are those of `generate`.

    run = distill.filter(Run("runs/mine"), changes={"filter.checks.length.max_tokens": 200})
    pandas.DataFrame(run.verdicts()).query("check == 'decision'").value_counts("reason")
    """
    return _run_stage("filter", source, folder, changes, progress)


def sft(
    source: Recipe | Run, folder: str | Path | None = None, changes: Changes | None = None, *, progress: bool = False
) -> Run:
    """Fine-tune the student on the filtered set; arguments and errors are those of `generate`.

    run = distill.sft(Run("runs/mine"), changes={"sft.epochs": 2})
    transformers.AutoModelForCausalLM.from_pretrained(run.student)
    """
    return _run_stage("sft", source, folder, changes, progress)


def grpo(
    source: Recipe | Run, folder: str | Path | None = None, changes: Changes | None = None, *, progress: bool = False
) -> Run:
    """Train the student on by its own attempts, and measure it before and after; arguments as those of `generate`.

    run = distill.grpo(Run("runs/mine"), changes={"grpo.steps": 10})
    """
    return _run_stage("grpo", source, folder, changes, progress)


def evaluate(
    source: Recipe | Run, folder: str | Path | None = None, changes: Changes | None = None, *, progress: bool = False
) -> Run:
    """Measure teacher, base and student on problems that none has seen; arguments and errors as those of `generate`.

    run = distill.evaluate(Run("runs/mine"))
    pandas.DataFrame(run.scores()).pivot_table("value", "role", "metric")
    """
    return _run_stage("eval", source, folder, changes, progress)


def publish(run: Run, to: str, changes: Changes | None = None, *, progress: bool = False) -> str:
    """Publish the student, or the set it was trained on, and return the address.

    Everything is read back, compared and loaded before it counts, and a licence's conditions stop it until you
    acknowledge them. On the Hub it is private unless you say otherwise.

        distill.publish(run, "./my-student")
        distill.publish(run, "org/my-traces", {"publish.dataset": True, "publish.accept": ["llama3.1"]})

    Args:
        to: `org/name` on the Hub, or a folder that begins with `.` or `/`.
        changes: settings of `publish`, by dotted name.

    Raises:
        InputError: there is nothing to publish, a licence stands against it, or the Hub refuses the token.
        RunError: the Hub or the disk fails, or what was read back differs or does not load.
    """
    if not run.json.is_file():
        raise InputError("is no run folder", where=str(run.folder), fix="give a finished run, such as Run('runs/tiny')")
    config = _publish_config(to, changes or {})
    with _messages(run, progress):
        receipt = publishing.run(run, config, lambda step: LOG.info("publish: %s", step))
    return receipt.url


def verify(
    rows: Iterable[Mapping[str, object] | tuple[object, object]], kind: str = "math", workers: int = 1
) -> list[Outcome]:
    """Say of each answer whether it is right, in the order of the rows.

        [outcome] = distill.verify([("1/2", "I make it \\\\boxed{0.5}.")])
        assert outcome.passed
        distill.verify([{"gold": {"target": 29, "numbers": [3, 7, 8]}, "pred": "7*3+8", "kind": "countdown"}])

    Args:
        rows: each `{"gold", "pred", "kind"?}` or a pair of gold and pred. `pred` may be a bare answer or a whole
            reply, of which everything up to the last `</think>` is left out.
        kind: the verifier of the rows that name none, or the path of your own.
        workers: processes; more than one pays from some thousand rows on.

    Returns: outcomes, whose `passed` is True, False, or None where nobody can tell; a row that makes no sense has the
        reason `bad_row`.

    Raises:
        InputError: there is no verifier `kind` that works without settings.
        RunError: a verifier cannot work here at all (no sandbox, say).
    """
    return list(answer_pairs.outcomes(map(_pair_row, rows), kind, workers))


def _pair_row(row: Mapping[str, object] | tuple[object, object]) -> Mapping[str, object]:
    if isinstance(row, Mapping):
        return row
    if not isinstance(row, tuple) or len(row) != 2:
        raise InputError(
            f"{row!r:.80} is no row", where="verify", fix='give rows {"gold": …, "pred": …} or pairs of the two'
        )
    gold, prediction = row
    return {"gold": gold, "pred": prediction}


def _run_stage(
    stage: StageName, source: Recipe | Run, folder: str | Path | None, changes: Changes | None, progress: bool
) -> Run:
    _refuse_second_import()
    recipe, run = _resolve(source, folder, changes)
    if recipe.study:
        raise InputError(
            f"the recipe {recipe.name} is a study, which has its stages run itself",
            where=f"distill.{stage}",
            fix=f"`distill run {recipe.name}` on the command line",
        )
    recipe, stages = pipeline.with_grpo_eval(run, recipe, (stage,))
    with _messages(run, progress) as reporter:
        if stage == "generate":
            for finding in publishing.before_sampling(recipe.teacher, recipe.student):
                LOG.warning("%s %s (%s): %s", finding.part, finding.source, finding.licence, finding.message)
        for _ in pipeline.run_stages(run, recipe, stages, reporter):
            pass  # their summaries are in run.json
    return run


def _refuse_second_import() -> None:
    """Stop a script that a worker process imports again, before it begins a second run of itself.

    Raises:
        InputError: this process is such a worker.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise InputError(
            "the script begins again in its own worker process",
            where="__main__",
            fix='put the calls of distill below `if __name__ == "__main__":`',
        )


def _resolve(source: Recipe | Run, folder: str | Path | None, changes: Changes | None) -> tuple[Recipe, Run]:
    """The recipe with the changes, and the run that is meant."""
    if isinstance(source, Run):
        stored_recipe = source.state().get("recipe")
        if not stored_recipe:
            raise InputError("holds no recipe yet", where=str(source.folder), fix="give a recipe, and this as folder")
        recipe = recipes.build(dict(stored_recipe), option_changes=changes, where=str(source.json))
        return recipe, Run(folder or source.folder)
    if not isinstance(source, Recipe):
        raise InputError(
            f"{source!r} is neither a recipe nor a run", fix="give load_recipe('tiny') or Run('runs/tiny')"
        )
    recipe = source
    if changes:
        recipe = recipes.build(source.model_dump(mode="json"), option_changes=changes, where=f"recipe {source.name}")
    return recipe, Run(folder or Path("runs") / recipe.name)


def _publish_config(to: str, changes: Changes) -> publishing.Config:
    names = [f"publish.{field}" for field in publishing.Config.model_fields]
    for name in changes:
        if name not in names:
            raise InputError(f"{name}: no such setting of publish", fix=suggest(name, names))
    values = {name.removeprefix("publish."): value for name, value in changes.items()}
    try:
        return publishing.Config.model_validate({"to": to, **values})
    except ValidationError as error:
        raise from_validation(error, "settings", "publish") from error


@contextmanager
def _messages(run: Run, progress: bool) -> Iterator[Progress]:
    """Messages go to the run's log.txt, and on stderr warnings are shown, or all of them where progress is asked for.

    A program that has set up logging itself gets them through its own handlers instead of on stderr.
    """
    with shown_on_stderr(logging.INFO if progress else logging.WARNING):
        try:
            file = log_to(run.log)
        except OSError as error:
            raise InputError(
                f"cannot use this run folder: {error.strerror}", where=str(run.folder), fix="give another folder"
            ) from error
        try:
            yield LogLines() if progress else Silent()
        finally:
            LOG.removeHandler(file)
            file.close()
