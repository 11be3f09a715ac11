"""params.yaml as typed, checked objects.

It is read by ruamel.yaml in safe mode, as DVC reads it, so that both see the same values (YAML 1.2: `1e-3` is a number,
`no` is a word, a key given twice is an error).
"""

import difflib
import re
import reprlib
import warnings
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning
from ruamel.yaml.nodes import MappingNode

from digits.errors import UserError
from digits.idx import SIDE

NPM = re.compile(r"npm:(?P<package>(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*@[0-9][0-9A-Za-z.+-]*)")
ERRORS = "-errors"  # metrics/variants/<variant>-errors.json stands beside <variant>.json
LONGEST = 1 << 17  # bytes of a YAML file: fifteen times the longest that is here
LONGEST_LINE = 500  # characters of a message
MOST_KEYS = 500  # of a mapping, those merged into it counted each time
SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):")


def _source(source: str) -> str:
    scheme = SCHEME.match(source)
    match scheme and scheme["scheme"]:
        case "http" | "https" | "file" if _is_url(source):
            return source
        case None if source and source.isprintable() and not source.startswith("-"):
            return source
        case "npm" if NPM.fullmatch(source):
            return source
    raise PydanticCustomError("source", "it must be http(s)://…, file:…, a folder, or npm:<package>@<version>")


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return url.isprintable() and bool(parts.path if parts.scheme == "file" else parts.hostname) and parts.port != 0
    except ValueError:  # brackets around no IPv6 address, a port over 65535
        return False


def _name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", name) or name.endswith(ERRORS):
        raise PydanticCustomError(
            "name",
            "a variant's name must be 1 to 64 of a-z, 0-9 and inner hyphens, and not end with {end}",
            {"end": ERRORS},
        )
    return name


Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, AfterValidator(_name)]  # a path, a shell word, a DVC stage
Source = Annotated[str, AfterValidator(_source)]


class Section(BaseModel):
    """A mapping of params.yaml: nothing unknown, nothing converted, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Kind = TypeVar("Kind", bound=Section)


class FileSpec(Section):
    """The one content that a downloaded file may have, uncompressed."""

    bytes: Annotated[int, Field(ge=1, le=2**31)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Files(Section):
    """The four IDX files of MNIST, under the names that its publishers gave them."""

    train_images: FileSpec = Field(alias="train-images-idx3-ubyte")
    train_labels: FileSpec = Field(alias="train-labels-idx1-ubyte")
    test_images: FileSpec = Field(alias="t10k-images-idx3-ubyte")
    test_labels: FileSpec = Field(alias="t10k-labels-idx1-ubyte")

    def by_name(self) -> dict[str, FileSpec]:
        """Return what each file must hold, by its name on disk, in the order above."""
        return {str(field.alias): getattr(self, name) for name, field in type(self).model_fields.items()}


class Download(Section):
    """Where the data comes from."""

    sources: Annotated[list[Source], Field(min_length=1)]
    timeout: Annotated[float, Field(gt=0, le=3600)]  # seconds, for one request with its whole answer
    retries: Annotated[int, Field(ge=0, le=10)]
    files: Files


class Preprocess(Section):
    """How the 60,000 published training images are split."""

    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


class Train(Section):
    """What all variants' training has in common."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    grid: list[Annotated[int, Field(ge=1)]] | None  # epochs to keep and evaluate; null: every one
    seed: Seed
    threads: Annotated[int, Field(ge=1, le=256)]  # of TensorFlow: another number gives other last digits

    @model_validator(mode="after")
    def _grid(self) -> Self:
        if self.grid is not None:
            ascending = self.grid == sorted(set(self.grid))
            if not self.grid or not ascending or self.grid[-1] != self.epochs:
                raise PydanticCustomError(
                    "grid", "grid must be null, or ascend and end with epochs, {epochs}", {"epochs": self.epochs}
                )
        return self

    @property
    def epoch_grid(self) -> list[int]:
        """The epochs whose weights are kept and evaluated, ascending; the last is `epochs`."""
        return self.grid if self.grid is not None else list(range(1, self.epochs + 1))


