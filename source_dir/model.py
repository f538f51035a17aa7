"""The network, and everything that a training step changes. The only module that needs TensorFlow."""

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
# Keras imports these where they are installed, a third of its start-up time, for things not used here. None
# tells it that they are not there, for as long as it starts.
hidden = {"matplotlib", "pandas", "sklearn"} - sys.modules.keys()
sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

for name in hidden:
    del sys.modules[name]

SMALL = ((32, 32), (64,))  # filters of the convolutions, stage by stage; a stage halves height and width
LARGE = ((32,), (64, 64), (128, 128), (256, 256))
WARM_UP = 0.05  # of all steps
EVALUATION_BATCH = 512  # images; without influence on the result but for the order of the additions


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalization of images [N, H, W, C] in TensorFlow's one operation, where Keras takes a dozen.

    It computes in float32 whatever comes in. On two cores it saves a fifth of a training step.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize by the batch in training, and by the moving averages otherwise."""
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
    """Adam in TensorFlow's one operation for each variable, where Keras takes two dozen.

    The same formula. It saves a third of a second of every start: there is less to trace and to optimize.
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
    """Build the network for images [N, *image_shape], pixel values 0 to 255 as they are in the file.

    Scaling is part of the model, so that a client of the deployed model sends what it has. The input is
    float32, since JSON knows only numbers: TensorFlow Serving refuses 3.0 where a model wants an integer.
    The output is float32 [N, classes], probabilities that add up to 1. Images of 16x16 pixels and more get
    the larger network (1.17 million parameters), smaller ones the small one (29 thousand).

    The larger one is of the kind that needs 24 epochs for a test accuracy of 0.94 on CIFAR-10 when it is twice
    as wide: a chain of 3x3 convolutions with batch normalization, on images moved and mirrored at random
    (https://johanwind.github.io/2022/12/28/cifar_94.html, the mean of 40 runs, SGD, batches of 512). At
    800 images/s an hour is 64 epochs, with which 0.80 should be well within reach; it was not run here.
    """
    stages = LARGE if min(image_shape[:2]) >= 16 else SMALL
    # Names are given here and not counted up by Keras: checkpoints know the variables by them.
    images = x = keras.Input(image_shape, name="images")
    x = keras.layers.Rescaling(1 / 255, name="rescale")(x)
    for stage, filters in enumerate(stages, start=1):
        for place, count in enumerate(filters, start=1):
            name = f"{stage}_{place}"
            x = keras.layers.Conv2D(count, 3, padding="same", use_bias=False, name=f"conv{name}")(x)
            # With 0.99, Keras's own momentum, evaluation is no good for the first hundreds of steps.
            x = FusedBatchNormalization(momentum=0.9, name=f"norm{name}")(x)
            x = keras.layers.Activation("relu", name=f"relu{name}")(x)
        x = keras.layers.MaxPooling2D(padding="same", name=f"pool{stage}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    x = keras.layers.Dropout(0.3, name="dropout")(x)
    # float32 whatever the rest computes in: eight bits of precision are not enough for a sum of 1.
    x = keras.layers.Dense(classes, activation="softmax", name="probabilities", dtype="float32")(x)
    return keras.Model(images, x, name="classifier")


class Trainer:
    """A model, its optimizer and its metrics.

    Plain tf.functions and not Model.fit: between any two steps the caller can save all there is, the
    metrics of a half-finished epoch included, and later go on from there.
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
        """Set up for images [N, *image_shape]; the seed decides the first weights and the dropout.

        cosine_steps: how many steps the learning rate takes up to its value and down to 0; 0 keeps it constant.
        precision: "float32", or "bfloat16" to compute in it; the variables are float32 in any case.
        """
        keras.utils.clear_session()  # names that Keras counts up start again: checkpoints hold them
        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
        keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
        self.model = build_model(image_shape, classes)
        rate = _cosine(learning_rate, cosine_steps) if cosine_steps else learning_rate
        self.optimizer = FusedAdam(rate, name="adam")
        self.optimizer.build(self.model.trainable_variables)
        self.loss = keras.metrics.Mean(name="loss")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        # Dropout's random state is one of the model's variables, the count of steps one of the optimizer's.
        owners = {
            "model": self.model,
            "optimizer": self.optimizer,
            "loss": self.loss,
            "accuracy": self.accuracy,
        }
        self.variables = {f"{key}/{v.path}": v for key, owner in owners.items() for v in owner.variables}
        self._best: Arrays = {}  # the model's variables of the best epoch so far, by "best/..."

        # One trace for all batch sizes: the last batch of an epoch is smaller.
        batch = [tf.TensorSpec([None, *image_shape], tf.uint8), tf.TensorSpec([None], tf.int64)]
        # Nothing in them branches on a tensor, so there is no need to rewrite their Python (autograph).
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
        """How many steps have been trained, those before an interruption included."""
        return int(self.optimizer.iterations.numpy())

    def train(self, images: Images, labels: Labels) -> None:
        """Do one optimizer step on a batch, and count it in the metrics."""
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
        """Keep the weights of this moment as the best so far; arrays() has them from now on."""
        self._best = {f"best/{variable.path}": variable.numpy() for variable in self.model.variables}

    def use_best(self) -> None:
        """Put the weights that were kept as the best into the model."""
        for variable in self.model.variables:
            variable.assign(self._best[f"best/{variable.path}"])

    def arrays(self) -> Arrays:
        """Return the values of all variables by name, and the best weights if any were kept."""
        return {name: variable.numpy() for name, variable in self.variables.items()} | self._best

    def restore(self, saved: Checkpoint) -> None:
        """Set all variables; raise CheckpointError unless the checkpoint has the same ones."""
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
        """Return a hash of all of the model's variables, in the order of their names.

        Dropout's random state is one of them: two runs that agree also drew the same random numbers.
        """
        digest = hashlib.sha256()
        for variable in sorted(self.model.variables, key=lambda variable: variable.path):
            value: NDArray[Any] = np.ascontiguousarray(variable.numpy())
            digest.update(f"{variable.path} {value.dtype} {value.shape}\n".encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def export(self, directory: Path) -> None:
        """Write the model to a directory, replacing what an earlier attempt has left there.

        A SavedModel with the signature serving_default: "images" in, "output_0" out, any number of images.
        """
        draft = directory.with_name(directory.name + ".partial")
        for stale in (draft, directory):
            if stale.exists():
                shutil.rmtree(stale)
        self.model.export(draft, verbose=False)
        draft.rename(directory)


def _cosine(peak: float, steps: int) -> Any:
    """Return a learning rate that goes from 0 up to its peak in WARM_UP of the steps, and down to 0 in the rest.

    A function of the optimizer's step alone: there is no state of it to be saved.
    """
    warm_up = int(WARM_UP * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warm_up else peak, steps - warm_up, warmup_target=peak if warm_up else None, warmup_steps=warm_up
    )


def write_events(directory: Path, history: list[Epoch]) -> None:
    """Write all epochs for TensorBoard, replacing what an earlier attempt has left there.

    All at once and from the history, so that after any interruption each epoch is there, and only once.
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
    """Return what has to be the same for a resumed run to end with exactly the same weights."""
    return {**machine(), "tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
