"""The TensorFlow images of the course, one to train in and one to serve from, and until when AWS patches each.

    python -m workshop.containers    # prints both dates

The command exits with 1 if an image has to be replaced: from 60 days before its last patch.
"""

import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime

WARNING_DAYS = 60


@dataclass(frozen=True)
class Image:
    """An AWS Deep Learning Container with TensorFlow, as the SDK's `image_uris.retrieve` knows it."""

    scope: str  # "training" or "inference"
    version: str
    py_version: str
    patched_until: date

    def uri(self, region: str, instance_type: str) -> str:
        """Return the address from which instances of a type pull the image in a Region.

        Raises ValueError or KeyError, as the SDK does, where the Region or the instance type has no such image.
        """
        from sagemaker.core import image_uris  # not above: the import takes seconds, and most callers need no address

        return str(
            image_uris.retrieve(
                "tensorflow",
                region,
                version=self.version,
                py_version=self.py_version,
                instance_type=instance_type,
                image_scope=self.scope,
            )
        )

    def warning(self, today: date) -> str:
        """Return how long the image will still be patched if that is WARNING_DAYS or less, otherwise nothing."""
        days = (self.patched_until - today).days
        if days > WARNING_DAYS:
            return ""
        return f"{days} days left, then update the workshop" if days >= 0 else "patches have ended, update the workshop"


# The only place that names the versions: the newest image of each kind that the SDK lists. The dates are those of
# "end of patch" in https://github.com/aws/deep-learning-containers, docs/src/data/tensorflow-{training,inference}.
TRAINING = Image("training", "2.21", "py312", date(2027, 7, 10))
INFERENCE = Image("inference", "2.20", "py312", date(2027, 8, 20))


def current_date() -> date:
    """Return today's date in UTC."""
    return datetime.now(UTC).date()


def main(today: date) -> int:
    """Print until when each image is patched; return 1 if one has to be replaced, otherwise 0."""
    warnings = {image: image.warning(today) for image in (TRAINING, INFERENCE)}
    for image, warning in warnings.items():
        print(f"{image.scope} {image.version}: patched until {image.patched_until}{warning and f' ({warning})'}")
    return int(any(warnings.values()))


if __name__ == "__main__":
    sys.exit(main(current_date()))
