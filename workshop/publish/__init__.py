"""Run the course, publish it as pages, and store its outputs: what the Makefile calls."""

from workshop import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.ipynb"))  # in the order of the course
