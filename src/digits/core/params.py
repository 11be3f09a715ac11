"""The schema of params.yaml: every parameter with its type and the values allowed."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from digits.core import config
from digits.core.config import Section, short_repr
from digits.core.errors import UserError
from digits.core.images import CLASSES, SIDE

NPM = re.compile(r"npm:(?P<package>(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*@[0-9][0-9A-Za-z.+-]*)")
SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):")
SHA256 = "^[0-9a-f]{64}$"
LABELS_HEADER = 8  # bytes of an IDX file of labels, before a byte for each
ERRORS = "-errors"  # metrics/variants/<variant>-errors.json is beside <variant>.json

Value = TypeVar("Value", int, str)


def _source(source: str) -> str:
    scheme = SCHEME.match(source)
    match scheme and scheme["scheme"]:
        case "http" | "https" | "file" if _is_url(source):
            return source
        case None if source and source.isprintable() and not source.startswith("-"):
            return source
        case "npm" if NPM.fullmatch(source):
            return source
    allowed = "http(s)://…, file:…, a folder, or npm:<package>@<version>"
    raise ValueError(f" is {short_repr(source)}: it must be {allowed}")


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return url.isprintable() and bool(parts.path if parts.scheme == "file" else parts.hostname) and parts.port != 0
    except ValueError:  # brackets around something other than an IPv6 address, a port over 65535
        return False


def _name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", name) or name.endswith(ERRORS):
        raise ValueError(
            f" is {short_repr(name)}: the name of a variant must be 1 to 64 of a-z, 0-9 and inner hyphens, "
            f"and must not end with {ERRORS}"
        )
    return name


def _sha256(digest: str) -> str:
    if not re.fullmatch(SHA256, digest):
        raise ValueError(f" is {short_repr(digest)}: it must be 64 hexadecimal digits in lower case")
    return digest


def _distinct(values: list[Value]) -> list[Value]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"[{index}] is {value!r}, which the list already contains: name each once")
    return values


Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, AfterValidator(_name)]  # a path, a shell word, a DVC stage
Source = Annotated[str, AfterValidator(_source)]
Sha256 = Annotated[str, AfterValidator(_sha256), Field(json_schema_extra={"pattern": SHA256})]


class FileSpec(Section):
    """The size and the checksum of a downloaded file, uncompressed."""

    bytes: Annotated[int, Field(ge=1, le=2**31)]
    sha256: Sha256


class Files(Section):
    """The four IDX files of MNIST, under their published names."""

    train_images: FileSpec = Field(alias="train-images-idx3-ubyte")
    train_labels: FileSpec = Field(alias="train-labels-idx1-ubyte")
    test_images: FileSpec = Field(alias="t10k-images-idx3-ubyte")
    test_labels: FileSpec = Field(alias="t10k-labels-idx1-ubyte")

    def by_name(self) -> dict[str, FileSpec]:
        """Return the size and checksum of each file by its name on disk, in the order above."""
        return {str(field.alias): getattr(self, name) for name, field in type(self).model_fields.items()}


class DownloadSettings(Section):
    """Where the data comes from."""

    sources: Annotated[list[Source], Field(min_length=1)]
    timeout: Annotated[float, Field(gt=0, le=3600)]  # seconds for a source to send a file
    retries: Annotated[int, Field(ge=0, le=10)]
    files: Files


class PreprocessSettings(Section):
    """How the 60,000 published training images are split."""

    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


class TrainSettings(Section):
    """Training settings that all variants share."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    checkpoints: list[Annotated[int, Field(ge=1)]] | None  # epochs to save and evaluate; null: every epoch
    # A run for each, side by side.
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=100), AfterValidator(_distinct)]
    threads: Annotated[int, Field(ge=1, le=256)]  # of each run; another number changes the last digits of results

    @model_validator(mode="after")
    def _checkpoints(self) -> Self:
        if self.checkpoints is not None:
            ascending = self.checkpoints == sorted(set(self.checkpoints))
            if not self.checkpoints or not ascending or self.checkpoints[-1] != self.epochs:
                raise ValueError(
                    f".checkpoints must be null, or ascend and end with epochs, {self.epochs}; "
                    f"it is {short_repr(self.checkpoints)}"
                )
        return self

    @property
    def saved_epochs(self) -> list[int]:
        """The epochs whose weights are saved and evaluated, ascending; the last is `epochs`."""
        return self.checkpoints if self.checkpoints is not None else list(range(1, self.epochs + 1))


class Writers(Section):
    """QMNIST's table of who wrote each test image."""

    source: Annotated[str, Field(min_length=1)]  # a path or an http(s) URL
    sha256: Sha256  # of the file as it is stored


class EvaluateSettings(Section):
    """How the test results are summarized."""

    calibration_bins: Annotated[int, Field(ge=2, le=1000)]
    writers: Writers | None = None  # null: a fixed design effect for images by the same writer


class AnalyzeSettings(Section):
    """What the figure of the error analysis shows."""

    images: Annotated[int, Field(ge=1, le=100)]  # those that most seeds misclassify


