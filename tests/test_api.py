"""The Python face: its names come lazily, and its functions do what the commands do."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import datasets
import orjson
import pandas
import pytest

import distill
from distill.errors import InputError
from distill.recipe import Recipe
from distill.run import Run, write_json
from distill.store import jsonl
from distill.types import Metric, Score
from tests.conftest import GOOD, make_trace

Build = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parent.parent
BAD = "Try 3 * 7 = 21.\n</think>\n\n<answer>3 * 7</answer>"


@pytest.fixture
def recipe(scripted_recipe: Build, tmp_path: Path) -> Recipe:
    """A recipe whose teacher says one right and one wrong thing, loaded as a user does."""
    path = tmp_path / "mine.yaml"
    path.write_bytes(orjson.dumps(scripted_recipe([GOOD, BAD])))
    return distill.load_recipe(path)


def test_importing_the_package_loads_nothing_and_lists_its_names() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nimport distill\n"
        "new = {name for name in set(sys.modules) - before if name.split('.')[0] != 'distill'}\n"
        "assert not new & {'pydantic', 'torch', 'yaml', 'orjson', 'importlib.metadata'}, new\n"
        "assert {name for name in sys.modules if name.startswith('distill')} == {'distill'}\n"
        "assert set(distill.__all__) <= set(dir(distill))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_of_the_face_has_a_docstring_and_others_are_not_there() -> None:
    for name in distill.__all__:
        assert getattr(distill, name).__doc__, name
    assert distill.Run is Run
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        distill.train  # noqa: B018


def test_every_function_of_the_face_shows_an_example() -> None:
    for name in ("load_recipe", "generate", "filter", "sft", "grpo", "evaluate", "publish", "verify"):
        assert f"distill.{name}(" in str(getattr(distill, name).__doc__), name


def test_stages_follow_one_another_and_what_is_fresh_is_skipped(recipe: Recipe, tmp_path: Path) -> None:
    run = distill.generate(recipe, str(tmp_path / "run"), {"generate.limit": 3})
    assert run.folder == tmp_path / "run"
    assert len(list(run.traces())) == 6
    assert "generate: starts" in run.log.read_text()
    filtered = distill.filter(run)
    assert filtered.stage("filter")["summary"]["kept"] == 6
    kept = [row for row in run.verdicts() if row["check"] == "decision" and row["passed"]]
    assert len(kept) == 6
    distill.filter(Run(run.folder))
    assert "filter: unchanged, nothing to do" in run.log.read_text()
    distill.filter(run, changes={"filter.select.per_problem": 1})
    assert run.stage("filter")["summary"]["kept"] == 3
    assert run.state()["recipe"]["generate"]["limit"] == 3, "the changes of the run's own recipe stay"


@pytest.mark.slow
def test_another_folder_takes_the_recipe_along(recipe: Recipe, tmp_path: Path) -> None:
    run = distill.generate(recipe, tmp_path / "run")
    other = distill.filter(run, tmp_path / "other", {"filter.traces": [str(run.folder)]})
    assert other.folder == tmp_path / "other"
    assert other.stage("filter")["summary"]["kept"] == 12
    assert not run.verdicts_file.exists()


@pytest.mark.slow
def test_a_run_belongs_to_its_recipes_name_where_no_folder_is_given(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert distill.generate(recipe).folder == Path("runs/scripted")


@pytest.mark.slow
def test_progress_is_told_only_where_it_is_asked_for(
    recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    distill.generate(recipe, tmp_path / "quiet")
    assert not [line for line in caplog.messages if "of 6 problems" in line or "/6" in line]
    caplog.clear()
    distill.generate(recipe, tmp_path / "told", progress=True)
    assert [line for line in caplog.messages if "/" in line and "/s" in line]
    assert logging.getLogger("distill").handlers == []


@pytest.mark.parametrize(
    ("source", "message"),
    [("tiny", "neither a recipe nor a run"), (Run("nowhere"), "nowhere: holds no recipe yet")],
)
def test_what_is_no_recipe_is_refused(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        distill.filter(source)


def test_wrong_settings_name_the_choices(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean limit"):
        distill.generate(recipe, tmp_path / "run", {"generate.limt": 3})
    with pytest.raises(InputError, match="unknown recipe 'tinny'"):
        distill.load_recipe("tinny")
    with pytest.raises(InputError, match="is a study"):
        distill.generate(distill.load_recipe("tiny-study"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_publish_takes_settings_of_its_own_and_a_run_that_is_there(recipe: Recipe, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(InputError, match="is no run folder"):
        distill.publish(run, "org/name")
    run.start(recipe.model_dump(mode="json"))
    with pytest.raises(InputError, match=r"publish.acept: no such setting.*\n.*publish.accept"):
        distill.publish(run, "org/name", {"publish.acept": ["x"]})
    with pytest.raises(InputError, match=r"publish.public: .*bool"):
        distill.publish(run, "org/name", {"publish.public": "perhaps"})
    with pytest.raises(InputError, match="there is no student"):
        distill.publish(run, "org/name")


@pytest.mark.slow
def test_a_published_set_is_where_the_address_says(recipe: Recipe, tmp_path: Path) -> None:
    run = distill.filter(distill.generate(recipe, tmp_path / "run"))
    url = distill.publish(run, str(tmp_path / "out"), {"publish.dataset": True})
    assert (Path(url) / "README.md").is_file()


@pytest.mark.slow
def test_a_script_that_its_own_worker_imports_again_is_stopped(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, distill\n"
        "from distill.errors import InputError\n"
        "if __name__ == '__mp_main__':\n"
        "    try:\n        distill.filter(distill.Run('x'))\n"
        "    except InputError as error:\n        print(error)\n"
        "else:\n"
        "    worker = multiprocessing.get_context('spawn').Process(target=print)\n"
        "    worker.start()\n    worker.join()\n"
    )
    done = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True)
    assert 'below `if __name__ == "__main__":`' in done.stdout


def test_verify_says_of_rows_and_pairs_in_their_order_whether_they_are_right() -> None:
    rows = [
        {"gold": "1/2", "pred": "<think>2?</think> So \\boxed{0.5}"},
        ("1/2", "0.7"),
        {"gold": {"target": 29, "numbers": [3, 7, 8]}, "pred": "7*3+8", "kind": "countdown", "id": "a"},
        (Fraction(1, 2), "0.5"),
        {"gold": "1"},
    ]
    outcomes = distill.verify(rows)
    assert [outcome.passed for outcome in outcomes] == [True, False, True, True, None]
    assert outcomes[4].reason == "bad_row"
    assert [outcome.passed for outcome in distill.verify([("a", "b")], kind="exact")] == [False]
    assert distill.verify([]) == []


def test_verify_refuses_what_is_no_row_and_no_verifier() -> None:
    with pytest.raises(InputError, match="'12' is no row"):
        distill.verify(["12"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="maths"):
        distill.verify([("1", "1")], kind="maths")


@pytest.mark.slow
def test_many_rows_are_shared_among_workers_in_their_order() -> None:
    outcomes = distill.verify([(str(number), str(number % 7)) for number in range(700)], workers=2)
    assert [number for number, outcome in enumerate(outcomes) if outcome.passed] == list(range(7))


def readme_code() -> str:
    """The code of the README's section on Python."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## From Python\n")[1].split("\n## ")[0]
    return section.split("```python\n")[1].split("```")[0]


