"""The same verdicts from one process, from all cores and from Ray; a worker that dies costs one trace."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distill.errors import RunError
from distill.filtering import executors
from distill.filtering.judge import CheckedSlice, CheckerSetup, LogSlice
from distill.run import Run
from distill.stages import filter
from distill.store import jsonl
from distill.types import Verdict
from tests.filtering.conftest import CHECKS, build_run, job

KILLER = '''"""Killer: ends its process at a trace, once it may."""
import os, time
from distill.filters import Filter
from distill.types import Outcome, Record

class Config(Record):
    pass

class Killer(Filter):
    def __call__(self, problem, trace):
        if trace.sample == 3 and problem.messages[0].content.startswith("2:"):
            while not os.path.exists(__file__ + ".go"):
                time.sleep(0.01)
            open(__file__ + ".died", "w").close()
            os._exit(9)
        return Outcome(passed=True)

def build(config, context):
    return Killer()
'''


def results(folder: Path) -> tuple[bytes, bytes, bytes]:
    run = Run(folder)
    return run.verdicts_file.read_bytes(), (run.sft / "train.parquet").read_bytes(), run.funnel.read_bytes()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter, "CHUNK", 3000)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_processes_do_not_change_a_byte(traces: Run, tmp_path: Path) -> None:
    given = {"traces": [str(traces.folder)], "select": {"per_problem": 2, "pick": "diverse"}}
    filter.STAGE.run(job(tmp_path / "one", processes=1, **given))
    filter.STAGE.run(job(tmp_path / "two", processes=2, **given))
    assert results(tmp_path / "one") == results(tmp_path / "two")


def late(
    pool: Any, plugin: Path, setup: CheckerSetup, shares: Iterable[LogSlice], processes: int
) -> Iterator[CheckedSlice]:
    """Hands out the share behind the deadly one when that has killed its process, and not before."""

    def handed_out() -> Iterator[LogSlice]:
        for number, share in enumerate(shares):
            if number == 6:
                Path(f"{plugin}.go").touch()
                until = time.monotonic() + 60
                while not Path(f"{plugin}.died").exists():
                    assert time.monotonic() < until, "it does not die of the first six shares"
                    time.sleep(0.05)
                time.sleep(0.5)  # the pool sees it
            yield share

    yield from pool(setup, handed_out(), processes)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("next_share", ["before", "after"])
def test_a_trace_that_kills_its_worker_is_lost_alone(
    next_share: str, traces: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "killer.py"
    plugin.write_text(KILLER)
    checks = {**CHECKS, "killer": {"kind": str(plugin)}}
    if next_share == "after":
        monkeypatch.setattr(executors, "pool", partial(late, executors.pool, plugin))
    else:
        Path(f"{plugin}.go").touch()
    summary = filter.STAGE.run(job(tmp_path / "run", traces=[str(traces.folder)], checks=checks, processes=2))
    assert summary.traces == 40
    verdicts = list(jsonl.read(Run(tmp_path / "run").verdicts_file, Verdict))
    died = {verdict.trace_id for verdict in verdicts if verdict.reason == "worker_died"}
    assert len(died) == 1
    without = filter.STAGE.run(job(tmp_path / "plain", traces=[str(traces.folder)]))
    alive = [v for v in verdicts if v.trace_id not in died and v.check != "killer"]
    plain = [v for v in jsonl.read(Run(tmp_path / "plain").verdicts_file, Verdict) if v.trace_id not in died]
    assert alive == plain
    assert summary.kept >= without.kept - 1


STILLBORN = """
import multiprocessing, os
from distill.filters import Filter
from distill.types import Outcome, Record

class Config(Record):
    pass

class Stillborn(Filter):
    def __call__(self, problem, trace):
        return Outcome(passed=True)

def build(config, context):
    if multiprocessing.parent_process():
        os._exit(9)
    return Stillborn()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_processes_that_cannot_start_blame_no_trace(traces: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "stillborn.py"
    plugin.write_text(STILLBORN)
    with pytest.raises(RunError, match="worker processes die before they have anything to do"):
        filter.STAGE.run(
            job(tmp_path / "run", traces=[str(traces.folder)], checks={"s": {"kind": str(plugin)}}, processes=2)
        )


@pytest.mark.integration
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.filterwarnings("ignore")
def test_ray_does_not_change_a_byte(tmp_path: Path) -> None:
    """Nor does a trace that kills its process."""
    pytest.importorskip("ray")
    source = build_run(tmp_path / "traces", problems=20)
    plugin = tmp_path / "killer.py"
    plugin.write_text(KILLER)
    Path(f"{plugin}.go").touch()
    checks = {**CHECKS, "killer": {"kind": str(plugin)}}
    given = {"traces": [str(source.folder)], "select": {"per_problem": 2}, "checks": checks}
    filter.STAGE.run(job(tmp_path / "here", processes=2, **given))
    filter.STAGE.run(job(tmp_path / "ray", on="ray", **given))
    assert results(tmp_path / "here") == results(tmp_path / "ray")
    assert b"worker_died" in Run(tmp_path / "ray").verdicts_file.read_bytes()
