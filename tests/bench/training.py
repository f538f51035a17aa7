"""Measure train.py: equal weights after interruptions, speed, memory, lost time.

    python tests/bench/training.py               # everything, about six minutes
    python tests/bench/training.py stress speed  # only these parts

What is compared runs alternately, so that ratios do not depend on the load of the machine. Figures are medians, with
the lowest and highest values. CIFAR-10 shape means 45,000 random images of 32x32x3: speed and memory are those of real
images, accuracies have no meaning.
"""

import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from source_dir.data import Channel
from workshop import ROOT, SOURCE_DIR, dataset

sys.path[:0] = [str(ROOT), str(SOURCE_DIR)]  # for `tests`, and for the modules of a training job

from tests.support.training import (  # noqa: E402
    TRAIN,
    clean_environment,
    options,
    records,
    run,
    run_signalled,
    write_channel,
)

PHOTOGRAPH = (32, 32, 3)
BATCH = 128
ROUND = {"float32": 28 * BATCH, "bfloat16": 60 * BATCH}  # images, for about four seconds
CADENCE = 8.0  # seconds, the default of --checkpoint-seconds


def show(title: str, figures: list[float], unit: str, places: int = 2) -> None:
    low, middle, high = (f"{value:.{places}f}" for value in (min(figures), statistics.median(figures), max(figures)))
    print(f"{title:<66}{middle:>9} {unit:<9} ({low} to {high})", flush=True)


# --- the same bits after any interruption ----------------------------------------------------------------------


def moments(randomly: random.Random) -> list[tuple[str, str]]:
    """Return a signal and a moment for each attempt; the last ones come after the last training step.

    The first two leave no checkpoint and one checkpoint, the others may come in any order.
    """
    kills = [f"import {module}:1" for module in ("tensorflow", "keras.src.layers", "keras.src.optimizers", "model")]
    # os.fsync is called twice for a checkpoint: between write and rename, and between rename and prune.
    kills += [f"fsync:{2 * randomly.randint(2, 7) + second}" for second in (0, 1) for _ in range(3)]
    kills += ["call restore:1", "call restore:1", "call arrays:3", "call arrays:6"]
    kills += [f"call train:{randomly.randint(20, 50)}" for _ in range(2)]
    kills += ["call evaluate:1", "call evaluate:2"]
    kills += ["call take_metrics:2", "call take_metrics:4"]  # in the validation, which takes its own metrics
    kills += [f"after {randomly.uniform(0.5, 4):.1f} s" for _ in range(3)]
    stops = ["call train:1", "call evaluate:1", "fsync:6"]
    middle = [("SIGKILL", moment) for moment in kills] + [("SIGTERM", moment) for moment in stops]
    randomly.shuffle(middle)
    last = ["call export:1", "path write_text:1", "path rename:1", "call weights_sha256:1"]
    return [("SIGKILL", "fsync:1"), ("SIGKILL", "fsync:3"), *middle, *[("SIGKILL", moment) for moment in last]]


def interrupt(signal_name: str, moment: str, arguments: list[str]) -> int:
    """Run one attempt up to a moment and return its exit status."""
    if not moment.startswith("after "):
        return run_signalled(signal_name, moment, arguments).returncode
    command = [sys.executable, str(TRAIN), *arguments]
    try:
        seconds = float(moment.split()[1])
        return subprocess.run(command, env=clean_environment(), capture_output=True, timeout=seconds).returncode
    except subprocess.TimeoutExpired:  # and SIGKILL was sent
        return -9


