"""The table of the proof: it says what was found, in every form."""

import json
from pathlib import Path

import pytest

from benchmarks.effects import main, picture, report
from benchmarks.known_effects import Line, Planned, Ratios

LINE = Line("sales a customer", "CUPED", 2_000, 0.1, 2.0, 2.1, 0.951, 0.02, 0.029, 0.049, 0.5)


def test_the_report_shows_each_line() -> None:
    text = "\n".join(
        report(
            [LINE],
            [Planned("sales a customer", "Welch", 0.1, 900, 0.8, 0.79)],
            [Ratios(0.5, 676_174, 0.8, 0.81, 0.001)],
            1_000,
        )
    )
    assert "| 2,000 | 10% | sales a customer | CUPED | 2.0000 | 2.1000 | **95.1%** |" in text
    assert "± 1.4%" in text
    assert "+10.0% | 900 | 80% | 79.0%" in text
    assert "676,174 | 80% | 81.0% | 0.10%" in text


def test_the_picture_shows_shares_of_each_metric() -> None:
    left, right = picture([LINE], 1_000).axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["sales a customer, CUPED"]
    (point,) = left.containers[0].lines[0].get_xdata()
    assert point == pytest.approx(95.1)
    assert "A/A" in right.get_title()


@pytest.mark.slow
def test_the_command_writes_table_numbers_and_picture(tmp_path: Path) -> None:
    main(["--experiments", "10", "--customers", "1000", "--output", str(tmp_path)])
    found = json.loads((tmp_path / "effects.json").read_text())
    assert len(found["lines"]) == 3 * 7
    assert len(found["plans"]) == 4
    assert (tmp_path / "effects.md").read_text().count("\n| ") > 20
    assert (tmp_path / "effects.png").stat().st_size > 10_000
