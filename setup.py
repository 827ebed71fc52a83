"""Which packages ship: all of distill/, found by looking, and three folders that lie beside it."""

from setuptools import find_packages, setup

packages = find_packages(include=["distill", "distill.*"])
setup(packages=[*packages, "distill.cli", "distill.cli.commands", "distill.recipes", "distill.data"])
