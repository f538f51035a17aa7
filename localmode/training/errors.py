"""The errors of training jobs."""

from __future__ import annotations


class IllegalTransition(Exception):
    """A change of a job's secondary status that the table of transitions does not allow; a defect of localmode."""
