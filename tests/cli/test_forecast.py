"""`distill generate --forecast`, and what a run says before it begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.store import jsonl
from distill.types import Trace
from tests.cli.conftest import Run

REPLY = "It is so.\n</think>\n\n<answer>yes</answer>"


@pytest.mark.slow
def test_a_forecast_samples_a_few_and_prints_what_all_will_take(run_here: Run) -> None:
    Path("p.jsonl").write_text("\n".join(json.dumps({"problem": f"{n}?", "answer": "yes"}) for n in range(50)))
    script = json.dumps({"kind": "scripted", "replies": [REPLY]})
    words = ["generate", "tiny", "--run", "r", "--problems", "p.jsonl", "--set", f"generate.backend={script}"]
    done = run_here(*words, "--forecast", "5")
    assert done.exit_code == 0, done.output
    assert "forecast of 50 problems from 5, 95 % intervals" in done.output
    assert "accepted traces" in done.output
    assert len(list(jsonl.read(Path("r/traces.jsonl"), Trace))) == 5
    after = run_here(*words)
    assert after.exit_code == 0
    assert "50 traces of 50 problems (45 new" in after.output
    said = Path("r/log.txt").read_text()
    assert "generate: 50 problems × 1 sample; at most 480 tokens each" in said
    assert "5 traces are in the log already" in said
    assert run_here(*words, "--forecast", "1").exit_code == 2
