"""What UpdateEndpoint refuses."""

from tests.support.api import config_request, model_request, refusal, wait_until_failed
from tests.support.local import Daemon


def test_a_missing_or_failed_endpoint_is_not_updated(daemon: Daemon, name: str) -> None:
    request = {"EndpointName": name, "EndpointConfigName": name}
    assert "Could not find endpoint" in refusal(daemon.sagemaker.update_endpoint, **request)[1]
    daemon.sagemaker.create_model(**model_request(name))
    daemon.sagemaker.create_endpoint_config(**config_request(name, name))
    daemon.sagemaker.create_endpoint(**request)
    wait_until_failed(daemon, name)
    assert "Cannot update in-progress endpoint" in refusal(daemon.sagemaker.update_endpoint, **request)[1]
    capacities = [{"VariantName": "other", "DesiredWeight": 1}]
    message = refusal(
        daemon.sagemaker.update_endpoint_weights_and_capacities,
        EndpointName=name,
        DesiredWeightsAndCapacities=capacities,
    )[1]
    assert "has no production variant other" in message
