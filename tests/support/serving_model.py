"""The model of the serving tests: two versions, with signatures for several inputs and for each kind of tensor.

    python tests/support/serving_model.py DIRECTORY

writes it. A real container or TensorFlow Serving can load it: `docker run -p 8080:8080 -v DIRECTORY:/opt/ml/model
IMAGE serve`, or `tensorflow_model_server --rest_api_port=8501 --model_name=model --model_base_path=DIRECTORY`.
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf


def save_model(directory: Path, versions: tuple[int, ...] = (1, 10)) -> Path:
    """Write the model, whose versions add their number to half of the input; return the directory."""
    for version in versions:
        model = _model(float(version))
        signatures = {"serving_default": model.half_plus, "pair": model.pair, "kinds": model.kinds}
        tf.saved_model.save(model, str(directory / str(version)), signatures=signatures)
    return directory


def _model(addend: float) -> Any:
    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
        def half_plus(self, x: Any) -> Any:
            return {"y": x / 2.0 + addend}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 2], tf.float32, name="a"),
                tf.TensorSpec([None, 2], tf.float32, name="b"),
            ]
        )
        def pair(self, a: Any, b: Any) -> Any:
            return {"sum": a + b, "scalars": tf.reduce_sum(a * b, axis=1)}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, name="text"),
                tf.TensorSpec([None], tf.int32, name="integer"),
                tf.TensorSpec([None], tf.int64, name="long"),
                tf.TensorSpec([None], tf.uint8, name="byte"),
                tf.TensorSpec([None], tf.bool, name="flag"),
                tf.TensorSpec([None], tf.float64, name="double"),
            ]
        )
        def kinds(self, text: Any, integer: Any, long: Any, byte: Any, flag: Any, double: Any) -> Any:
            same = {"text_bytes": text, "integer": integer, "long": long, "byte": byte, "flag": flag, "double": double}
            return {name: tf.identity(value) for name, value in same.items()} | {"text": tf.strings.lower(text)}

    return Model()


if __name__ == "__main__":
    save_model(Path(sys.argv[1]))