def stress(work: Path) -> None:
    """Compare a training that is killed many times with an uninterrupted one."""
    dataset.prepare("digits", work / "digits")
    whole, killed = work / "whole", work / "killed"
    settings = {"epochs": 60, "batch-size": 64, "checkpoint-every": 8}
    (work / "whole.log").write_text(run(options(work / "digits", whole, **settings)).stdout)
    attempts = []
    for signal_name, moment in moments(random.Random(5)):
        status = interrupt(signal_name, moment, options(work / "digits", killed, **settings))
        attempts.append((signal_name, moment, status))
    (work / "killed.log").write_text(run(options(work / "digits", killed, **settings)).stdout)
    statuses = [status for _, _, status in attempts]
    kills, stops = statuses.count(-9), statuses.count(143)
    print(f"stress: {kills} times SIGKILL and {stops} times SIGTERM in one training of {settings['epochs']} epochs")
    same = {title: read(whole) == read(killed) for title, read in RESULTS.items()}
    for title, equal in same.items():
        print(f"    {title}: {'identical' if equal else 'DIFFERENT'}", flush=True)
    if kills < 25 or kills + stops < len(attempts) or not all(same.values()):
        sys.exit("\n".join(["stress: FAILED", *map(str, attempts)]))


def _newest(out: Path) -> bytes:
    return max((out / "checkpoints").glob("checkpoint-*.npz")).read_bytes()


RESULTS: dict[str, Callable[[Path], Any]] = {
    "weights, optimizer state and random state (the last checkpoint)": _newest,
    "history.json": lambda out: (out / "data" / "history.json").read_bytes(),
    "final_weights_sha256": lambda out: out.with_suffix(".log").read_text().splitlines()[-1],
}


# --- speed -----------------------------------------------------------------------------------------------------


def speed(work: Path) -> None:
    """Images per second of train.py's loop, of model.fit, and the speed of a matrix product."""
    for precision, rounds in (("float32", 4), ("bfloat16", 4)):
        workers = {name: Worker(name, precision, str(work / precision)) for name in WORKERS}
        for worker in workers.values():
            worker.measure()  # the first round traces the functions
        loop, fit = zip(*[[worker.measure() for worker in workers.values()] for _ in range(rounds)], strict=True)
        for worker in workers.values():
            worker.end()
        rates = [each["rate"] for each in loop]
        show(f"{precision}: train.py on CIFAR-10 shape, checkpoints included", rates, "images/s", 0)
        show("    bare model.fit over tf.data", [each["rate"] for each in fit], "images/s", 0)
        shares = [100 * one["rate"] / other["rate"] for one, other in zip(loop, fit, strict=True)]
        show("    train.py as a share of it, round by round", shares, "%", 1)
        # Some rounds of model.fit take twice as long as others on the same machine: compare with the fastest.
        best = max(each["rate"] for each in fit)
        show("    train.py as a share of model.fit's fastest round", [100 * rate / best for rate in rates], "%", 1)
        show("    float32 product of two 2048x2048 matrices", [each["gemm"] / 1e9 for each in loop], "GFLOP/s", 0)
        show("    convolutions as a share of it", [100 * x["rate"] * x["flops"] / x["gemm"] for x in loop], "%", 1)
        show_saves([seconds for each in loop for seconds in each["saves"]], loop[-1]["bytes"])


def show_saves(seconds: list[float], size: int) -> None:
    show(f"    a checkpoint of {size / 1e6:.1f} MB", [1000 * each for each in seconds], "ms", 1)
    show(f"    its share of the {CADENCE:.0f} s from one to the next", [100 * each / CADENCE for each in seconds], "%")


