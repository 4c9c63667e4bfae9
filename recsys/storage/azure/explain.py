"""What a storage account's refusal means, in one sentence that names the cure."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

from recsys.errors import UsageError
from recsys.storage.azure.access import IDENTITY, AzureAccess, access_to
from recsys.storage.azure.places import AzurePlace

# Azure refuses requests that were signed more than 15 minutes ago or ahead.
SKEW = timedelta(minutes=15)
UNKNOWN_HOST = re.compile(
    r"dns error|failed to lookup address|Name or service not known|Failed to resolve|"
    r"NameResolutionError|UnknownHostException",
    re.IGNORECASE,
)
UNREACHABLE = re.compile(
    r"error sending request|Connection refused|Connection reset|operation timed out|"
    r"ConnectTimeout|Read timed out|Failed to establish a new connection",
    re.IGNORECASE,
)
BUSY = re.compile(r"status code: (?:429|503)|status: (?:429|503)|ServerBusy|Too Many Requests")
REFUSED = re.compile(
    r"status code: 40[13]|AuthenticationFailed|AuthorizationFailure|Authorization\w*Mismatch|"
    r"InsufficientAccountPermissions|KeyBasedAuthenticationNotPermitted|"
    r"NoAuthenticationInformation"
)
NO_RIGHT = re.compile(r"Authorization\w*Mismatch|InsufficientAccountPermissions")
NO_TOKEN = re.compile(
    r"CredentialUnavailableError|ClientAuthenticationError|DefaultAzureCredential"
)


def explained(
    error: BaseException,
    place: AzurePlace,
    environment: Mapping[str, str] = os.environ,
    now: datetime | None = None,
) -> str | None:
    """Say what an error of obstore's or of Azure's SDK means for the user.

    Args:
        error: as it was raised. What the service says is not repeated: it may hold a signature.
        place: what was read or written.
        environment: where the credential came from.
        now: this machine's time; None: the clock.

    Returns:
        A sentence that names the cure, None for other errors (and for a blob that is not there).
    """
    try:
        found = access_to(place.account, place.endpoint, environment)
    except UsageError as problem:
        return str(problem)
    # Azure's SDK does not always say the status in words.
    text = f"{type(error).__name__}: status code: {getattr(error, 'status_code', None)}: {error}"
    now = now or datetime.now(UTC)
    if re.search(r"ContainerNotFound|The specified container does not exist", text):
        return (
            f"There is no container {place.container} in storage account {found.account}: correct "
            "the URL, or make it with `az storage container create --account-name "
            f"{found.account} --name {place.container}`."
        )
    if re.search(r"InvalidAccessKey|Invalid Access Key|Incorrect padding", text):
        return f"{found.source} holds no whole account key: copy it again, with its == at the end."
    if found.source == IDENTITY and NO_TOKEN.search(text):
        return (
            "No credential for Azure was found: run `az login`, give the node an identity and "
            "set AZURE_CLIENT_ID, or set AZURE_STORAGE_CONNECTION_STRING."
        )
    if REFUSED.search(text):
        return _refused(text, place, found, now)
    return _unavailable(text, found)


def _unavailable(text: str, found: AzureAccess) -> str | None:
    """Explain an account that is not there, busy, or not reached."""
    if UNKNOWN_HOST.search(text):
        return (
            f"{found.blob_endpoint} is not known to the network: check the name of storage "
            f"account {found.account}, then this machine's network."
        )
    if BUSY.search(text):
        return (
            f"Storage account {found.account} was too busy (it throttles requests) for longer "
            "than is waited: run again later, finished parts are kept."
        )
    if UNREACHABLE.search(text):
        return (
            f"{found.blob_endpoint} does not answer: check this machine's network and the "
            "account's firewall, then run again."
        )
    return None


def _refused(text: str, place: AzurePlace, found: AzureAccess, now: datetime) -> str:
    """Explain a request that was not allowed: the clock, the signature, the key, a right."""
    skewed = _skewed(text, now)
    if skewed is not None:
        return skewed
    if found.key is None and found.sas is not None:
        return _refused_sas(text, place, found, now)
    if NO_RIGHT.search(text):
        return (
            f"The identity may not do this in container {place.container}: give it the role "
            f"Storage Blob Data Contributor on storage account {found.account}."
        )
    if "KeyBasedAuthenticationNotPermitted" in text:
        return f"Storage account {found.account} takes no keys: unset {found.source}, `az login`."
    if "This request is not authorized to perform this operation" in text:
        return (
            f"Storage account {found.account} does not take requests from here: allow this "
            "network in the account's firewall, or check the identity's role."
        )
    if found.key is None:
        return (
            f"Storage account {found.account} does not accept this identity: give it the role "
            "Storage Blob Data Contributor, and check AZURE_TENANT_ID and AZURE_CLIENT_ID."
        )
    return (
        f"The key in {found.source} does not open storage account {found.account}: copy one of "
        "its current keys, or check that the account's name is right."
    )


def _refused_sas(text: str, place: AzurePlace, found: AzureAccess, now: datetime) -> str:
    start, end = (_time_in_sas(found.sas or "", name) for name in ("st", "se"))
    new = f"make a new one and put it into {found.source}"
    if end is not None and end <= now:
        return f"The shared access signature expired at {end:%Y-%m-%d %H:%M} UTC: {new}."
    if start is not None and start > now:
        return (
            f"The shared access signature is valid only from {start:%Y-%m-%d %H:%M} UTC: wait, "
            f"or {new}."
        )
    if "not valid in the specified time frame" in text:
        return f"The shared access signature is not valid at this time: {new}."
    if NO_RIGHT.search(text):
        return (
            "The shared access signature does not allow this: it needs the rights to read, add, "
            f"create, write, delete and list (racwdl); {new}."
        )
    return (
        f"The shared access signature in {found.source} does not open container "
        f"{place.container} of storage account {found.account}: {new}."
    )


def _time_in_sas(sas: str, name: str) -> datetime | None:
    """Return a signature's start or end."""
    values = parse_qs(sas).get(name)
    try:
        time = datetime.fromisoformat(values[0]) if values else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _skewed(text: str, now: datetime) -> str | None:
    """Explain a clock that is wrong, by the time that the service's answer carries."""
    cure = "set this machine's clock (`timedatectl set-ntp true`), then run again."
    match = re.search(r"Time:(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", text)
    if match is not None:
        ahead = now - datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
        if abs(ahead) > SKEW:
            minutes = round(abs(ahead).total_seconds() / 60)
            way = "ahead of" if ahead > timedelta(0) else "behind"
            return f"This machine's clock is {minutes:,} minutes {way} Azure's: {cure}"
    if re.search(r"Request date header too old|date header", text, re.IGNORECASE):
        return f"Azure refuses the time that this machine's clock says: {cure}"
    return None
