"""YAML files as typed, checked objects, with messages of one line.

params.yaml is read by ruamel.yaml, the parser that DVC uses, so that the code and DVC see the same values (YAML 1.2:
`1e-3` is a number, `no` is a string, a repeated key is an error). It is the pure Python parser, because the C parser
crashes the interpreter on deeply nested input. The other files are read by PyYAML's C loader.
"""

import difflib
import reprlib
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from digits.core.errors import UserError

MAX_BYTES = 1 << 17  # of a YAML file: fifteen times the longest in this repository
MAX_MESSAGE = 500  # characters

Parser = Callable[[str], Any]


class Section(BaseModel):
    """A mapping in a YAML file: no unknown keys, no conversion of types, immutable.

    A validator raises ValueError with what a message says after the key of what it has checked, as in " is 'x': it must
    be a name".
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Kind = TypeVar("Kind", bound=Section)


def parse_like_dvc(text: str) -> Any:
    """Parse YAML as DVC parses params.yaml."""
    return YAML(typ="safe", pure=True).load(text)


def parse_fast(text: str) -> Any:
    """Parse YAML with PyYAML's C loader, ten times as fast as `parse_like_dvc`."""
    return yaml.load(text, Loader=yaml.CSafeLoader)  # it is a safe loader


def read(path: Path, kind: type[Kind], parse: Parser = parse_fast) -> Kind:
    """Read and check a YAML file.

    Args:
        path: the file.
        kind: the section that the whole file is.
        parse: the parser.

    Raises:
        UserError: the file is missing, is not YAML, or contains a value that is not allowed; the message names the key,
            the value and what is allowed.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        advice = f"type `git checkout {path}` to get the committed one"
        raise UserError(f"{path}: cannot be read ({error.strerror}): {advice}") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: is longer than the {MAX_BYTES:,} bytes allowed")
    try:
        values = parse(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 at byte {error.start}") from None
    except Exception as error:  # ruamel.yaml raises KeyError for `!!bool x`, and documents no complete set
        raise UserError(f"{path}: {_one_line(_parse_error(error))}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a mapping with the keys {', '.join(kind.model_fields)}")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        # An unknown key is most often a misspelling of one that is reported as missing.
        first, *others = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(f"{path}: {_one_line(_describe(first, kind))}{more}") from None


def _parse_error(error: Exception) -> str:
    if isinstance(error, (MarkedYAMLError, yaml.MarkedYAMLError)) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return f"is not valid YAML: {error}"


def _describe(error: ErrorDetails, root: type[Section]) -> str:
    """Return one line for an error of pydantic: the key, the value and what is allowed."""
    location, key, value = error["loc"], _dotted(error["loc"]), error["input"]
    match error["type"]:
        case "value_error":  # of a validator, which has written the rest of the line
            return f"{key}{error['ctx']['error']}"
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden":
            known = _keys_at(location[:-1], root)
            close = difflib.get_close_matches(str(location[-1]), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"the known keys are {', '.join(known)}"
            return f"{key} is an unknown key; {hint}"
    text = (
        error["msg"]
        .partition(" or instance of ")[0]
        .replace("Input should be", "it must be")
        .replace("valid ", "")
        .replace("a integer", "a whole number")
        .replace("List should have at least 1 item after validation, not 0", "it must name at least one")
    )
    return f"{key} is {short_repr(value)}: {text[0].lower()}{text[1:]}"


def _dotted(location: tuple[int | str, ...]) -> str:
    key = ""
    for part in location:
        if part == "[key]":  # pydantic's mark for the key of a mapping, which precedes it
            continue
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key


def _one_line(text: str) -> str:
    """Return a text, which may quote a file, as one printable line of limited length."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(line.split())[:MAX_MESSAGE]


_REPR = reprlib.Repr()
_REPR.maxlevel = 2  # at the default of six, aliases of aliases make a text without end


def short_repr(value: Any) -> str:
    """Return a value of a file as text of limited length."""
    try:
        return _REPR.repr(value)
    except ValueError:  # `0x` and thousands of digits: Python writes no decimal number of that length
        return "a number too long to show"


def _keys_at(location: tuple[int | str, ...], section: Any) -> list[str]:
    """Return the keys that a file may have at a location."""
    for part in location:
        if items := get_args(section):  # the items of a list or a mapping
            section = items[-1]
        else:
            fields = {field.alias or name: field for name, field in section.model_fields.items()}
            section = fields[str(part)].annotation
        if NoneType in get_args(section):  # a value that may be null
            section = get_args(section)[0]
    return [field.alias or name for name, field in section.model_fields.items()]