class Evaluate(Section):
    """How the test results are summed up."""

    calibration_bins: Annotated[int, Field(ge=2, le=1000)]


class Analyze(Section):
    """What the error analysis shows."""

    images: Annotated[int, Field(ge=1, le=100)]  # of the most confident mistakes


class Optimizer(Section):
    """A Keras optimizer, and its learning rate as a function of the step alone, never of the length of the run."""

    name: Literal["sgd", "adam"]
    learning_rate: Annotated[float, Field(gt=0, le=100)]
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # what the learning rate is multiplied by over each epoch
    ema_momentum: Annotated[float, Field(gt=0, lt=1)] | None = None  # keep and evaluate the weights' moving average


class Convolution(Section):
    """A convolution without padding, ReLU, and max-pooling; lengths in pixels along one edge."""

    filters: Annotated[int, Field(ge=1, le=1024)]
    kernel: Annotated[int, Field(ge=1, le=SIDE)]
    stride: Annotated[int, Field(ge=1, le=SIDE)] = 1
    pool: Annotated[int, Field(ge=1, le=SIDE)] = 1


class Distortion(Section):
    """How far each training image is distorted at random about its middle, at most."""

    rotate: Annotated[float, Field(ge=0, le=180)]  # degrees, either way
    zoom: Annotated[float, Field(ge=0, le=0.5)]  # each axis is stretched to 1 - zoom … 1 + zoom times its length
    shear: Annotated[float, Field(ge=0, le=1)]  # pixels sideways for each pixel down, either way


class Model(Section):
    """A variant: its network and its protocol of training."""

    normalize: bool  # scale pixels from 0..255 to 0..1
    validation: bool  # hold the validation split out; false: train on it too
    convolutions: list[Convolution] = []
    units: list[Annotated[int, Field(ge=1, le=65536)]]  # of each hidden dense layer
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of what reaches the first dense layer, while training
    loss: Literal["categorical_crossentropy", "sparse_categorical_crossentropy"]
    optimizer: Optimizer
    batch_size: Annotated[int, Field(ge=1, le=60_000)]
    shift: Annotated[int, Field(ge=0, le=8)] = 0  # pixels: each training image is moved at random by at most as many
    distortion: Distortion | None = None

    @field_validator("convolutions")
    @classmethod
    def _fits(cls, convolutions: list[Convolution]) -> list[Convolution]:
        side = SIDE
        for index, layer in enumerate(convolutions):
            after = ((side - layer.kernel) // layer.stride + 1) // layer.pool
            if layer.kernel > side or after < 1:
                raise PydanticCustomError(
                    "layer",
                    "[{index}] has kernel {kernel}, stride {stride} and pool {pool}, which leave nothing of the "
                    "{side}x{side} pixels that reach it: kernel + stride * (pool - 1) must be at most {side}",
                    {"index": index, "side": side} | layer.model_dump(),
                )
            side = after
        return convolutions


class Params(Section):
    """The whole of params.yaml."""

    variants: Annotated[list[Name], Field(min_length=1)]
    download: Download
    preprocess: Preprocess
    train: Train
    evaluate: Evaluate
    analyze: Analyze
    models: dict[Name, Model]

    @model_validator(mode="after")
    def _variants(self) -> Self:
        for index, variant in enumerate(self.variants):
            if variant not in self.models:
                raise PydanticCustomError(
                    "variant",
                    "variants[{index}] is '{variant}', for which there is no entry under models: {known} are there",
                    {"index": index, "variant": variant, "known": ", ".join(self.models) or "none"},
                )
            if variant in self.variants[:index]:
                raise PydanticCustomError(
                    "variant",
                    "variants[{index}] is '{variant}', which is there already: name each once",
                    {"index": index, "variant": variant},
                )
        return self

    def model(self, variant: str) -> Model:
        """Return a variant's model; raise UserError where there is none of the name."""
        if variant not in self.models:
            raise UserError(f"'{variant}' has no entry under models: {', '.join(self.models)} are there")
        return self.models[variant]


def load(path: Path) -> Params:
    """Read and check params.yaml; raise UserError as `read` does."""
    return read(path, Params)


def read(path: Path, kind: type[Kind]) -> Kind:
    """Read and check a YAML file.

    Args:
        path: the file.
        kind: the section that the whole of it is.

    Raises:
        UserError: it is missing, is not YAML, or a value in it is not allowed; the text names the key, the value and
            what is allowed.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): run digits in the folder that holds it") from None
    if len(text) > LONGEST:
        raise UserError(f"{path}: is longer than the {LONGEST:,} bytes allowed")
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ReusedAnchorWarning)  # DVC, which parses in C, refuses it too
            content = yaml.load(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 at byte {error.start}") from None
    except Exception as error:  # ruamel.yaml raises KeyError for `!!bool x`, and documents no set
        raise UserError(f"{path}: {_line(_yaml_reason(error))}") from None
    if yaml.version is not None:
        raise UserError(f"{path}: must not have a %YAML directive, which DVC passes over: take it out")
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a mapping with the keys {', '.join(kind.model_fields)}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        # An unknown key is most often the misspelt one that is reported missing beside it.
        first, *others = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(f"{path}: {_line(_reason(first, kind))}{more}") from None


def schema() -> dict[str, Any]:
    """Return the JSON schema of params.yaml, by which editors complete and check it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}


