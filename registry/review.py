"""Make a key, approve, reject, and list what waits for a review.

A review is signed over exactly what was read: the model's digest, the dossier's, the stage, and the
decision that it would follow. Change one of them, and it counts no longer.

  python -m registry.review key --reviewer anna            prints the entry for reviewers.yaml
  python -m registry.review waiting --stage Production
  python -m registry.review approve --version 3 --reviewer anna --comment "read the dossier"
  python -m registry.review reject --version 3 --reviewer anna --comment "loses in category toys"
"""

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import Field

from recsys import cli, view
from recsys.config import Config
from recsys.errors import RecsysError, RegistryError, UsageError
from recsys.progress import say
from registry import admission, reviews
from registry.candidates import DOSSIER_TAG
from registry.case import Case, case_of
from registry.ledger import Ledger, Stage
from registry.projection import witnessed
from registry.promote import subject_for
from registry.releases import candidates_of, find_version, to_release, verified_model, versions_of
from registry.reviewers import key_file, make_key, public_part, read_key
from registry.reviews import APPROVE, REJECT, Count, Review
from registry.rulebook import RuledConfig
from registry.told import TYPED, plain
from registry.trust import find_holder, unproven

NEWEST = 10


class KeyConfig(Config):
    """Parameters of `review key`."""

    reviewer: str = Field(description="whose key it is, as reviewers.yaml will name the person")
    file: str | None = Field(None, description="where to write; none: ~/.config/recsys/keys")


class WaitingConfig(RuledConfig):
    """Parameters of `review waiting`."""

    model_name: str = Field("recommender", description="registered model of the releases")
    stage: Stage = Field("Production", description="stage that candidates wait for")


class ReviewConfig(WaitingConfig):
    """Parameters of `review approve` and `review reject`."""

    version: int = Field(ge=1, description="version of the candidate")
    reviewer: str | None = Field(None, description="who reviews; none: the current user")
    key: str | None = Field(None, description="private key; none: the reviewer's own")
    comment: str = Field("", max_length=TYPED, description="for the author and for the history")


def run_key(config: KeyConfig) -> str:
    """Make a key; returns its public part."""
    usual = key_file(config.reviewer)
    file = Path(config.file).expanduser() if config.file else usual
    public = make_key(file)
    say(f"The private key is {file}: keep it, and give it to nobody.")
    say("Add this to reviewers.yaml, and let a colleague review the change:\n")
    name = config.reviewer
    if yaml.safe_load(name) != name:
        # Such as `yes` and `007`, which are no text for YAML.
        name = f'"{name}"'
    say(f'  {name}:\n    keys: ["{public}"]\n    accounts: [{name}]')
    return public


def run_approve(config: ReviewConfig) -> Review:
    """Sign that a candidate may hold the stage."""
    return _review(APPROVE, config)


def run_reject(config: ReviewConfig) -> Review:
    """Sign that a candidate must not hold the stage, and say why."""
    if len(config.comment.strip()) < 3:
        raise UsageError("A rejection needs a comment: say what the author should mend.")
    return _review(REJECT, config)


def run_waiting(config: WaitingConfig) -> list[str]:
    """List the newest candidates with what still stands between them and the stage."""
    witnessed(Ledger(config.model_name, config.stage))
    found = reviews.kept(config.model_name, config.stage)
    versions = sorted(versions_of(candidates_of(config.model_name)), key=lambda v: int(v.version))
    wanted = config.rulebook().of(config.stage).approvals
    lines = []
    for version in versions[::-1][:NEWEST]:
        asked = {**config.model_dump(), "version": int(version.version), "reviewer": "-"}
        try:
            case = _case(ReviewConfig(**asked))
            told = _status(case, _counted(case, found, config), config)
        except RecsysError as error:
            told = [str(error)]
        told = [plain(line) for line in told]
        lines += [f"{version.version:>4}  {told[0]}", *(f"{'':>6}{line}" for line in told[1:])]
    say(f"{config.model_name}, {config.stage}: approvals wanted: {wanted}")
    for line in lines or ["  no candidate"]:
        say(line)
    return lines


def _status(case: Case, counted: Count, config: WaitingConfig) -> list[str]:
    """Say how far a candidate is."""
    history, rules = Ledger(config.model_name, config.stage).history(), config.rulebook()
    if history and history[-1].record.model_digest == case.model_digest:
        holds = f"holds {config.stage} (generation {history[-1].number})"
        lacking = unproven(history, rules.of(config.stage), rules.people)
        return [f"{holds}, but {'; '.join(lacking)}" if lacking else holds]
    champion = find_holder(config.model_name, case.compared_stage)
    refused = admission.refusals(case, config.stage, champion, rules.policy, counted)
    found = [f"approved by {review.reviewer}" for review in counted.approvals]
    linked = case.candidate.tags.get(DOSSIER_TAG)
    dossier = [f"dossier: {view.address(linked.removeprefix('/#/'))}"] if linked else []
    return ["; ".join([*found, *(refused or ["may be promoted"])]), case.sentence, *dossier]


def _review(verdict: str, config: ReviewConfig) -> Review:
    """Sign a verdict, keep it, and say whether it counts."""
    reviewer = config.reviewer or getpass.getuser()
    file = Path(config.key).expanduser() if config.key else key_file(reviewer)
    key, rules = read_key(file), config.rulebook()
    if rules.people.person_of(public_part(key)) != reviewer:
        raise UsageError(
            f"The key {file} is not one of {reviewer}'s in {config.reviewers}: add the entry that "
            "`registry.review key` printed."
        )
    history, case = witnessed(Ledger(config.model_name, config.stage)), _case(config)
    head = history[-1] if history else None
    subject = subject_for(case, config.model_name, config.stage, head)
    review = reviews.signed(verdict, subject, reviewer, config.comment, key)
    asked = rules.of(config.stage)
    counted = reviews.count([review], subject, asked, rules.people)
    if counted.refused:
        raise RegistryError(f"It would not count: {counted.refused[0]}.")
    reviews.keep(review)
    say(f"  {verdict}: version {config.version} for {config.stage}, signed by {reviewer}")
    say(f"  model {case.model_digest[:12]}, evidence {subject.evidence_digest[:12]}")
    return review


def _case(config: ReviewConfig) -> Case:
    """Return what speaks for a candidate."""
    candidate = find_version(candidates_of(config.model_name), config.version)
    with verified_model(to_release(candidate)) as folder:
        return case_of(candidate, folder)


def _counted(case: Case, found: Sequence[Review], config: WaitingConfig) -> Count:
    """Return what of the reviews for a stage counts for a candidate."""
    rules, head = config.rulebook(), Ledger(config.model_name, config.stage).head()
    subject = subject_for(case, config.model_name, config.stage, head)
    about = reviews.of_model(found, case.model_digest)
    return reviews.count(about, subject, rules.of(config.stage), rules.people)


if __name__ == "__main__":
    verb, program = (sys.argv[1] if len(sys.argv) > 1 else ""), "python -m registry.review"
    if verb == "key":
        cli.run(run_key, KeyConfig, __doc__, f"{program} key", sys.argv[2:])
    elif verb == "waiting":
        cli.run(run_waiting, WaitingConfig, __doc__, f"{program} waiting", sys.argv[2:])
    elif verb == "approve":
        cli.run(run_approve, ReviewConfig, __doc__, f"{program} approve", sys.argv[2:])
    elif verb == "reject":
        cli.run(run_reject, ReviewConfig, __doc__, f"{program} reject", sys.argv[2:])
    else:
        print(__doc__, file=sys.stderr)
        raise SystemExit(2)
