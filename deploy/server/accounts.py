"""Accounts and roles on a running server: made, repaired, and told what changed."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.server.auth.client import AuthServiceClient
from mlflow.server.auth.entities import Role
from pydantic import Field

from deploy.server.roles import ROLES, Grant, Places, grants, role_name
from deploy.server.secrecy import new_password, write_private
from recsys.cli import names
from recsys.config import Config
from recsys.errors import RecsysError, UsageError
from recsys.progress import say

WORKSPACE = "default"
REMOVE = "remove"
OWN_RIGHTS = "__user_"
CANDIDATES_NOTE = "Candidates: winners of `compare` and fresh fits of them, waiting for a reviewer."
RELEASES_NOTE = "Releases: `promote` and `rollback` alone write here, and each version is one."
PASSWORDS_HELP = "new file for new passwords; none: they are printed, once"
ACCOUNT_HELP = "their accounts, by comma"
Tell = Callable[[str, str], None]


class RolesConfig(Config):
    """Who has which role."""

    model_name: str = Field("recommender", description="registered model of the releases")
    trainers: str | None = Field(None, description=ACCOUNT_HELP)
    reviewers: str | None = Field(None, description=ACCOUNT_HELP)
    scorers: str | None = Field(None, description=ACCOUNT_HELP)
    analysts: str | None = Field(None, description=ACCOUNT_HELP)
    remove: str | None = Field(None, description="accounts to delete, by comma")
    passwords: str | None = Field(None, description=PASSWORDS_HELP)

    def roles(self) -> dict[str, str]:
        """Return account → role; raises UsageError where an account has two."""
        texts = (self.trainers, self.reviewers, self.scorers, self.analysts, self.remove)
        groups = zip((*ROLES, REMOVE), texts, strict=True)
        pairs = [(account, role) for role, text in groups for account in names(text)]
        result = dict(pairs)
        if twice := sorted({a for a, role in pairs if result[a] != role}):
            raise UsageError(
                f"{', '.join(twice)}: an account has one role, so that nobody approves what they "
                "trained; make a second account."
            )
        return result


class PasswordConfig(Config):
    """Whose password."""

    account: str = Field(description="whose password is made anew")
    passwords: str | None = Field(None, description=PASSWORDS_HELP)


def run_roles(config: RolesConfig) -> None:
    """Make experiments, models, roles and accounts, and repair the rights of those that exist.

    A second call changes nothing, and no call changes a password. Accounts that are not named keep
    what they have.

    Raises:
        UsageError: an account has two roles or is an admin, or the server takes us for no admin.
    """
    accounts, places = config.roles(), Places(config.model_name)
    with _admin() as (client, name):
        for account in accounts:
            if account == name or _is_admin(client, account):
                raise UsageError(f"{account} is an admin, whom no role binds: name other accounts.")
        changed = False
        for change in _changes(client, places, accounts, _teller(config.passwords)):
            say(change)
            changed = True
    if not changed:
        say("Nothing to change.")


def run_password(config: PasswordConfig) -> None:
    """Give an account a new password; the old one ends within ten seconds.

    Raises:
        UsageError: nobody has this account, or the server takes us for no admin.
    """
    with _admin() as (client, name):
        if not _exists(client, config.account):
            raise UsageError(f"Nobody has the account {config.account}.")
        password, tell = new_password(), _teller(config.passwords)
        current = os.environ["MLFLOW_TRACKING_PASSWORD"] if config.account == name else None
        tell(config.account, password)
        client.update_user_password(config.account, password, current)
    say(f"{config.account}: new password")


@contextmanager
def _admin() -> Iterator[tuple[AuthServiceClient, str]]:
    """Yield the server's client for accounts, and the admin's name; its errors become ours."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    name = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    server = urlsplit(uri)
    if server.scheme not in ("http", "https"):
        raise UsageError("MLFLOW_TRACKING_URI names no server: set it, https://mlflow.example.com.")
    if server.scheme == "http" and server.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError(f"Passwords would cross the network readable: call {uri} by https.")
    if not name or not os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        raise UsageError("Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to an admin's.")
    client = AuthServiceClient(uri)
    try:
        if not _is_admin(client, name):
            raise UsageError(f"{name} is no admin: set MLFLOW_TRACKING_USERNAME to one.")
        yield client, name
    except MlflowException as error:
        if error.error_code == "UNAUTHENTICATED":
            raise UsageError(f"{uri} does not know {name} with this password.") from None
        raise RecsysError(f"{uri} did not do it: {error.message.splitlines()[0]}") from error


def _teller(file: str | None) -> Tell:
    """Return what hands over a new password: to a new private file, or to the terminal."""
    if file is None:
        return lambda account, password: say(f"{account}: {password}")
    path = Path(file)
    if path.exists():
        raise UsageError(f"{path} exists: name a new file, so that no password is lost.")
    lines: list[str] = []

    def tell(account: str, password: str) -> None:
        lines.append(f"{account}: {password}\n")
        write_private(path, "".join(lines))

    return tell


