"""Kinds: what their outcomes depend on, and how a recipe holds them with their settings."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from distill import plugins, verifiers
from distill.backends import ChosenBackend
from distill.errors import from_validation
from distill.filters import ChosenFilter, ChosenFilters
from distill.stages import filter, grpo
from distill.types import Record

FINGERPRINTS = """
import json
from distill.evaluation import attempts
from distill.filtering.judge import fingerprints
from distill.filters import ChosenFilter, Context
checks = {name: ChosenFilter.of({}, name) for name in ("correct", "duplicates", "length", "language")}
prints = fingerprints(checks, Context(student="org/student"))
print(json.dumps({**prints, "eval": attempts.fingerprint(["math"])}))
"""


def test_a_kind_rests_on_what_it_imports_of_the_rooms_that_judge() -> None:
    maths = plugins.code_of("verifiers", "math")
    assert {"math", "distill.answers.algebra", "distill.answers.latex", "distill.answers.floating"} <= set(maths)
    assert "distill.verifiers.countdown" not in maths
    duplicates = set(plugins.code_of("filters", "duplicates"))
    assert {"duplicates", "distill.text.minhash", "distill.text.hashes"} <= duplicates
    assert not {name for name in duplicates if name.startswith("distill.answers")}


def test_what_is_copied_into_a_sandbox_by_name_counts() -> None:
    inside = "distill.sandbox.inside"
    assert {f"{inside}.tester", f"{inside}.candidate", f"{inside}.wire"} <= set(plugins.code_of("verifiers", "code"))


def test_a_file_of_ones_own_counts_with_what_it_imports(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def build(config):\n    from distill.answers import latex\n    return latex\n")
    code = plugins.code_of("verifiers", str(mine))
    assert code[str(mine)] == mine.read_text()
    assert "distill.answers.latex" in code
    before = verifiers.basis([str(mine)])
    mine.write_text(mine.read_text() + "# changed\n")
    assert verifiers.basis([str(mine)]) != before
    assert verifiers.basis(["math"]) == verifiers.basis([])


def test_a_missing_and_a_broken_file_are_told_when_they_are_loaded_not_here(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def build(:\n")
    assert plugins.code_of("filters", str(broken)) == {str(broken): "def build(:\n"}
    assert plugins.code_of("filters", str(tmp_path / "missing.py")) == {}


@pytest.mark.slow
def test_filter_and_eval_notice_a_changed_grader_wherever_it_lies(tmp_path: Path) -> None:
    package = tmp_path / "distill"
    shutil.copytree(Path(plugins.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "data"))

    def fingerprints() -> dict[str, str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", FINGERPRINTS]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))

    last = fingerprints()

    def changed(*path: str) -> set[str]:
        nonlocal last
        before = last
        with package.joinpath(*path).open("a") as file:
            file.write("\n# changed\n")
        last = fingerprints()
        return {name for name in last if last[name] != before[name]}

    assert changed("answers", "structure.py") == {"correct", "eval"}
    assert changed("text", "minhash.py") == {"duplicates"}
    assert changed("text", "scripts.py") >= {"language", "eval"}
    assert changed("reporting", "page.py") == set()


class Holder(Record):
    """A Record with both forms in which a recipe holds kinds."""

    checks: ChosenFilters = Field(default_factory=lambda: {"finish": ChosenFilter.of({}, "finish")})
    backend: ChosenBackend = ChosenBackend.of({"kind": "auto"})


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"checks": {"length": {"max_tokens": 7}, "finish": None, "language": True, "format": False}},
        {"checks": {"again": {"kind": "length"}}, "backend": {"kind": "scripted", "replies": ["yes"], "delay": 1}},
        {"backend": {"endpoints": ["http://h:1"], "no_such_setting": 1}},
    ],
)
def test_kinds_are_written_as_they_were_read_and_nothing_is_added(plain: dict[str, object]) -> None:
    held = Holder.model_validate(plain)
    assert held.model_dump(mode="json", exclude_unset=True) == plain
    assert Holder.model_validate_json(held.model_dump_json()) == held
    assert Holder.model_validate(held.model_dump()) == held
    assert pickle.loads(pickle.dumps(held)) == held
    assert held.model_dump(exclude_defaults=True) == plain
    assert held.model_copy(update={"backend": held.backend}) == held


def test_defaults_of_the_stages_are_not_told_as_changes() -> None:
    assert filter.Config().model_dump(exclude_defaults=True) == {}
    assert grpo.Config().model_dump(exclude_defaults=True) == {}
    assert filter.Config().model_dump(mode="json")["checks"] == {"correct": {}}
    assert grpo.Config().model_dump(mode="json")["rewards"] == {"accuracy": {}, "format": {}}


def test_settings_are_there_as_the_kinds_own_config() -> None:
    held = Holder.model_validate({"checks": {"length": {"max_tokens": "7"}, "format": False}})
    length = held.checks["length"]
    assert length
    assert (length.kind, length.config) == ("length", plugins.load("filters", "length").Config(max_tokens=7))
    assert (length.setting("max_tokens"), length.setting("nothing")) == (7, None)
    assert held.checks["format"] is False
    assert held.backend.kind == "auto"


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (
            {"checks": {"length": {"max_tokns": 1}}},
            r"^checks\.length\.max_tokns: no such field\n.*mean max_tokens",
        ),
        (
            {"checks": {"length": {"max_tokens": "x"}}},
            r"^checks\.length\.max_tokens: .*valid integer.*\(given: 'x'\) \(max_tokens: Most tokens[^()]*\)$",
        ),
        ({"checks": {"lenght": {}}}, r"^checks\.lenght: unknown kind 'lenght' of filters\n.*did you mean length"),
        ({"checks": {"length": 3, "finish": "no"}}, r"^checks\.length: should hold .*; checks\.finish: should hold"),
        ({"checks": {"correct": {"judge": {"on": []}}}}, r"checks\.correct\.judge\.endpoint: is required"),
        ({"checks": {"mine": {"kind": "./none.py"}}}, r"^checks\.mine: no such plugin file: none\.py\n.*working"),
        ({"checks": ["length"]}, r"^checks: .*mapping of names"),
        ({"backend": {"kind": "vlm"}}, r"^backend: unknown kind 'vlm' of backends\n.*did you mean vllm"),
        ({"backend": {"kind": "scripted", "delay": -1}}, r"^backend\.delay: .*greater than or equal to 0"),
    ],
)
def test_a_wrong_kind_or_setting_is_told_at_its_place(plain: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Holder.model_validate(plain)
    assert re.search(message, str(from_validation(raised.value, "").args[0]))


def test_a_choice_of_a_file_of_ones_own_reaches_another_process(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("from distill.types import Record\nclass Config(Record):\n    limit: int\ndef build(config): ...\n")
    packed = pickle.dumps(ChosenFilter.of({"kind": str(mine), "limit": 4}))
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).config.limit)"
    done = subprocess.run([sys.executable, "-c", code], input=packed, capture_output=True, check=True)
    assert done.stdout == b"4\n"
