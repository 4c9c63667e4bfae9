"""One batch run: load the release, compile the strategy, score block by block, count, describe."""

import hashlib
import json
from collections import Counter as Count
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import mlflow
import numpy as np
from obstore.store import ObjectStore
from pyspark.sql import SparkSession

from deploy import plots
from deploy.audits import Counts, Finding
from recsys import campaign, drift, tracking
from recsys.batch import Batch, BlockScored, items_allowed, items_given, score_block
from recsys.data.digest import folder_digest
from recsys.data.facts import EPOCH
from recsys.data.history import NewestHistory, pack_newest
from recsys.data.replace import content_of
from recsys.data.tables import read_tables
from recsys.errors import DataError
from recsys.models import files
from recsys.past import PastRun, pack_given, past_runs
from recsys.progress import Counter, say
from recsys.scoring import add_fallback, check_k, plan_scoring
from recsys.session import most_tasks, run_tasks, scratch_folder
from recsys.storage import (
    CommitLog,
    exists,
    place_of,
    put_new,
    read_bytes,
    read_file,
    shared_copy,
    store_of,
)
from recsys.strategy import Strategy
from registry.releases import Release, verified_model


@dataclass(frozen=True)
class Job:
    """What a run is, before anything is computed: all that decides on its rows.

    Attributes:
        interactions: folder that ingest wrote.
        output: the published folder.
        slot: what is published once; None where the inputs decide.
        strategy: with the k that counts.
        release: the version that scores.
        input_digest: see `digest_of_inputs`.
    """

    interactions: str
    output: str
    slot: str | None
    strategy: Strategy
    release: Release
    input_digest: str

    @property
    def run(self) -> str:
        """Name the run's folder: the same inputs, and the same slot if any, have the same one."""
        digests = (self.release.digest, self.strategy.digest, self.input_digest)
        inputs = "\n".join((*digests, str(self.release.version), tracking.code_version()))
        key = hashlib.sha256(inputs.encode()).hexdigest()[:12]
        return f"runs/{self.strategy.name}/{self.slot or 'inputs'}-{key}"


def digest_of_inputs(interactions: str, strategy: Strategy) -> str:
    """Digest what a run reads beside the model: the tables and the list of available items.

    Raises:
        DataError: there is nothing in the interactions' folder.
    """
    folder = content_of(interactions)
    # Where the table itself is named, `read_tables` takes these from beside it.
    beside = [folder.parent / name for name in ("items", "customers")]
    folders = [folder, *(f for f in beside if folder.name == "interactions" and exists(f))]
    digests = [folder_digest(f) for f in folders]
    listed = strategy.items.available
    if listed is not None and exists(place_of(listed)):
        digests.append(hashlib.sha256(read_file(place_of(listed)) or b"").hexdigest())
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


@dataclass(frozen=True)
class Prepared:
    """What scoring needs.

    Attributes:
        batch: for the tasks.
        newest: the interactions.
        head: number of the newest commit before the run, 0 for none.
        last: the last published run of the strategy; None for the first.
        drift: of the interactions since the fit; None where there are none.
    """

    batch: Batch
    newest: NewestHistory
    head: int
    last: PastRun | None
    drift: drift.Drift | None


@contextmanager
def prepared(job: Job, spark: SparkSession) -> Iterator[Prepared]:
    """Load the release, pack the newest interactions with its ids, compile the strategy.

    Yields:
        What scoring needs; its files live as long as the context.
    """
    strategy, release = job.strategy, job.release
    with scratch_folder(spark, "batch") as scratch:
        retail = read_tables(spark, job.interactions)
        with verified_model(release) as model:
            header = files.load(model, scratch / "fitted")
            check_k(strategy.k, header.items)
            newest = pack_newest(
                spark,
                retail,
                shared_copy(model / files.ITEMS, scratch / "model"),
                shared_copy(model / files.CUSTOMERS, scratch / "model"),
                header.customers,
                scratch / "newest",
            )
        history = newest.history
        if history.customers == 0:
            raise DataError("No interaction has a customer id, so there is nobody to recommend to.")
        plan = plan_scoring(
            spark,
            header.algorithm,
            header.parameters,
            scratch / "fitted",
            header.customers,
            history,
            scratch / "terms",
            newest.fit_rows,
            header.before,
        )
        if strategy.segment is not None:
            plan = add_fallback(spark, plan, strategy.segment)
        store = store_of(job.output, create=True)
        head = CommitLog(store).head()
        scored_at, past = _begin(store, job)
        given = pack_given(spark, job.output, past, history, scratch / "given")
        rules = campaign.compiled(strategy, retail, history, given, scratch / "campaign")
        batch = Batch(
            replace(plan, campaign=rules),
            job.output,
            job.run,
            strategy,
            release.name,
            release.version,
            scored_at,
        )
        number, last = head.number if head else 0, past[0] if past else None
        moved = drift.drift_since(retail.interactions, header.before)
        yield Prepared(batch, newest, number, last, moved)