class Worker:
    """This script as a process that measures one round at a time, so that two of them can alternate."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, __file__, "--worker", *arguments]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=clean_environment())

    def measure(self) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        print("go", file=self._process.stdin, flush=True)
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        return result

    def end(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Rounds:
    """Rounds of training in a worker, with a clock that stops between them."""

    def __init__(self, images: int) -> None:
        self._images, self._waited = images, 0.0
        self._wait()

    def now(self) -> float:
        return time.monotonic() - self._waited

    def end(self, measures: Callable[[], dict[str, Any]] = dict) -> None:
        """Report a round and additional measures, and wait for the command to start the next."""
        stopped, seconds = time.monotonic(), self.now() - self._started
        print(json.dumps({"rate": self._images / seconds, **measures()}), flush=True)
        self._wait(stopped)

    def _wait(self, since: float | None = None) -> None:
        stopped = time.monotonic() if since is None else since
        if not sys.stdin.readline():
            sys.exit()
        self._waited += time.monotonic() - stopped
        self._started = self.now()


def train_by_the_script(precision: str, directory: Path) -> None:
    """Train with train.fit at the default cadence of checkpoints; a round is an epoch."""
    import tensorflow as tf

    import model
    import train as module
    from settings import parse_settings

    script: Any = module  # its clock and its output are replaced below

    others = {"batch-size": BATCH, "checkpoint-every": 0, "epochs": 1000}
    settings = parse_settings(options(directory, directory, precision=precision, **others), {})
    settings.checkpoint_dir.mkdir(parents=True)
    train, validation = photographs(ROUND[precision]), photographs(BATCH)
    trainer = model.Trainer(PHOTOGRAPH, 10, settings.learning_rate, settings.seed, precision=precision)
    matrix = tf.random.normal((2048, 2048))
    multiply = tf.function(lambda: tf.reduce_max(tf.matmul(matrix, matrix)))

    def measures() -> dict[str, Any]:
        gemm = 2 * 2048**3 / min(seconds_of(lambda: multiply().numpy()) for _ in range(6))
        saves = time_saves(trainer, directory, 3)
        size = max(path.stat().st_size for path in directory.glob("checkpoint-*"))
        return {"gemm": gemm, "flops": flops(trainer.model), "saves": saves, "bytes": size}

    rounds = Rounds(ROUND[precision])
    script.time = SimpleNamespace(monotonic=rounds.now)
    script.say = lambda line: rounds.end(measures)  # fit prints only the lines of the epochs
    script.fit(trainer, settings, train, validation, [], {"identity": {}})


def train_by_keras(precision: str, directory: Path) -> None:
    """Train the same network with the same optimizer, without anything that slows it down.

    No augmentation, no determinism, no checkpoints; and no XLA, which would be slower on a CPU.
    """
    import keras
    import tensorflow as tf

    import model

    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    network = model.build_model(PHOTOGRAPH, 10)
    network.compile(model.FusedAdam(), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    train, validation = (
        tf.data.Dataset.from_tensor_slices((channel.images, channel.labels))
        for channel in (photographs(ROUND[precision]), photographs(BATCH))
    )
    train, validation = train.shuffle(ROUND[precision]).batch(BATCH).prefetch(tf.data.AUTOTUNE), validation.batch(BATCH)
    rounds = Rounds(ROUND[precision])
    end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: rounds.end())
    network.fit(train, validation_data=validation, epochs=1000, shuffle=False, callbacks=[end], verbose=0)


WORKERS = {function.__name__: function for function in (train_by_the_script, train_by_keras)}


def time_saves(trainer: Any, directory: Path, count: int) -> list[float]:
    from checkpoint import save

    return [seconds_of(lambda: save(directory, 1, trainer.arrays(), {})) for _ in range(count)]


def photographs(count: int) -> Channel:
    arrays = records(count, PHOTOGRAPH)
    return Channel(arrays["images"], arrays["labels"], arrays["class_names"].tolist())


def seconds_of(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def flops(network: Any) -> int:
    """Return the floating-point operations of the convolutions per image and training step.

    Three passes: forward, gradient of the weights, gradient of the input; the first convolution skips the last.
    """
    layers = [layer for layer in network.layers if layer.name.startswith("conv")]
    each = [2 * layer.kernel.shape.num_elements() * int(np.prod(layer.output.shape[1:3])) for layer in layers]
    return int(3 * sum(each) - each[0])


# --- whole processes -------------------------------------------------------------------------------------------


def process(work: Path) -> None:
    """One epoch of CIFAR-10 shape as a process: memory, and the time that a kill costs at most."""
    for name, count in (("train", 45_000), ("validation", 5_000)):
        write_channel(work / "photographs" / name, **records(count, PHOTOGRAPH))
    values = {"epochs": 1, "batch-size": BATCH, "checkpoint-every": 0}
    arguments = options(work / "photographs", work / "process", **values)
    running = subprocess.Popen(
        [sys.executable, str(TRAIN), *arguments], stdout=subprocess.PIPE, env=clean_environment()
    )
    saved: list[float] = []
    seen: set[Path] = set()
    while os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.05)
        names = set((work / "process" / "checkpoints").glob("checkpoint-*.npz"))
        if names - seen:
            saved.append(time.monotonic())
        seen |= names
    _, status, usage = os.wait4(running.pid, 0)
    assert status == 0
    print(f"{'peak memory, 45,000 images of CIFAR-10 shape':<66}{usage.ru_maxrss / 1e6:9.2f} GB")
    show("seconds from checkpoint to checkpoint", [b - a for a, b in pairwise(saved)], "s")


STARTED = """
import os, runpy, sys, time
path, *sys.argv[1:] = sys.argv[1:]
sys.path[0], sys.argv[0] = os.path.dirname(path), path
began = time.perf_counter()
import model
imported = time.perf_counter() - began
train = model.Trainer.train
def first(self, images, labels):
    train(self, images, labels)
    print("importing", imported, flush=True)
    os._exit(self.step == 1)
