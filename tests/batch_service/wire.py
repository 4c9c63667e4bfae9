"""How the service writes times, durations, eTags, errors and pages."""

import itertools
import re
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, urlencode

Body = dict[str, Any]

UNLIMITED = "P10675199DT2H48M5.4775807S"
DURATIONS = {
    "maxWallClockTime",
    "retentionTime",
    "startWindow",
    "recurrenceInterval",
    "resizeTimeout",
    "autoScaleEvaluationInterval",
}
PAGE = 1000
DURATION = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")

# Status and message of each code, as Microsoft's list of error codes has them.
ERRORS = {
    "AuthenticationFailed": (
        403,
        "Server failed to authenticate the request. Make sure the value of Authorization header "
        "is formed correctly including the signature.",
    ),
    "AutoScalingFormulaSyntaxError": (
        400,
        "The specified auto-scaling formula has a syntax error.",
    ),
    "ConditionNotMet": (
        412,
        "The condition specified in the conditional header(s) was not met for a write operation.",
    ),
    "FileNotFound": (404, "The specified file does not exist."),
    "InvalidAutoScalingSettings": (400, "The specified auto-scaling settings are not valid."),
    "InvalidPropertyValue": (
        400,
        "The value provided for one of the properties in the request body is invalid.",
    ),
    "InvalidQueryParameterValue": (
        400,
        "Value for one of the query parameters specified in the request URI is invalid.",
    ),
    "InvalidRange": (416, "The range specified is invalid for the current size of the resource."),
    "InvalidRequestBody": (400, "The specified Request Body is not syntactically valid."),
    "InvalidUri": (400, "The requested URI does not represent any resource on the server."),
    "JobBeingDeleted": (
        409,
        "The specified job has been marked for deletion and is being garbage collected.",
    ),
    "JobBeingTerminated": (409, "The specified job is being terminated."),
    "JobCompleted": (409, "The specified job is already in a completed state."),
    "JobDisabled": (409, "The specified job is disabled."),
    "JobExists": (409, "The specified job already exists."),
    "JobNotFound": (404, "The specified job does not exist."),
    "JobScheduleCompleted": (409, "The specified job schedule is already in completed state."),
    "JobScheduleDisabled": (409, "The specified job schedule is disabled."),
    "JobScheduleExists": (409, "The specified job schedule already exists."),
    "JobScheduleNotFound": (404, "The specified job schedule does not exist."),
    "MissingRequiredProperty": (400, "A required property was not specified in the request body."),
    "NodeNotFound": (404, "The specified node does not exist."),
    "OperationInvalidForCurrentState": (
        409,
        "The specified operation is not valid for the current state of the resource.",
    ),
    "PoolBeingDeleted": (
        409,
        "The specified pool has been marked for deletion and is being reclaimed.",
    ),
    "PoolBeingResized": (409, "The specified pool is being resized."),
    "PoolExists": (409, "The specified pool already exists."),
    "PoolNotFound": (404, "The specified pool does not exist."),
    "ServerBusy": (
        503,
        "The server is currently unable to receive requests. Please retry your request.",
    ),
    "TaskCompleted": (409, "The specified task is already in a completed state."),
    "TaskDependenciesNotSpecifiedOnJob": (
        400,
        "A task was specified as depending on other tasks, but the job did not specify that it "
        "would use task dependencies.",
    ),
    "TaskExists": (409, "The specified task already exists."),
    "TaskFilesUnavailable": (409, "The files of the specified task are unavailable."),
    "TaskNotCompleted": (
        409,
        "The specified task is not in a completed state, and the requested operation can be "
        "performed only on completed tasks.",
    ),
    "TaskNotFound": (404, "The specified task does not exist."),
    "TaskSucceeded": (
        409,
        "The specified task has already completed successfully, and the requested operation "
        "cannot be performed on successful tasks.",
    ),
    "TooManyRequests": (429, "Too many requests have been issued. Please retry your request."),
    "UnsupportedProperty": (
        400,
        "One of the properties specified in the HTTP request body is not supported.",
    ),
}

_numbers = itertools.count()


class BatchError(Exception):
    """An answer that refuses a request.

    Args:
        code: one of ERRORS.
        values: what explains it, such as the property and the reason.
    """

    def __init__(self, code: str, **values: str) -> None:
        super().__init__(code)
        self.code = code
        self.status, self.message = ERRORS[code]
        self.values = values

    def body(self, url: str, now: datetime) -> Body:
        """Return what the service writes."""
        text = f"{self.message}\nRequestId:{uuid.uuid4()}\nTime:{timestamp(now)}"
        kind = "Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element"
        body: Body = {
            "odata.metadata": f"{url}/$metadata#{kind}",
            "code": self.code,
            "message": {"lang": "en-US", "value": text},
        }
        if self.values:
            body["values"] = [{"key": k, "value": v} for k, v in self.values.items()]
        return body


