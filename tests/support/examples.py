"""How hypothesis makes its examples: always the same ones, without a limit to the time of one."""

from hypothesis import HealthCheck, settings

EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
