import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import checkpoint
from checkpoint import CheckpointError
from data import Channel, training_batches
from metrics import Epoch
from tests.support.training import records

DIGIT, PHOTOGRAPH = (8, 8, 1), (32, 32, 3)


@pytest.fixture(scope="module")
def model() -> Any:
    """The module; collecting the tests does not import it, nor TensorFlow."""
    import model

    return model


def channel(shape: tuple[int, ...], count: int = 24) -> Channel:
    arrays = records(count, shape)
    return Channel(arrays["images"], arrays["labels"], arrays["class_names"].tolist())


def train(trainer: Any, data: Channel, skip: int = 0) -> None:
    for images, labels in training_batches(data, 8, seed=0, epoch=1, skip=skip):
        trainer.train(images, labels)


@pytest.fixture(scope="module")
def digits(model: Any) -> Any:
    """A trainer of the small network after one epoch of three steps."""
    trainer = model.Trainer(DIGIT, 10, learning_rate=0.01, seed=0)
    train(trainer, channel(DIGIT))
    trainer.take_metrics()
    return trainer


@pytest.mark.parametrize(("shape", "parameters"), [(DIGIT, 29_098), (PHOTOGRAPH, 1_168_362), ((3, 1, 2), 29_386)])
def test_the_image_shape_decides_the_network(model: Any, shape: tuple[int, ...], parameters: int) -> None:
    network = model.build_model(shape, 10)
    assert network.output_shape == (None, 10)
    assert network.count_params() == parameters


def test_operations_are_deterministic(digits: Any) -> None:
    from tensorflow.python.framework import config  # there is no public function for this

    assert config.is_op_determinism_enabled()


def test_importing_it_hides_no_module_from_other_code(model: Any) -> None:
    assert all(sys.modules.get(name, model) is not None for name in ("matplotlib", "pandas", "sklearn"))


def test_a_photograph_network_learns_from_a_step(model: Any) -> None:
    trainer = model.Trainer(PHOTOGRAPH, 10, learning_rate=0.01, seed=0)
    before = trainer.weights_sha256()
    images, labels = next(training_batches(channel(PHOTOGRAPH, 4), 4, seed=0, epoch=1, skip=0))
    trainer.train(images, labels)
    assert trainer.step == 1
    assert trainer.weights_sha256() != before
    assert trainer.take_metrics()[0] > 0


def test_the_seed_decides_the_initial_weights(model: Any) -> None:
    one, again, other = (model.Trainer(DIGIT, 10, 0.01, seed).weights_sha256() for seed in (1, 1, 2))
    assert one == again != other


VARIANTS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "cosine": {"cosine_steps": 8},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_restored_trainer_continues_to_exactly_the_same_bits(model: Any, variant: str, tmp_path: Path) -> None:
    first = model.Trainer(DIGIT, 10, learning_rate=0.01, seed=0, **VARIANTS[variant])
    train(first, channel(DIGIT, 8))
    checkpoint.save(tmp_path, 1, first.arrays(), {})
    saved = checkpoint.load_newest(tmp_path)
    # Another seed, so that everything has to come from the file.
    resumed = model.Trainer(DIGIT, 10, learning_rate=0.01, seed=7, **VARIANTS[variant])
    resumed.restore(saved)
    for trainer in (first, resumed):
        train(trainer, channel(DIGIT))
    one, other = first.arrays(), resumed.arrays()
    assert one.keys() == other.keys()
    assert [name for name in one if one[name].tobytes() != other[name].tobytes()] == []
    assert resumed.take_metrics() == first.take_metrics()


def test_bfloat16_keeps_variables_and_probabilities_in_float32(model: Any) -> None:
    trainer = model.Trainer(DIGIT, 10, 0.01, 0, precision="bfloat16")
    types = {name: array.dtype for name, array in trainer.arrays().items() if "seed_generator" not in name}
    assert {kind for name, kind in types.items() if not name.endswith("iteration")} == {np.dtype(np.float32)}
    assert trainer.model.get_layer("conv1_1").compute_dtype == "bfloat16"
    assert trainer.model(channel(DIGIT, 4).images).dtype == "float32"


def test_a_cosine_schedule_rises_to_the_learning_rate_and_falls_to_zero(model: Any) -> None:
    optimizer, rates = model.Trainer(DIGIT, 10, 0.01, 0, cosine_steps=200).optimizer, []
    for step in range(201):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert np.argmax(rates) == 10
    assert rates[0] == 0
    assert rates[10] == pytest.approx(0.01)
    assert rates[105] == pytest.approx(0.005)
    assert rates[200] == pytest.approx(0, abs=1e-9)


def test_a_checkpoint_contains_the_best_weights(model: Any, tmp_path: Path) -> None:
    first = model.Trainer(DIGIT, 10, learning_rate=0.01, seed=0)
    train(first, channel(DIGIT, 8))
    first.keep_best()
    best = first.weights_sha256()
    train(first, channel(DIGIT, 8))
    assert first.weights_sha256() != best
    checkpoint.save(tmp_path, 2, first.arrays(), {})
    resumed = model.Trainer(DIGIT, 10, learning_rate=0.01, seed=7)
    resumed.restore(checkpoint.load_newest(tmp_path))
    assert resumed.weights_sha256() == first.weights_sha256()
    resumed.use_best()
    assert resumed.weights_sha256() == best


