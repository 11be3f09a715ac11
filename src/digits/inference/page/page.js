"use strict";

// What the reader sees and does.

const PEN = 33; // of the 420 pixels of the drawing area: 2 pixels of MNIST for a digit of the full height
const DIGITS = 10;
const content = JSON.parse(document.getElementById("content").textContent);
const byId = (id) => document.getElementById(id);
const drawing = byId("drawing");
const surface = drawing.getContext("2d", { willReadFrequently: true });
const view = byId("seen").getContext("2d", { willReadFrequently: true });
const choices = [...document.querySelectorAll("[name=variant]")];
const networks = new Map(); // of each variant, once they are loaded

let variant = null; // the chosen one, once its networks are loaded
let items = []; // strokes, pictures and test images on the drawing area
let past = []; // the items before each step
let stroke = null; // the last item, while its pointer is down
let pointer = null; // its identifier
let frame = 0; // the request to answer before the next frame is shown
let pixels = null; // what the models see
let results = new Map(); // the answer of each variant
let images = null; // the grey levels of the test images in the galleries

// The drawing area

function paint() {
  surface.clearRect(0, 0, drawing.width, drawing.height);
  for (const item of items) (item.points ? paintStroke : paintPicture)(item);
}

function paintStroke({ points }) {
  surface.lineWidth = PEN;
  surface.lineCap = surface.lineJoin = "round";
  surface.beginPath();
  surface.moveTo(...points[0]);
  for (const point of points) surface.lineTo(...point);
  surface.stroke();
}

function paintPicture({ canvas }) {
  const factor = drawing.width / Math.max(canvas.width, canvas.height);
  const [width, height] = [canvas.width * factor, canvas.height * factor];
  surface.imageSmoothingEnabled = factor < 1; // a test image keeps its pixels
  surface.drawImage(canvas, (drawing.width - width) / 2, (drawing.height - height) / 2, width, height);
}

// A test image alone goes to the model as it is.
function currentPixels() {
  if (items.length === 1 && items[0].pixels) return items[0].pixels;
  const { data, width, height } = surface.getImageData(0, 0, drawing.width, drawing.height);
  const ink = new Float64Array(width * height);
  for (let i = 0; i < ink.length; i++) ink[i] = data[4 * i + 3] / 255;
  return toMnistForm(ink, height, width);
}

function step(next) {
  past.push(items);
  items = next;
  update();
  speak();
}

function undo() {
  if (!past.length || stroke) return;
  items = past.pop();
  update();
  speak();
}

function clear() {
  if (items.length && !stroke) step([]);
}

function positionOf(event) {
  const box = drawing.getBoundingClientRect();
  const factor = drawing.width / box.width;
  return [(event.clientX - box.left) * factor, (event.clientY - box.top) * factor];
}

drawing.addEventListener("pointerdown", (event) => {
  if (stroke || event.button !== 0) return;
  pointer = event.pointerId;
  drawing.setPointerCapture(pointer);
  stroke = { points: [positionOf(event)] };
  past.push(items);
  items = [...items, stroke];
  updateSoon();
});

drawing.addEventListener("pointermove", (event) => {
  if (!stroke || event.pointerId !== pointer) return;
  const moves = event.getCoalescedEvents?.() ?? [];
  stroke.points.push(...(moves.length ? moves : [event]).map(positionOf));
  updateSoon();
});

for (const name of ["pointerup", "pointercancel"]) {
  drawing.addEventListener(name, (event) => {
    if (!stroke || event.pointerId !== pointer) return;
    stroke = null;
    update();
    speak();
  });
}

// Answer once before the next frame is shown, however many movements come before it.
function updateSoon() {
  frame ||= requestAnimationFrame(update);
}

// The answer

const bars = Array.from({ length: DIGITS }, (_, digit) => {
  const row = byId("bars").appendChild(document.createElement("li"));
  const [name, track, percent] = ["digit", "track", "percent"].map((kind) => add(row, "span", kind));
  name.textContent = digit;
  return { row, track, percent, bar: add(track, "span", "bar"), dots: [] };
});

function add(parent, tag, kind, text = "") {
  const element = parent.appendChild(document.createElement(tag));
  element.className = kind;
  element.textContent = text;
  return element;
}

// A share as a percentage, rounded down: 100 % is certain.
function percent(share, places = 2) {
  const factor = 10 ** places;
  const floor = Math.floor(100 * share * factor + 1e-6); // or: 0.29 would be 28.99 %
  return `${(floor / factor).toFixed(places)}\u00a0%`;
}

function update() {
  cancelAnimationFrame(frame);
  frame = 0;
  paint();
  pixels = currentPixels();
  const empty = pixels.every((level) => level === 0);
  results = new Map([...networks].map(([name, seeds]) => [name, empty ? null : answer(seeds, pixels)]));
  byId("hint").hidden = items.length > 0;
  byId("undo").disabled = !past.length;
  byId("clear").disabled = !items.length;
  showSeen();
  showBars();
  showAnswer();
  showChoices();
}

function showSeen() {
  const image = new ImageData(SIDE, SIDE);
  pixels.forEach((level, i) => image.data.set([level, level, level, 255], 4 * i));
  view.putImageData(image, 0, 0);
}

function showBars() {
  const result = results.get(variant?.name);
  bars.forEach(({ row, percent: text, bar, dots }, digit) => {
    const share = result ? result.mean[digit] : 0;
    row.classList.toggle("top", digit === result?.digit);
    bar.style.width = `${100 * share}%`;
    text.textContent = result ? percent(share) : "";
    dots.forEach((dot, seed) => {
      dot.hidden = !result;
      dot.style.left = `${100 * (result ? result.seeds[seed][digit] : 0)}%`;
    });
  });
}

