"""The network, the optimizer and the metrics. The only module that needs TensorFlow."""

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoint import Arrays, Checkpoint, CheckpointError
from data import Channel, Images, Labels
from machine import machine
from metrics import Epoch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
os.environ["KERAS_BACKEND"] = "tensorflow"
# Keras imports these packages if they are installed, which takes a third of its start-up time, for features that are
# not used here. None in sys.modules makes such an import fail, so Keras starts without them.
hidden = {"matplotlib", "pandas", "sklearn"} - sys.modules.keys()
sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

for name in hidden:
    del sys.modules[name]

SMALL = ((32, 32), (64,))  # filters of the convolutions, stage by stage; a stage halves height and width
LARGE = ((32,), (64, 64), (128, 128), (256, 256))
WARM_UP = 0.05  # of all steps
EVALUATION_BATCH = 512  # images; changes the result only through the order of the additions


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalization of images [N, H, W, C] in one operation of TensorFlow, where Keras uses a dozen.

    It computes in float32 for any input. On two cores it saves a fifth of a training step.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize with the statistics of the batch in training, and with the moving averages otherwise."""
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            *(tf.cast(weight, tf.float32) for weight in (self.gamma, self.beta)),
            self.moving_mean,
            self.moving_variance,
            epsilon=self.epsilon,
            is_training=bool(training),
            exponential_avg_factor=1 - self.momentum,
        )
        if training:
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return outputs


class FusedAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam in one operation of TensorFlow per variable, where Keras uses two dozen.

    The formula is the same. It saves a third of a second of every start, since TensorFlow traces and optimizes less.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change a variable and its two moments by a gradient of the same shape."""
        place = self._get_variable_index(variable)
        steps = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=self.beta_1**steps,
            beta2_power=self.beta_2**steps,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def build_model(image_shape: tuple[int, ...], classes: int) -> Any:
    """Build the network for images [N, *image_shape] with the pixel values of the file, 0 to 255.

    The model scales the pixels itself, so clients of the deployed model send them as they are. The input is float32
    because TensorFlow Serving refuses 3.0 for an integer input, and JSON does not distinguish 3.0 from 3. The output
    is float32 [N, classes], probabilities that add up to 1. Images of at least 16x16 pixels get the larger network
    (1.17 million parameters), smaller ones the small network (29 thousand).

    The larger one is a chain of 3x3 convolutions with batch normalization, trained on images that are moved and
    mirrored at random. A network of this kind, twice as wide, reaches a test accuracy of 0.94 on CIFAR-10 in 24
    epochs (https://johanwind.github.io/2022/12/28/cifar_94.html, the mean of 40 runs, SGD, batches of 512). At 800
    images/s an hour is 64 epochs, which should be enough for more than 0.80; this was not measured.
    """
    stages = LARGE if min(image_shape[:2]) >= 16 else SMALL
    # Explicit names, because checkpoints identify the variables by them and Keras would number them.
    images = x = keras.Input(image_shape, name="images")
    x = keras.layers.Rescaling(1 / 255, name="rescale")(x)
    for stage, filters in enumerate(stages, start=1):
        for place, count in enumerate(filters, start=1):
            name = f"{stage}_{place}"
            x = keras.layers.Conv2D(count, 3, padding="same", use_bias=False, name=f"conv{name}")(x)
            # With Keras's default momentum, 0.99, evaluation is useless for the first hundreds of steps.
            x = FusedBatchNormalization(momentum=0.9, name=f"norm{name}")(x)
            x = keras.layers.Activation("relu", name=f"relu{name}")(x)
        x = keras.layers.MaxPooling2D(padding="same", name=f"pool{stage}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    x = keras.layers.Dropout(0.3, name="dropout")(x)
    # Always float32: the eight bits of precision of bfloat16 are not enough for a sum of 1.
    x = keras.layers.Dense(classes, activation="softmax", name="probabilities", dtype="float32")(x)
    return keras.Model(images, x, name="classifier")


class Trainer:
    """A model, its optimizer and its metrics.

    It uses plain tf.functions instead of Model.fit, so that the caller can save the whole state between any two steps,
    including the metrics of an unfinished epoch, and later continue from there.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        classes: int,
        learning_rate: float,
        seed: int,
        cosine_steps: int = 0,
        precision: str = "float32",
    ) -> None:
        """Create a model for images [N, *image_shape]; the seed decides the initial weights and the dropout.

        cosine_steps: the steps in which the learning rate rises to its value and falls to 0; 0 keeps it constant.
        precision: "float32" or "bfloat16", in which the network computes; variables are always float32.
        """
        keras.utils.clear_session()  # resets the numbers in names, which checkpoints contain
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
        keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
        self.model = build_model(image_shape, classes)
        rate = _cosine(learning_rate, cosine_steps) if cosine_steps else learning_rate
        self.optimizer = FusedAdam(rate, name="adam")
        self.optimizer.build(self.model.trainable_variables)
        self.loss = keras.metrics.Mean(name="loss")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        # The random state of dropout is a variable of the model, the number of steps one of the optimizer.
        owners = {
            "model": self.model,
            "optimizer": self.optimizer,
            "loss": self.loss,
            "accuracy": self.accuracy,
        }
        self.variables = {f"{key}/{v.path}": v for key, owner in owners.items() for v in owner.variables}
        self._best: Arrays = {}  # the variables of the model after the best epoch so far, by "best/..."

        # One trace for all batch sizes, since the last batch of an epoch is smaller.
        batch = [tf.TensorSpec([None, *image_shape], tf.uint8), tf.TensorSpec([None], tf.int64)]
        # autograph is not needed: no Python in these functions branches on a tensor.
        self._train = tf.function(self._train_step, input_signature=batch, autograph=False)
        self._evaluate = tf.function(self._evaluate_step, input_signature=batch, autograph=False)

    def _train_step(self, images: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            probabilities = self.model(images, training=True)
            losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
            loss = tf.reduce_mean(losses)
        weights = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        self.loss.update_state(losses)
        self.accuracy.update_state(labels, probabilities)

    def _evaluate_step(self, images: Any, labels: Any) -> None:
        probabilities = self.model(images, training=False)
        self.loss.update_state(keras.losses.sparse_categorical_crossentropy(labels, probabilities))
        self.accuracy.update_state(labels, probabilities)

    @property
    def step(self) -> int:
        """The number of steps trained so far, including those before an interruption."""
        return int(self.optimizer.iterations.numpy())

    def train(self, images: Images, labels: Labels) -> None:
        """Train one step on a batch, and update the metrics."""
        self._train(images, labels)

    def evaluate(self, channel: Channel) -> tuple[float, float]:
        """Return the mean loss (nats) and accuracy (0 to 1) over a channel."""
        for start in range(0, len(channel.images), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            self._evaluate(channel.images[part], channel.labels[part])
        return self.take_metrics()

    def take_metrics(self) -> tuple[float, float]:
        """Return the mean loss (nats) and accuracy (0 to 1) since the last call."""
        result = float(self.loss.result()), float(self.accuracy.result())
        self.loss.reset_state()
        self.accuracy.reset_state()
        return result

    def keep_best(self) -> None:
        """Remember the current weights as the best so far; from now on `arrays` contains them."""
        self._best = {f"best/{variable.path}": variable.numpy() for variable in self.model.variables}

    def use_best(self) -> None:
        """Set the model's weights to those that `keep_best` remembered."""
        for variable in self.model.variables:
            variable.assign(self._best[f"best/{variable.path}"])

    def arrays(self) -> Arrays:
        """Return the values of all variables by name, and the best weights if there are any."""
        return {name: variable.numpy() for name, variable in self.variables.items()} | self._best

    def restore(self, saved: Checkpoint) -> None:
        """Set all variables; raise CheckpointError if the checkpoint has others."""
        best = {name: array for name, array in saved.arrays.items() if name.startswith("best/")}
        here = _forms({name: variable.numpy() for name, variable in self.variables.items()})
        there = _forms({name: array for name, array in saved.arrays.items() if name not in best})
        if here != there:
            name = min(name for name, _ in here.items() ^ there.items())
            raise CheckpointError(
                f"{saved.name} belongs to another model: its {name} is {there.get(name)}, here it is "
                f"{here.get(name)}; choose another --checkpoint-dir"
            )
        for name, variable in self.variables.items():
            variable.assign(saved.arrays[name])
        self._best = best

    def weights_sha256(self) -> str:
        """Return a hash of all variables of the model, in the order of their names.

        The random state of dropout is one of them: runs with equal hashes have drawn the same random numbers.
        """
        digest = hashlib.sha256()
        for variable in sorted(self.model.variables, key=lambda variable: variable.path):
            value: NDArray[Any] = np.ascontiguousarray(variable.numpy())
            digest.update(f"{variable.path} {value.dtype} {value.shape}\n".encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def export(self, directory: Path) -> None:
        """Write the model to a directory as a SavedModel; replace what an earlier attempt wrote there.

        The signature serving_default takes "images", any number of them, and returns "output_0".
        """
        draft = directory.with_name(directory.name + ".partial")
        for stale in (draft, directory):
            if stale.exists():
                shutil.rmtree(stale)
        self.model.export(draft, verbose=False)
        draft.rename(directory)


def _cosine(peak: float, steps: int) -> Any:
    """Return a learning rate that rises from 0 to its peak in WARM_UP of the steps, and falls to 0 in the rest.

    It depends on the optimizer's step only, so checkpoints need no state of it.
    """
    warm_up = int(WARM_UP * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warm_up else peak, steps - warm_up, warmup_target=peak if warm_up else None, warmup_steps=warm_up
    )


def write_events(directory: Path, history: list[Epoch]) -> None:
    """Write the metrics of all epochs for TensorBoard; replace what an earlier attempt wrote.

    They come from the history, all at once, so that every epoch is there exactly once after any interruption.
    """
    if directory.exists():
        shutil.rmtree(directory)
    # What tf.summary.scalar writes; from TensorFlow 2.21 on, that function needs TensorBoard to be installed.
    scalar = tf.compat.v1.SummaryMetadata(data_class="DATA_CLASS_SCALAR", plugin_data={"plugin_name": "scalars"})
    for part, prefix in (("train", ""), ("validation", "val_")):
        with tf.summary.create_file_writer(str(directory / part)).as_default():
            for row in history:
                values: dict[str, Any] = dict(row)
                for metric in ("loss", "accuracy"):
                    value = tf.constant(values[prefix + metric], tf.float32)
                    tf.summary.write(metric, value, step=row["step"], metadata=scalar)


def _forms(arrays: Arrays) -> dict[str, str]:
    return {name: f"{array.dtype} {list(array.shape)}" for name, array in arrays.items()}


def environment() -> dict[str, str]:
    """Return what has to be equal for a resumed run to end with exactly the same weights."""
    return {**machine(), "tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
