"use strict";

// The inverse of weights.py.

// Return the bytes in a script element.
async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Return the layers of each seed of a variant.
async function loadNetworks({ name, layers, seeds }) {
  const planes = await unpack(`weights-${name}`);
  const count = planes.length / 4;
  const view = new DataView(new ArrayBuffer(planes.length));
  planes.forEach((byte, i) => view.setUint8(4 * (i % count) + Math.floor(i / count), byte));
  let at = 0;
  const take = (size) => Float32Array.from({ length: size }, () => view.getFloat32(4 * at++, true));
  return seeds.map(() =>
    layers.map((layer) => {
      if (!layer.shape) return layer;
      const kernel = take(layer.shape.reduce((a, b) => a * b));
      return { ...layer, kernel, bias: take(layer.shape.at(-1)) };
    }),
  );
}
