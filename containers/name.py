"""Print the name of the image that the notebooks train in, as the SDK's retriever gives it."""

import logging
import os

logging.disable()
from sagemaker.core import image_uris  # noqa: E402

region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or "us-east-1"
print(
    image_uris.retrieve(
        "tensorflow",
        region,
        version="2.19",
        py_version="py312",
        instance_type="ml.m5.xlarge",
        image_scope="training",
    )
)
