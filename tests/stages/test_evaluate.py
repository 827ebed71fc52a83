"""The eval stage on the scripted backend: what is sampled, what is scored, and what is scored again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from distill.errors import InputError, RunError
from distill.evaluation import lighteval
from distill.models import presets
from distill.problems import sets
from distill.run import Run
from distill.stages import StageJob, evaluate
from distill.store import jsonl
from distill.types import Trace
from tests.conftest import make_job

RIGHT = "12 it is.\n</think>\n\nThe answer is \\boxed{12}."
WRONG = "13 it is.\n</think>\n\nThe answer is \\boxed{13}."
CUT = "1, 2, 3"


def job(folder: Path, replies: list[str] | None = None, **config: Any) -> StageJob[evaluate.Config]:
    config.setdefault("problems", str(folder / "sums.jsonl"))
    config.setdefault("models", ["teacher", "base"])
    config.setdefault("backend", {"kind": "scripted", "replies": replies or [RIGHT, WRONG]})
    return make_job(folder / "run", evaluate.Config.model_validate(config))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"problem": f"What is {n} + {12 - n}?", "answer": "12"} for n in range(6)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def scores(folder: Path) -> list[dict[str, Any]]:
    found = json.loads((folder / "run" / "scores.json").read_text())
    assert isinstance(found, list)
    return found


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "eval" / "report.json").read_text())
    return found


def test_scores_are_a_list_in_the_format_that_others_read(folder: Path) -> None:
    summary = evaluate.STAGE.run(job(folder))
    assert (summary.problems, summary.rejected_problems, summary.missing) == (6, 0, 0)
    rows = scores(folder)
    assert [(row["role"], row["set"], row["n"]) for row in rows] == [("teacher", "sums", 4), ("base", "sums", 4)]
    for row in rows:
        assert set(row) == {"model", "role", "set", "n", "metrics"}
        assert all(set(metric) == {"value", "low", "high"} for metric in row["metrics"].values())
        found = {name: metric["value"] for name, metric in row["metrics"].items()}
        traces = list(jsonl.read(folder / "run" / "eval" / f"{row['role']}.jsonl", Trace))
        right = dict.fromkeys((trace.problem_id for trace in traces), 0)
        for trace in traces:
            right[trace.problem_id] += trace.completion == RIGHT
        assert found["pass@1"] == pytest.approx(sum(right.values()) / 24)
        assert found["pass@4"] == sum(count > 0 for count in right.values()) / 6
        assert found["cons@4"] == sum((count > 2) + (count == 2) / 2 for count in right.values()) / 6
        assert (found["truncated"], found["unclosed"], found["answered"]) == (0, 0, 1)
        assert found["tokens"] == found["tokens_p50"] == pytest.approx(traces[0].usage.completion)
    assert [name for name in rows[0]["metrics"] if "@" in name] == ["pass@1", "pass@2", "pass@4", "cons@4", "cons@2"]


def test_the_report_holds_differences_curves_and_no_question(folder: Path) -> None:
    evaluate.STAGE.run(job(folder))
    found = report(folder)
    assert "Nobody tells the model" in found["about"]["budget"]
    (one,) = found["sets"]
    assert (one["set"], one["commit"], one["protocol"], one["problems"]) == ("sums", None, None, 6)
    gaps = {gap["metric"]: gap for gap in one["differences"]}
    assert set(gaps) == {"pass@1", "cons@4", "tokens"}
    first, second = ({row["role"]: row for row in scores(folder)}[role] for role in ("base", "teacher"))
    assert gaps["pass@1"]["first"] == "base"
    expected = first["metrics"]["pass@1"]["value"] - second["metrics"]["pass@1"]["value"]
    assert gaps["pass@1"]["value"] == pytest.approx(expected)
    assert gaps["pass@1"]["problems"] == 6
    assert 0 < gaps["pass@1"]["p"] <= 1
    for model in one["models"]:
        curve = [(point["at"], point["metrics"]["pass@1"]["value"]) for point in model["budget"]]
        assert curve[-1] == (480, model["rerun"]["pass@1"]["value"])
        assert [value for _, value in curve] == sorted(value for _, value in curve)
        assert [point["at"] for point in model["samples"]] == [1, 2, 4]
    assert "What is" not in json.dumps(found)


def test_the_same_again_samples_nothing_and_a_changed_gold_is_scored_again(folder: Path) -> None:
    evaluate.STAGE.run(job(folder))
    first = scores(folder)
    generations = (folder / "run" / "eval" / "teacher.jsonl").read_bytes()
    text = (folder / "sums.jsonl").read_text().replace('"12"', '"13"')
    (folder / "sums.jsonl").write_text(text)
    evaluate.STAGE.run(job(folder, backend={"kind": "scripted", "fail_first": 10**9}))
    again = scores(folder)
    assert again[0]["metrics"]["pass@1"]["value"] == pytest.approx(1 - first[0]["metrics"]["pass@1"]["value"])
    assert (folder / "run" / "eval" / "teacher.jsonl").read_bytes() == generations


def test_rescoring_needs_no_model_and_no_engine(folder: Path, tmp_path: Path) -> None:
    evaluate.STAGE.run(job(folder))
    first = scores(folder)
    teacher = presets.teacher("tiny").model_copy(update={"model": str(tmp_path / "gone")})
    moved = job(folder, rescore=True, backend={"kind": "vllm", "endpoints": ["http://127.0.0.1:9"]})
    evaluate.STAGE.run(StageJob(moved.run, moved.config, teacher, moved.student, moved.progress))
    assert scores(folder) == first
    with pytest.raises(InputError, match=r"grpo\.jsonl: holds no generation of these problems[\s\S]*distill eval"):
        evaluate.STAGE.run(job(folder, rescore=True, models=["grpo"]))


def test_rescoring_takes_the_newest_of_several_samplings(folder: Path) -> None:
    evaluate.STAGE.run(job(folder, [WRONG], models=["teacher"], sampling={"temperature": 1.0}))
    evaluate.STAGE.run(job(folder, [RIGHT], models=["teacher"]))
    evaluate.STAGE.run(job(folder, models=["teacher"], rescore=True))
    assert scores(folder)[0]["metrics"]["pass@1"]["value"] == 1


def test_a_retrained_student_is_not_scored_on_what_it_said_before(folder: Path) -> None:
    run = Run(folder / "run")
    shutil.copytree(presets.student("tiny").model, run.student)
    evaluate.STAGE.run(job(folder, [WRONG], models=["sft"]))
    (run.student / "generation_config.json").write_text('{"temperature": 0.7}')
    evaluate.STAGE.run(job(folder, [RIGHT], models=["sft"]))
    assert scores(folder)[0]["model"] == "tiny-sft"
    assert scores(folder)[0]["metrics"]["pass@1"]["value"] == 1
    assert len(list(jsonl.read(run.eval / "sft.jsonl", Trace))) == 48


def test_a_smaller_budget_counts_longer_generations_as_cut_and_wrong(folder: Path) -> None:
    evaluate.STAGE.run(job(folder, [RIGHT], models=["teacher"]))
    evaluate.STAGE.run(job(folder, [RIGHT], models=["teacher"], sampling={"max_tokens": 8}))
    found = scores(folder)[0]["metrics"]
    assert (found["pass@1"]["value"], found["truncated"]["value"], found["tokens"]["value"]) == (0, 1, 8)
    assert len(list(jsonl.read(folder / "run" / "eval" / "teacher.jsonl", Trace))) == 24, "nothing is sampled again"


def test_how_generations_end_is_told_apart(folder: Path) -> None:
    loop = "again and again and so on, " * 10
    chinese = "我们需要求出这个和的值是多少。\n</think>\n\n\\boxed{12}"
    for replies, expected in {
        CUT: {"unclosed": 1, "answered": 0, "pass@1": 0},
        "12\n</think>\n\n12": {"unclosed": 0, "answered": 0, "pass@1": 1},
        loop + "\n</think>\n\n\\boxed{12}": {"repetition": 1, "language": 0, "pass@1": 1},
        chinese: {"repetition": 0, "language": 1, "pass@1": 1},
    }.items():
        evaluate.STAGE.run(job(folder, [replies], models=["teacher"], seed=len(replies), samples=1, limit=2))
        found = scores(folder)[0]["metrics"]
        assert {name: found[name]["value"] for name in expected} == expected, replies
        shutil.rmtree(folder / "run" / "eval")


def test_undecidable_samples_are_left_out_and_counted(folder: Path) -> None:
    rows = [{"problem": "Why?"}, {"problem": "What is 12?", "answer": "12"}]
    (folder / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluate.STAGE.run(job(folder, [RIGHT], problems=str(folder / "mixed.jsonl"), models=["teacher"]))
    found = scores(folder)[0]["metrics"]
    assert (found["pass@1"]["value"], found["undecided"]["value"]) == (1, 0.5)
    (folder / "none.jsonl").write_text('{"problem": "Why?"}\n')
    with pytest.raises(RunError, match="none of the 4 samples could be judged"):
        evaluate.STAGE.run(job(folder, problems=str(folder / "none.jsonl"), models=["teacher"]))


def test_refused_requests_are_missing_samples_not_wrong_ones(folder: Path) -> None:
    rows = [{"problem": "word " * 3000, "answer": "12"}, {"problem": "What is 12?", "answer": "12"}]
    (folder / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = evaluate.STAGE.run(job(folder, [RIGHT], problems=str(folder / "long.jsonl"), models=["teacher"]))
    assert summary.missing == 4
    assert report(folder)["sets"][0]["models"][0]["missing"] == 4
    assert scores(folder)[0]["metrics"]["pass@1"]["value"] == 1


def test_a_protocol_sets_sampling_and_what_the_recipe_says_wins(folder: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    row = {"messages": [system, {"role": "user", "content": "6 + 6?"}], "answer": "12"}
    (folder / "aime24.jsonl").write_text(json.dumps(row) + "\n")
    asked: dict[str, Any] = {"problems": str(folder / "aime24.jsonl"), "models": ["teacher"]}
    evaluate.STAGE.run(job(folder, [RIGHT], protocol="r1", **asked))
    (model,) = report(folder)["sets"][0]["models"]
    assert model["sampling"] == {"temperature": 0.6, "top_p": 0.95, "top_k": None, "max_tokens": 32768}
    assert scores(folder)[0]["n"] == 64, "as in the paper"
    evaluate.STAGE.run(job(folder, [RIGHT], protocol="r1", samples=2, sampling={"temperature": 0.7}, **asked))
    (model,) = report(folder)["sets"][0]["models"]
    assert (model["sampling"]["temperature"], model["n"]) == (0.7, 2)
    evaluate.STAGE.run(job(folder, [RIGHT], protocol="greedy", **asked))
    (model,) = report(folder)["sets"][0]["models"]
    assert (model["sampling"]["temperature"], model["sampling"]["max_tokens"], model["n"]) == (0, 480, 1)
    traces = list(jsonl.read(folder / "run" / "eval" / "teacher.jsonl", Trace))
    shown = {problem.id: problem.messages for problem in sets.load(asked["problems"], "test")}
    assert traces[0].problem_id not in shown, "r1 has no system prompt: what it says stands in the user's turn"
    assert traces[-1].problem_id in shown


def test_several_sets_are_scored_apart(folder: Path) -> None:
    (folder / "more.jsonl").write_text('{"problem": "3 * 4?", "answer": "12"}\n')
    evaluate.STAGE.run(job(folder, [RIGHT], also=[str(folder / "more.jsonl")], samples=1))
    assert [(row["role"], row["set"]) for row in scores(folder)] == [
        ("teacher", "sums"),
        ("base", "sums"),
        ("teacher", "more"),
        ("base", "more"),
    ]
    assert scores(folder)[2]["metrics"]["pass@1"] == {"value": 1, "low": None, "high": None}
    assert str(folder / "more.jsonl") in evaluate.STAGE.inputs(job(folder, also=[str(folder / "more.jsonl")]))


def test_what_is_missing_is_said(folder: Path) -> None:
    with pytest.raises(InputError, match=r"not trained yet[\s\S]*distill sft"):
        evaluate.STAGE.run(job(folder, models=["sft"]))
    with pytest.raises(InputError, match=r"eval\.lighteval: lighteval needs one model[\s\S]*--endpoint"):
        evaluate.STAGE.run(job(folder, lighteval={"python": "python", "tasks": ["aime24|0"]}))


def test_verifiers_are_part_of_what_makes_scores_fresh(folder: Path) -> None:
    mine = folder / "mine.py"
    mine.write_text("from distill.verifiers.exact import Config, build\n")
    sums = folder / "own.yaml"
    sums.write_text(f"name: own\nsource: jsonl\nsplits: {{test: sums.jsonl}}\nverifier: {{kind: {mine}}}\n")
    before = evaluate.STAGE.facts(job(folder, problems=str(sums)))
    assert before == evaluate.STAGE.facts(job(folder, problems=str(sums)))
    mine.write_text("from distill.verifiers.math import Config, build\n")
    assert evaluate.STAGE.facts(job(folder, problems=str(sums))) != before


def test_lightevals_numbers_stand_beside_ours_and_stay_when_scored_again(folder: Path) -> None:
    python = folder / "python"
    found = {"results": {"mine|0": {"acc": 0.5, "acc_stderr": 0.1}, "all": {"acc": 0.5}}}
    results = "out/results/openai/tiny/results_2025-01-01T00-00-00.json"
    python.write_text(f"#!/bin/sh\nmkdir -p $(dirname {results})\necho '{json.dumps(found)}' > {results}\n")
    python.chmod(0o755)
    wanted: dict[str, Any] = {"models": ["teacher"], "lighteval": {"python": str(python), "tasks": ["mine|0"]}}
    backend = {"kind": "scripted", "replies": [RIGHT]}
    evaluate.STAGE.run(job(folder, models=["teacher"], backend=backend))
    config = job(folder, **wanted, rescore=True)
    evaluate.STAGE.run(config)
    assert [row["set"] for row in scores(folder)] == ["sums"], "there is nothing of lighteval's yet"
    assert config.config.lighteval
    model = presets.as_model(presets.teacher("tiny"))
    there = config.run.eval / "lighteval"
    lighteval.measure(config.config.lighteval, model, "teacher", "http://h:1", model.sampling, there)
    evaluate.STAGE.run(config)
    assert [row["set"] for row in scores(folder)] == ["sums", "lighteval:mine|0"]
    assert scores(folder)[1]["metrics"]["acc"]["value"] == 0.5


@pytest.mark.parametrize("step", [5, 6, 8])
def test_a_point_of_the_budget_curve_is_what_that_budget_gives(step: int, folder: Path) -> None:
    replies = [f"{'so ' * count}\n</think>\n\n\\boxed{{12}}" for count in (2, 6, 14, 60)]
    evaluate.STAGE.run(job(folder, replies, models=["teacher"]))
    point = report(folder)["sets"][0]["models"][0]["budget"][step]
    shutil.rmtree(folder / "run")
    evaluate.STAGE.run(job(folder, replies, models=["teacher"], sampling={"max_tokens": point["at"]}))
    found = scores(folder)[0]["metrics"]["pass@1"]["value"]
    assert found == pytest.approx(point["metrics"]["pass@1"]["value"])
    assert 0 < found < 1
