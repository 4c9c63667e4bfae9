"""How the pages' commands are executed here: what is given otherwise, what is executed elsewhere.

A command that is in none of these tables is executed as the page shows it.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pyarrow import csv

from tests.docs.commands import Command, blocks, commands
from tests.docs.terminal import ROOT, Terminal

# Another test executes it: the test's place. Of a file that is no test: a line that it holds.
ELSEWHERE: Mapping[str, str] = {
    # The set-up and what it brings: the tests run in its result.
    r"make setup": "tests/deploy/test_environment.py::test_nothing_changed_nothing_done",
    r"\. \.venv/bin/activate": "Makefile: BIN := .venv/bin",
    r"(make jars|python -m recsys\.hadoop)": (
        "tests/recsys/test_hadoop.py"
        "::test_jars_that_were_fetched_are_used_before_any_are_fetched_again"
    ),
    r"make test(-slow)?": ".ci/run: make test",
    r"make docs": ".ci/run: make docs",
    r"make demo-azure": ".ci/run: make demo-azure",
    r"make demo( .*)?": (
        "tests/deploy/test_pipeline.py"
        "::test_every_customer_of_the_interactions_gets_k_distinct_new_items"
    ),
    r"make bench( .*)?": ("tests/benchmarks/test_speed.py::test_ours_and_implicit_side_by_side"),
    # The page on a recommender of one's own, in a copy of the project that has it.
    r"python -m pytest .* -k ease": "tests/docs/test_extending.py::test_it_keeps_the_contract",
    r"python -m experiments\.train ease .*": (
        "tests/docs/test_extending.py::test_it_trains_as_the_page_says"
    ),
    # The prompt, and the page's tables, which need the real retailer in its days.
    r"make sql( .*)?": (
        "tests/deploy/sql/test_commands.py::test_the_prompt_answers_says_what_is_wrong_and_goes_on"
    ),
    r"python -m deploy\.sql --root az://.*": (
        "tests/deploy/azure_flow/test_campaign.py::test_a_campaign_has_the_same_results_in_blob_storage"
    ),
    r"python -m deploy\.pipeline --data before .*": (
        "tests/deploy/test_pipeline.py"
        "::test_every_customer_of_the_interactions_gets_k_distinct_new_items"
    ),
    r"\.venv/bin/python notebooks/render\.py docs/notebooks": (
        "tests/notebooks/test_render.py::test_a_page_holds_words_code_results_and_plots"
    ),
    r"python -m deploy\.monthly .*": (
        "tests/deploy/test_monthly.py::test_the_second_measures_the_campaign_of_the_first"
    ),
    r"python -m experiments\.ingest .* --trigger .*": (
        "tests/recsys/data/stream/test_kills.py"
        "::test_with_a_trigger_the_tables_follow_until_the_stream_is_told_to_end"
    ),
    # A server with accounts.
    r"export MLFLOW_(BACKEND_STORE_URI|AUTH_ADMIN_PASSWORD)=.*": (
        "tests/deploy/server/test_start.py"
        "::test_a_plain_address_of_postgresql_gets_the_driver_that_is_installed"
    ),
    r"python -m deploy\.server start .*": (
        "tests/deploy/server/test_start.py"
        "::test_after_a_restart_the_accounts_are_there_and_no_password_is_needed"
    ),
    r"(python -m deploy\.server roles .*|export MLFLOW_TRACKING_(URI=http|USERNAME=admin).*)": (
        "tests/deploy/server/test_accounts.py::test_a_second_call_changes_nothing"
    ),
    r"(?s)(python -m deploy\.server password .*|export .* NEW=.*|python -W ignore - <<.*)": (
        "tests/deploy/server/test_accounts.py::test_accounts_come_change_their_password_and_go"
    ),
    r"curl -s .* -H 'Host: evil\.example' .*": (
        "tests/deploy/server/test_accounts.py::test_only_named_hosts_are_answered"
    ),
    # Azure Batch, played by a stand-in.
    r"mlflow run \. -e \w+ --backend azure-batch .*": (
        "tests/deploy/azure_batch/test_backend.py"
        "::test_mlflow_run_submits_waits_and_names_the_backend"
    ),
    r"MLFLOW_RUN_ID=… mlflow run …": (
        "tests/deploy/azure_batch/test_backend.py"
        "::test_the_same_run_is_submitted_once_and_then_followed"
    ),
    r"python -m deploy\.schedule (create|list|show) .*": (
        "tests/deploy/test_schedule.py::test_each_job_publishes_under_its_own_slot"
    ),
    r"python -m deploy\.schedule check": (
        "tests/deploy/test_schedule.py::test_a_job_that_never_started_is_told_by_check"
    ),
    r"\.venv/bin/jupyter execute notebooks/compare_runs\.ipynb .*": (
        "tests/notebooks/test_compare_runs.py::test_no_cell_fails_warns_or_prints_an_error"
    ),
}

# Nothing executes it, and why. The options of Python's are checked all the same.
NOT_EXECUTED: Mapping[str, str] = {
    r"mlflow run( \. -e <step>)?|make": "names the program, is no command",
    r"mlflow run \. -e ease": "the page says what must be written first",
    r"make ui": "serves until it is ended",
    r"az .*": "needs an account at Azure",
    r"(sudo|install) .*|umask 0.*": "changes the machine",
    r"PGPASSWORD=.* pg_(dump|restore) .*": "PostgreSQL's own programs",
    r"python -c \"import sqlite3; .*": "copies a server's database",
    r"python -m benchmarks\.(?!cloud_cost).*": "takes minutes to hours",
}

# Given otherwise, in this order: smaller, or with what the page leaves open.
INSTEAD: tuple[tuple[str, str], ...] = (
    (r"(-e search .*)", r"\1 -P max_evals=3"),
    (r"--max_evals 200 --minutes 30", "--max_evals 6 --minutes 1"),
    (r"(experiments\.search .*--metric .*)", r"\1 --max_evals 3"),
    # The bare names of programs, given what they need.
    (r"^(python -m deploy\.batch_score)$", r"\1 --interactions out/ingested --output out/bare"),
    (r"--output …", "--output out/recommendations"),
    (r"--interactions …", "--interactions out/ingested"),
    (r"--commit 41", "--commit 1"),
    (r"--output FOLDER", "--output out/history"),
    (r"^(python -m deploy\.azure_batch --show pool) …", r"\1"),
    # A shop, and the days after a campaign, beside the retailer and not in its place.
    (
        r"--source transactions\.csv --output out/",
        "--source out/shop/transactions.csv --output out/shop/",
    ),
    (
        r"--source days --output out/ingested",
        "--source 'out/raw/*.csv' --output out/all --mapping simulated",
    ),
    (r"(deploy\.measure .*)out/ingested", r"\1out/ingested_after"),
    (
        r"--source landing --output out/ingested",
        "--source out/landing --output out/streamed --mapping simulated",
    ),
)


def before_engineer(terminal: Terminal) -> None:
    """The page's mapping, and a file of transactions as it describes them."""
    mapping = next(b for b in blocks(ROOT / "docs" / "engineer.md") if b.language == "yaml")
    (terminal.folder / "my_shop.yaml").write_text(mapping.text)
    lines = [(day, card) for day in range(120) for card in range(40) if (day + card) % 5 == 0]
    minutes = [day * 1440 + card for day, card in lines]
    stamps = pa.array([m * 60 for m in minutes], pa.int64()).cast(pa.timestamp("s"))
    names = {
        "card": [f"C{card:03d}" for _, card in lines],
        "sku": [f"S{(7 * card + day) % 15:02d}" for day, card in lines],
        "receipt": [f"R{minute}" for minute in minutes],
        "sold_at": pc.strftime(
            pc.add(stamps, pa.scalar(19_000 * 86_400, pa.duration("s"))),
            format="%d/%m/%Y %H:%M",
        ),
        "qty": [1 + card % 3 for _, card in lines],
        "price": [2.5] * len(lines),
        "product": [f"thing {(7 * card + day) % 15}" for day, card in lines],
        "department": ["house"] * len(lines),
        "region": ["north"] * len(lines),
    }
    (terminal.folder / "out" / "shop").mkdir()
    csv.write_csv(pa.table(names), terminal.folder / "out" / "shop" / "transactions.csv")


