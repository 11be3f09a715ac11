"use strict";

// Return the content of a script element, as to_text in weights.py wrote it.
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (byte) => byte.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Return the layers of each seed of a variant, as pack in weights.py wrote them.
async function loadNetworks({ name, layers, seeds }) {
  const bytes = await unpacked(`weights-${name}`);
  const weights = new Float32Array(bytes.map((_, i) => bytes[(i % 4) * (bytes.length / 4) + (i >> 2)]).buffer);
  let at = 0;
  const take = (...shape) => weights.subarray(at, (at += shape.reduce((a, b) => a * b)));
  const read = (layer) => ({ ...layer, kernel: take(...layer.shape), bias: take(layer.shape.at(-1)) });
  return seeds.map(() => layers.map((layer) => (layer.shape ? read(layer) : layer)));
}