# ------------------------------------------------------------------------------- times


def timestamp(time: datetime) -> str:
    """Return a time as .NET writes it: up to seven digits, no zeros at the end."""
    text = time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return f"{text}Z"


def parse_time(text: str) -> datetime:
    """Read a timestamp; raises BatchError where it is none."""
    try:
        # Python takes at most six digits, the service gives seven.
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).astimezone(UTC)
    except ValueError:
        raise BatchError("InvalidPropertyValue", PropertyValue=text) from None


def http_date(time: datetime) -> str:
    """Return a time as HTTP headers have it."""
    return format_datetime(time.astimezone(UTC), usegmt=True)


def etag(time: datetime) -> str:
    """Return an eTag nobody else has: the .NET ticks of the time, as the service makes them."""
    ticks = (time - datetime(1, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 10
    return f"0x{ticks + next(_numbers):X}"


def parse_duration(text: str) -> timedelta | None:
    """Read an ISO 8601 duration; None is unlimited. Raises BatchError where it is none."""
    found = DURATION.fullmatch(text)
    if not found or not any(found.groups()):
        raise BatchError("InvalidPropertyValue", PropertyValue=text)
    weeks, days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    if days >= 10675199:
        return None
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def duration(time: timedelta) -> str:
    """Return a duration as .NET writes it: PT01H00M00S becomes PT1H."""
    minutes, seconds = divmod(time.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    exact = f"{seconds + time.microseconds / 1e6:.6f}".rstrip("0").rstrip(".")
    parts = [(str(hours), "H"), (str(minutes), "M"), (exact, "S")]
    clock = "".join(number + unit for number, unit in parts if number != "0")
    day = f"{time.days}D" if time.days else ""
    return f"P{day}{'T' + clock if clock else ''}" if day or clock else "PT0S"


def normalised(value: Any, name: str = "") -> Any:
    """Return a request's body with its durations written as the service does."""
    if isinstance(value, dict):
        return {key: normalised(inner, key) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [normalised(inner) for inner in value]
    if name in DURATIONS and isinstance(value, str):
        parsed = parse_duration(value)
        return UNLIMITED if parsed is None else duration(parsed)
    return value


# ------------------------------------------------------------------------------- lists


def page(url: str, path: str, kind: str, rows: Sequence[Body], query: dict[str, str]) -> Body:
    """Return one page of a list.

    Args:
        url: of the account.
        path: of the list.
        kind: what `odata.metadata` names.
        rows: the whole list.
        query: of the request: `maxresults`, `$skiptoken`, `$filter`.
    """
    size, start = _number(query, "maxresults", PAGE), _number(query, "$skiptoken", 0)
    if not 1 <= size <= PAGE:
        raise BatchError("InvalidQueryParameterValue", QueryParameterName="maxresults")
    keep = selector(query.get("$filter", ""))
    rows = [row for row in rows if keep(row)]
    body: Body = {
        "odata.metadata": f"{url}/$metadata#{kind}",
        "value": list(rows[start : start + size]),
    }
    if start + size < len(rows):
        following = {**query, "$skiptoken": str(start + size)}
        body["odata.nextLink"] = f"{url}{quote(path)}?{urlencode(following, safe='$')}"
    return body


def _number(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdigit():
        raise BatchError("InvalidQueryParameterValue", QueryParameterName=name)
    return int(text)


def selector(text: str) -> Callable[[Body], bool]:
    """Compile the part of OData's `$filter` that clients of this service use."""
    if not text:
        return lambda row: True
    alternatives = [[_term(t) for t in part.split(" and ")] for part in text.split(" or ")]
    return lambda row: any(all(holds(row) for holds in terms) for terms in alternatives)


def _term(text: str) -> Callable[[Body], bool]:
    prefix = re.fullmatch(r"[\s(]*startswith\((\w+),\s*'([^']*)'\)[\s)]*", text)
    if prefix:
        return lambda row: str(row.get(prefix[1], "")).startswith(prefix[2])
    found = re.fullmatch(r"[\s(]*([\w/]+) (eq|ne) '?([^'()]*?)'?[\s)]*", text)
    if not found:
        raise BatchError("InvalidQueryParameterValue", QueryParameterName="$filter", Reason=text)
    name, operator, wanted = found.groups()

    def holds(row: Body) -> bool:
        value: Any = row
        for part in name.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        return (shown == wanted) == (operator == "eq")

    return holds