function isSure({ threshold }, { mean, digit }) {
  return threshold !== null && mean[digit] >= threshold;
}

function inWords() {
  const result = results.get(variant?.name);
  if (!result) return { text: "–", detail: "", kind: "" };
  const share = percent(result.mean[result.digit]);
  const sure = isSure(variant, result);
  const agreeing = result.seeds.filter((each) => each.indexOf(Math.max(...each)) === result.digit).length;
  const parts = [
    items.length === 1 && items[0].pixels ? `The label is ${items[0].label}.` : "",
    sure ? `Probability ${share}.` : `It would guess ${result.digit}, with ${share}.`,
    result.seeds.length > 1 ? `${agreeing} of ${result.seeds.length} seeds say ${result.digit}.` : "",
  ];
  const detail = parts.filter((part) => part).join(" ");
  return { text: sure ? String(result.digit) : "Not sure", detail, kind: sure ? "sure" : "unsure" };
}

function showAnswer({ text, detail, kind } = inWords()) {
  byId("answer").textContent = text;
  byId("answer").className = kind;
  byId("detail").textContent = detail;
}

// Show the answer of each variant beside its name.
function showChoices() {
  for (const choice of choices) {
    const result = results.get(choice.value);
    const sure = result && isSure(described(choice.value), result);
    choice.parentElement.querySelector(".says").textContent = result ? `${result.digit}${sure ? "" : "?"}` : "–";
  }
}

// Tell a screen reader, once a step is complete.
function speak() {
  const { text, detail } = inWords();
  const state = items.length ? "with a digit" : "empty";
  byId("spoken").textContent = detail ? `${text}. ${detail}` : "The drawing area is empty.";
  drawing.setAttribute("aria-label", `Drawing area, ${state}`);
  byId("seen").setAttribute("aria-label", `The image that the model sees, ${state}`);
}

// The choice of the variant

function described(name) {
  return content.variants.find((each) => each.name === name);
}

async function load(choice) {
  networks.set(choice.value, await loadNetworks(described(choice.value)));
  choice.disabled = false;
}

function choose() {
  variant = described(choices.find(({ checked }) => checked).value);
  for (const { track, dots } of bars) {
    for (const dot of dots.splice(0)) dot.remove();
    dots.push(...variant.seeds.map(() => add(track, "span", "dot")));
  }
  for (const text of document.querySelectorAll("[data-variant]")) text.hidden = text.dataset.variant !== variant.name;
  byId("missed-name").textContent = variant.name;
  const { threshold } = variant;
  byId("threshold").textContent = threshold === null ? "Never sure." : `Sure from ${percent(threshold, 4)} on.`;
  showGallery("missed", content.missed[variant.name]);
  update();
  speak();
}

// The galleries of test images

function showGallery(id, list) {
  const buttons = list.map(({ index, label, wrong }) => {
    const at = content.shown.indexOf(index) * SIDE * SIDE;
    const levels = images.slice(at, at + SIDE * SIDE);
    const canvas = inkCanvas(levels);
    const button = document.createElement("button");
    button.type = "button";
    button.append(canvas);
    canvas.className = "paper";
    const seeds = wrong === undefined ? "" : `${wrong} of ${variant.seeds.length} wrong`;
    add(button, "span", "", `label ${label}`);
    if (seeds) add(button, "span", "", seeds);
    button.setAttribute("aria-label", `Open test image ${index}, label ${label}${seeds && `, ${seeds}`}`);
    button.addEventListener("click", () => {
      step([{ canvas, pixels: levels, label }]);
      byId("paper").scrollIntoView({ block: "nearest" });
    });
    return button;
  });
  byId(id).replaceChildren(...buttons);
}

// Return a canvas whose opacity is the ink.
function inkCanvas(levels) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const image = new ImageData(SIDE, SIDE);
  levels.forEach((level, i) => image.data.set([0, 0, 0, level], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Pictures

async function openPicture(file) {
  if (!file) return;
  try {
    const canvas = await readPicture(file);
    if (canvas) step([{ canvas }]);
    else showProblem("There is no digit on this picture.");
  } catch {
    showProblem(`This browser cannot open ${file.name} as a picture.`);
  }
}

function showProblem(text) {
  showAnswer({ text: "–", detail: text, kind: "" });
  byId("spoken").textContent = text;
}

byId("file").addEventListener("change", (event) => {
  openPicture(event.target.files[0]);
  event.target.value = ""; // so that the same file can be opened again
});
document.addEventListener("paste", (event) => openPicture(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  openPicture(event.dataTransfer.files[0]);
});

// Buttons and keys

byId("undo").addEventListener("click", undo);
byId("clear").addEventListener("click", clear);
for (const choice of choices) choice.addEventListener("change", choose);
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
    event.preventDefault();
    undo();
  }
  if (event.key === "Delete" || event.key === "Escape") clear();
});

async function start() {
  if (!("DecompressionStream" in window)) {
    showProblem(
      "This browser is too old to unpack the models, for it has no DecompressionStream. " +
        "Use Chrome 80, Firefox 113, Safari 16.4 or a later version.",
    );
    return;
  }
  images = await unpacked("images");
  showGallery("examples", content.examples);
  const first = choices.find(({ checked }) => checked);
  await load(first);
  choose();
  for (const choice of choices.filter((each) => each !== first)) {
    await load(choice);
    update();
  }
}

const ready = start();
