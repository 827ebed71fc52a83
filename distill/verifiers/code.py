"""Code: the program in the answer passes all tests, run in a sandbox.

The gold is `{"inputs": [...], "outputs": [...]}` (standard input and output; a row of code_contests holds it under
`tests`), `{"tests": "...", "entry_point": "..."}` with assert tests or a function `check(candidate)` (a row of
HumanEval, whose `prompt` then stands above the program), or a list of assert statements. Outputs must be equal apart
from blanks at the ends of lines and empty lines at the end, and only the one expected output is right. Tests stop at
the first that passes a limit. The program is the last Python block of the answer. Tests and expected outputs stay out
of the program's reach: outputs are compared here, asserts in another sandbox on plain data (numbers, strings, lists,
dicts, …), and a value of any other type equals nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property
from math import ceil

from pydantic import Field

from distill.answers.plain import RIGHT
from distill.errors import BackendError, InputError
from distill.programs import assert_tests, output_tests
from distill.programs.gold import Asserts, extract_program, read_gold, without_blank_lines
from distill.sandbox import ChosenSandbox, Interactive, Limits, Sandbox
from distill.types import Outcome, Record, content_id
from distill.verifiers import Verifier

_MAX_REMEMBERED = 20_000
"""Outcomes that are remembered."""


class Config(Record):
    seconds: float = Field(10.0, gt=0)
    """Wall time of one test by input and output, or of all assert tests together."""
    memory: int = Field(1024, ge=64)
    """Memory in MiB that the program may use."""
    processes: int = Field(16, ge=3)
    """Processes and threads that the program may have at once."""
    output: int = Field(4, ge=1)
    """Output in MiB that one test may print, or one call return."""
    tolerance: float | None = Field(None, gt=0)
    """Distance by which numbers in an output may be off, absolutely or relatively; None allows none."""
    sandbox: dict[str, object] = {"kind": "bubblewrap"}
    """Sandbox as a `kind` with that kind's settings; assert tests need one that can be talked to, such as
    bubblewrap."""


class Code(Verifier):
    def __init__(self, config: Config) -> None:
        self._config = config
        self._outcomes: dict[str, Outcome] = {}

    @cached_property
    def _sandbox(self) -> Sandbox:
        return ChosenSandbox.of(self._config.sandbox, where="sandbox of verifier code").build()

    @cached_property
    def _examiner(self) -> assert_tests.Examiner:
        if not isinstance(self._sandbox, Interactive):
            kind = self._config.sandbox.get("kind")
            raise InputError(f"assert tests cannot run in sandbox {kind!r}", fix="use sandbox kind bubblewrap for them")
        return assert_tests.Examiner(self._sandbox)

    def verify(self, gold: object, text: str) -> Outcome:
        """Judge the program in `text`.

        Raises:
            InputError: the gold is malformed, or the sandbox's settings are.
            BackendError: the sandbox cannot be used on this machine at all.
        """
        tests = read_gold(gold)
        code = extract_program(text)
        if not code:
            return Outcome(passed=False, reason="no_code", score=0.0)
        key = content_id(gold, code.encode("utf-8", "replace").decode())
        if key not in self._outcomes:
            sandbox = self._sandbox  # a machine without a sandbox is an error, not a verdict
            try:
                if isinstance(tests, Asserts):
                    outcome = self._by_asserts(tests, code)
                else:
                    outcome = output_tests.outcome(sandbox, code, tests, self._limits(), self._config.tolerance)
            except BackendError as error:
                return Outcome(passed=None, reason="sandbox_error", detail=error.message[:200])
            if len(self._outcomes) >= _MAX_REMEMBERED:
                self._outcomes.clear()
            self._outcomes[key] = outcome
        return self._outcomes[key]

    def key(self, gold: object, text: str) -> Hashable | None:
        """The program without empty lines and trailing blanks."""
        return without_blank_lines(extract_program(text)) or None

    def _limits(self) -> Limits:
        config = self._config
        return Limits(
            seconds=config.seconds,
            cpu=ceil(config.seconds) + 1,
            memory=config.memory,
            processes=config.processes + 2,
            output=config.output,
        )

    def _by_asserts(self, tests: Asserts, code: str) -> Outcome:
        source = f"{tests.prompt}\n{code}" if tests.prompt else code
        report = self._examiner.examine(source, tests.model_dump(), self._limits())
        if report["passed"]:
            return RIGHT
        reason = report["reason"]
        detail = report["detail"][:200]
        if reason == "unsupported_tests":
            return Outcome(passed=None, reason=reason, score=None, detail=detail)
        score = min(report["right"] / max(report["total"], 1), 0.99)
        return Outcome(passed=False, reason=reason, score=score, detail=detail)


def build(config: Config) -> Code:
    return Code(config)