class ReviewSettings(Section):
    """How two sides are compared."""

    margin: Annotated[float, Field(ge=0, le=100)] = 0.1  # percentage points: smaller differences count as equal


class OptimizerSettings(Section):
    """A Keras optimizer; its learning rate depends on the step alone, never on the length of the run."""

    name: Literal["sgd", "adam"]
    learning_rate: Annotated[float, Field(gt=0, le=100)]
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # factor on the learning rate over each epoch
    ema_momentum: Annotated[float, Field(gt=0, lt=1)] | None = None  # evaluate the moving average of the weights


class ConvolutionSettings(Section):
    """A convolution without padding, then ReLU and max-pooling; sizes in pixels along one edge."""

    filters: Annotated[int, Field(ge=1, le=1024)]
    kernel: Annotated[int, Field(ge=1, le=SIDE)]
    stride: Annotated[int, Field(ge=1, le=SIDE)] = 1
    pool: Annotated[int, Field(ge=1, le=SIDE)] = 1


class DistortionSettings(Section):
    """The largest random distortion of a training image about its centre."""

    rotate: Annotated[float, Field(ge=0, le=180)]  # degrees in either direction
    zoom: Annotated[float, Field(ge=0, le=0.5)]  # each axis is scaled by 1 - zoom to 1 + zoom
    shear: Annotated[float, Field(ge=0, le=1)]  # pixels sideways per pixel down, in either direction


class ModelSettings(Section):
    """A variant: its network and how it is trained."""

    normalize: bool  # scale pixels from 0..255 to 0..1
    validation: bool  # hold out the validation split; false: train on it, too
    convolutions: list[ConvolutionSettings] = Field(default=[])
    units: list[Annotated[int, Field(ge=1, le=65536)]]  # of each hidden dense layer
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the inputs of the first dense layer, while training
    loss: Literal["categorical_crossentropy", "sparse_categorical_crossentropy"]
    optimizer: OptimizerSettings
    batch_size: Annotated[int, Field(ge=1, le=60_000)]  # more than there are training images: all of them
    shift: Annotated[int, Field(ge=0, le=8)] = 0  # pixels: the largest random shift in each direction, while training
    distortion: DistortionSettings | None = None

    @field_validator("convolutions")
    @classmethod
    def _fits(cls, convolutions: list[ConvolutionSettings]) -> list[ConvolutionSettings]:
        side = SIDE
        for index, layer in enumerate(convolutions):
            after = ((side - layer.kernel) // layer.stride + 1) // layer.pool
            if layer.kernel > side or after < 1:
                raise ValueError(
                    f"[{index}] has kernel {layer.kernel}, stride {layer.stride} and pool {layer.pool}, but its input "
                    f"has only {side}x{side} pixels: kernel + stride * (pool - 1) must be at most {side}"
                )
            # With several threads, oneDNN's gradient writes outside its memory, which ends TensorFlow:
            # https://github.com/uxlfoundation/oneDNN/issues/6035
            if layer.kernel == 1 < layer.stride:
                raise ValueError(
                    f"[{index}] has kernel 1 and stride {layer.stride}, which TensorFlow may crash on: "
                    "set stride 1, or a kernel of at least 2"
                )
            side = after
        return convolutions


class Params(Section):
    """The whole of params.yaml."""

    variants: Annotated[list[Name], Field(min_length=1), AfterValidator(_distinct)]
    download: DownloadSettings
    preprocess: PreprocessSettings
    train: TrainSettings
    evaluate: EvaluateSettings
    analyze: AnalyzeSettings
    review: ReviewSettings = ReviewSettings()
    models: dict[Name, ModelSettings]

    @model_validator(mode="after")
    def _variants(self) -> Self:
        for index, variant in enumerate(self.variants):
            if variant not in self.models:
                known = ", ".join(self.models) or "none"
                raise ValueError(
                    f"variants[{index}] is '{variant}', which has no entry under models; the entries are {known}"
                )
        return self

    @model_validator(mode="after")
    def _split(self) -> Self:
        images = max(self.download.files.train_labels.bytes - LABELS_HEADER, 0)
        fraction = self.preprocess.validation_fraction
        held_out = math.ceil(fraction * images)  # as scikit-learn rounds
        if min(held_out, images - held_out) < CLASSES:
            raise ValueError(
                f"preprocess.validation_fraction is {fraction}: {held_out} of the {images} published training images "
                f"would be for validation, and {images - held_out} for training; each part needs at least {CLASSES}"
            )
        return self

    def model(self, variant: str) -> ModelSettings:
        """Return the settings of a variant; raise UserError if there are none."""
        if variant not in self.models:
            raise UserError(f"'{variant}' has no entry under models; the entries are {', '.join(self.models)}")
        return self.models[variant]


def load(path: Path) -> Params:
    """Read and check params.yaml; raise UserError as `config.read` does."""
    return config.read(path, Params, parse=config.parse_like_dvc)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of params.yaml, by which editors complete and check it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
