"""A text is cut where a statement ends, and nowhere else."""

import pytest

from deploy.sql.statements import all_of, is_empty, split


def test_a_semicolon_ends_a_statement() -> None:
    assert split("SELECT 1; SELECT 2 ;\nSELECT") == (["SELECT 1", "SELECT 2"], "\nSELECT")


@pytest.mark.parametrize("quoted", ["'a;b'", "'it''s;'", r"'\';'", '"a;b"', "`a;b`"])
def test_a_semicolon_in_quotes_ends_nothing(quoted: str) -> None:
    assert all_of(f"SELECT {quoted}; SELECT 2") == [f"SELECT {quoted}", "SELECT 2"]


@pytest.mark.parametrize("comment", ["-- one; it's\n", "/* one;\n it's */"])
def test_a_semicolon_or_quote_in_a_comment_ends_nothing(comment: str) -> None:
    assert all_of(f"SELECT 1 {comment}; SELECT 2") == [f"SELECT 1 {comment}".strip(), "SELECT 2"]


@pytest.mark.parametrize("text", ["SELECT 'a;", "SELECT /* a;", 'SELECT "a;', "SELECT `a;"])
def test_what_is_left_open_waits_for_its_end(text: str) -> None:
    assert split(text) == ([], text)


def test_comments_and_space_alone_are_no_statement() -> None:
    assert all_of(" ; -- nothing\n; /* ; */") == []
    assert is_empty("\n -- a\n")
    assert not is_empty("SELECT '-- a'")