model.Trainer.train = first
runpy.run_path(path, run_name="__main__")
"""


def start(work: Path) -> None:
    """The time from the start of a process to its first resumed step."""
    dataset.prepare("digits", work / "digits")
    for name, count in (("train", 45_000), ("validation", 5_000)):
        write_channel(work / "photographs" / name, **records(count, PHOTOGRAPH))
    os.sync()  # or the 170 MB are still being written while the first processes are measured
    for title, batch_size in (("digits", 64), ("photographs", BATCH)):
        out = work / f"start-{title}"
        arguments = options(work / title, out, **{"batch-size": batch_size, "checkpoint-every": 5})
        run_signalled("SIGTERM", "call train:7", arguments)
        wholes, imports = [], []
        for _ in range(4):
            command = [sys.executable, "-c", STARTED, str(TRAIN), *arguments]
            began = time.perf_counter()
            ended = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=True)
            wholes.append(time.perf_counter() - began)
            imports.append(float(ended.stdout.split()[-1]))
        show(f"{title}: process start to first resumed step", wholes[1:], "s")
        show("    importing TensorFlow and Keras", imports[1:], "s")
        show("    the rest", [whole - part for whole, part in zip(wholes, imports, strict=True)][1:], "s")


EVALUATED = """
import sys
import numpy as np, tensorflow as tf
test = np.load(sys.argv[1])
images = tf.constant(test["images"], tf.float32)
for directory in sys.argv[2:]:
    answer = tf.saved_model.load(directory).signatures["serving_default"](images=images)
    print((answer["output_0"].numpy().argmax(axis=1) == test["labels"]).mean())
"""


def digits(work: Path) -> None:
    """Digits with the default hyperparameters: test accuracy, seconds of training, cost of a checkpoint."""
    channels = dataset.prepare("digits", work / "digits")
    outs, seconds = [work / f"digits-{seed}" for seed in range(3)], []
    for seed, out in enumerate(outs):
        ended = run(options(work / "digits", out, seed=seed, **DEFAULTS))
        seconds.append(sum(float(each) for each in re.findall(r" seconds=([0-9.]+)", ended.stdout)))
    test, models = channels["test"].directory / "test.npz", [str(out / "model" / "1") for out in outs]
    command = [sys.executable, "-c", EVALUATED, str(test), *models]
    ended = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=True)
    accuracies = [float(line) for line in ended.stdout.split()]
    show("digits: test accuracy with the default hyperparameters", accuracies, "", 4)
    show("    seconds of training", seconds, "s")
    import model

    trainer = model.Trainer((8, 8, 1), 10, 0.002, 0)
    show_saves(time_saves(trainer, work, 15), max(path.stat().st_size for path in work.glob("checkpoint-*")))


DEFAULTS = {"epochs": 20, "batch-size": 64, "checkpoint-every": 0}
PARTS = {part.__name__: part for part in (stress, speed, process, start, digits)}


def main() -> None:
    """Run the given parts, by default all."""
    if sys.argv[1:2] == ["--worker"]:
        return WORKERS[sys.argv[2]](sys.argv[3], Path(sys.argv[4]))
    began = time.monotonic()
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as directory:
            PARTS[name](Path(directory))
    print(f"{'all of this':<66}{time.monotonic() - began:9.0f} s")
    return None


if __name__ == "__main__":
    main()
