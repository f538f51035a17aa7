"""Print the name of the image in which the notebooks train."""

import logging
import os

from workshop import containers

logging.disable()  # the SDK logs its defaults

region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or "us-east-1"
print(containers.TRAINING.uri(region, "ml.m5.xlarge"))
