"""What `distill COMMAND --help` ends with: what it reads and writes, and examples to copy."""

from __future__ import annotations


def _help_text(reads: str, writes: str, *examples: str) -> str:
    files = f"**Reads** {reads}. **Writes** {writes}." if reads else f"**Writes** {writes}."
    return "\n\n".join([files, *(f"`{example}`" for example in examples)])


HELP_TEXTS = {
    "run": _help_text(
        "a recipe",
        "a run folder with everything below",
        "distill run tiny",
        "distill run r1-distill --student qwen2.5-1.5b --set sft.epochs=2 --dry-run",
    ),
    "generate": _help_text(
        "problems",
        "problems.jsonl, traces.jsonl, pass_rates.jsonl",
        "distill generate --teacher tiny --limit 200",
        "distill generate --teacher deepseek-r1 --endpoint http://node:8000 --forecast 200",
    ),
    "filter": _help_text(
        "problems.jsonl, traces.jsonl",
        "verdicts.jsonl, funnel.json, sft/train.parquet",
        "distill filter --run runs/tiny",
        "distill filter --run runs/tiny --set filter.checks.length.max_tokens=200 --dry-run",
    ),
    "sft": _help_text(
        "sft/train.parquet",
        "student/, metrics.jsonl",
        "distill sft --student qwen2.5-7b --dry-run",
        "distill sft --run runs/r1-distill --set sft.method=lora",
    ),
    "grpo": _help_text(
        "student/ and problems",
        "grpo/, metrics.jsonl, and scores.json with the student before and after",
        "distill grpo --run runs/tiny --dry-run",
        "distill grpo --run runs/tiny --set grpo.steps=50",
    ),
    "eval": _help_text(
        "student/ and problems",
        "scores.json, eval/",
        "distill eval --run runs/tiny",
        "distill eval --problems math500 --set eval.protocol=r1 --set eval.models=[sft]",
    ),
    "import": _help_text(
        "a dataset or file, and a field map of recipes/imports",
        "problems.jsonl, traces.jsonl",
        "distill import open-r1/OpenR1-Math-220k --limit 10000 --run runs/openr1",
        "distill import rows.jsonl --map openr1-math",
    ),
    "verify": _help_text(
        "JSONL rows such as `{gold: 1/2, pred: 0.5}`",
        "one verdict a row, and a summary",
        "distill verify pairs.jsonl --out verdicts.jsonl",
    ),
    "serve": _help_text(
        "a teacher's preset and the GPUs here, on Ray or by slurm",
        "endpoints.txt, vllm.log",
        "distill serve --teacher deepseek-r1 --host 0.0.0.0",
        "distill serve --teacher qwq-32b --on slurm --dry-run",
    ),
    "plan": _help_text(
        "a student's sizes; no GPU is touched",
        "the launch files, with --out",
        "distill plan --student qwen2.5-7b --gpus 8 --gpu-memory 80 --gpu H100 --tokens 2e9",
    ),
    "publish": _help_text(
        "a finished run",
        "DIR/publish, then a Hub repository or a folder",
        "distill publish --run runs/tiny --to ./my-student --dry-run",
        "distill publish --run runs/r1-distill --to org/my-traces --dataset",
    ),
    "report": _help_text(
        "one run folder or several",
        "report.html",
        "distill report tiny",
        "distill report --run runs/a --run runs/b --out compared.html",
    ),
    "show": _help_text(
        "a run folder",
        "nothing",
        "distill show language:foreign_script --run runs/tiny",
    ),
    "ls": _help_text("what is shipped, and runs/", "nothing", "distill ls students"),
    "settings": _help_text(
        "nothing but the program itself",
        "nothing",
        "distill settings filter.checks.length",
        "distill settings --schema",
    ),
    "doctor": _help_text(
        "this machine: packages, GPUs, the Hub's login, sandbox, disk, locks",
        "nothing that stays",
        "distill doctor",
        "distill doctor --run /shared/runs/mine",
    ),
}
"""By command."""
