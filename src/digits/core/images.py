"""Constants of the images, which every package shares."""

SIDE = 28  # pixels: the height and the width of an image
CLASSES = 10  # the digits 0 to 9
MAX_PIXEL = 255  # the grey level of a pixel that is fully on; 0 is off
