"""The errors of an attempt."""

from __future__ import annotations


class Reclaimed(Exception):
    """The instances have been reclaimed."""


class Terminated(Exception):
    """The job is being stopped before its containers have started."""


class CutOff(Exception):
    """The host was killed while it uploaded a file."""


class ImageError(Exception):
    """No container can be made of the job's image; the message goes into the job's FailureReason."""
