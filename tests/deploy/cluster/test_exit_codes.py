import pytest

from deploy.cluster.exit_codes import meaning


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "done"),
        (2, "a parameter is wrong"),
        (3, "refused by an audit; the previous table stands"),
        (137, "killed: out of memory, or the node went away"),
        (139, "killed by signal 11"),
        (75, "no worker came in time"),
        (42, "failed"),
        (None, "never started, or ended without an exit code"),
    ],
)
def test_an_exit_code_is_told_in_words(code: int | None, words: str) -> None:
    assert meaning(code) == words
