"""The history in words: text, HTML, Parquet, and the page of a release in MLflow say the same."""

import os
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from recsys.errors import RegistryError
from registry.history import HTML, SCHEMA, TABLE, HistoryConfig, as_html, as_text, rows_of
from registry.history import run_history as history
from registry.ledger import Ledger
from registry.promote import run_promote
from registry.releases import versions_of
from registry.rollback import run_rollback
from registry.told import GLANCED, NOBODY
from tests.registry.shop import Rules, candidate, rules
from tests.registry.test_promote import approve

NASTY = '<script>alert("1")</script> | a & b'
ROOT = Path(__file__).resolve().parents[2]
VOID = {"meta"}


@pytest.fixture
def given(mlflow_store: str, tmp_path: Path) -> Rules:
    """Two approved releases, and back to the first."""
    asked = rules(tmp_path / "rules", 1, "anna", "ben")
    for number, who in ((1, "anna"), (2, "ben")):
        version = candidate(number)
        approve(asked, version, who, comment=f"read dossier {number}")
        run_promote(asked.promote(version, reason=f"reason {number}"))
    run_rollback(asked.rollback(reviewer="anna", key=asked.keys["anna"], reason=NASTY))
    return asked


@dataclass(frozen=True)
class Page:
    """What a browser would see."""

    tags: list[str]
    text: str


def parsed(html: str) -> Page:
    """Read a page, whose tags must all be closed in order."""
    tags, open_tags, words = list[str](), list[str](), list[str]()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            if tag not in VOID:
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

        def handle_data(self, data: str) -> None:
            words.append(data)

    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not open_tags
    return Page(tags, " ".join(" ".join(words).split()))


def test_the_text_says_who_when_what_why_and_on_what_evidence(given: Rules) -> None:
    rows = rows_of("recommender")
    lines = as_text(rows).splitlines()
    assert [line.split("  ")[0] for line in lines[1::3]] == [
        row["time"][:16].replace("T", " ") for row in reversed(rows)
    ]
    what = [line.split("  ")[1].strip() for line in lines[1::3]]
    assert what == [
        "Production rolled back to version 1 (als), generation 3",
        "version 2 (als) promoted to Production, generation 2",
        "version 1 (als) promoted to Production, generation 1",
    ]
    column = lines[0].index("approved by")
    assert [line[column:].split("  ")[0] for line in lines[1::3]] == ["anna", "ben", "anna"]
    assert [line[lines[0].index("why") :] for line in lines[1::3]] == [
        NASTY,
        "reason 2",
        "reason 1",
    ]
    assert lines[5].strip().startswith("als beats popularity: ndcg_at_10 +0.0200")
    assert rows[1]["model_digest"][:12] in lines[6] and rows[1]["run_id"] in lines[6]


def test_the_page_says_the_same_and_nothing_that_people_typed_is_markup(given: Rules) -> None:
    html = as_html("recommender", rows_of("recommender"))
    page = parsed(html)
    assert "script" not in page.tags
    assert "http" not in html.replace("http-equiv", "")
    assert NASTY in page.text
    for row in rows_of("recommender"):
        for name in ("what", "reviewer", "approved_by", "comments", "decision", "digest", "run_id"):
            assert row[name] in page.text
        assert row["time"][:16].replace("T", " ") in page.text
        for one in row["evidence"].split("; "):
            assert one in page.text


FORGED = (
    "fine\r\x1b[2J\x1b]0;pwned\x07\n2026-01-01 00:00  version 9 (als) promoted to Production, "
    "generation 9  anna  anna, ben\u2028\u202eevil"
)


def test_what_people_typed_forges_no_line_and_steers_no_terminal(given: Rules) -> None:
    rows = [dict(row) | {"reason": FORGED, "reviewer": FORGED} for row in rows_of("recommender")]
    text, html = as_text(rows), as_html("recommender", rows)
    assert len(text.splitlines()) == 1 + 3 * len(rows)
    for written in (text, html):
        assert all(sign.isprintable() or sign == "\n" for sign in written)
    line = "fine [2J]0;pwned 2026-01-01 00:00 version 9 (als) promoted to Production, generation 9 "
    assert line + "anna anna, ben evil" in text and line in html


def test_a_long_reason_does_not_burst_the_table(given: Rules) -> None:
    rows = [dict(row) | {"reason": "x" * 5_000} for row in rows_of("recommender")]
    why = as_text(rows).splitlines()[1].partition("x")[2]
    assert len(why) == GLANCED - 1 and why.endswith("…")
    assert "x" * 5_000 in as_html("recommender", rows)