def _changes(
    client: AuthServiceClient, places: Places, accounts: dict[str, str], tell: Tell
) -> Iterator[str]:
    """Make and repair one after the other; yields what is done."""
    yield from _make_places(MlflowClient(client.tracking_uri), places)
    ids = _experiment_ids(MlflowClient(client.tracking_uri), places)
    roles: dict[str, Role] = {}
    for role, wanted in grants(places).items():
        roles[role] = _find_role(client, role_name(places.model_name, role))
        rights: dict[tuple[str, str], Grant] = {
            (g.kind, ids[g.name] if g.kind == "experiment" else g.name): g for g in wanted
        }
        for change in _repair_role(client, roles[role], rights):
            yield f"role {role}: {change}"
    ours = {("registered_model", name) for name in (*places.models, "*")}
    ours |= {("experiment", known) for known in (*ids.values(), "*")}
    for account, role in accounts.items():
        steps = (
            _remove(client, account)
            if role == REMOVE
            else chain(
                _make_account(client, account, tell),
                _repair_account(client, account, role, roles, ours),
            )
        )
        for change in steps:
            yield f"account {account}: {change}"


def _make_places(client: MlflowClient, places: Places) -> Iterator[str]:
    """Make what is missing of the experiments and models, so that no role needs a right to."""
    for name in places.experiments:
        known = client.get_experiment_by_name(name)
        if known is None:
            client.create_experiment(name)
            yield f"experiment {name}: made"
        elif known.lifecycle_stage == "deleted":
            client.restore_experiment(known.experiment_id)
            yield f"experiment {name}: restored"
    notes = {places.candidates: CANDIDATES_NOTE, places.releases: RELEASES_NOTE}
    for name in places.models:
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, description=notes[name])
            yield f"registered model {name}: made"


def _experiment_ids(client: MlflowClient, places: Places) -> dict[str, str]:
    """Return name → id, by which rights name an experiment."""
    found = {name: client.get_experiment_by_name(name) for name in places.experiments}
    return {name: known.experiment_id for name, known in found.items() if known}


def _find_role(client: AuthServiceClient, name: str) -> Role:
    """Return a role, made where it is missing."""
    known = [role for role in client.list_roles(WORKSPACE) if role.name == name]
    return known[0] if known else client.create_role(WORKSPACE, name)


def _repair_role(
    client: AuthServiceClient, role: Role, wanted: dict[tuple[str, str], Grant]
) -> Iterator[str]:
    """Give a role exactly the wanted rights: (kind, name or id) → grant."""
    missing = dict(wanted)
    for known in client.list_role_permissions(role.id):
        place = known.resource_type, known.resource_pattern
        grant = missing.pop(place, None)
        if grant is None:
            client.remove_role_permission(known.id)
            yield f"{known.permission} on {' '.join(place)} taken"
        elif grant.right != known.permission:
            client.update_role_permission(known.id, grant.right)
            yield f"{grant} instead of {known.permission}"
    for (kind, pattern), grant in missing.items():
        client.add_role_permission(role.id, kind, pattern, grant.right)
        yield f"{grant} given"


def _make_account(client: AuthServiceClient, account: str, tell: Tell) -> Iterator[str]:
    """Make an account where nobody has it."""
    if not _exists(client, account):
        password = new_password()
        # Told first: what is told and not made is harmless, the other way round nobody gets in.
        tell(account, password)
        client.create_user(account, password)
        yield "made"


def _repair_account(
    client: AuthServiceClient,
    account: str,
    wanted: str,
    roles: dict[str, Role],
    places: Iterable[tuple[str, str]],
) -> Iterator[str]:
    """Give an account one of the roles, and no right beside it on what the roles are about."""
    ids = {role.id: name for name, role in roles.items()}
    has = client.list_user_roles(account)
    for role in has:
        if role.id in ids and ids[role.id] != wanted:
            client.unassign_role(account, role.id)
            yield f"role {ids[role.id]} taken"
        for right in role.permissions if role.name.startswith(OWN_RIGHTS) else ():
            if (right.resource_type, right.resource_pattern) in places:
                client.remove_role_permission(right.id)
                name = f"{right.resource_type} {right.resource_pattern}"
                yield f"{right.permission} on {name} taken"
    if roles[wanted].id not in {role.id for role in has}:
        client.assign_role(account, roles[wanted].id)
        yield f"role {wanted} given"


def _remove(client: AuthServiceClient, account: str) -> Iterator[str]:
    if _exists(client, account):
        client.delete_user(account)
        yield "removed"


def _exists(client: AuthServiceClient, account: str) -> bool:
    try:
        client.get_user(account)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _is_admin(client: AuthServiceClient, account: str) -> bool:
    return _exists(client, account) and bool(client.get_user(account).is_admin)
