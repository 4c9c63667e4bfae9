"""Command lines: exit codes, and one line a reader can act on."""

from collections.abc import Callable

import pytest
from pydantic import Field

from recsys import cli
from recsys.config import Config
from recsys.errors import DataError, PublishError, UsageError


class Brew(Config):
    """What the tests run."""

    cups: int = Field(ge=1, description="how many, 100 % full")
    tea: str | None = Field("green", description="which")
    water_heat: int = Field(80, description="degrees")


def run(
    capsys: pytest.CaptureFixture[str], step: Callable[[Brew], object], *arguments: str
) -> tuple[int, str]:
    """Run a step that stops; return its exit code and what it wrote to standard error."""
    with pytest.raises(SystemExit) as stopped:
        cli.run(step, Brew, "Brew tea.", "brew", arguments)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, capsys.readouterr().err


def failing(error: BaseException) -> Callable[[Brew], object]:
    def step(config: Brew) -> None:
        raise error

    return step


@pytest.fixture(autouse=True)
def no_trace_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_TRACEBACK", raising=False)


def test_the_step_gets_its_configuration() -> None:
    given: list[Brew] = []
    cli.run(given.append, Brew, None, "brew", ["--cups", "3", "--tea", "mint"])
    assert given == [Brew(cups=3, tea="mint")]


@pytest.mark.parametrize("option", ["--water_heat", "--water-heat"])
@pytest.mark.parametrize("joined", [True, False])
def test_hyphens_in_an_option_are_the_same_as_underscores(option: str, joined: bool) -> None:
    given: list[Brew] = []
    value = [f"{option}=95"] if joined else [option, "95"]
    cli.run(given.append, Brew, None, "brew", ["--cups", "1", *value])
    assert given == [Brew(cups=1, water_heat=95)]


def test_hyphens_in_a_value_stay() -> None:
    given: list[Brew] = []
    cli.run(given.append, Brew, None, "brew", ["--cups=1", "--tea=--earl-grey"])
    cli.run(given.append, Brew, None, "brew", ["--cups", "1", "--tea", "earl-grey"])
    assert [brew.tea for brew in given] == ["--earl-grey", "earl-grey"]


@pytest.mark.parametrize("value", ["", "none", "None"])
def test_an_empty_value_and_none_leave_the_default(value: str) -> None:
    given: list[Brew] = []
    cli.run(given.append, Brew, None, "brew", ["--cups", "1", "--tea", value])
    assert given == [Brew(cups=1)]


def test_a_wrong_value_exits_2_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, failing(AssertionError("not reached")), "--cups", "0")
    assert code == 2
    assert text == (
        "error: brew: cups='0' is not usable: input should be greater than or equal to 1.\n"
    )


@pytest.mark.parametrize("arguments", [["--cups", "1", "--sugar", "2"], ["--tea", "mint"]])
def test_an_unknown_or_missing_parameter_exits_2_and_is_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, text = run(capsys, failing(AssertionError("not reached")), *arguments)
    assert code == 2
    last = text.splitlines()[-1]
    assert "--sugar" in last or "--cups" in last
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("Mend it."), 2), (DataError("Mend it."), 1), (PublishError("Mend it."), 1)],
)
def test_an_error_of_the_project_is_one_line_and_its_exit_code(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    assert run(capsys, failing(error), "--cups", "1") == (code, "error: Mend it.\n")


def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, text = run(capsys, failing(KeyError("pot\nand more")), "--cups", "1")
    assert code == 1
    assert text.count("\n") == 1
    assert text.startswith("error: brew failed unexpectedly (KeyError: ")
    assert "--traceback" in text


def test_an_unexpected_error_without_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, failing(ZeroDivisionError()), "--cups", "1")
    assert (code, text.count("\n")) == (1, 1)
    assert "(ZeroDivisionError: ZeroDivisionError)" in text


@pytest.mark.parametrize("error", [KeyError("pot"), DataError("Mend it.")])
def test_the_stack_trace_is_shown_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _, text = run(capsys, failing(error), "--cups", "1", "--traceback")
    assert "Traceback (most recent call last)" in text
    monkeypatch.setenv("RECSYS_TRACEBACK", "1")
    _, text = run(capsys, failing(error), "--cups", "1")
    assert "Traceback (most recent call last)" in text


def test_an_interrupted_step_exits_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, failing(KeyboardInterrupt()), "--cups", "1") == (130, "stopped.\n")


def test_help_shows_descriptions_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.run(failing(AssertionError("not reached")), Brew, "Brew tea.", "brew", ["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "Brew tea." in text
    assert "how many, 100 % full" in text
    assert "which (default: green)" in text


@pytest.mark.parametrize("kind", [DataError, ValueError])
def test_no_secret_is_told_not_even_in_a_trace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    monkeypatch.setenv("TEA_PASSWORD", "canary-1")
    error = kind("canary-1 does not open http://anna:canary-2@tea.example/pot")
    _, told = run(capsys, failing(error), "--cups", "1", "--traceback")
    assert "Traceback" in told and "*** does not open http://tea.example/pot" in told
    assert "canary" not in told
