"use strict";

// The forward pass of a network. The arrays of images have their channels last, as in Keras.

function scale(x, { factor }) {
  return { ...x, data: x.data.map((value) => value * Math.fround(factor)) };
}

// A convolution without padding, then ReLU.
function convolution(x, { kernel, bias, shape, stride }) {
  const [height, width, channels, filters] = shape;
  const rows = Math.floor((x.rows - height) / stride) + 1;
  const columns = Math.floor((x.columns - width) / stride) + 1;
  const data = new Float32Array(rows * columns * filters);
  const sums = new Float64Array(filters);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      sums.set(bias);
      for (let dy = 0; dy < height; dy++) {
        const start = ((row * stride + dy) * x.columns + column * stride) * channels;
        for (let i = 0; i < width * channels; i++) {
          accumulate(sums, x.data[start + i], kernel, (dy * width * channels + i) * filters);
        }
      }
      data.set(sums.map((sum) => Math.max(sum, 0)), (row * columns + column) * filters);
    }
  }
  return { data, rows, columns, channels: filters };
}

// The maximum of each square; a rest at the right and below is left out.
function pool(x, { size }) {
  const rows = Math.floor(x.rows / size);
  const columns = Math.floor(x.columns / size);
  const data = new Float32Array(rows * columns * x.channels).fill(-Infinity);
  for (let row = 0; row < rows * size; row++) {
    for (let column = 0; column < columns * size; column++) {
      for (let channel = 0; channel < x.channels; channel++) {
        const at = (Math.floor(row / size) * columns + Math.floor(column / size)) * x.channels + channel;
        data[at] = Math.max(data[at], x.data[(row * x.columns + column) * x.channels + channel]);
      }
    }
  }
  return { ...x, data, rows, columns };
}

function dense(x, { kernel, bias, relu }) {
  const sums = Float64Array.from(bias);
  x.data.forEach((value, i) => accumulate(sums, value, kernel, i * sums.length));
  return { data: Float32Array.from(relu ? sums.map((sum) => Math.max(sum, 0)) : sums) };
}

// Add to each sum the product of a value and a weight; the weights start at an index.
function accumulate(sums, value, weights, start) {
  if (value === 0) return;
  for (let i = 0; i < sums.length; i++) sums[i] += value * weights[start + i];
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

const LAYERS = { scale, convolution, pool, dense };

// The probabilities of the ten digits by one network, for the 784 grey levels of an image.
function forward(layers, pixels) {
  let x = { data: Float32Array.from(pixels), rows: SIDE, columns: SIDE, channels: 1 };
  for (const layer of layers) x = LAYERS[layer.kind](x, layer);
  return softmax(x.data);
}

// The probabilities by each network, and their means.
function answer(networks, pixels) {
  const seeds = networks.map((layers) => forward(layers, pixels));
  const mean = seeds[0].map((_, digit) => seeds.reduce((sum, each) => sum + each[digit], 0) / seeds.length);
  return { seeds, mean, digit: mean.indexOf(Math.max(...mean)) };
}
