"""The student's scores as the Hub reads them: `.eval_results/SET.yaml`, a file for each benchmark that is a dataset."""

from __future__ import annotations

import re

import yaml

from distill.errors import InputError
from distill.problems import sets
from distill.problems.sets import ProblemSet
from distill.publishing.facts import Facts, MeasuredSet
from distill.types import Score


def files(facts: Facts) -> dict[str, str]:
    """The text of each file by its name; empty where no set that was measured on is a Hub dataset."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    texts_by_name = {}
    measured_by_name = {measured_set.set: measured_set for measured_set in facts.measured_sets}
    for score in facts.scores:
        dataset = _hub_set(score.set)
        if score.role != (facts.role or "sft") or dataset is None or "pass@1" not in score.metrics:
            continue
        measured = measured_by_name.get(score.set)
        revision = dataset.revision or (measured.commit if measured else None)
        entry = EvalResultEntry(
            dataset_id=str(dataset.dataset),
            task_id=dataset.config or dataset.name,
            value=round(100 * score.metrics["pass@1"].value, 2),
            dataset_revision=revision,
            notes=_notes(score, facts, measured),
        )
        text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)
        texts_by_name[f".eval_results/{re.sub(r'[^A-Za-z0-9._-]', '-', score.set)}.yaml"] = text
    return texts_by_name


def _hub_set(name: str) -> ProblemSet | None:
    """The shipped set of this name, if it is a dataset on the Hub."""
    if name not in sets.shipped_sets():
        return None
    try:
        problem_set = sets.find(name)[0]
    except InputError:
        return None
    is_on_hub = problem_set.source == "hub" and problem_set.dataset
    return problem_set if is_on_hub else None


def _notes(score: Score, facts: Facts, measured: MeasuredSet | None) -> str:
    metric = score.metrics["pass@1"]
    sampling = facts.sampling
    notes = [f"pass@1 in percent over {score.n} samples a problem"]
    if metric.low is not None and metric.high is not None:
        notes.append(f"95 % interval {100 * metric.low:.2f} to {100 * metric.high:.2f}")
    if facts.sampling_is_measured:
        notes.append(
            f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, up to {sampling.max_tokens} tokens"
        )
    if measured and measured.problems is not None:
        notes.append(f"{measured.problems} problems")
    return ", ".join(notes)