def test_the_readmes_code_uses_the_face_and_settings_that_exist() -> None:
    nodes = list(ast.walk(ast.parse(readme_code())))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    names = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "distill"}
    assert {"load_recipe", "generate", "filter", "sft", "evaluate", "verify"} <= names <= set(distill.__all__)
    changes = [ast.literal_eval(node) for node in nodes if isinstance(node, ast.Dict)]
    assert changes
    for change in changes:
        distill.load_recipe("tiny", change)


@pytest.mark.integration
def test_the_readmes_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    cut_down = readme_code().replace('"generate.limit": 200, "eval.limit": 50', '"generate.limit": 40, "eval.limit": 8')
    assert cut_down != readme_code()
    exec(compile(cut_down, "README.md", "exec"), names)
    assert (names["run"].student / "model.safetensors").is_file()
    assert {"base", "sft", "teacher"} == {row["role"] for row in names["run"].scores()}


def test_pandas_and_datasets_take_a_runs_rows_as_they_are(tmp_path: Path) -> None:
    run = Run(str(tmp_path))
    longer = make_trace(BAD + " and more", id="x", sample=1)
    jsonl.write(run.traces_file, [make_trace(BAD, id="x", sample=1), make_trace(id="y"), longer])
    traces = pandas.DataFrame(run.traces())
    assert list(traces["id"]) == ["y", "x"], "of a trace that was continued, the last row"
    assert traces["answer"][1].endswith("and more")
    assert traces["reasoning"][0].startswith("Try 3 * 7 = 21, 21 + 8 = 29.")
    assert pandas.json_normalize(list(run.traces()))["usage.reasoning"].sum() == 10

    loaded = datasets.Dataset.from_generator(run.traces, cache_dir=str(tmp_path / "cache"))
    assert loaded["id"][:] == ["y", "x"]
    with jsonl.Log(run.traces_file) as log:
        log.append(make_trace(id="z"))
    loaded = datasets.Dataset.from_generator(run.traces, cache_dir=str(tmp_path / "cache"))
    assert loaded["id"][:] == ["y", "x", "z"], "what was cached of an earlier state does not count"
    assert datasets.Dataset.from_list(list(run.traces())).num_rows == 3


def test_pandas_and_datasets_take_verdicts_and_scores(tmp_path: Path) -> None:
    run = Run(tmp_path)
    row = {"trace_id": "x", "check": "finish", "passed": None, "reason": "", "score": None, "detail": ""}
    jsonl.write(run.verdicts_file, [row, {**row, "check": "decision", "passed": True, "score": 0.5}])
    assert pandas.DataFrame(run.verdicts()).set_index("check")["passed"]["decision"]
    assert datasets.Dataset.from_list(list(run.verdicts()))["score"][:] == [None, 0.5]

    metrics = {"pass@1": Metric(value=0.5, low=0.4, high=0.6), "tokens": Metric(value=100)}
    scores = [Score(model="m", role=role, set="s", n=4, metrics=metrics) for role in ("base", "sft")]
    write_json(run.scores_file, [score.model_dump(mode="json") for score in scores])
    table = pandas.DataFrame(run.scores()).pivot_table("value", "role", "metric")
    assert table["pass@1"]["sft"] == 0.5
    assert datasets.Dataset.from_list(run.scores())["low"][:] == [0.4, None, 0.4, None]


def test_what_was_not_done_yet_is_named_with_the_command_that_does_it(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for rows, command in ((run.traces, "generate"), (run.verdicts, "filter"), (run.scores, "eval")):
        with pytest.raises(InputError, match=f"is not there yet\n.*distill {command}"):
            list(rows())
