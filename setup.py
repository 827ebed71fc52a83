"""Which packages ship: all of distill/, found by looking, and three folders that lie beside it. The rest is in pyproject.toml."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["distill", "distill.*"]), "distill.cli", "distill.recipes", "distill.data"])
