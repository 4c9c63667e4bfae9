"""What pools, jobs, tasks and schedules have in common."""

import re
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.batch_service import wire
from tests.batch_service.wire import BatchError, Body

NAME = re.compile(r"[\w:-]{1,80}")
# What a real node would do and this service's nodes cannot.
UNSUPPORTED = (
    "applicationPackageReferences",
    "containerSettings",
    "jobPreparationTask",
    "jobReleaseTask",
    "mountConfiguration",
    "multiInstanceSettings",
    "outputFiles",
)


@dataclass
class Resource:
    """Something with an id, a state and an eTag; `spec` is the body that made it."""

    id: str
    spec: Body
    created: datetime
    state: str
    etag: str = field(init=False)
    modified: datetime = field(init=False)
    since: datetime = field(init=False)
    before: tuple[str, datetime] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.since = self.created
        self.changed(self.created)

    def changed(self, now: datetime) -> None:
        """Give it a new eTag."""
        self.modified = now
        self.etag = wire.etag(now)

    def move(self, state: str, now: datetime) -> None:
        """Change the state."""
        self.before = (self.state, self.since)
        self.state, self.since = state, now

    def step(self, now: datetime) -> None:
        """Do what is due."""
        raise NotImplementedError

    def due(self) -> list[datetime]:
        """Return when something may happen next."""
        raise NotImplementedError

    def heading(self, url: str) -> Body:
        """Return the fields that every resource's body begins with."""
        body: Body = {
            "id": self.id,
            "url": url,
            "eTag": self.etag,
            "lastModified": wire.timestamp(self.modified),
            "creationTime": wire.timestamp(self.created),
            "state": self.state,
            "stateTransitionTime": wire.timestamp(self.since),
        }
        if self.before:
            body["previousState"] = self.before[0]
            body["previousStateTransitionTime"] = wire.timestamp(self.before[1])
        return body


def checked(body: object, *required: str) -> Body:
    """Return a request's body as the service stores it.

    Raises:
        BatchError: it is no object, a required property is missing or wrong, or it asks for
            what this service cannot do.
    """
    if not isinstance(body, dict):
        raise BatchError("InvalidRequestBody", Reason="not a JSON object")
    for name in required:
        if body.get(name) in (None, ""):
            raise BatchError("MissingRequiredProperty", PropertyName=name)
    if "id" in required and not (isinstance(body["id"], str) and NAME.fullmatch(body["id"])):
        raise BatchError("InvalidPropertyValue", PropertyName="id", PropertyValue=str(body["id"]))
    _refuse_unsupported(body)
    return deepcopy(dict(wire.normalised(body)))


def _refuse_unsupported(value: object) -> None:
    """Raise BatchError rather than accept what would then silently not happen."""
    if isinstance(value, list):
        for inner in value:
            _refuse_unsupported(inner)
    if isinstance(value, dict):
        for name, inner in value.items():
            storage = name == "resourceFiles" and any("httpUrl" not in f for f in inner or [])
            if (name in UNSUPPORTED and inner) or storage:
                raise BatchError("UnsupportedProperty", PropertyName=name)
            _refuse_unsupported(inner)


def positive(spec: Body, *names: str) -> None:
    """Raise BatchError where one of these numbers is negative or no number."""
    for name in names:
        value = spec.get(name, 0)
        if not isinstance(value, int) or value < 0:
            raise BatchError("InvalidPropertyValue", PropertyName=name, PropertyValue=str(value))


def at_least(spec: Body, name: str, least: timedelta) -> timedelta | None:
    """Return a duration of a body, None where there is none; raises BatchError where too short."""
    if name not in spec:
        return None
    found = wire.parse_duration(spec[name])
    if found is not None and found < least:
        raise BatchError("InvalidPropertyValue", PropertyName=name, PropertyValue=spec[name])
    return found
