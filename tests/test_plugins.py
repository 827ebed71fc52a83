"""What a kind's outcomes depend on: its own code and all that judges in it, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distill import plugins, verifiers

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
