"""Training as the sft stage does it against TRL's own defaults for batching, on the same rows.

    python -m tests.benchmarks.sft_throughput [--run DIR] [--rounds 3] [--epochs 3]

Both arms fine-tune the tiny base in a process of their own with the same number of rows per step, the same learning
rate, bf16 autocast, no gradient checkpointing and memory that is kept; the reference has TRL's batching (8 rows a
forward pass in random order, padded to the longest) and attention. Counted are tokens that bear loss, per second of
training; then both are scored on traces that neither has seen. Without --run the tiny teacher writes the traces first.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HELD_OUT = 200
STEP = 16
MICRO = 4
"""Rows of like length; a step mixes four such groups, as a step of one would weigh short rows more."""


def rows(run: Path, folder: Path) -> tuple[Path, Path]:
    """Rows to train on and rows held out, as the sft stage writes them."""
    import pyarrow.parquet as pq

    from distill.models import presets
    from distill.models.chat import Tokenizer
    from distill.progress import LogLines
    from distill.training.sft import rows as training_rows

    student = presets.student("tiny")
    tokenizer = Tokenizer(student.model, student.revision, presets.template(student))
    whole = folder / "rows.parquet"
    training_rows.build(
        run / "sft" / "train.parquet",
        student,
        tokenizer,
        max_length=512,
        limit=None,
        rows_path=whole,
        progress=LogLines(),
    )
    table = pq.read_table(whole)
    train, held = folder / "train.parquet", folder / "held.parquet"
    pq.write_table(table.slice(HELD_OUT), train)
    pq.write_table(table.slice(0, HELD_OUT), held)
    return train, held


def job(train: Path, folder: Path, epochs: float) -> Any:
    from distill.models import presets
    from distill.models.chat import Tokenizer
    from distill.training.job import TrainingJob

    student = presets.student("tiny")
    tokenizer = Tokenizer(student.model, student.revision, presets.template(student))
    return TrainingJob.model_validate(
        {
            "model": student.model,
            "rows": str(train),
            "folder": str(folder),
            "metrics": str(folder / "metrics.jsonl"),
            "template": tokenizer.template,
            "eos": student.eos,
            "setup": {
                "cpu": True,
                "micro_batch": MICRO,
                "accumulation": STEP // MICRO,
                "max_length": 512,
                "checkpointing": False,
            },
            "schedule": {"learning_rate": 2e-3, "epochs": epochs},
            "batching": "grouped",
            "attention": "eager",
            "checkpoints": 0,
        }
    )


def ours(train: Path, held: Path, folder: Path, epochs: float) -> dict[str, float]:
    from distill.training.sft import trainer

    built = trainer.build(job(train, folder, epochs))
    return measured(built, train, held, epochs)


def reference(train: Path, held: Path, folder: Path, epochs: float) -> dict[str, float]:
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from distill.machine import hardware

    hardware.keep_freed_memory()
    told = job(train, folder, epochs)
    loaded = datasets.load_dataset("parquet", data_files=str(train), split="train", cache_dir=str(folder / "cache"))
    arguments = SFTConfig(
        output_dir=str(folder),
        gradient_accumulation_steps=2,
        num_train_epochs=epochs,
        learning_rate=2e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        gradient_checkpointing=False,
        max_length=None,
        eos_token=told.eos,
        use_cpu=True,
        dataloader_pin_memory=False,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    assert arguments.per_device_train_batch_size * 2 == STEP
    model = AutoModelForCausalLM.from_pretrained(told.model)
    trainer = SFTTrainer(
        model=model.float(),
        args=arguments,
        train_dataset=loaded.select_columns(["input_ids", "labels"]),
        processing_class=AutoTokenizer.from_pretrained(told.model),
    )
    return measured(trainer, train, held, epochs)


def measured(trainer: Any, train: Path, held: Path, epochs: float) -> dict[str, float]:
    import pyarrow.parquet as pq
    import torch

    learnt = sum(sum(label != -100 for label in row) for row in pq.read_table(train)["labels"].to_pylist())
    seconds = trainer.train().metrics["train_runtime"]
    model = trainer.model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in pq.read_table(held).to_pylist():
            logits = model.model(torch.tensor([row["input_ids"]]), use_cache=False).last_hidden_state[0] @ (
                model.get_output_embeddings().weight.T
            )
            targets = torch.tensor(row["labels"])[1:]
            loss = torch.nn.functional.cross_entropy(logits[:-1].float(), targets, ignore_index=-100, reduction="sum")
            total, count = total + float(loss), count + int((targets != -100).sum())
    return {"rate": learnt * epochs / seconds, "loss": total / count, "seconds": seconds}


def arm(name: str, train: Path, held: Path, epochs: float) -> dict[str, float]:
    command = [sys.executable, "-m", __spec__.name, "--arm", name, str(train), str(held), "--epochs", str(epochs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {found['rate']:,.0f} loss-bearing tokens/s, held-out loss {found['loss']:.4f}", flush=True)
    return found


def traces(folder: Path) -> Path:
    run = folder / "run"
    for words in (["generate", "tiny", "--limit", "1200"], ["filter"]):
        subprocess.run([sys.executable, "-m", "distill.cli", *words, "--run", str(run)], check=True)
    return run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--arm", nargs=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.arm:
            name, train, held = options.arm[0], Path(options.arm[1]), Path(options.arm[2])
            run = ours if name == "ours" else reference
            print(json.dumps(run(train, held, Path(folder), options.epochs)))
            return
        train, held = rows(options.run or traces(Path(folder)), Path(folder))
        rounds = [
            {name: arm(name, train, held, options.epochs) for name in ("ours", "reference")}
            for _ in range(options.rounds)
        ]
    own, other = (statistics.median(r[name]["rate"] for r in rounds) for name in ("ours", "reference"))
    losses = {name: [round(r[name]["loss"], 4) for r in rounds] for name in ("ours", "reference")}
    ratio = statistics.median(r["ours"]["rate"] / r["reference"]["rate"] for r in rounds)
    print(
        json.dumps(
            {
                "bench": "sft_throughput",
                "value": round(own),
                "unit": "loss-bearing tokens/s",
                "reference": round(other),
                "ratio": round(ratio, 2),
                "held_out_loss": losses,
            }
        )
    )


if __name__ == "__main__":
    main()
