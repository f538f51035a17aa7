"""The record of an endpoint, as the journal keeps it, and its statuses."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from localmode.hosting.fleet import Specification

Variants = list[Specification]
# Members of DescribeEndpoint; and Variants, Generation (the directory of the servers' files), Tags and, during an
# update, Update: the EndpointConfigName, Variants and Generation that it leads to.
Record = dict[str, Any]
MAX_FAILURE_REASON = 1024


class EndpointStatus(StrEnum):
    """The statuses that localmode's endpoints have."""

    CREATING = "Creating"
    IN_SERVICE = "InService"
    UPDATING = "Updating"
    ROLLING_BACK = "RollingBack"
    DELETING = "Deleting"
    FAILED = "Failed"


TRANSITIONS = {  # to Failed from all but Creating: after a restart, the servers could not be started again
    EndpointStatus.CREATING: {EndpointStatus.IN_SERVICE, EndpointStatus.FAILED},
    EndpointStatus.IN_SERVICE: {EndpointStatus.UPDATING, EndpointStatus.DELETING, EndpointStatus.FAILED},
    EndpointStatus.UPDATING: {EndpointStatus.IN_SERVICE, EndpointStatus.ROLLING_BACK, EndpointStatus.FAILED},
    EndpointStatus.ROLLING_BACK: {EndpointStatus.IN_SERVICE, EndpointStatus.FAILED},
    EndpointStatus.FAILED: {EndpointStatus.DELETING},
    EndpointStatus.DELETING: set[EndpointStatus](),
}


def read_record(document: dict[str, Any]) -> Record:
    """Return a record from its journal document; raise LookupError, TypeError or ValueError for a damaged one."""
    members = ("EndpointName", "EndpointArn", "EndpointConfigName", "Generation", "Variants")
    needed = {member: document[member] for member in (*members, "CreationTime", "LastModifiedTime")}
    return {**document, **needed, "EndpointStatus": EndpointStatus(document["EndpointStatus"])}