class _Constructor(SafeConstructor):
    """ruamel.yaml's own, with an end to merge keys: each `<<: [*a, *a]` doubles `a`, time and again."""

    def flatten_mapping(self, node: MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST_KEYS:
            problem = f"a mapping has more than {MOST_KEYS} keys, with all that are merged into it"
            raise ConstructorError(None, None, problem, node.start_mark)


def _yaml_reason(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, ReusedAnchorWarning):  # which goes on with what stands around both, over eight lines
        return str(error).strip().splitlines()[0]
    return f"is not valid YAML: {error}"


def _reason(error: ErrorDetails, kind_of_file: type[Section]) -> str:
    """Return one line for one of pydantic's errors: key, value, what is allowed."""
    location, kind = error["loc"], error["type"]
    key = _dotted(location)
    match kind:
        case "extra_forbidden":
            known = _keys_at(location[:-1], kind_of_file)
            close = difflib.get_close_matches(str(location[-1]), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known there: {', '.join(known)}"
            return f"{key} is an unknown key; {hint}"
        case "missing":
            return f"{key} is missing"
        case "source" | "name":
            return f"{key} is {_short(error['input'])}: {error['msg']}"
        case "layer":
            return f"{key}{error['msg']}"
        case "grid":
            return f"{key}.{error['msg']}; it is {_short(error['input']['grid'])}"
        case "variant":
            return error["msg"]
        case "string_pattern_mismatch":
            return f"{key} is {_short(error['input'])}: it must be 64 hexadecimal digits in lower case"
    text = (
        error["msg"]
        .replace("Input should be", "it must be")
        .replace("valid ", "")
        .replace("a integer", "a whole number")
    )
    text = text.replace("List should have at least 1 item after validation, not 0", "it must name at least one")
    return f"{key} is {_short(error['input'])}: {text[0].lower()}{text[1:]}"


def _dotted(location: tuple[int | str, ...]) -> str:
    key = ""
    for part in location:
        if part == "[key]":  # pydantic's word for the key of a mapping; the key itself stands before it
            continue
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key


def _line(text: str) -> str:
    """Return a text, with what a file has in it, as one printable line of bounded length."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(line.split())[:LONGEST_LINE]


_REPR = reprlib.Repr()
_REPR.maxlevel = 2  # at six, the default, aliases of aliases make a text without end


def _short(value: Any) -> str:
    try:
        return _REPR.repr(value)
    except ValueError:  # `0x` and thousands of digits, for which Python writes no decimal number
        return "a number too long to be shown"


def _keys_at(location: tuple[int | str, ...], section: Any) -> list[str]:
    """Return the keys that a file may have at a location."""
    for part in location:
        if items := get_args(section):  # a list's or a mapping's
            section = items[-1]
        else:
            fields = {field.alias or name: field for name, field in section.model_fields.items()}
            section = fields[str(part)].annotation
        if NoneType in get_args(section):  # what may be null
            section = get_args(section)[0]
    return [field.alias or name for name, field in section.model_fields.items()]
