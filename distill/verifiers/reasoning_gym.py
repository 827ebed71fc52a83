"""Reasoning-gym: the task's own scorer gives the answer full marks, run in a sandbox.

The gold is the task's entry with its name, `{"task": "leg_counting", "question": ..., "answer": ..., "metadata": ...}`,
as `entry` of a reasoning_gym problem set. Three scorers accept wrong answers, so other verifiers decide those tasks:
`countdown` the tasks countdown and puzzle24 (answers need not use the given numbers), `exact` the task
game_of_life_halting (any answer at all counts as True). Where a scorer evaluates the answer as Python,
formulas and plain data are scored and anything else is refused (`unsafe_answer`).
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Hashable, Mapping
from functools import cached_property
from math import ceil
from pathlib import Path

from pydantic import Field

from distill.answers.plain import HEDGED, RIGHT, is_hedged, stated_answer, wrong
from distill.errors import BackendError, InputError
from distill.sandbox import ChosenSandbox, Ended, Interactive, Limits, Session
from distill.sandbox.inside import gym
from distill.types import Outcome, Record
from distill.verifiers import Verifier, countdown, exact

_LONGEST = 20_000
"""Characters of an answer; the longest gold of any task has a few thousand."""
_IMPORT_SECONDS = 60.0
"""Seconds of wall time that importing reasoning-gym may take on a busy machine."""
_NO_LIMIT = 1e7
"""Wall seconds of a session, which stays open for all answers."""


class Config(Record):
    threshold: float = Field(1.0, gt=0, le=1)
    """Least score of an answer that passes."""
    seconds: float = Field(5.0, gt=0)
    """CPU seconds that scoring one answer may take."""
    memory: int = Field(2048, ge=256)
    """Memory in MiB that the scorers may use."""


class ReasoningGym(Verifier):
    def __init__(self, config: Config) -> None:
        self._config = config
        self._countdown = countdown.build(countdown.Config())
        self._exact = exact.build(exact.Config())
        self._worker: Session | None = None
        self._lock = threading.Lock()

    def verify(self, gold: object, text: str) -> Outcome:
        """Judge the answer that `text` states.

        Raises:
            InputError: the gold is malformed, its task unknown, or reasoning-gym is not installed.
            BackendError: the sandbox cannot be used on this machine at all.
        """
        entry = _read(gold)
        task = str(entry["task"])
        if task in ("countdown", "puzzle24"):
            return self._countdown.verify(_numbers(entry), text)
        if task == "game_of_life_halting":
            return self._exact.verify(str(entry["answer"]), text)
        answer = stated_answer(text)
        if is_hedged(text):
            return HEDGED
        if not answer or len(answer) > _LONGEST:
            return wrong("too_long" if answer else "no_answer", f"{len(answer):,} characters")
        _ = self._sandbox, self._package  # what is missing on this machine is an error, not a verdict
        return self._scored(entry, answer)

    def _scored(self, entry: dict[str, object], answer: str) -> Outcome:
        """The outcome by the task's own scorer."""
        try:
            reply = self._ask(entry, answer)
        except BackendError as error:
            return Outcome(passed=None, reason="sandbox_error", detail=error.message[:200])
        except Ended as ended:
            return Outcome(passed=None, reason="scorer_failed", detail=f"ended: {ended.status}")
        return self._outcome(str(entry["task"]), answer, reply)

    def key(self, gold: object, text: str) -> Hashable | None:
        """The answer without its blanks."""
        return None if is_hedged(text) else "".join(stated_answer(text).split()) or None

    def _outcome(self, task: str, answer: str, reply: Mapping[str, object]) -> Outcome:
        if "unknown" in reply:
            raise InputError(f"reasoning-gym has no task {task!r}: {reply['unknown']}", fix="name one of its tasks")
        if "refused" in reply:
            return wrong("unsafe_answer", str(reply["refused"]))
        if "unreadable" in reply:
            return wrong("unreadable_answer", str(reply["unreadable"]))
        score = reply.get("score")
        if not isinstance(score, int | float):
            reason = "timeout" if reply.get("died") == -24 else "scorer_failed"
            return Outcome(passed=None, reason=reason, detail=str(reply.get("error", reply))[:200])
        score = min(max(float(score), 0.0), 1.0)
        if score >= self._config.threshold:
            return RIGHT.model_copy(update={"score": score})
        return Outcome(passed=False, reason="wrong_answer", score=score, detail=answer[:80])

    @cached_property
    def _package(self) -> str:
        """The folder that holds reasoning-gym; it is never imported here."""
        spec = importlib.util.find_spec("reasoning_gym")
        if spec is None or spec.origin is None:
            raise InputError(
                "needs reasoning-gym", where="verifier reasoning_gym", fix="pip install 'distill[reasoning-gym]'"
            )
        return str(Path(spec.origin).parent.parent)

    @cached_property
    def _sandbox(self) -> Interactive:
        options = {"kind": "bubblewrap", "python": sys.executable, "mounts": [self._package]}
        sandbox = ChosenSandbox.of(options, where="sandbox of verifier reasoning_gym").build()
        assert isinstance(sandbox, Interactive)
        return sandbox

    def _ask(self, entry: dict[str, object], answer: str) -> dict[str, object]:
        seconds = ceil(self._config.seconds)
        facts = {name: value for name, value in entry.items() if name != "task"}
        request = {"task": entry["task"], "entry": facts, "answer": answer, "seconds": seconds}
        request_line = json.dumps(request).encode() + b"\n"
        with self._lock:
            worker = self._worker
            patience = 3 * seconds + 5.0  # others may want the processor, too
            if worker is None or not worker.alive:
                files = {"gym.py": Path(gym.__file__).read_bytes()}
                limits = Limits(seconds=_NO_LIMIT, memory=self._config.memory)
                worker = self._sandbox.open(files, ["python", "-I", "gym.py", self._package], limits)
                self._worker = worker
                patience += _IMPORT_SECONDS
            reply: dict[str, object] = json.loads(worker.ask(request_line, patience))
        return reply


def _read(gold: object) -> dict[str, object]:
    if not isinstance(gold, dict) or not isinstance(gold.get("task"), str) or "answer" not in gold:
        example = '{"task": "leg_counting", "question": "...", "answer": "10", "metadata": {...}}'
        raise InputError(f"not a gold of `reasoning_gym`: {gold!r:.100}", fix=f"write it as {example}")
    return dict(gold)


def _numbers(entry: dict[str, object]) -> dict[str, object]:
    """The gold of `countdown` in an entry of countdown or puzzle24."""
    try:
        facts = entry["metadata"]
        if not isinstance(facts, Mapping):
            raise TypeError("metadata is no mapping")
        return {"target": int(facts.get("target", 24)), "numbers": list(facts["numbers"])}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not an entry of {entry['task']}: {entry!r:.100}", fix="keep its metadata") from error


def build(config: Config) -> ReasoningGym:
    return ReasoningGym(config)
