"use strict";

// The inverse of weights.py: from the text of a script element to the layers of networks.

const UNWRITABLE = [0, 13, 60];

// Return the bytes that to_text wrote.
function fromText(text, length) {
  const bytes = new Uint8Array(length);
  let [buffer, bits, at] = [0, 0, 0];
  const push = (value) => {
    buffer = ((buffer << 7) | value) & 0x3fff;
    bits += 7;
    if (bits >= 8) {
      bits -= 8;
      bytes[at++] = buffer >> bits;
    }
  };
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 128) push(UNWRITABLE[(code >> 7) - 1]);
    push(code & 127);
  }
  return bytes;
}

// Return the content of a script element, decompressed.
async function decompressed(id, length) {
  const bytes = fromText(document.getElementById(id).textContent, length);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Return the layers of each seed of a variant.
async function loadNetworks({ name, layers, length, seeds }) {
  const bytes = await decompressed(`weights-${name}`, length);
  let at = 0;
  const take = (count) => bytes.subarray(at, (at += count));
  return seeds.map(({ kernels }) => {
    let number = 0;
    return layers.map((layer) => {
      if (!layer.shape) return layer;
      const { step, bits } = kernels[number++];
      const size = layer.shape.reduce((a, b) => a * b);
      const planes = Array.from({ length: Math.ceil(bits / 8) }, () => take(size));
      const kernel = new Float32Array(size);
      const shift = 2 ** (8 * planes.length - bits);
      for (let i = 0; i < size; i++) {
        let value = 0; // in a double, which holds more bits than the operators on bits do
        for (const plane of planes) value = value * 256 + plane[i];
        value /= shift;
        kernel[i] = (value % 2 ? -(value + 1) / 2 : value / 2) * step;
      }
      const raw = take(4 * layer.shape.at(-1));
      const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
      const bias = Float32Array.from({ length: raw.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
      return { ...layer, kernel, bias };
    });
  });
}
