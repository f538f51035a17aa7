"""SDK v2 as a user's program: a TensorFlow job on Spot, then an Estimator with channels, both with `fit(wait=True)`.

Its clock runs twenty times as fast, because SDK v2 polls the logs every 10 s and the status every 30 s.
"""

import json
import os
import sys
import time

import sagemaker.session
from sagemaker.estimator import Estimator
from sagemaker.tensorflow import TensorFlow


class FastClock:
    def __getattr__(self, name: str) -> object:
        return getattr(time, name)

    def time(self) -> float:
        return time.time() * 20

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / 20)


sagemaker.session.time = FastClock()
given = json.loads(sys.argv[1])
session = sagemaker.Session()
common = {
    "entry_point": "train.py",
    "instance_count": 1,
    "instance_type": "ml.m5.large",
    "sagemaker_session": session,
    "use_spot_instances": True,
    "max_run": 600,
    "max_wait": 1200,
    "metric_definitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
}
tensorflow = TensorFlow(
    framework_version="2.19",  # the newest that SDK v2 knows
    image_uri=os.environ.get("TEST_IMAGE"),  # of the docker runner; without it, the image of that version
    py_version="py312",
    source_dir=given["plain"],
    checkpoint_s3_uri=given["checkpoints"],
    environment={"INTERRUPTED": "yes"},
    **common,
)
print("names", given["tensorflow"], flush=True)
tensorflow.fit(job_name=given["tensorflow"])
print("model", tensorflow.model_data)
estimator = Estimator(
    image_uri=os.environ.get("TEST_IMAGE", "none"),
    source_dir=given["source_dir"],
    hyperparameters=given["hyperparameters"],
    environment={"GREETING": "hello there"},
    tags=[{"Key": "team", "Value": "trees + birds"}],
    **common,
)
folder = session.upload_data(given["inputs"], key_prefix=f"{given['estimator']}/folder")
one = session.upload_data(f"{given['inputs']}/one.txt", key_prefix=f"{given['estimator']}/one")
estimator.fit({"folder": folder, "one": one}, job_name=given["estimator"])
print(
    "metrics",
    json.dumps([metric["Value"] for metric in estimator.latest_training_job.describe()["FinalMetricDataList"]]),
)
