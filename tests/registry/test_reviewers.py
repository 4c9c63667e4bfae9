"""Who reviews: one key a person, one spelling a key."""

import base64
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recsys.errors import UsageError
from registry.review import KeyConfig, run_key
from registry.reviewers import (
    EIGHTH,
    PASSPHRASE,
    PRIME,
    SCHEME,
    Reviewers,
    make_key,
    public_part,
    read_key,
)
from registry.rulebook import read_reviewers

KEY, OTHER = (public_part(Ed25519PrivateKey.from_private_bytes(n * 32)) for n in (b"a", b"b"))
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def people(**keys: str) -> Reviewers:
    return Reviewers.checked({"reviewers": {n: {"keys": [k]} for n, k in keys.items()}}, "test")


def encoded(y: int, sign: int) -> str:
    """Write a point as a public key (RFC 8032, 5.1.2)."""
    return SCHEME + base64.b64encode((y | sign << 255).to_bytes(32, "little")).decode()


def test_two_people_cannot_have_one_key() -> None:
    with pytest.raises(UsageError, match="anna and bert have the same key"):
        people(anna=KEY, bert=KEY)


def test_a_key_has_one_spelling() -> None:
    """The last digit before the padding has two bits that say nothing."""
    last = BASE64[BASE64.index(KEY[-2]) ^ 1]
    again = f"{KEY[:-2]}{last}="
    assert base64.b64decode(again[8:]) == base64.b64decode(KEY[8:])
    with pytest.raises(UsageError, match="is no public key"):
        people(anna=KEY, ghost=again)


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", [0, 1, PRIME - 1, EIGHTH, PRIME - EIGHTH, PRIME, PRIME + 1])
def test_a_key_that_is_everybodys_is_refused(y: int, sign: int) -> None:
    with pytest.raises(UsageError, match="is no public key"):
        people(ghost=encoded(y, sign))


def test_the_points_of_order_eight_are_those() -> None:
    """On the curve (RFC 8032, 5.1), and three doublings lead to the neutral point."""
    d = -121665 * pow(121666, -1, PRIME) % PRIME
    for y in (EIGHTH, PRIME - EIGHTH):
        # A doubled point's y is (y² + x²) / (2 - y² + x²), where x² = (y² - 1) / (d y² + 1).
        for _ in range(3):
            x2 = (y * y - 1) * pow(d * y * y + 1, -1, PRIME)
            y = (y * y + x2) * pow(2 - y * y + x2, -1, PRIME) % PRIME
        assert y == 1


@pytest.mark.parametrize("other", ["Anna", "anna ", "ａnna"])
def test_two_people_cannot_have_one_name(other: str) -> None:
    with pytest.raises(UsageError, match="are one name: change one"):
        people(**{"anna": KEY, other: OTHER})


def test_a_person_stands_in_the_file_once(tmp_path: Path) -> None:
    file = tmp_path / "reviewers.yaml"
    file.write_text(f"reviewers:\n  anna: {{keys: ['{KEY}']}}\n  anna: {{keys: ['{OTHER}']}}\n")
    with pytest.raises(UsageError, match="says anna twice: leave one of them"):
        read_reviewers(str(file))


@pytest.mark.parametrize("name", ["../../evil: x", "a/b", "", ".hidden", "anna\n"])
def test_a_key_lies_where_keys_lie(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "anna"))
    for file in (None, str(tmp_path / "key.pem")):
        with pytest.raises(UsageError, match="use letters, digits"):
            run_key(KeyConfig(reviewer=name, file=file))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["anna", "anna@shop.example", "yes", "007"])
def test_what_key_prints_is_an_entry_for_the_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = run_key(KeyConfig(reviewer=name, file=str(tmp_path / "key.pem")))
    entry = capsys.readouterr().out.split("\n\n")[1]
    assert entry.startswith(f"  {name}:") or name in ("yes", "007")
    found = Reviewers.checked({"reviewers": yaml.safe_load(entry)}, "test")
    assert found.person_of(public) == name


def test_a_key_must_be_a_key() -> None:
    with pytest.raises(UsageError, match="is no public key"):
        people(anna="ed25519:short")


def test_a_key_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "anna.pem"
    make_key(file)
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="is there already: a key is never replaced"):
        make_key(file)
    file.chmod(0o644)
    with pytest.raises(UsageError, match="Others may read the key"):
        read_key(file)


def test_a_key_may_have_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "anna.pem"
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    public = make_key(file)
    assert public_part(read_key(file)) == public
    monkeypatch.setenv(PASSPHRASE, "wrong horse")
    with pytest.raises(UsageError, match="the passphrase is wrong"):
        read_key(file)
    monkeypatch.delenv(PASSPHRASE)
    with pytest.raises(UsageError, match=f"set or unset {PASSPHRASE}"):
        read_key(file)
