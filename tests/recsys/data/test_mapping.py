"""Mappings: presets, a user's own file, and what is refused."""

from pathlib import Path

import pytest

from recsys.data.mapping import Mapping, presets
from recsys.data.reasons import Reason
from recsys.errors import DataError, UsageError

MINIMAL = """
version: 1
customer_id: who
item_id: what
basket_id: receipt
timestamp: [when, at]
quantity: units
unit_price: price
"""


def written(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text)
    return str(path)


def test_presets_load_and_have_distinct_digests() -> None:
    assert presets() == ["online_retail", "simulated"]
    assert len({Mapping.load(name).digest for name in presets()}) == 2


def test_every_key_counts_in_the_digest(tmp_path: Path) -> None:
    before = Mapping.load(written(tmp_path, MINIMAL)).digest
    assert Mapping.load(written(tmp_path, MINIMAL)).digest == before
    assert Mapping.load(written(tmp_path, MINIMAL + "max_quantity: 7\n")).digest != before


def test_an_unknown_name_lists_the_presets() -> None:
    with pytest.raises(
        UsageError, match=r"no mapping 'nope': give one of online_retail, simulated"
    ):
        Mapping.load("nope")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_quantities: 3", "unknown parameter 'max_quantities'"),
        ("cancellation: '('", "not a regular expression"),
        ("time_zone: Europe/Nowhere", "not a time zone"),
        ("fail_share: 2", "less than or equal to 1"),
        ("fail_share_of: {no_such_reason: 0.1}", "no_such_reason"),
        ("max_quantity: 0", "greater than 0"),
    ],
)
def test_wrong_keys_and_values_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Mapping.load(written(tmp_path, MINIMAL + line + "\n"))


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a YAML mapping"):
        Mapping.load(written(tmp_path, "- a\n- b\n"))


def test_the_first_name_that_is_present_is_bound(tmp_path: Path) -> None:
    mapping = Mapping.load(written(tmp_path, MINIMAL))
    columns = ["who", "what", "receipt", "at", "units", "price", "more"]
    assert mapping.bind(columns, "x")["timestamp"] == "at"
    assert mapping.bind(["when", *columns], "x")["timestamp"] == "when"
    assert "category" not in mapping.bind(columns, "x")


def test_missing_columns_are_named_with_those_present(tmp_path: Path) -> None:
    mapping = Mapping.load(written(tmp_path, MINIMAL))
    with pytest.raises(DataError, match=r"till.csv has no column what, when or at .*it has who, p"):
        mapping.bind(["who", "p", "receipt", "units", "price"], "till.csv")


def test_a_reason_may_have_a_limit_of_its_own(tmp_path: Path) -> None:
    mapping = Mapping.load(written(tmp_path, MINIMAL + "fail_share_of: {non_product: 0.5}\n"))
    assert mapping.limit(Reason.NON_PRODUCT) == 0.5
    assert mapping.limit(Reason.BAD_NUMBER) == mapping.fail_share == 0.05
