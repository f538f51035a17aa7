"""InvokeEndpoint in this process, with stand-ins for the servers."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from localmode.core.errors import ApiError
from localmode.hosting.registry import Endpoints
from localmode.hosting.server_process import Answer
from tests.support.hosting import StandInServers, answer, ask, created, record, settled, variant


def test_an_endpoint_that_is_being_created_takes_no_requests(
    endpoints: Endpoints, servers: StandInServers, name: str
) -> None:
    servers.may_start.clear()
    endpoints.create(record(name))
    with pytest.raises(ApiError, match="is being created"):
        ask(endpoints, name, b"x", {})
    servers.may_start.set()
    settled(endpoints, name)
    assert ask(endpoints, name, b"x", {}) == ("mine", Answer(200, "text/plain", b"mine 1x"))


def test_traffic_follows_the_weights_and_a_target_overrides_them(endpoints: Endpoints, name: str) -> None:
    created(endpoints, name, variant(name, VariantName="a", Weight=3.0), variant(name, VariantName="b"))
    served = [answer(endpoints, name)[0] for _ in range(400)]
    assert 280 < served.count("a") < 320
    assert {answer(endpoints, name, "b") for _ in range(20)} == {"b 1"}
    with pytest.raises(ApiError, match="there is no production variant 'c'; there is a, b") as caught:
        ask(endpoints, name, b"", {}, "c")
    assert caught.value.code == "ValidationError"


def test_without_any_weight_only_a_target_is_served(endpoints: Endpoints, name: str) -> None:
    created(endpoints, name, variant(name, Weight=0.0))
    with pytest.raises(ApiError, match="every production variant has the weight 0"):
        ask(endpoints, name, b"", {})
    assert answer(endpoints, name, "mine") == "mine 1"


def test_requests_that_meet_an_update_all_succeed(endpoints: Endpoints, name: str) -> None:
    endpoint, done = created(endpoints, name), threading.Event()

    def send() -> int:
        count = 0
        while not done.is_set():
            answer(endpoints, name)
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(send) for _ in range(4)]
        try:
            for number in range(2, 12):
                new = variant(name, number=number, InstanceCount=2)
                endpoint.update("x", lambda present, new=new: [new])  # type: ignore[misc]
                settled(endpoints, name)
        finally:
            done.set()
    assert all(client.result() > 0 for client in clients)
    assert answer(endpoints, name) == "mine 11"


def test_a_server_that_does_not_answer_in_time_is_a_model_error_that_names_the_limit(
    endpoints: Endpoints, name: str
) -> None:
    created(endpoints, name)
    with pytest.raises(ApiError, match="timed out .* it has 60 seconds to answer") as caught:
        ask(endpoints, name, b"", {"raise": "timeout"})
    assert (caught.value.code, caught.value.members["OriginalStatusCode"]) == ("ModelError", 0)


def test_an_answer_larger_than_the_limit_is_a_model_error_that_names_it(endpoints: Endpoints, name: str) -> None:
    created(endpoints, name)
    with pytest.raises(ApiError, match="the answer has 7000006 bytes; at most 6291456 are allowed") as caught:
        ask(endpoints, name, b"x" * 1000, {"times": "7000"})
    assert caught.value.code == "ModelError"
