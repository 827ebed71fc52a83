"""Cards and metadata: what they tell, what the Hub's own classes say to them, and that hostile text stays text."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, parse_eval_result_entries
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from distill.errors import InputError
from distill.publishing.text import plain, visible
from distill.run import Run, write_json
from distill.stages import publish
from distill.stages.publish import Config
from distill.types import TrainingRow
from tests.publishing.conftest import make_run, score, set_licence

HOSTILE = (
    "<script>alert(1)</script> [x](http://evil.example) | `code` **b** \u202eevil\u200b\n# Title\n---\n@someone $x$"
)


def made(run: Run, **changes: Any) -> Path:
    return publish.prepare(run, Config(**{"to": "org/name", **changes})).folder


def test_a_model_card_tells_where_it_is_from_and_how_good_it_is(run: Run) -> None:
    folder = made(run)
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.library_name == "transformers"
    assert card.data.language == ["en"]
    text = card.text
    assert "| countdown-tiny: student | 4 | 50.0 (45.0 to 55.0) | 60.0 (50.0 to 70.0) | 12.0 | 183 |" in text
    assert "| countdown-tiny: base |" in text
    assert "| countdown-tiny: teacher |" in text
    assert "wrong\\_value 2" in text
    assert "2.5" in text.split("loss, first to last")[1].split("\n")[0]
    assert "vllm serve org/name" in text
    assert "temperature 0.6" in text
    assert "12 % of its replies did not end" in text
    assert str(run.folder) not in text
    assert "/data/tiny" not in text


def test_the_provenance_ties_recipe_traces_checkpoint_and_scores(run: Run) -> None:
    folder = made(run)
    told = orjson.loads((folder / "distill.json").read_bytes())
    assert set(told["of"]) == {"recipe", "traces", "set", "scores", "checkpoint", "card"}
    assert f"`{told['provenance']}`" in (folder / "README.md").read_text()
    assert set(told["files"]) == {p.relative_to(folder).as_posix() for p in folder.rglob("*")} - {"distill.json"}
    seen = {told["provenance"]}
    for change in (run.traces_file, run.scores_file, run.student / "config.json"):
        change.write_bytes(change.read_bytes() + b"\n")
        seen.add(orjson.loads((made(run) / "distill.json").read_bytes())["provenance"])
    assert len(seen) == 4


def test_git_and_the_manifest_call_files_by_the_same_name(run: Run) -> None:
    folder = made(run)
    told = orjson.loads((folder / "distill.json").read_bytes())["files"]["config.json"]
    called = subprocess.run(
        ["git", "hash-object", "--no-filters", folder / "config.json"], capture_output=True, text=True, check=True
    )
    assert called.stdout.strip() == told["git"]


def test_a_run_that_was_not_measured_says_so(run: Run) -> None:
    run.scores_file.unlink()
    assert "It was not measured" in ModelCard.load(made(run) / "README.md").text


def test_scores_on_hub_datasets_become_eval_results(run: Run) -> None:
    write_json(run.scores_file, [score("teacher", 0.9, "math500"), score("sft", 0.5, "math500"), score("sft", 0.4)])
    sampling = {"temperature": 0.6, "top_p": 0.95, "top_k": None, "max_tokens": 32768}
    models = [{"role": "sft", "sampling": sampling}]
    report = {"sets": [{"set": "math500", "commit": "a" * 40, "problems": 500, "models": models}]}
    write_json(run.eval / "report.json", report)
    folder = made(run)
    files = [path.name for path in (folder / ".eval_results").iterdir()]
    assert files == ["math500.yaml"]
    (entry,) = parse_eval_result_entries(yaml.safe_load((folder / ".eval_results/math500.yaml").read_text()))
    assert (entry.dataset_id, entry.value, entry.dataset_revision) == ("HuggingFaceH4/MATH-500", 50.0, "a" * 40)
    assert "95 % interval 45.00 to 55.00" in str(entry.notes)
    assert "temperature 0.6, top-p 0.95, up to 32768 tokens" in str(entry.notes)
    assert "Measured at temperature 0.6" in (folder / "README.md").read_text()


def test_a_dataset_card_tells_how_the_rows_came_about(run: Run) -> None:
    folder = made(run, dataset=True)
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.size_categories == ["n<1K"]
    assert card.data["configs"][0]["data_files"] == [{"split": "train", "path": "data/train.parquet"}]
    assert "6 rows" in card.text
    told = re.findall(r"^\| `(\w+)` \|", card.text.split("## Fields")[1].split("##")[0], re.MULTILINE)
    assert told == list(TrainingRow.model_fields), "every column of the set, as it is in the file"
    assert not (folder / "model.safetensors").exists()


def test_a_hub_base_and_a_condition_show_in_the_metadata(tmp_path: Path, tiny: Path) -> None:
    run = make_run(tmp_path / "r", tiny, student="qwen2.5-3b", teacher="deepseek-r1")
    folder = made(run, accept=("qwen-research",))
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == "Qwen/Qwen2.5-3B"
    assert (card.data.license, card.data.license_name) == ("other", "qwen-research")
    assert card.data.license_link == "LICENSE.md"
    assert "**Built with Qwen**" in card.text
    assert "research and evaluation only" in (folder / "LICENSE.md").read_text()


def test_hostile_names_stay_text_in_markdown_and_yaml(run: Run) -> None:
    set_licence(run.sft / "train.parquet", HOSTILE, teacher=HOSTILE)
    checks = [{"check": HOSTILE, "rejects": 1, "only": 1, "left": 6, "reasons": {HOSTILE: 1}}]
    write_json(run.funnel, {"traces": 8, "checks": checks, "undecidable": 0, "accepted": 6, "kept": 6, "mix": []})
    write_json(run.scores_file, [score("sft", 0.5, HOSTILE)])
    for dataset in (False, True):
        folder = made(run, dataset=dataset)
        card = (DatasetCard if dataset else ModelCard).load(folder / "README.md")
        assert card.data.to_dict().get("language") == ["en"]
        for text in (card.text, (folder / "LICENSE.md").read_text()):
            shown = MarkdownIt("commonmark").enable("table").render(text)
            assert "alert(1)" in shown
            assert not re.search(
                r"<(script|a|img|em)\b", shown.replace("<em>majority</em>", "").replace("<em>cut</em>", "")
            )
            assert len(re.findall("<h1>", shown)) == 1
            assert not re.search("[\u202e\u200b]", shown)
            assert "://" not in re.sub("`[^`]*`", "", text), "what the Hub would turn into a link by itself"


@given(st.text())
def test_plain_text_is_one_line_without_markup(text: str) -> None:
    shown = plain(text)
    assert "\n" not in shown
    assert "<" not in shown
    assert "|" not in shown.replace(r"\|", "")
    assert len(visible(text)) <= 300


def test_what_cannot_be_published_says_what_to_do(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        publish.prepare(Run(tmp_path / "none"), Config(to="a/b"))
    for to in ("name", "a/b/c", "a/../b", "a/b c", "a/--x"):
        with pytest.raises(InputError, match="no Hub name"):
            publish.prepare(run, Config(to=to))
    (run.sft / "train.parquet").unlink()
    with pytest.raises(InputError, match="no trace set"):
        publish.prepare(run, Config(to="a/b", dataset=True))
    for path in (run.student / "config.json", run.student / "model.safetensors"):
        path.unlink()
        with pytest.raises(InputError, match=r"no student|no weights"):
            publish.prepare(run, Config(to="a/b"))


def test_private_questions_are_not_published(run: Run) -> None:
    import pyarrow
    import pyarrow.parquet

    path = run.sft / "train.parquet"
    table = pyarrow.parquet.read_table(path)
    sets = pyarrow.array(["gpqa-diamond"] * len(table))
    pyarrow.parquet.write_table(table.set_column(table.column_names.index("set"), "set", sets), path)
    assert any("must not be shown" in f.message for f in publish.prepare(run, Config(to="a/b", dataset=True)).stopping)
    assert not publish.prepare(run, Config(to="a/b")).stopping


def test_adapters_name_no_folder_of_this_machine(run: Run) -> None:
    adapter = run.student / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"x")
    (adapter / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{run.folder}", "r": 8}}')
    folder = made(run, adapter=True)
    assert orjson.loads((folder / "adapter_config.json").read_bytes()) == {"base_model_name_or_path": "tiny", "r": 8}
    assert not (folder / "model.safetensors").exists()
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "peft"
    assert "--enable-lora" in card.text