def before_the_walk(terminal: Terminal) -> None:
    """One signature is wanted, Anna's counts, and what holds Production has it."""
    said = terminal.said["python -m registry.review key --reviewer anna"]
    entry = yaml.safe_load(said[said.index("  anna:") :])
    policy = yaml.safe_load((ROOT / "registry" / "policy.yaml").read_text("utf-8"))
    policy["stages"]["Production"]["approvals"] = 1
    # A file of this name in the folder comes before the project's.
    (terminal.folder / "reviewers.yaml").write_text(yaml.safe_dump({"reviewers": entry}))
    (terminal.folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    terminal.be("anna")
    terminal.run("python -m registry.review approve --version 1 --comment again")
    terminal.run("python -m registry.promote --version 1 --reason 'first release'")


def before_promoting_again(terminal: Terminal) -> None:
    """The decisions meanwhile ask for a new signature."""
    terminal.run("python -m registry.review approve --version 2 --comment again")


def after_reviewer(terminal: Terminal) -> None:
    """Nobody is asked again."""
    for name in ("reviewers.yaml", "policy.yaml"):
        (terminal.folder / name).unlink()
    terminal.be("joan")


def before_strategies(terminal: Terminal) -> None:
    """The strategy's table."""
    terminal.run(
        "python -m deploy.batch_score --interactions out/ingested --output out/win_back"
        " --strategy win_back"
    )


def before_stream(terminal: Terminal) -> None:
    """Files have landed."""
    shutil.copytree(terminal.folder / "out" / "raw", terminal.folder / "out" / "landing")
    shutil.rmtree(terminal.folder / "out" / "landing" / "truth", ignore_errors=True)


def before_measuring(terminal: Terminal) -> None:
    """The days after the campaign, as docs/effects.md makes them."""
    if not (terminal.folder / "out" / "ingested_after").exists():
        for command in commands(ROOT / "docs" / "effects.md"):
            if "experiments." in command.text:
                terminal.run(command.text)


# What happens before a page's first command that begins so; the empty text: before the page.
BEFORE: Mapping[tuple[str, str], Callable[[Terminal], None]] = {
    ("engineer.md", ""): before_engineer,
    ("reviewer.md", "python -m registry.review waiting"): before_the_walk,
    ("reviewer.md", "mlflow run . --experiment-name recsys -e promote"): before_promoting_again,
    ("stream.md", ""): before_stream,
    ("strategies.md", ""): before_strategies,
    ("analysts.md", ""): before_measuring,
    ("campaigns.md", ""): before_measuring,
}
AFTER: Mapping[str, Callable[[Terminal], None]] = {"reviewer.md": after_reviewer}
# What a page's Python takes for granted.
DRAWN = np.random.default_rng(7).gamma(2.0, 20.0, 400)
NAMES: Mapping[str, Mapping[str, object]] = {
    "effects.md": {
        "sales": DRAWN + np.random.default_rng(8).gamma(1.0, 10.0, 400),
        "sales_before": DRAWN,
        "treated": np.arange(400) % 2 == 0,
    }
}

# Python that is executed elsewhere: the page, and what the block holds.
CODE_ELSEWHERE: Mapping[tuple[str, str], str] = {
    ("extending.md", "class Ease"): "tests/docs/test_extending.py::test_it_keeps_the_contract",
    ("extending.md", "Popularity, ItemItem, Als, Ease"): (
        "tests/docs/test_extending.py::test_it_keeps_the_contract"
    ),
    ("analyst", '"az://'): "tests/demo_azure.py: read_published(",
}


def planned(table: Mapping[str, str], command: Command) -> str | None:
    """Return what a table says of a command; None where it says nothing."""
    return next((said for p, said in table.items() if re.fullmatch(p, command.text)), None)


def instead(command: Command) -> str:
    """Return a command as it is executed."""
    text = command.text
    for pattern, given in INSTEAD:
        text = re.sub(pattern, given, text)
    return text


def exists(place: str) -> bool:
    """Tell whether a test, or a line of a file, is there."""
    if "::" in place:
        file, _, name = place.partition("::")
        wanted = rf"^ *def {re.escape(name)}\("
    else:
        file, _, name = place.partition(": ")
        wanted = re.escape(name)
    path = Path(ROOT / file)
    return path.exists() and re.search(wanted, path.read_text("utf-8"), re.MULTILINE) is not None
