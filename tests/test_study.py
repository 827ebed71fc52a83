"""Studies on the scripted backend: what each run is, what they share, what is skipped, and the table's numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill import pipeline
from distill import recipe as recipes
from distill.errors import InputError
from distill.filters import ChosenFilter
from distill.progress import LogLines
from distill.recipe import Recipe
from distill.run import Run
from distill.store import jsonl
from distill.study import compare, plan
from distill.types import Trace
from tests.conftest import GOOD

Build = Callable[..., dict[str, Any]]
RIGHT = ["It is (3 * 7) + 8.\n</think>\n\n<answer>12</answer>", "x\n</think>\n\n<answer>13</answer>"]
ARMS: dict[str, Any] = {
    "teacher": {"stages": ["generate", "eval"]},
    "base": {"stages": ["eval"], "description": "as it came"},
    "kept": {"stages": ["filter"], "after": "teacher", "set": {"filter.checks.length": {"max_tokens": 90}}},
}


@pytest.fixture
def small(scripted_recipe: Build, tmp_path: Path) -> Callable[..., Recipe]:
    """Three arms, of which two are scored, on sums that a scripted reply gets right now and then."""
    rows = [{"problem": f"What is {n} + {12 - n}?", "answer": "12"} for n in range(6)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    backend = {"kind": "scripted", "replies": RIGHT}

    def build(*changes: str, **parts: Any) -> Recipe:
        raw = scripted_recipe([GOOD, "no end"], problems=4, eval={"problems": str(tmp_path / "sums.jsonl")})
        raw["eval"] |= {"samples": 4, "backend": backend}
        raw["study"] = {"seeds": [1, 2], "arms": ARMS, "against": ["base"], **parts}
        return recipes.build(raw, changes)

    return build


@pytest.mark.slow
def test_a_study_runs_compares_and_is_then_done(small: Callable[..., Recipe], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    found = compare.run(small(), folder, LogLines())
    (table,) = found.tables
    assert [(row.arm, row.description) for row in table.rows] == [("teacher", ""), ("base", "as it came")]
    assert (table.set, table.problems, table.samples) == ("sums", 6, 4)
    shares: dict[str, list[float]] = {}
    for row, role in zip(table.rows, ("teacher", "base"), strict=True):
        for seed in row.seeds:
            traces = list(jsonl.read(folder / f"{row.arm}-{seed.seed}" / "eval" / f"{role}.jsonl", Trace))
            share = sum(trace.completion == RIGHT[0] for trace in traces) / 24
            assert seed.metrics["pass@1"].value == pytest.approx(share)
            shares.setdefault(row.arm, []).append(share)
        tokens = row.metrics["tokens"].value
        assert row.metrics["pass@1"].value == pytest.approx(sum(shares[row.arm]) / 2)
        assert row.metrics["pass@1/1000"].value == pytest.approx(1000 * sum(shares[row.arm]) / 2 / tokens)
        assert row.budget[-1].metrics["pass@1"].value == row.metrics["pass@1"].value
        assert row.budget[0].metrics["pass@1"].value == 0
    assert len({*shares["base"]} | {*shares["teacher"]}) > 1, "every seed draws samples of its own"
    (gap,) = table.rows[0].differences
    gaps = [a - b for a, b in zip(shares["teacher"], shares["base"], strict=True)]
    assert [one.value.value for one in gap.seeds] == pytest.approx(gaps)
    assert gap.value.value == pytest.approx(sum(gaps) / 2)
    assert not table.rows[1].differences
    kept = Run(folder / "kept-2").stage("filter")["summary"]
    assert kept["traces"] == 8, "the teacher's, with the same seed"

    assert "| arm | pass@1 | − base | tokens |" in (folder / "study.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert compare.run(small(), folder, LogLines()) == found
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
    assert not any(plan.todo(plan.runs(small(), folder)).values())


@pytest.mark.slow
def test_an_arm_that_fails_costs_only_what_comes_after_it(small: Callable[..., Recipe], tmp_path: Path) -> None:
    never = {"stages": ["filter"], "after": "teacher", "set": {"filter.checks.length": {"max_tokens": 1}}}
    more = {"stages": ["filter", "eval"], "after": "never"}
    recipe = small(arms={**ARMS, "never": never, "more": more})
    found = compare.run(recipe, tmp_path / "study", LogLines())
    assert [row.arm for row in found.tables[0].rows] == ["teacher", "base"]
    assert set(found.failed) == {"never-1", "never-2", "more-1", "more-2"}
    assert "no trace of 8 was accepted" in found.failed["never-1"]
    assert found.failed["more-2"] == "needs never-2"


@pytest.mark.slow
def test_what_changed_is_done_again_and_all_that_comes_after_it(small: Callable[..., Recipe], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    compare.run(small(), folder, LogLines())
    more = plan.runs(small("generate.samples=3", "study.seeds=[1, 2, 3]"), folder)
    todo = plan.todo(more)
    assert (todo["teacher-1"], todo["base-1"], todo["kept-1"]) == (("generate", "eval"), (), ("filter",))
    assert todo["base-3"] == ("eval",)
    (known,) = {plan.expected_seconds(one, "eval", more) for one in more if one.name == "base-3"}
    assert known == Run(folder / "base-1").stage("eval")["seconds"]
    assert plan.expected_seconds(more[0], "sft", more) is None
    base = plan.outlook(more)["base"]
    assert (len(base.runs), base.done, base.stages_left, base.seconds) == (3, 2, 1, known)
    assert not base.unmeasured


def test_an_outlook_names_what_was_never_measured_and_which_arms_are_read(
    small: Callable[..., Recipe], tmp_path: Path
) -> None:
    arm_runs = plan.runs(small(), tmp_path / "study")
    teacher = plan.outlook(arm_runs)["teacher"]
    assert (teacher.done, teacher.stages_left, teacher.seconds) == (0, 4, 0)
    assert teacher.unmeasured == {"generate", "eval"}
    kept = next(arm_run for arm_run in arm_runs if arm_run.arm == "kept")
    assert plan.sources(kept) == {"traces": ["teacher"]}


def test_the_shipped_study_is_the_papers_comparison(tmp_path: Path) -> None:
    loaded = recipes.load("tiny-study")
    ones = {one.name: one for one in plan.runs(loaded, tmp_path)}
    assert loaded.study
    assert len(ones) == 18
    assert len(loaded.study.seeds) == 3
    assert recipes.load("tiny").sft.batch_size == loaded.sft.batch_size, "all else is as in tiny"
    for seed in (1, 2, 3):
        rl, filtered, drawn = ones[f"rl-{seed}"], ones[f"sft-{seed}"], ones[f"sft-unfiltered-{seed}"]
        both, pool = ones[f"sft-grpo-{seed}"], str(tmp_path / f"teacher-{seed}")
        assert (rl.recipe.grpo.start, rl.student) == ("base", None)
        alike = {"start": "student", "learning_rate": both.recipe.grpo.learning_rate}
        assert both.recipe.grpo == rl.recipe.grpo.model_copy(update=alike)
        assert both.student == tmp_path / f"sft-{seed}" / "student"
        assert filtered.recipe.filter.traces == drawn.recipe.filter.traces == (pool,)
        assert (filtered.recipe.filter.unfiltered, drawn.recipe.filter.unfiltered) == (False, True)
        assert [ones[f"{arm}-{seed}"].role for arm in loaded.study.arms] == [
            *("teacher", "base", "grpo", "sft", "sft", "grpo")
        ]
        for one in (rl, filtered, drawn, both, ones[f"base-{seed}"]):
            recipe = one.recipe
            assert recipe.eval == ones[f"base-{seed}"].recipe.eval.model_copy(update={"models": (one.role,)})
            assert {recipe.generate.seed, recipe.filter.seed, recipe.sft.seed, recipe.grpo.seed} == {seed}
            assert recipe.study is None
            assert recipe.name == "tiny-study"


def test_grpo_learns_from_the_problems_of_the_arm_before_it_unless_a_set_is_named(tmp_path: Path) -> None:
    def rl(*changes: str) -> Any:
        return next(
            one for one in plan.runs(recipes.load("tiny-study", changes), tmp_path) if one.arm == "rl"
        ).recipe.grpo

    assert rl("grpo.problems=null").data == str(tmp_path / "teacher-1")
    assert (rl("grpo.problems=countdown-tiny").data, rl("grpo.data=elsewhere").data) == (None, "elsewhere")


def test_a_student_of_another_arm_is_a_link(tmp_path: Path) -> None:
    ones = {one.name: one for one in plan.runs(recipes.load("tiny-study"), tmp_path)}
    both = ones["sft-grpo-1"]
    assert both.student
    plan.link(both)
    assert both.run.student.is_symlink()
    both.student.mkdir(parents=True)
    (both.student / "config.json").write_text("{}")
    assert (both.run.student / "config.json").read_text() == "{}"
    assert pipeline.STAGES["grpo"].inputs(pipeline.job(both.run, both.recipe, "grpo", LogLines()))
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert (moved / "sft-grpo-1" / "student" / "config.json").is_file(), "a moved study keeps its links"
    other = plan.runs(recipes.load("tiny-study"), tmp_path / "own")[5]
    other.run.student.mkdir(parents=True)
    with pytest.raises(InputError, match="holds a student of its own"):
        plan.link(other)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"seeds": []}, r"study\.seeds: "),
        ({"seeds": [1, 1]}, "a seed is named twice"),
        ({"arms": {**ARMS, "x": {"stages": ["eval"], "after": "y"}}}, r"arms\.x\.after: there is no arm 'y' above it"),
        ({"arms": {**ARMS, "a/b": {"stages": ["eval"]}}}, "cannot name a folder"),
        ({"against": ["kept"]}, "no arm 'kept' with an eval stage"),
        ({"arms": {**ARMS, "x": {"stages": ["evl"]}}}, r"study\.arms\.x\.stages\.0"),
        ({"arms": {**ARMS, "x": {"stage": ["eval"]}}}, r"no such field[\s\S]*did you mean stages"),
    ],
)
def test_a_wrong_study_is_told_where(small: Callable[..., Recipe], parts: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        small(**parts)


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ({"stages": ["filter"]}, r"arms\.x: needs what generate makes[\s\S]*after"),
        ({"stages": ["sft"], "after": "teacher"}, r"arms\.x: needs what filter makes"),
        ({"stages": ["grpo"], "after": "teacher"}, r"arms\.x: needs what sft or grpo makes"),
        ({"stages": ["eval"], "set": {"eval.samples": 0}}, r"eval\.samples: .*\(samples: Attempts at each problem"),
        ({"stages": ["eval"], "set": {"eval.sampels": 2}}, r"arms\.x: eval\.sampels: no such field[\s\S]*samples"),
    ],
)
def test_an_arm_that_cannot_be_is_told_before_anything_runs(
    small: Callable[..., Recipe], tmp_path: Path, arm: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        compare.run(small(arms={**ARMS, "x": arm}), tmp_path / "study", LogLines())
    assert not (tmp_path / "study").exists()


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "tiny", "filter": {"checks": {"length": {"max_tokens": 9}}}}))
    mine, tiny = recipes.load(str(path)), recipes.load("tiny")
    assert mine.name == "mine"
    assert mine.filter.active() == {
        **tiny.filter.active(),
        "length": ChosenFilter.of({"max_tokens": 9}, "length"),
    }
    assert mine.sft == tiny.sft
    path.write_text(f"extends: {path}\n")
    with pytest.raises(InputError, match="which extends it"):
        recipes.load(str(path))


def test_grpo_is_followed_by_an_eval_before_and_after(tmp_path: Path) -> None:
    run, tiny = Run(tmp_path), recipes.load("tiny")
    recipe, stages = pipeline.with_grpo_eval(run, tiny, ("grpo",))
    assert (stages, recipe.eval.models) == (("grpo", "eval"), ("sft", "grpo"))
    run.scores_file.write_text('[{"role": "teacher"}, {"role": "sft"}]')
    assert pipeline.with_grpo_eval(run, tiny, ("grpo",))[0].eval.models == ("teacher", "sft", "grpo")
    zero, stages = pipeline.with_grpo_eval(run, recipes.load("r1-zero"), ("grpo", "eval"))
    assert (stages, zero.eval.models) == (("grpo", "eval"), ("base", "grpo"))
    assert pipeline.with_grpo_eval(run, tiny, ("sft", "eval")) == (tiny, ("sft", "eval"))
