"""The SFT set as others see it: a plain parquet with messages, provenance and token counts."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from distill.models.chat import Tokenizer
from distill.run import Run
from distill.stages import filter
from distill.store import jsonl
from distill.types import TrainingRow
from tests.conftest import GOOD, make_job, make_problem, make_trace


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose filter kept traces of two problems, and two general chats."""
    run = Run(tmp_path)
    problems = [make_problem(), make_problem("Again: make 29 of 3, 7, 8.", licence="cc-by-4.0")]
    jsonl.write(run.problems, problems)
    traces = [make_trace(GOOD, problem_id=problem.id, id=f"t{n}", model="sage") for n, problem in enumerate(problems)]
    jsonl.write(run.traces_file, traces)
    general = tmp_path / "general.jsonl"
    general.write_text("".join(f'{{"q": "Hello {n}", "a": "Good day {n}."}}\n' for n in range(50)))
    mix = {"general": {"path": str(general), "map": {"prompt": "{q}", "text": "a", "model": "someone"}, "share": 0.5}}
    config = filter.Config.model_validate({"checks": {"correct": {}}, "mix": mix})
    filter.STAGE.run(make_job(tmp_path, config))
    return run


def load(run: Run) -> datasets.Dataset:
    files, cache = str(run.sft / "train.parquet"), str(run.folder / "cache")
    return datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)


def test_columns_and_their_types(run: Run) -> None:
    loaded = load(run)
    assert set(loaded.column_names) == set(TrainingRow.model_fields)
    assert loaded.features["messages"] == datasets.List(
        {"role": datasets.Value("string"), "content": datasets.Value("string")}
    )
    assert loaded.features["tokens"] == datasets.Value("int64")
    assert all(TrainingRow.model_validate(row) for row in loaded)


def test_provenance_and_token_counts(run: Run, tiny: Path) -> None:
    rows, tokenizer = {row["trace_id"]: row for row in load(run)}, Tokenizer(str(tiny / "base"))
    problems = {problem.id: problem for problem in jsonl.read(run.problems, type(make_problem()))}
    for id in ("t0", "t1"):
        row = rows[id]
        assert row["teacher"] == "sage"
        problem = problems[row["problem_id"]]
        assert row["messages"][0] == {"role": "user", "content": problem.messages[0].content}
        assert row["messages"][-1] == {"role": "assistant", "content": "<think>\n" + GOOD}
        assert (row["set"], row["licence"]) == ("test", problem.licence)
        assert row["tokens"] == len(tokenizer.encode("<think>\n" + GOOD))
    mixed = [row for id, row in rows.items() if id not in ("t0", "t1")]
    assert {(row["set"], row["teacher"]) for row in mixed} == {("general", "someone")}


@pytest.mark.integration
def test_trl_trains_on_it_as_it_is(run: Run, tiny: Path, tmp_path: Path) -> None:
    """As messages, and split into prompt and completion: both of TRL's conversational formats."""
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    from trl.data_utils import is_conversational

    loaded = load(run)
    assert is_conversational(loaded[0])
    split = loaded.map(
        lambda row: {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}, remove_columns=["messages"]
    )
    for data, learnt in ((loaded, "all"), (split, "reply")):
        arguments = SFTConfig(
            output_dir=str(tmp_path / learnt),
            max_steps=1,
            per_device_train_batch_size=2,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            max_length=None,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(tiny / "base")
        trainer = SFTTrainer(str(tiny / "base"), args=arguments, train_dataset=data, processing_class=tokenizer)
        assert trainer.train().training_loss > 0
        batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1]])
        text = tokenizer.decode(batch["labels"][batch["labels"] != -100])
        assert text.count("</think>") == 2
        assert ("<|im_start|>user" in text) == (learnt == "all")
