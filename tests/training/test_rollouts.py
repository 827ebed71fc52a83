"""Less is computed for padding, and what comes out is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill.training import rollouts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:TRL currently supports vLLM"),  # ours is newer, and not used here
]
TEXT = (
    "Using the numbers {}, make {}. Use each number exactly once, with + - * / and parentheses. "
    "Put the expression in <answer></answer>."
)
PROMPTS = [
    [{"role": "user", "content": TEXT.format(numbers, target)}]
    for numbers, target in (("3, 7, 8", 29), ("2, 5, 6", 28), ("17, 9, 3", 29), ("20, 2, 5", 15))
]


@pytest.fixture(scope="module")
def trainer(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig

    torch.set_num_threads(1)
    arguments = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("out")),
        use_cpu=True,
        bf16=False,
        report_to="none",
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=60,
        temperature=0.9,
    )
    return rollouts.trainer()(
        model=AutoModelForCausalLM.from_pretrained(tiny / "teacher", dtype=torch.float32),
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=AutoTokenizer.from_pretrained(tiny / "teacher"),
    )


def prompts(trainer: Any) -> list[list[int]]:
    told = trainer.processing_class.apply_chat_template(PROMPTS, add_generation_prompt=True, return_dict=True)
    return [list(ids) for ids in told["input_ids"]]


@pytest.mark.parametrize("most", [60, 200])
def test_completions_are_those_of_generate_on_each_prompt_alone(trainer: Any, most: int) -> None:
    import torch
    from transformers import GenerationConfig

    asked = [ids for ids in prompts(trainer) for _ in range(2)]
    greedy = GenerationConfig(do_sample=False, eos_token_id=[2], pad_token_id=0, max_new_tokens=most)
    with torch.no_grad():
        made = rollouts.sample(trainer.model, asked, most, greedy)
        for ids, ours in zip(asked, made, strict=True):
            alone = trainer.model.generate(torch.tensor([ids]), generation_config=greedy)
            assert ours == alone[0, len(ids) :].tolist()
    ended = [ids[-1] == 2 for ids in made]
    assert any(ended)
    assert len(set(map(len, made))) > 1


def test_log_probabilities_and_gradients_are_those_of_trl(trainer: Any) -> None:
    import torch
    from trl import GRPOTrainer

    draw = torch.Generator().manual_seed(0)
    lengths, before, most = torch.randint(1, 90, (40,), generator=draw), 12, 90
    ids = torch.randint(3, 400, (40, before + most), generator=draw)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths.tolist()):
        mask[row, row % 5 : before + length] = 1
    mask[7, before:] = 0  # TRL's mask_truncated_completions
    weight = torch.rand(40, most, generator=draw) * mask[:, before:]
    found = []
    for kind in (type(trainer), GRPOTrainer):
        trainer.model.zero_grad()
        ask = kind._get_per_token_logps_and_entropies
        told, entropy, _ = ask(trainer, trainer.model, ids, mask, most, batch_size=4, compute_entropy=True)
        (told * weight).sum().backward()
        slopes = [weights.grad.clone() for weights in trainer.model.parameters()]
        found.append((told.detach() * weight, entropy.detach() * weight, slopes))
    (ours, our_entropy, our_slopes), (theirs, their_entropy, their_slopes) = found
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(our_entropy, their_entropy, atol=1e-4, rtol=1e-4)
    for mine, other in zip(our_slopes, their_slopes, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-3 * float(other.abs().max()), rtol=1e-3)
