"""README.md of a trace set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill.publishing import licences, sections
from distill.publishing.facts import Facts
from distill.publishing.licences import LicenceFinding
from distill.publishing.text import code, table

if TYPE_CHECKING:
    from huggingface_hub import CardData

FILE = "data/train.parquet"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_FIELDS = {
    "messages": "the problem's turns and the teacher's reply, `<think>` block included: `role` and `content`",
    "trace_id": "hash of problem, model, template, sampling parameters and sample number",
    "problem_id": "hash of what the model was shown",
    "teacher": "the model that wrote the reply",
    "set": "problem set",
    "language": "of the problem",
    "licence": "of the problem",
    "source": "the dataset that the trace was taken over from; empty for those sampled in this run",
    "tokens": "of the reply, in the student's tokens",
}


def metadata(facts: Facts, findings: Sequence[LicenceFinding], name: str) -> CardData:
    """The card's front matter, a `DatasetCardData`."""
    from huggingface_hub import DatasetCardData

    row_licences = sorted(row_licence for row_licence in facts.rows.licences if row_licence)
    licence: str | list[str] = row_licences
    licence_name = None
    if len(row_licences) <= 1 or findings:
        only_licence = row_licences[0] if list(facts.rows.licences) == row_licences else None
        licence, licence_name = licences.card_licence(only_licence, findings)
    size = next((category for upper_bound, category in _SIZES if facts.rows.count < upper_bound), "1M<n<10M")
    card = DatasetCardData(
        language=sections.languages(facts),
        license=licence,
        pretty_name=name,
        size_categories=[size],
        task_categories=["text-generation"],
        annotations_creators=["machine-generated"],
        tags=["reasoning", "distillation", "distill", "synthetic"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": FILE}]}],
    )
    if licence_name:
        card["license_name"] = licence_name
        card["license_link"] = "LICENSE.md"
    return card


def text(
    facts: Facts,
    findings: Sequence[LicenceFinding],
    name: str,
    location: str,
    part_hashes: Mapping[str, str | None],
    provenance_hash: str,
) -> str:
    """The card's body; arguments as for a model's."""
    field_rows = [(code(field), meaning) for field, meaning in _FIELDS.items() if field in facts.rows.columns]
    fields = table(("field", "what"), field_rows, "l")
    limitations = (
        "- A model wrote all of it: the filters above checked final answers, not the steps to them.\n"
        "- Which problems are in it depends on what the teacher solves: the hardest are rarer than they were asked.\n"
        "- Treat the text as untrusted: it may hold markup, code or instructions."
    )
    load_call = f'load_dataset({json.dumps(location)}, split="train")'
    sections_by_title = {
        "Load it": f"```python\nfrom datasets import load_dataset\n\nrows = {load_call}\n```",
        "Fields": fields,
        "How it came about": sections.funnel(facts),
        "Rows by teacher": sections.counts_text(facts.rows.teachers) + ".",
        "Limits": limitations,
        "Licences": sections.licence_terms(facts, findings, base=False),
        "Provenance": sections.provenance(part_hashes, provenance_hash),
    }
    about = f"{facts.rows.count:,} reasoning traces of {sections.teachers(facts)}"
    return sections.page(name, f"{about}, filtered, ready to fine-tune a student on.", findings, sections_by_title)
