"""Guards before training: a reward that cannot tell anything apart is an error, under real templates too."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from distill.errors import InputError
from distill.models.chat import Tokenizer
from distill.rewards import RewardContext
from distill.training.grpo import reward_probe
from distill.types import Problem
from distill.verifiers import Verifiers
from tests.conftest import make_problem
from tests.training import worlds

COUNTDOWN = [
    make_problem(f"Make {target} of 3, 7, 8.", answer={"target": target, "numbers": [3, 7, 8]})
    for target in (29, 80, 18)
]
MATH = [make_problem(f"What is {n} + 1?", answer=str(n + 1), verifier={"kind": "math"}) for n in range(20)]
EVERY: dict[str, Any] = {name: {} for name in ("accuracy", "format", "language", "length", "overlong", "repetition")}


def tried(tokenizer: Tokenizer, eos: str, problems: list[Problem], config: dict[str, Any]) -> dict[str, list[float]]:
    return reward_probe.check(config, RewardContext(tokenizer, eos, group_size=4, max_tokens=600), problems)


@pytest.mark.parametrize("problems", [COUNTDOWN, MATH], ids=["countdown", "math"])
def test_every_reward_tells_completions_apart(tiny: Path, problems: list[Problem]) -> None:
    found = tried(Tokenizer(str(tiny / "base")), "<|im_end|>", problems, EVERY)
    assert found.keys() == EVERY.keys()
    assert found["accuracy"] == found["format"] == [0, 1]
    assert found["repetition"] == [-1, 0]
    assert (found["overlong"][0], found["overlong"][-1]) == (-1, 0)
    assert (found["language"][0], found["language"][-1]) == (0, 1)
    assert found["length"][0] == -0.5


@pytest.mark.parametrize("template", ["think-chatml", "think-llama3"])
def test_they_do_under_other_templates(tiny: Path, tmp_path: Path, template: str) -> None:
    tokenizer = worlds.tokenizer(tmp_path, tiny, template)
    found = tried(tokenizer, worlds.EOS[worlds.family(template)], MATH, {"accuracy": {}, "format": {}})
    assert found == {"accuracy": [0, 1], "format": [0, 1]}


def test_a_tokenizer_that_cannot_spell_the_tags_is_found_out(tiny: Path, tmp_path: Path) -> None:
    folder = worlds.model(tmp_path / "mute", tiny)
    kept = json.loads((folder / "tokenizer.json").read_text())
    kept["added_tokens"] = [token for token in kept["added_tokens"] if "think" not in token["content"]]
    kept["model"]["vocab"].pop(next(piece for piece in kept["model"]["vocab"] if piece == "<"))
    kept["model"]["merges"] = [merge for merge in kept["model"]["merges"] if "<" not in "".join(merge)]
    (folder / "tokenizer.json").write_text(json.dumps(kept))
    with pytest.raises(InputError, match=r"grpo\.rewards\.format: can never fire"):
        tried(Tokenizer(str(folder)), "<|im_end|>", COUNTDOWN, {"format": {}})


def test_dead_rewards_are_named(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = Tokenizer(str(tiny / "base"))
    golden = [problem.model_copy(update={"answer": None}) for problem in MATH]
    with pytest.raises(InputError, match=r"grpo\.rewards\.accuracy: can never fire: it cannot judge"):
        tried(tokenizer, "<|im_end|>", golden, {"accuracy": {}})
    klingon = [problem.model_copy(update={"language": "tlh"}) for problem in MATH]
    with pytest.raises(InputError, match=r"grpo\.rewards\.language.*\n.*language"):
        tried(tokenizer, "<|im_end|>", klingon, {"accuracy": {}, "language": {}})
    with pytest.raises(InputError, match=r"grpo\.rewards\.length: can never fire: it gives 0"):
        tried(tokenizer, "<|im_end|>", MATH, {"length": {"warmup": 10**9}})
    with caplog.at_level(logging.WARNING, "distill"):
        tried(tokenizer, "<|im_end|>", MATH, {"accuracy": {}, "language": {"weight": 1.5}})
    assert "a wrong answer may be worth more" in caplog.text


def test_a_reward_of_ones_own_is_only_warned_of(tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from distill.rewards import Reward, Weighted as Config\n"
        "class Rare(Reward):\n    def __call__(self, rollouts, step):\n"
        "        return [float('rare word' in rollout.trace.completion) for rollout in rollouts]\n"
        "def build(config, context):\n    return Rare()\n"
    )
    with caplog.at_level(logging.WARNING, "distill"):
        found = tried(Tokenizer(str(tiny / "base")), "<|im_end|>", MATH, {"mine": {"kind": str(mine)}})
    assert found == {"mine": [0.0]}
    assert "reward mine gave all completions" in caplog.text


def test_known_answers_pass_their_verifiers() -> None:
    verifiers = Verifiers()
    for problem in [*COUNTDOWN, *MATH]:
        answer = reward_probe.known_answer(problem, verifiers)
        assert answer is not None
        assert verifiers.judge_answer(problem, f"<answer>{answer}</answer>", "stop").passed
    impossible = make_problem("Make 1000 of 1 and 2.", answer={"target": 1000, "numbers": [1, 2]})
    assert reward_probe.known_answer(impossible, verifiers) is None
