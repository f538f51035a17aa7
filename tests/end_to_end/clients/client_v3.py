"""SDK v3 as a user's program: submits the jobs that its argument describes, and prints their logs."""

import json
import logging
import os
import sys

from sagemaker.core.training.configs import CheckpointConfig, Compute, InputData, SourceCode, StoppingCondition
from sagemaker.train import ModelTrainer


def submit(job: dict) -> ModelTrainer:
    spot = "checkpoints" in job
    trainer = ModelTrainer(
        training_image=os.environ.get("TEST_IMAGE", "none"),
        base_job_name=job["name"],
        source_code=SourceCode(**job["source_code"]),
        compute=Compute(
            instance_type="ml.m5.large", instance_count=job.get("hosts", 1), enable_managed_spot_training=spot
        ),
        stopping_condition=StoppingCondition(
            max_runtime_in_seconds=600, max_wait_time_in_seconds=1200 if spot else None
        ),
        checkpoint_config=CheckpointConfig(s3_uri=job["checkpoints"]) if spot else None,
        hyperparameters=job.get("hyperparameters"),
        environment=job.get("environment"),
        tags=[{"key": "team", "value": "trees + birds"}],
    )
    inputs = [InputData(channel_name=name, data_source=source) for name, source in job.get("inputs", {}).items()]
    trainer.train(inputs, wait=False)
    return trainer


logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
logging.getLogger("sagemaker.core").setLevel(logging.INFO)
trainers = [submit(job) for job in json.loads(sys.argv[1])]
print("names", *(trainer._latest_training_job.training_job_name for trainer in trainers), flush=True)
for trainer in trainers:
    print("following", trainer._latest_training_job.training_job_name, flush=True)
    trainer._latest_training_job.wait(poll=1, logs=True)
