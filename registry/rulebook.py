"""The two files that reviewers own: the policy, and whose signatures count."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field

from recsys.config import Config
from recsys.errors import UsageError
from recsys.storage import place_of, read_file
from registry.policy import POLICY_FILE, Policy, StageRules
from registry.reviewers import Reviewers

REVIEWERS_FILE = Path(__file__).with_name("reviewers.yaml")


@dataclass(frozen=True)
class Rulebook:
    """What a stage asks for, and of whom."""

    policy: Policy
    people: Reviewers

    def of(self, stage: str) -> StageRules:
        """Return what a stage asks for."""
        return self.policy.rules(stage)


class RuledConfig(Config):
    """Parameters of every step that the policy has a word in."""

    policy: str = Field(POLICY_FILE.name, description="YAML file of what a stage asks for")
    reviewers: str = Field(REVIEWERS_FILE.name, description="YAML file of whose signatures count")

    def rulebook(self) -> Rulebook:
        """Read both files; raises UsageError where one is missing or wrong."""
        return Rulebook(read_policy(self.policy), read_reviewers(self.reviewers))


def read_policy(path: str = POLICY_FILE.name) -> Policy:
    """Read a policy file; a bare name that is not there is looked for beside this module.

    Raises:
        UsageError: there is no such file, it is no policy, or it says something twice.
    """
    text = _text(path, "policy")
    found = Policy.from_yaml(text, path)
    _check_once(text, path)
    return found


def read_reviewers(path: str = REVIEWERS_FILE.name) -> Reviewers:
    """Read the reviewers' file, which is looked for likewise.

    Raises:
        UsageError: there is no such file, or it names one person or one key twice.
    """
    text = _text(path, "reviewers")
    found = Reviewers.from_yaml(text, path)
    _check_once(text, path)
    return found


def _text(path: str, what: str) -> str:
    data = read_file(place_of(path)) or read_file(Path(__file__).parent / path)
    if data is None:
        raise UsageError(f"{what}={path}: there is no such file; registry/{what}.yaml is one.")
    return data.decode()


def _check_once(text: str, path: str) -> None:
    """Raise UsageError where a mapping has a key twice: YAML takes the last without a word."""
    twice = list(_repeated(yaml.compose(text, yaml.SafeLoader)))
    if twice:
        raise UsageError(f"{path} says {', '.join(twice)} twice: leave one of them.")


def _repeated(node: yaml.Node | None) -> Iterator[str]:
    """Yield the keys that a mapping at or below a node has more than once."""
    if isinstance(node, yaml.MappingNode):
        counts = Counter(str(key.value) for key, _ in node.value)
        yield from (key for key, number in counts.items() if number > 1)
        for _, value in node.value:
            yield from _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value)
