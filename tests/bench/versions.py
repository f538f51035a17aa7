"""Serve models that the training image's TensorFlow exports with the inference image's, and compare the answers.

    .venv/bin/python tests/bench/versions.py      # part of make bench

The networks of both data sets are trained for a few steps, exported, and served twice: with the TensorFlow of this
environment, and with that of the inference image, in an environment in a temporary directory. Each TensorFlow is
deterministic, but two of them may round differently. Exits with 1 if a probability differs by more than TOLERANCE from
that of the trained network, or if a predicted class differs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop.containers import INFERENCE

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
SHAPES = ((8, 8, 1), (32, 32, 3))  # of the digits and of CIFAR-10
IMAGES = 256
TOLERANCE = 1e-6  # of probabilities in float32
EXPORT = """
import sys
from pathlib import Path
import numpy as np
import model
directory, shape = Path(sys.argv[1]), tuple(map(int, sys.argv[2:]))
images = np.load(directory / "images.npy")
labels = np.arange(len(images), dtype=np.int64) % 10
trainer = model.Trainer(shape, 10, learning_rate=0.01, seed=1)
for start in range(0, len(images), 32):
    trainer.train(images[start : start + 32], labels[start : start + 32])
np.save(directory / "expected.npy", trainer.model.predict(images, verbose=0))
trainer.export(directory / "model" / "1")
"""


def export(directory: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """Train and export the network for images of a shape; return its own predictions."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), np.uint8)
    np.save(directory / "images.npy", images)
    command = [sys.executable, "-c", EXPORT, str(directory), *map(str, shape)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "source_dir"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(command, check=True, env=environment)
    return np.asarray(np.load(directory / "expected.npy"))


def install(directory: Path) -> Path:
    """Install localmode and the TensorFlow of the inference image; return the Python of the environment."""
    python = directory / "bin/python"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, directory], check=True)
    package = "tensorflow-cpu" if sys.platform == "linux" and os.uname().machine == "x86_64" else "tensorflow"
    wanted = [f"{ROOT / 'localmode'}[serving]", f"{package}=={INFERENCE.version}.*"]
    subprocess.run([UV, "pip", "install", "--quiet", "--python", python, *wanted], check=True)
    return python


def versions(python: Path) -> str:
    """Return the versions of TensorFlow, Keras and NumPy in an environment."""
    code = "import tensorflow as tf, keras, numpy; print(tf.__version__, keras.__version__, numpy.__version__)"
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, env=environment)
    return "TensorFlow {}, Keras {}, NumPy {}".format(*found.stdout.split())


def served(python: Path, model: Path, images: NDArray[Any]) -> NDArray[Any]:
    """Return what localmode's model server, run by a Python, predicts for all images in one request."""
    command = [python, "-P", "-m", "localmode.modelserver", model]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=model, **pipes) as process:  # type: ignore[call-overload]
        started = json.loads(process.stdout.readline())
        request = urllib.request.Request(
            f"{started['url']}/invocations",
            json.dumps({"instances": images.tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            predictions = np.array(json.load(response)["predictions"])
        process.stdin.close()
    return predictions


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        began = time.monotonic()
        other = install(Path(temporary) / "environment")
        print(f"exported and served by {versions(Path(sys.executable))}")
        print(f"served by {versions(other)}, installed in {time.monotonic() - began:.0f} s")
        agree = True
        for shape in SHAPES:
            directory = Path(temporary) / "x".join(map(str, shape))
            directory.mkdir()
            expected = export(directory, shape)
            images = np.load(directory / "images.npy")
            here, there = (served(python, directory / "model", images) for python in (Path(sys.executable), other))
            apart = np.abs(there - here).max(), np.abs(here - expected).max(), np.abs(there - expected).max()
            print(f"{IMAGES} images of {directory.name}: the probabilities of the two servers are at most ", end="")
            print("{:.0e} apart, and {:.0e} and {:.0e} from those of the trained network".format(*apart))
            classes = {tuple(probabilities.argmax(axis=1)) for probabilities in (here, there, expected)}
            agree &= len(classes) == 1 and max(apart) <= TOLERANCE
        return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