def _begin(store: ObjectStore, job: Job) -> tuple[datetime, list[PastRun]]:
    """Return the run's instant and the runs that it looks back at, the newest first.

    Both are written down where the run first begins: whoever goes on with it writes the same rows.
    """
    key = f"{job.run}/_run.json"
    count = max(1, job.strategy.rest_runs)
    past = past_runs(job.output, job.strategy.name, count)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    begin = {"scored_at": now, "past": [before.run for before in past]}
    if not put_new(store, key, json.dumps(begin).encode()):
        begun = json.loads(read_bytes(store, key) or b"{}")
        if begun["past"] != begin["past"]:
            every = past_runs(job.output, job.strategy.name)
            past = [before for before in every if before.run in begun["past"]]
        now = begun["scored_at"]
    return datetime.fromisoformat(now), past


def scored_blocks(batch: Batch, spark: SparkSession) -> list[BlockScored]:
    """Score all blocks, some at a time, so that progress can be told."""
    history = batch.plan.history
    numbers = history.customer_blocks.covering(history.customers)
    progress, blocks = Counter("customers' block", len(numbers)), list[BlockScored]()
    for some in _shares(numbers, 4 * most_tasks(spark)):
        blocks += run_tasks(spark, partial(score_block, batch), some)
        progress.show(len(blocks), f"{sum(b.counts['rows'] for b in blocks):,} rows")
    resumed = sum(block.resumed for block in blocks)
    if resumed:
        say(f"  {resumed} of {len(blocks)} blocks were done before this run began")
    return blocks


def _shares(numbers: list[int], size: int) -> Iterator[list[int]]:
    return (numbers[first : first + size] for first in range(0, len(numbers), size))


def counted(batch: Batch, blocks: list[BlockScored]) -> Counts:
    """Add up what the blocks counted."""
    history, total = batch.plan.history, Count[str]()
    for block in blocks:
        total.update(block.counts)
    given = items_given(batch, history.customer_blocks.covering(history.customers))
    meant = int(batch.campaign.read(campaign.AUDIENCE).sum())
    rows = max(1, total["rows"])
    # Where the strategy lets items rest, last run's items are not meant to come again.
    compared = 0 if batch.strategy.rest_runs else total["compared"] * batch.strategy.k
    mean, square = (
        sum(block.scores[power] for block in blocks) / max(1, total["personal"]) for power in (0, 1)
    )
    return Counts(
        customers=total["customers"],
        control=total["control"],
        short=total["short"],
        rows=total["rows"],
        personal=total["personal"],
        duplicates=total["duplicates"],
        missing=meant - total["customers"],
        coverage=float((given > 0).sum()) / max(1, items_allowed(batch)),
        top_items_share=float(np.sort(given)[-10:].sum()) / rows,
        mean_score=mean,
        score_spread=max(0.0, square - mean**2) ** 0.5,
        overlap=total["same"] / compared if compared else None,
        model=f"{batch.model_name}/{batch.model_version}",
    )


def counts_of(last: PastRun | None) -> Counts | None:
    """Return what a published run's manifest says of it."""
    return Counts(**last.facts["counts"]) if last else None


def facts_of(
    job: Job,
    ready: Prepared,
    blocks: list[BlockScored],
    counts: Counts,
    seconds: float,
    cores: int,
) -> dict[str, Any]:
    """Say in the manifest what the table is, where it came from and what it cost."""
    sources, shortfalls = Count[str](), Count[str]()
    for block in blocks:
        sources.update(block.sources)
        shortfalls.update(block.shortfalls)
    run, end = mlflow.active_run(), EPOCH + timedelta(days=ready.newest.history.before)
    return {
        "slot": job.slot,
        "counts": asdict(counts),
        "sources": dict(sorted(sources.items())),
        "shortfalls": dict(sorted(shortfalls.items())),
        "new_customers": ready.newest.new_customers,
        "known_interactions_share": round(ready.newest.known_share, 6),
        "interactions_end": end.date().isoformat(),
        "drift": list(ready.drift.warnings) if ready.drift else [],
        "mlflow_run_id": run.info.run_id if run else None,
        "model_name": job.release.name,
        "model_version": job.release.version,
        "model_digest": job.release.digest,
        "ledger_generation": job.release.generation,
        "ledger_record": job.release.record,
        "strategy": job.strategy.model_dump(mode="json"),
        "strategy_digest": job.strategy.digest,
        "input_digest": job.input_digest,
        "code_version": tracking.code_version(),
        "scored_at": ready.batch.scored_at.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "core_seconds": round(seconds * cores, 1),
    }


def log(ready: Prepared, facts: dict[str, Any], findings: list[Finding]) -> None:
    """Show the run in MLflow: counts, audits, drift, plots."""
    batch = ready.batch
    counts = {k: v for k, v in facts["counts"].items() if isinstance(v, int | float)}
    mlflow.log_metrics(
        {key: float(value) for key, value in counts.items()}
        | {f"rows/{name}": float(n) for name, n in facts["sources"].items()}
        | {f"audit/{f.audit}": f.value for f in findings if f.value != float("inf")}
        | {name: facts[name] for name in ("seconds", "core_seconds")}
    )
    mlflow.set_tag("recsys.model_version", f"{batch.model_name}/{batch.model_version}")
    mlflow.log_dict(facts | {"run": batch.run}, "batch_score.json")
    mlflow.log_figure(plots.audits(findings), "plots/audits.png")
    mlflow.log_figure(plots.sources(facts["sources"]), "plots/sources.png")
    if ready.drift:
        drift.show(ready.drift)
