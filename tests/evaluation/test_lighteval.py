"""The bridge to lighteval: its command line, its model file, its results; a stand-in speaks for the program."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.errors import InputError, RunError
from distill.evaluation import lighteval
from distill.evaluation.lighteval import Config
from distill.models.model import Model
from distill.types import Sampling

MODEL = Model(name="tiny-sft", path="some/where", revision="abc", context=2048)
SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=1024)
# the layout of lighteval 0.13's results_*.json (EvaluationTracker.results); values are ours
RESULTS: dict[str, Any] = {
    "config_general": {"lighteval_sha": "?", "job_id": "0", "model_config": {"model_name": "openai/tiny-sft"}},
    "results": {
        "aime24|0": {
            "pass@k:k=1": 0.5,
            "pass@k:k=1_stderr": 0.1,
            "avg@n:n=64": 0.45,
            "avg@n:n=64_stderr": 0.08,
        },
        "gpqa:diamond|0": {"gpqa_pass@k:k=1": 0.25, "gpqa_pass@k:k=1_stderr": float("nan")},
        "mmlu:_average|0": {"acc": 0.3, "acc_stderr": 0.02},
        "all": {"pass@k:k=1": 0.5, "pass@k:k=1_stderr": 0.1},
    },
    "versions": {"aime24|0": 2},
    "config_tasks": {"aime24|0": {"name": "aime24", "metrics": [{"metric_name": "avg@n:n=64"}]}},
    "summary_tasks": {},
    "summary_general": {},
}
STAND_IN = f"""#!{sys.executable}
import json, pathlib, sys, yaml
assert sys.argv[1:5] == ["-m", "lighteval", "endpoint", "litellm"], sys.argv
model = yaml.safe_load(open(sys.argv[5]))["model_parameters"]
print("tasks", sys.argv[6], sys.argv[7:])
if model["base_url"] != "http://there:8000/v1":
    sys.exit("Connection refused")
out = pathlib.Path(sys.argv[8]) / "results" / model["model_name"]
out.mkdir(parents=True, exist_ok=True)
number = len(list(out.iterdir()))
(out / f"results_2025-01-01T00-00-0{{number}}.json").write_text(json.dumps(RESULTS))
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(STAND_IN.replace("json.dumps(RESULTS)", repr(json.dumps(RESULTS))))
    path.chmod(0o755)
    return path


def test_results_become_scores_with_lightevals_own_names_and_errors(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS))
    found = lighteval.read_scores(path, "tiny-sft", "sft")
    assert [(score.set, score.role, score.n) for score in found] == [
        ("lighteval:aime24|0", "sft", 64),
        ("lighteval:gpqa:diamond|0", "sft", 1),
    ]
    aime, gpqa = (score.metrics for score in found)
    assert set(aime) == {"pass@k:k=1", "avg@n:n=64"}
    assert aime["pass@k:k=1"].value == 0.5
    assert aime["pass@k:k=1"].low == pytest.approx(0.5 - 0.196, abs=1e-4)
    assert gpqa["gpqa_pass@k:k=1"].low is None, "an error that is no number gives no interval"


@pytest.mark.parametrize("text", ["{", "[]", '{"results": {"a|0": 3}}', "{}"])
def test_what_is_no_results_file_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(RunError, match="is not a results file of lighteval"):
        lighteval.read_scores(path, "m", "base")


def test_the_program_is_run_in_a_folder_of_its_own(python: Path, tmp_path: Path) -> None:
    config = Config(python=python, tasks=("aime24|0", "gpqa:diamond|0"), limit=5)
    folder = tmp_path / "eval" / "lighteval"
    found = lighteval.measure(config, MODEL, "sft", "http://there:8000", SAMPLING, folder)
    assert [score.set for score in found] == ["lighteval:aime24|0", "lighteval:gpqa:diamond|0"]
    assert {score.model for score in found} == {"tiny-sft"}
    (work,) = folder.iterdir()
    assert (
        "tasks aime24|0,gpqa:diamond|0 ['--output-dir', 'out', '--max-samples', '5']" in (work / "log.txt").read_text()
    )
    told = yaml.safe_load((work / "model.yaml").read_text())["model_parameters"]
    assert told["model_name"] == "openai/tiny-sft"
    assert told["generation_parameters"] == {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 1024}
    assert Path(told["cache_dir"]).parent == work, "a retrained student must not meet the replies of the one before"
    retrained = MODEL.model_copy(update={"revision": "def"})
    lighteval.measure(config, retrained, "sft", "http://there:8000", SAMPLING, folder)
    assert len(list(folder.iterdir())) == 2
    assert lighteval.earlier_scores("sft", folder) == found
    assert lighteval.earlier_scores("base", folder) == []


def test_a_failure_names_its_log(python: Path, tmp_path: Path) -> None:
    config = Config(python=python, tasks=("aime24|0",))
    with pytest.raises(RunError, match=r"log\.txt: lighteval ended with status 1: Connection refused"):
        lighteval.measure(config, MODEL, "sft", "http://nowhere:8000", SAMPLING, tmp_path)
    gone = Config(python=tmp_path / "gone", tasks=("aime24|0",))
    with pytest.raises(InputError, match=r"eval\.lighteval\.python: cannot be started"):
        lighteval.measure(gone, MODEL, "sft", "http://there:8000", SAMPLING, tmp_path)
