"use strict";

// The form in which MNIST presents a digit: the twin of to_mnist_form in src/digits/data/form.py.

const SIDE = 28; // pixels: the height and the width of an image
const BOX = 20; // pixels: the larger side of a digit
const CENTRE = SIDE / 2;
const TIE = 1e-9; // pixels: a centre of mass between two pixels goes to the first, whatever the rounding of the sums

// Return 28x28 grey levels, 0 for paper, 255 for ink. `ink` has height x width numbers from 0 for paper to 1 for ink.
function toMnistForm(ink, height, width) {
  const image = new Uint8Array(SIDE * SIDE);
  let [top, bottom, left, right] = [height, -1, width, -1];
  for (let row = 0, i = 0; row < height; row++) {
    for (let column = 0; column < width; column++, i++) {
      if (ink[i] === 0) continue;
      if (row < top) top = row;
      if (column < left) left = column;
      if (column > right) right = column;
      bottom = row;
    }
  }
  if (bottom < 0) return image;
  const [boxRows, boxColumns] = [bottom - top + 1, right - left + 1];
  const factor = BOX / Math.max(boxRows, boxColumns);
  const [rows, columns] = [boxRows, boxColumns].map((side) => Math.max(1, Math.floor(side * factor + 0.5)));

  const squeezed = new Float64Array(rows * boxColumns); // the box at its new height
  for (const [row, source, weight] of means(boxRows, rows)) {
    const start = (top + source) * width + left;
    for (let column = 0; column < boxColumns; column++) {
      squeezed[row * boxColumns + column] += weight * ink[start + column];
    }
  }
  const small = new Float64Array(rows * columns);
  for (const [column, source, weight] of means(boxColumns, columns)) {
    for (let row = 0; row < rows; row++) small[row * columns + column] += weight * squeezed[row * boxColumns + source];
  }

  const rowMass = new Float64Array(rows);
  const columnMass = new Float64Array(columns);
  small.forEach((value, i) => {
    rowMass[Math.floor(i / columns)] += value;
    columnMass[i % columns] += value;
  });
  const [firstRow, firstColumn] = [place(rowMass), place(columnMass)];
  small.forEach((value, i) => {
    const at = (firstRow + Math.floor(i / columns)) * SIDE + firstColumn + (i % columns);
    image[at] = Math.floor(value * 255 + 0.5);
  });
  return image;
}

// The weights by which pixels along one axis are resampled, as a list of [target, source, weight].
function means(source, target) {
  const extent = source / target;
  const half = Math.max(extent, 1) / 2;
  const weights = [];
  for (let i = 0; i < target; i++) {
    const middle = (i + 0.5) * extent;
    for (let edge = Math.max(0, Math.floor(middle - half)); edge < Math.min(source, middle + half); edge++) {
      const overlap = Math.min(middle + half, edge + 1) - Math.max(middle - half, edge);
      if (overlap > 0) weights.push([i, edge, overlap / (2 * half)]);
    }
  }
  return weights;
}

// The first row or column of a digit, by the mass of each of its rows or columns.
function place(mass) {
  let [sum, moment] = [0, 0];
  mass.forEach((value, i) => {
    sum += value;
    moment += value * i;
  });
  return Math.min(Math.max(Math.ceil(CENTRE - moment / sum - 0.5 - TIE), 0), SIDE - mass.length);
}