def test_normalization_equals_that_of_keras(model: Any) -> None:
    images = np.random.default_rng(0).normal(3, 2, (64, 6, 5, 4)).astype(np.float32)
    fused, plain = (
        kind(momentum=0.9) for kind in (model.FusedBatchNormalization, model.keras.layers.BatchNormalization)
    )
    for training in (True, False):
        assert fused(images, training=training).numpy() == pytest.approx(
            plain(images, training=training).numpy(), abs=1e-3
        )
    assert fused.moving_mean.numpy() == pytest.approx(plain.moving_mean.numpy(), rel=1e-5)
    # TensorFlow divides by n - 1, Keras by n.
    assert fused.moving_variance.numpy() == pytest.approx(plain.moving_variance.numpy(), rel=1e-3)


def test_adam_equals_that_of_keras(model: Any) -> None:
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=(6, 5)), random.normal(size=(4, 6, 5))
    results = []
    for kind in (model.FusedAdam, model.keras.optimizers.Adam):
        variable = model.keras.Variable(start, dtype="float32")
        optimizer = kind(0.1)
        for gradient in gradients:
            optimizer.apply([model.tf.constant(gradient, model.tf.float32)], [variable])
        results.append((variable.numpy(), *(value.numpy() for value in optimizer.variables)))
    for fused, plain in zip(*results, strict=True):
        assert fused == pytest.approx(plain, rel=1e-5, abs=1e-5)


def test_the_environment_of_a_checkpoint_names_the_libraries(model: Any) -> None:
    assert {"cores", "processor", "tensorflow", "keras", "numpy"} <= model.environment().keys()


def test_tensorboard_has_every_epoch_once_however_often_it_is_written(model: Any, tmp_path: Path) -> None:
    rows = [Epoch(epoch=n, step=6 * n, loss=n, accuracy=0.1, val_loss=2 * n, val_accuracy=0.2) for n in (1, 2)]
    for done in (rows[:1], rows):
        model.write_events(tmp_path / "tensorboard", done)
    read = []
    for path in sorted((tmp_path / "tensorboard").glob("*/events.*")):
        for record in model.tf.data.TFRecordDataset(str(path)):
            event = model.tf.compat.v1.Event.FromString(record.numpy())
            read += [
                (path.parent.name, value.tag, event.step, float(model.tf.make_ndarray(value.tensor)))
                for value in event.summary.value
                if value.metadata.plugin_data.plugin_name == "scalars"
            ]
    assert sorted(each for each in read if each[1] == "loss") == [
        ("train", "loss", 6, 1.0),
        ("train", "loss", 12, 2.0),
        ("validation", "loss", 6, 2.0),
        ("validation", "loss", 12, 4.0),
    ]
    assert len(read) == 8


def test_a_checkpoint_has_dropout_optimizer_and_metrics(digits: Any) -> None:
    names = " ".join(digits.arrays())
    for part in ("model/seed_generator", "optimizer/adam/iteration", "kernel_momentum", "loss/total"):
        assert part in names


def test_no_two_variables_share_a_name_in_a_checkpoint(digits: Any) -> None:
    owners = [digits.model, digits.optimizer, digits.loss, digits.accuracy]
    assert len(digits.arrays()) == sum(len(owner.variables) for owner in owners)


def test_a_checkpoint_of_another_network_is_refused(digits: Any) -> None:
    arrays = digits.arrays() | {"model/conv1_1/kernel": np.zeros((5, 5, 1, 32), np.float32)}
    saved = checkpoint.Checkpoint("checkpoint-x", 1, arrays, {})
    with pytest.raises(CheckpointError, match=r"x belongs to another model: its model/conv1_1/kernel is .*\[5, 5"):
        digits.restore(saved)


def test_metrics_are_means_over_the_images_and_are_reset(digits: Any) -> None:
    data = channel(DIGIT, 600)  # evaluated in two batches, the second one smaller
    whole = digits.evaluate(data)
    half = [Channel(data.images[part], data.labels[part], data.class_names) for part in (slice(300), slice(300, 600))]
    assert np.mean([digits.evaluate(each) for each in half], axis=0) == pytest.approx(whole, rel=1e-5)


def test_photographs_are_evaluated_as_they_are(model: Any) -> None:
    trainer, data = model.Trainer(PHOTOGRAPH, 10, 0.01, 0), channel(PHOTOGRAPH, 8)
    probabilities = trainer.model(data.images, training=False).numpy()
    expected = -np.log(probabilities[np.arange(8), data.labels]).mean()
    assert trainer.evaluate(data)[0] == pytest.approx(expected, rel=1e-4)


def test_the_exported_model_accepts_pixels_as_json_and_returns_probabilities(
    model: Any, digits: Any, tmp_path: Path
) -> None:
    stale = tmp_path / "1" / "saved_model.pb"
    stale.parent.mkdir()
    stale.write_text("of an earlier attempt")
    digits.export(tmp_path / "1")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    serve = model.tf.saved_model.load(tmp_path / "1").signatures["serving_default"]
    for count in (1, 5):
        images = channel(DIGIT, count).images
        instances = json.loads(json.dumps(images.tolist()))
        answer = serve(images=model.tf.constant(instances, model.tf.float32))["output_0"].numpy()
        assert answer.shape == (count, 10)
        assert answer.sum(axis=1) == pytest.approx(np.ones(count), abs=1e-5)
        assert answer == pytest.approx(digits.model(images, training=False).numpy(), abs=1e-6)