def test_of_a_refit_the_text_says_which_model_the_dossier_speaks_of(given: Rules) -> None:
    of = "version 2 of recommender-candidates, of which this model is a refit"
    rows = rows_of("recommender")
    assert "speaks of" not in as_text(rows)
    refit = dict(rows[-1]) | {"speaks_of": of}
    assert f"  the dossier speaks of {of}\n" in as_text([*rows[:-1], refit])
    assert as_text([refit]).count("speaks of") == 1


def test_the_newest_decision_stands_first_on_the_page(given: Rules) -> None:
    text = parsed(as_html("recommender", rows_of("recommender"))).text
    places = [text.index(f"generation {number} of Production") for number in (3, 2, 1)]
    assert places == sorted(places)


def test_the_table_is_typed_and_has_a_row_for_each_decision(given: Rules, tmp_path: Path) -> None:
    history(HistoryConfig(output=str(tmp_path / "out")))
    table = pq.read_table(tmp_path / "out" / TABLE)
    assert table.schema.equals(SCHEMA)
    assert table.column_names == list(rows_of("recommender")[0])
    times = [time.isoformat() for time in table.column("time").to_pylist()]
    assert times == [row["time"] for row in rows_of("recommender")]
    assert table.column("generation").to_pylist() == [1, 2, 3]
    assert table.column("action").to_pylist() == ["promote", "promote", "rollback"]
    assert table.column("version").to_pylist() == [1, 2, 1]
    assert table.column("reason").to_pylist() == ["reason 1", "reason 2", NASTY]
    assert table.column("comments").to_pylist()[1] == "ben: read dossier 2"
    digests = table.column("digest").to_pylist()
    assert table.column("predecessor").to_pylist() == [None, *digests[:-1]]
    assert parsed((tmp_path / "out" / HTML).read_text("utf-8")).text


def test_only_what_was_asked_for_is_told(given: Rules) -> None:
    staged = run_promote(given.promote(2, stage="Staging"))
    assert [row["version"] for row in rows_of("recommender", "staging")] == [staged.version]
    assert len(rows_of("recommender", "Production")) == 3
    assert [row["stage"] for row in rows_of("recommender")][-1] == "Staging"


def test_every_record_of_a_policy_without_approvals_says_so(mlflow_store: str) -> None:
    run_promote(rules(Path(mlflow_store[10:]).parent / "rules", 0).promote(candidate(1)))
    (row,) = rows_of("recommender")
    assert row["approved_by"] == NOBODY
    assert NOBODY in parsed(as_html("recommender", [row])).text


def test_nothing_promoted_is_said_in_words(
    mlflow_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert history(HistoryConfig(output=str(tmp_path / "out"))) == []
    assert "Nothing was ever promoted to recommender." in capsys.readouterr().out
    assert "Nothing was ever promoted." in (tmp_path / "out" / HTML).read_text("utf-8")
    assert pq.read_table(tmp_path / "out" / TABLE).schema.equals(SCHEMA)


def test_a_changed_ledger_has_no_history(given: Rules, tmp_path: Path) -> None:
    commit = tmp_path / "ledger" / "recommender" / "Production" / "_commits" / "00000001.json"
    commit.write_text(commit.read_text("utf-8").replace("reason 1", "reason 0"), "utf-8")
    with pytest.raises(RegistryError, match="The ledger of recommender, Production cannot be tru"):
        history(HistoryConfig())


def test_the_pages_of_releases_in_mlflow_say_the_same(given: Rules) -> None:
    shown = {int(v.version): v for v in versions_of("recommender")}
    generation = Ledger("recommender", "Production").history()[-1]
    back = "Production rolled back to version 1 (als) · by anna · approved by: anna · why: "
    escaped = r'\<script\>alert("1")\</script\> | a & b'
    second = "version 2 (als) promoted to Production · by rosa · approved by: ben · why: reason 2"
    first = second.replace("2", "1").replace("ben", "anna")
    for description in (shown[1].description, shown[2].description):
        assert description.index(back + escaped) < description.index(second)
    assert first in shown[1].description and first not in shown[2].description
    assert shown[1].tags["recsys.production.record"] == generation.digest
    assert shown[1].tags["recsys.production.approved_by"] == "anna"


def test_each_decision_logs_the_history_as_a_page(given: Rules) -> None:
    runs = mlflow.search_runs(filter_string="tags.`recsys.step` = 'rollback'", output_format="list")
    (run,) = runs
    page = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{HTML}")
    assert "generation 3 of Production" in parsed(page).text
    assert HTML in {f.path for f in MlflowClient().list_artifacts(run.info.run_id)}


def test_the_command_line_takes_hyphens(mlflow_store: str, tmp_path: Path) -> None:
    run_promote(rules(tmp_path / "rules", 0).promote(candidate(1, "shop"), model_name="shop"))
    done = subprocess.run(
        [sys.executable, "-m", "registry.history", "--model-name", "shop"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "version 1 (als) promoted to Production, generation 1" in done.stdout
