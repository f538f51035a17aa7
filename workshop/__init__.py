"""The parts of the notebooks that are not the lesson, and in `publish/` the commands behind `make run`."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE_DIR = ROOT / "source_dir"  # what SageMaker uploads with every training job
# Where notebooks write: below build/, or in a directory of its own for a run with another --output.
BUILD = Path(os.environ.get("WORKSHOP_BUILD") or ROOT / "build")
