"""Settings of hypothesis: the same examples in every run, without a time limit for each."""

from hypothesis import HealthCheck, settings

EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
