"""The SDK's own local mode as a user's program: train.py in a container, with settings that this mode ignores."""

import json
import logging
import sys
import time

from sagemaker.core.training.configs import CheckpointConfig, Compute, InputData, SourceCode, StoppingCondition
from sagemaker.train import ModelTrainer
from sagemaker.train.model_trainer import Mode

given = json.loads(sys.argv[1])
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
trainer = ModelTrainer(
    training_mode=Mode.LOCAL_CONTAINER,
    training_image=given["image"],
    base_job_name="local-container",
    local_container_root=given["root"],
    source_code=SourceCode(source_dir=given["source_dir"], entry_script="train.py"),
    compute=Compute(instance_type="local_cpu", instance_count=1, enable_managed_spot_training=True),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=1, max_wait_time_in_seconds=1),
    checkpoint_config=CheckpointConfig(s3_uri=given["checkpoints"]),
    hyperparameters=given["hyperparameters"],
)
began = time.monotonic()
trainer.train([InputData(channel_name=name, data_source=path) for name, path in given["inputs"].items()], wait=True)
print("seconds", time.monotonic() - began)
