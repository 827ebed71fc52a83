"""The method in one flat file: it stays flat, and it runs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import distill

SCRIPT = Path(__file__).parent.parent / "recipes/examples/by_hand.py"


def test_it_is_short_and_flat() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    assert len(text.splitlines()) <= 150
    assert not [node for node in nodes if isinstance(node, ast.ClassDef | ast.AsyncFunctionDef)]
    assert "argparse" not in text


def test_it_uses_nothing_of_the_package_but_the_face() -> None:
    nodes = list(ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8"))))
    imported = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    assert "distill" in imported
    assert not [node for node in nodes if isinstance(node, ast.ImportFrom) and str(node.module).startswith("distill")]
    used = re.findall(r"\bdistill\.(\w+)\(", SCRIPT.read_text(encoding="utf-8"))
    assert set(used) <= set(distill.__all__)


@pytest.mark.integration
def test_it_goes_the_whole_way_on_a_few_problems() -> None:
    """How much the student learns from so few it does not say; that it learns is written, measured, in the script."""
    env = {**os.environ, "BY_HAND_TRAIN": "60", "BY_HAND_TEST": "20", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shares = {name: float(share) for name, share in re.findall(r"^([a-z ]+): ([0-9.]+)% right$", done.stdout, re.M)}
    assert set(shares) == {"teacher", "base student", "student"}
    assert shares["teacher"] > 50 > shares["base student"]
    kept, sampled = map(int, re.findall(r"kept (\d+) of (\d+) replies", done.stdout)[0])
    assert 30 < kept < sampled == 60
