"use strict";

// From a picture file of one digit to ink.

const PICTURE_SIDE = 560; // pixels: a larger picture is made smaller

// Return a canvas whose opacity is the ink of the picture, or null if there is nothing on it.
async function readPicture(file) {
  const bitmap = await createImageBitmap(file);
  const factor = Math.min(1, PICTURE_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * factor));
  canvas.height = Math.max(1, Math.round(bitmap.height * factor));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // behind a transparent picture
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const picture = context.getImageData(0, 0, canvas.width, canvas.height);
  const ink = inkOf(picture);
  if (!ink) return null;
  ink.forEach((level, i) => picture.data.set([0, 0, 0, level], 4 * i));
  context.putImageData(picture, 0, 0);
  return canvas;
}

// Return the ink of each pixel, 0 to 255, dark on light or light on dark; null if the picture has one colour.
function inkOf({ data, width, height }) {
  const grey = new Uint8Array(width * height);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = Math.round(0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]);
  }
  const border = grey.filter((_, i) => {
    const column = i % width;
    return i < width || i >= grey.length - width || column === 0 || column === width - 1;
  });
  const paper = border.sort()[border.length >> 1];
  const contrast = grey.map((value) => Math.abs(value - paper));
  const threshold = otsu(contrast);
  if (threshold === null) return null;
  const inked = contrast.filter((value) => value > threshold);
  const full = inked.reduce((a, b) => a + b) / inked.length;
  return contrast.map((value) => (value > threshold ? Math.min(255, Math.round((255 * value) / full)) : 0));
}

// Return the level that divides values into two classes with the largest variance between them (N. Otsu, 1979).
function otsu(values) {
  const counts = new Float64Array(256);
  for (const value of values) counts[value]++;
  const total = counts.reduce((sum, count, level) => sum + count * level, 0);
  let [below, mass, best, threshold] = [0, 0, 0, null];
  for (let level = 0; level < 255; level++) {
    below += counts[level];
    mass += counts[level] * level;
    const above = values.length - below;
    if (!below || !above) continue;
    const variance = below * above * (mass / below - (total - mass) / above) ** 2;
    if (variance > best) [best, threshold] = [variance, level];
  }
  return threshold;
}
