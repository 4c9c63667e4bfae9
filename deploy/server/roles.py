"""Who may do what: the roles, as rights on the experiments and models that the flow uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["experiment", "registered_model"]
Right = Literal["READ", "EDIT"]
ROLES = ("trainer", "reviewer", "scorer", "analyst")


@dataclass(frozen=True)
class Places:
    """The experiments and registered models of one model name."""

    model_name: str

    @property
    def runs(self) -> str:
        """The experiment of training, search, comparison."""
        return "recsys"

    @property
    def release_runs(self) -> str:
        """The experiment that holds the bytes of every release."""
        return f"{self.model_name}-releases"

    @property
    def scoring_runs(self) -> str:
        """The experiment of batch scoring."""
        return f"{self.model_name}-scoring"

    @property
    def candidates(self) -> str:
        """The registered model that trainers write."""
        return f"{self.model_name}-candidates"

    @property
    def releases(self) -> str:
        """The registered model that reviewers write."""
        return self.model_name

    @property
    def experiments(self) -> tuple[str, ...]:
        """All experiments."""
        return self.runs, self.release_runs, self.scoring_runs

    @property
    def models(self) -> tuple[str, ...]:
        """All registered models."""
        return self.candidates, self.releases


@dataclass(frozen=True)
class Grant:
    """A right on one experiment or registered model."""

    kind: Kind
    name: str
    right: Right

    def __str__(self) -> str:
        return f"{self.right} on {self.kind.replace('_', ' ')} {self.name}"


def role_name(model_name: str, role: str) -> str:
    """Return a role's name on the server, which may serve several models."""
    return f"{model_name}-{role}"


def grants(places: Places) -> Mapping[str, tuple[Grant, ...]]:
    """Return role → its rights; what is not listed is refused.

    EDIT is to make and change, not to delete and not to pass on rights.
    """
    here = places
    return {
        "trainer": (
            Grant("experiment", here.runs, "EDIT"),
            Grant("experiment", here.release_runs, "READ"),
            Grant("registered_model", here.candidates, "EDIT"),
            Grant("registered_model", here.releases, "READ"),
        ),
        "reviewer": (
            Grant("experiment", here.runs, "READ"),
            Grant("experiment", here.release_runs, "EDIT"),
            Grant("registered_model", here.candidates, "READ"),
            Grant("registered_model", here.releases, "EDIT"),
        ),
        "scorer": (
            Grant("experiment", here.scoring_runs, "EDIT"),
            Grant("experiment", here.release_runs, "READ"),
            Grant("registered_model", here.releases, "READ"),
        ),
        "analyst": (
            Grant("experiment", here.runs, "READ"),
            Grant("experiment", here.release_runs, "READ"),
            Grant("experiment", here.scoring_runs, "READ"),
            Grant("registered_model", here.candidates, "READ"),
            Grant("registered_model", here.releases, "READ"),
        ),
    }
