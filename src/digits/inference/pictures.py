"""Pictures of any common kind, upright and in eight-bit colours."""

import io
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from digits.core.artifacts import atomic_write
from digits.core.errors import UserError
from digits.core.images import MAX_PIXEL

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
STANDARD_INPUT = "-"
GROUND = 500  # pixels: the larger side of the copy that decides on the ground of a transparent picture


def open_picture(name: str) -> Image.Image:
    """Return a picture in mode RGB, turned upright as its EXIF data says.

    A transparent picture is laid on white, or on black if most of it is transparent and the rest is light. Of a file
    with several pages, the first is read.

    Args:
        name: of a PNG, JPEG, WebP or TIFF file, or `-` for standard input.

    Raises:
        UserError: the file is missing, no picture, damaged, or larger than Pillow's limit of 89 megapixels. The limit
            is checked before the picture is decoded. The message leaves the name to the caller.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(_source(name), formats=FORMATS) as image:
                return _on_ground(_eight_bit(ImageOps.exif_transpose(image)))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise UserError(f"more than {limit} megapixels, which is the limit: make the picture smaller") from None
    except UnidentifiedImageError:
        raise UserError("not a PNG, JPEG, WebP or TIFF picture: convert it to one of these") from None
    except UserError:
        raise
    except Exception as error:  # Pillow documents no complete set
        reason = getattr(error, "strerror", None) or str(error)[:200]
        raise UserError(f"cannot be read ({reason}): check the path, or copy the file again") from None


def save(path: Path, picture: Image.Image) -> None:
    """Write a picture in the format that its name ends with.

    Raises:
        UserError: the ending names no format of pictures.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path}: a picture's name must end in {', '.join(ENDINGS)}")
    with atomic_write(path) as temporary:
        picture.save(temporary)


def _source(name: str) -> str | io.BytesIO:
    return io.BytesIO(sys.stdin.buffer.read()) if name == STANDARD_INPUT else name


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return a picture with more than eight bits per pixel in grey with eight; its lightest pixel becomes white."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.nan_to_num(np.asarray(image, np.float64)).clip(min=0)
    return Image.fromarray((values * (MAX_PIXEL / max(values.max(), 1e-9))).astype(np.uint8))


def _on_ground(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    small = image.resize([min(side, GROUND) for side in image.size], Image.Resampling.BOX)
    opacity = np.asarray(small.getchannel("A"), np.float64) / MAX_PIXEL
    lightness = np.asarray(small.convert("L"), np.float64) / MAX_PIXEL
    is_light_ink = opacity.mean() < 1 / 2 and (opacity * (lightness - 1 / 2)).sum() > 0
    ground = Image.new("RGBA", image.size, "black" if is_light_ink else "white")
    return Image.alpha_composite(ground, image).convert("RGB")
