"""Rewards on completions as a trainer gives them: token ids of the real tokenizer under the real template."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distill import plugins, rewards
from distill.errors import InputError
from distill.models.chat import Tokenizer
from distill.rewards import RewardContext
from distill.rollouts import prompt_rows, trl, verl
from distill.rollouts.trl import Batch, RewardFunctions
from distill.types import Problem
from tests.conftest import GOOD, make_problem
from tests.training import worlds

ALL: dict[str, Any] = {name: {} for name in plugins.names("rewards")} | {"length": {"warmup": 0}}
WRONG = "Try 3 + 7 = 10, 10 + 8 = 18. That is 18.\n</think>\n\n<answer>3 + 7 + 8</answer>"
MATH = make_problem("What is 20 + 9?", answer="29", verifier={"kind": "math"})
HACKS = {
    "outside the tag": (None, "Try 3 * 7 = 21.\n</think>\n\nThe answer is (3 * 7) + 8."),
    "outside the box": (MATH, "Add.\n</think>\n\nIt is 29, so \\boxed{30}"),
    "several boxes": (MATH, "Add.\n</think>\n\n\\boxed{28} or \\boxed{29} or \\boxed{30}"),
    "several tags": (None, "Try.\n</think>\n\n<answer>3 + 7 + 8</answer> <answer>(3 * 7) + 8</answer>"),
    "reused numbers": (None, "Try 7 + 7 + 7 + 8.\n</think>\n\n<answer>7 + 7 + 7 + 8</answer>"),
    "left out numbers": (None, "Try.\n</think>\n\n<answer>29</answer>"),
    "padding": (None, "so so let us try it again and again and again. " * 6 + "\n</think>\n\n<answer>29</answer>"),
    "tags only": (None, "</think><answer></answer>"),
    "box only": (MATH, "</think>\\boxed{}"),
    "think again": (None, "Try.\n</think>\n\n<answer>3+7+8</answer><think></think><answer>(3 * 7) + 8</answer>"),
    "answer in the thought": (None, "Try <answer>(3 * 7) + 8</answer>"),
    "never closed": (None, "Try 3 * 7 = 21, 21 + 8 = 29. That is 29. (3 * 7) + 8"),
    "empty": (None, ""),
}


def call(context: RewardContext, names: dict[str, Any], problem: Problem, texts: list[str], step: int = 100) -> Batch:
    """Through the functions that TRL is given; what they say of each completion."""
    tokenizer, seen = context.tokenizer, []
    prompt = tokenizer.prompt(problem.messages, context.tags)
    row = prompt_rows.of(problem, prompt.prefill, 0.5)
    functions = RewardFunctions(rewards.build(names, context), context, seen.append)
    # what TRL would pass as text, without special tokens; the rewards must not read it
    ids = [tokenizer.encode(text + context.eos) for text in texts]
    columns = {key: [row[key]] * len(texts) for key in ("data_source", "reward_model", "extra_info")}
    for function in functions.all():
        values = function(
            [row["prompt"]] * len(texts),
            ["?"] * len(texts),
            ids,
            trainer_state=SimpleNamespace(global_step=step),
            **columns,
        )
        assert len(values) == len(texts)
    (batch,) = seen
    assert isinstance(batch, Batch)
    return batch


def test_a_right_answer_in_format_gets_every_reward(context: RewardContext) -> None:
    batch = call(context, ALL, make_problem(), [GOOD, WRONG, GOOD + " ", "Try."])
    assert batch.values["accuracy"] == [1, 0, 1, 0]
    assert batch.values["format"] == [1, 1, 1, 0]
    assert batch.values["repetition"] == [0, 0, 0, 0]
    assert batch.values["overlong"] == [0, 0, 0, 0]
    assert batch.values["language"] == [1, 1, 1, 1]
    assert batch.rollouts[0].trace.prefill == "<think>\n"
    assert batch.rollouts[0].trace.completion == GOOD


@pytest.mark.parametrize("name", HACKS)
def test_no_hack_is_worth_more_than_the_right_answer(context: RewardContext, name: str) -> None:
    problem, text = HACKS[name]
    good = "Twenty and nine: 29.\n</think>\n\n\\boxed{29}" if problem else GOOD
    batch = call(context, ALL, problem or make_problem(), [good, text, good, text])
    assert batch.values["accuracy"][0] == batch.values["format"][0] == 1
    assert batch.totals[1] < batch.totals[0], batch.values


@pytest.mark.parametrize("kind", plugins.names("rewards"))
def test_every_kind_says_its_range_and_keeps_to_it(context: RewardContext, kind: str) -> None:
    assert plugins.describe("rewards", kind)
    low, high = rewards.choose({kind: ALL[kind]})[kind].build(context).bounds
    texts = [GOOD, *(text for problem, text in HACKS.values() if problem is None)]
    texts += [""] * (-len(texts) % context.group_size)
    found = call(context, {kind: ALL[kind]}, make_problem(), texts).values[kind]
    assert all(value is not None and low <= value <= high for value in found)


def test_special_think_tags_do_not_kill_the_format_reward(tiny: Path, tmp_path: Path) -> None:
    folder = worlds.model(tmp_path / "special", tiny)
    kept = json.loads((folder / "tokenizer.json").read_text())
    for token in kept["added_tokens"]:
        token["special"] = token["special"] or "think" in token["content"] or "answer" in token["content"]
    (folder / "tokenizer.json").write_text(json.dumps(kept))
    tokenizer = Tokenizer(str(folder))
    assert "</think>" not in tokenizer.decode(tokenizer.encode(GOOD))  # as TRL would decode it
    batch = call(RewardContext(tokenizer, "<|im_end|>"), {"accuracy": {}, "format": {}}, make_problem(), [GOOD])
    assert batch.values == {"accuracy": [1], "format": [1]}


def test_a_cut_completion_is_not_in_format_and_a_loop_is_punished(context: RewardContext) -> None:
    row = prompt_rows.of(make_problem(), "<think>\n", None)
    functions = RewardFunctions(rewards.build({"format": {}, "repetition": {}, "overlong": {}}, context), context).all()
    loop = context.tokenizer.encode("wait, that is not it. let me try that again. " * 30)[:400]
    cut = context.tokenizer.encode(GOOD)
    columns = {key: [row[key]] * 2 for key in ("data_source", "reward_model", "extra_info")}
    found = {f.__name__: f([row["prompt"]] * 2, ["", ""], [cut, loop], **columns) for f in functions}
    assert found["format"] == [0, 0]
    assert found["repetition"] == [0, -1]
    assert found["overlong"] == [0, -1]


def test_undecidable_is_none_and_length_waits_for_its_warm_up(context: RewardContext) -> None:
    unknown = make_problem("Why?", answer=None)
    assert call(context, {"accuracy": {}}, unknown, [GOOD]).values["accuracy"] == [None]
    texts = [GOOD, "Well. " + GOOD, WRONG, GOOD]
    assert call(context, ALL, make_problem(), texts, step=0).values["length"] != [0.0] * 4
    late = {"accuracy": {}, "length": {"warmup": 5}}
    assert call(context, late, make_problem(), texts, step=4).values["length"] == [0.0] * 4
    longer = call(context, late, make_problem(), texts, step=5).values["length"]
    assert longer[0] == longer[3] > 0
    assert longer[1] < longer[0]  # type: ignore[operator]
    assert longer[2] <= 0  # type: ignore[operator]


def test_groups_are_those_of_one_prompt(context: RewardContext) -> None:
    texts = [GOOD, "Well. " + GOOD, GOOD, GOOD, "Well. Well. " + GOOD, "Well. " + GOOD, WRONG, WRONG]
    found = call(context, {"length": {"warmup": 0}}, make_problem(), texts).values["length"]
    assert found[0] == 0.5
    assert found[1] == -0.5
    assert found[4] == -0.5


def test_a_trainer_of_ones_own_can_use_them(context: RewardContext) -> None:
    functions, weights = trl.for_trl({"accuracy": {}, "format": {"weight": 0.3}}, context)
    assert weights == [1.0, 0.3]
    row = prompt_rows.of(make_problem(), "<think>\n", None)
    columns = {key: [row[key]] for key in ("data_source", "reward_model", "extra_info")}
    ids = [context.tokenizer.encode(GOOD + context.eos)]
    assert [f(prompts=[row["prompt"]], completions=[""], completion_ids=ids, **columns) for f in functions] == [
        [1],
        [1],
    ]


def test_verl_asks_for_the_same(context: RewardContext) -> None:
    row = prompt_rows.of(make_problem(), "<think>\n", 0.25)
    told = (row["data_source"], row["reward_model"]["ground_truth"], row["extra_info"])
    assert verl.compute_score(told[0], GOOD, told[1], told[2]) == {"score": 1.1, "accuracy": 1, "format": 1}
    assert verl.compute_score(told[0], WRONG, told[1], told[2])["score"] == pytest.approx(0.1)
    with pytest.raises(InputError, match=r"prompts\.parquet"):
        verl.compute_score(told[0], GOOD, told[1])


def test_settings_are_checked() -> None:
    assert list(rewards.choose({"accuracy": {"weight": 2}, "format": False})) == ["accuracy"]
    with pytest.raises(InputError, match=r"grpo\.rewards\.accuracy\.wieght.*\n.*weight"):
        rewards.choose({"accuracy": {"wieght": 2}})
    with pytest.raises(InputError, match="did you mean accuracy"):
        rewards.choose({"acuracy": {}})
    with pytest.raises(InputError, match="no reward is left"):
        rewards.choose({"accuracy": False})


def test_a_reward_of_ones_own_is_a_file(context: RewardContext, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from distill.rewards import Reward, Weighted\n"
        "class Config(Weighted):\n    word: str = 'so'\n"
        "class Polite(Reward):\n    def __init__(self, word):\n        self.word = word\n"
        "    def __call__(self, rollouts, step):\n"
        "        return [float(self.word in rollout.trace.completion) for rollout in rollouts]\n"
        "def build(config, context):\n    return Polite(config.word)\n"
    )
    batch = call(
        context, {"polite": {"kind": str(mine), "word": "please", "weight": 3}}, make_problem(), [GOOD, "please"]
    )
    assert batch.values == {"polite": [0.0, 1.0]}
    assert batch.totals == [0.0, 3.0]


def test_a_reward_that_is_a_function_or_has_no_weight_is_told_what_to_be(
    context: RewardContext, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from distill.rewards import Weighted as Config\n"
        "def build(config, context):\n    return lambda rollouts, step: [1.0 for _ in rollouts]\n"
    )
    with pytest.raises(InputError, match=r"gives a function, which is no Reward\n.*distill\.rewards\.Reward"):
        rewards.build({"mine": {"kind": str(mine)}}, context)
    bare = tmp_path / "bare.py"
    bare.write_text("from distill.types import Record as Config\ndef build(config, context):\n    return None\n")
    with pytest.raises(InputError, match=r"grpo\.rewards\.bare: its Config has no weight\n.*rewards\.Weighted"):
        rewards.choose({"bare": {"kind": str(bare)}})
