"""YAML files as typed objects; the cases of params.yaml are in test_params.py and stages/test_bad_input.py."""

from pathlib import Path

import pytest
from pydantic import Field

from digits.core import config
from digits.core.errors import UserError


class Inner(config.Section):
    rate: float = 0.0


class Small(config.Section):
    count: int = Field(ge=1)
    names: list[str] = Field(default=[])
    inner: Inner | None = None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "small.yaml"


@pytest.fixture(params=[config.parse_fast, config.parse_like_dvc])
def parse(request: pytest.FixtureRequest) -> config.Parser:
    parser: config.Parser = request.param
    return parser


def refused(path: Path, parse: config.Parser) -> str:
    """Return the message for a file that is refused, without the path."""
    with pytest.raises(UserError) as caught:
        config.read(path, Small, parse)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


def test_a_file_becomes_a_typed_object(path: Path, parse: config.Parser) -> None:
    path.write_text("count: 3 # of them\nnames: [a, 'b']\ninner: {rate: 0.5}\n", "utf-8")
    assert config.read(path, Small, parse) == Small(count=3, names=["a", "b"], inner=Inner(rate=0.5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count: 0\n", "count is 0: it must be greater than or equal to 1"),
        ("count: 1.5\n", "count is 1.5: it must be a whole number"),
        ("count: 1\nnames: [a, 2]\n", "names[1] is 2: it must be a string"),
        ("names: [a]\n", "count is missing"),
        ("count: 1\ninner: 1\n", "inner is 1: it must be a dictionary"),
        ("count: 1\ninner: {rat: 1.0}\n", "inner.rat is an unknown key; did you mean rate?"),
        ("count: 1\ninner: {zzz: 1.0}\n", "inner.zzz is an unknown key; the known keys are rate"),
        ("cuont: 1\n", "cuont is an unknown key; did you mean count? (and 1 more)"),
    ],
)
def test_a_mistake_names_the_key_the_value_and_what_is_allowed(
    path: Path, parse: config.Parser, text: str, message: str
) -> None:
    path.write_text(text, "utf-8")
    assert refused(path, parse) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping with the keys count, names, inner"),
        ("count: [", "line "),
        ("count: \x00", "is not valid YAML: "),
        ("!!python/object/apply:os.system [id]", "line 1, column 1: could not determine a constructor"),
        ("x: *nowhere\n", "line 1, column 4: found undefined alias"),
        ("a: ä\n", "is not UTF-8 at byte 3"),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_refused_in_one_line(
    path: Path, parse: config.Parser, text: str, message: str
) -> None:
    path.write_text(text, "latin-1")
    assert refused(path, parse).startswith(message)


def test_a_message_is_printable_whatever_the_file_contains(path: Path, parse: config.Parser) -> None:
    path.write_text('count: 1\n"na\\a\\nmes": []\n', "utf-8")
    assert refused(path, parse) == "na mes is an unknown key; did you mean names?"
    path.write_text(f"count: 0x{'f' * 5000}\nnames: 1\n", "utf-8")
    assert refused(path, parse).startswith("names is 1: it must be a list")
    path.write_text(f"count: 1\nnames: 0x{'f' * 5000}\n", "utf-8")
    assert refused(path, parse) == "names is a number too long to show: it must be a list"
    path.write_text(f"count: 1\n{'k' * 1000}: 1\n", "utf-8")
    assert len(refused(path, parse)) == config.MAX_MESSAGE


def test_a_file_longer_than_the_limit_is_refused(path: Path, parse: config.Parser) -> None:
    text = "count: 1\n"
    path.write_text(text + "#" * (config.MAX_BYTES - len(text)), "utf-8")
    assert config.read(path, Small, parse).count == 1
    path.write_text(text + "#" * (config.MAX_BYTES + 1 - len(text)), "utf-8")
    assert refused(path, parse) == "is longer than the 131,072 bytes allowed"


def test_a_missing_file_is_refused(path: Path, parse: config.Parser) -> None:
    advice = f"type `git checkout {path}` to get the committed one"
    assert refused(path, parse) == f"cannot be read (No such file or directory): {advice}"


@pytest.mark.parametrize(
    ("text", "message"),
    [("[" * 1000, "is nested too deeply"), ("count: 1\ncount: 2\n", "line 2, column 1: found duplicate key")],
)
def test_the_parser_of_dvc_refuses_what_dvc_refuses(path: Path, text: str, message: str) -> None:
    path.write_text(text, "utf-8")
    assert refused(path, config.parse_like_dvc).startswith(message)


def test_the_parser_of_dvc_reads_yaml_1_2(path: Path) -> None:
    path.write_text("count: 1\nnames: [no, on]\ninner: {rate: 1e-3}\n", "utf-8")
    assert config.read(path, Small, config.parse_like_dvc) == Small(count=1, names=["no", "on"], inner=Inner(rate=1e-3))
