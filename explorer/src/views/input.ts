/** What the circuit does with one input: where it looks, who decides, what it says. */

import { bars, lines } from "../chart";
import { colour } from "../colours";
import { bytes, choice, complaint, element, numberField, percent, slider } from "../dom";
import { canvasSvg, csv, framed } from "../figure";
import { heat } from "../heat";
import type { Source } from "../source";
import type { Run, Sample } from "../types";

export function inputView(place: HTMLElement, source: Source): void {
  const holder = element("div", {}, element("p", {}, "Running the model …"));
  const show = (index: number): void => {
    source.sample(index)
      .then((sample) => holder.replaceChildren(...pictures(sample, source.run)))
      .catch((error: unknown) => holder.replaceChildren(complaint(error)));
  };
  place.append(chooser(source, show), holder);
  show(0);
}

/** A field for any sample of the test split, or a list of those the file holds. */
export function chooser(source: Source, show: (index: number) => void): HTMLElement {
  const held = source.run.samples ?? [];
  const made = source.live
    ? numberField("Test sample", { min: 0, value: 0 }, (index) => show(index ?? 0))
    : choice("Test sample", Object.fromEntries(held.map((each) => [each.index, String(each.index)])), (value) => show(Number(value)));
  return element("div", { class: "controls" }, made);
}

function pictures(sample: Sample, run: Run): HTMLElement[] {
  const made = [seen(sample, run.data.columns)];
  if (sample.probabilities) {
    const names = run.data.classes;
    const said = sample.probabilities.indexOf(Math.max(...sample.probabilities));
    const right = Number(sample.target);
    const verdict = said === right ? `It is ${names[right]}, and the model says so.` : `It is ${names[right]}; the model says ${names[said]}.`;
    made.push(bars("Answer", { x: "class", y: "probability", high: 1 }, names, { probability: sample.probabilities }, right, `${verdict} Green is right.`));
  } else if (sample.said) {
    made.push(element("p", { class: "about" }, `Answer ${sample.said.slice(0, 8).join(", ")}; right is ${[sample.target].flat().slice(0, 8).join(", ")}.`));
  }
  if (sample.confidences && sample.confidences.length > 1) {
    const names = sample.confidences.map((_, index) => String(index));
    made.push(bars("Confidences of the read-outs", { x: "read-out", y: "weight" }, names, { weight: sample.confidences }));
  }
  if (sample.flow?.length) made.push(flow(sample.flow));
  if (sample.heard) {
    made.push(bars("Whom the read-outs hear", { x: "module", y: "attention" }, sample.heard.map((_, index) => String(index)), { attention: sample.heard }));
  }
  return [element("div", { class: "charts" }, ...made)];
}

/** How much every layer's messages changed every module. */
function flow(layers: number[][]): HTMLElement {
  const most = Math.max(1e-9, ...layers.flat());
  const levels = layers.flat().map((change) => Math.round((255 * change) / most));
  const width = layers[0]?.length ?? 0;
  return heat("Messages layer by layer", levels, [...layers.keys()], [...Array(width).keys()], width, "How far each layer (row) moved each module's state (column), against the farthest.");
}

function seen(sample: Sample, columns: string[]): HTMLElement {
  const attention = sample.attention ? new Attention(sample) : null;
  const picture = element("div", { class: "seen" });
  let files = {};
  let update = (_weights: number[]): void => {};
  if (sample.kind === "image" && sample.shape) {
    const canvas = element("canvas", { class: "picture", role: "img", "aria-label": "The picture and where it is looked at" });
    picture.append(canvas);
    update = (weights) => paint(canvas, sample, weights);
    files = { svg: () => canvasSvg(canvas), csv: () => attention?.table() ?? "" };
  } else if (sample.rows) {
    update = (weights) => picture.replaceChildren(...series(sample.rows ?? [], columns, weights));
  } else if (sample.text !== undefined) {
    update = (weights) => picture.replaceChildren(...text(sample.text ?? [], weights));
  } else {
    update = (weights) => picture.replaceChildren(bars("Attention", { x: "token", y: "share" }, weights.map((_, i) => String(i)), { share: weights }));
  }
  update(attention?.weights(-1) ?? []);
  const figure = framed(`Test sample ${sample.index}`, picture, files, attention ? "Orange: where it looks, against the most it looks anywhere." : "");
  if (attention) {
    const module = slider("Read-in of", { min: -1, max: attention.modules - 1, step: 1, value: -1 }, (value) => (value < 0 ? "all modules" : `module ${value}`), (value) => update(attention.weights(value)));
    figure.insertBefore(element("div", { class: "controls" }, module.node), picture);
  }
  return figure;
}

/** Read-in attention, a row of tokens a module. */
class Attention {
  private readonly levels: Uint8Array;
  readonly modules: number;
  private readonly tokens: number;

  constructor(private readonly sample: Sample) {
    this.levels = bytes(sample.attention ?? "");
    this.tokens = sample.tokens ?? 0;
    this.modules = this.levels.length / Math.max(1, this.tokens);
  }

  /** Of one module, or the mean of all if it is negative. */
  weights(module: number): number[] {
    const rows = module < 0 ? [...Array(this.modules).keys()] : [module];
    return Array.from({ length: this.tokens }, (_, token) => rows.reduce((sum, row) => sum + this.at(row, token), 0) / rows.length);
  }

  table(): string {
    const header = ["module", ...Array(this.tokens).keys()].map(String);
    return csv(header, Array.from({ length: this.modules }, (_, row) => [row, ...Array.from({ length: this.tokens }, (_, token) => Number(this.at(row, token).toFixed(6)))]));
  }

  private at(row: number, token: number): number {
    return ((this.levels[row * this.tokens + token] ?? 0) / 255) * (this.sample.peaks?.[row] ?? 0);
  }
}

const SIDE = 336;

function paint(canvas: HTMLCanvasElement, sample: Sample, weights: number[]): void {
  const [channels, height, width] = sample.shape!;
  const levels = bytes(sample.pixels ?? "");
  const small = element("canvas", { width, height });
  const pixels = new ImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    const [red, green, blue] = [0, 1, 2].map((c) => levels[Math.min(c, channels - 1) * width * height + at] ?? 0);
    pixels.data.set([red!, green!, blue!, 255], 4 * at);
  }
  small.getContext("2d")?.putImageData(pixels, 0, 0);
  canvas.width = SIDE;
  canvas.height = Math.round((SIDE * height) / width);
  const context = canvas.getContext("2d");
  if (!context) return;
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  const columns = Math.round(Math.sqrt((weights.length * width) / height));
  if (!columns || weights.length % columns) return;
  const [wide, high] = [canvas.width / columns, canvas.height / (weights.length / columns)];
  const most = Math.max(1e-12, ...weights);
  context.fillStyle = colour(4);
  weights.forEach((weight, token) => {
    context.globalAlpha = 0.75 * (weight / most);
    context.fillRect((token % columns) * wide, Math.floor(token / columns) * high, wide, high);
  });
}

function series(rows: (number | null)[][], columns: string[], weights: number[]): HTMLElement[] {
  const channels = Math.min(6, (rows[0]?.length ?? 1) - 1);
  const data = Array.from({ length: channels }, (_, channel) => ({
    name: columns[channel] ?? `value ${channel}`,
    points: rows.flatMap((row): [number, number][] => {
      const [time, value] = [row[0], row[channel + 1]];
      return typeof time === "number" && typeof value === "number" ? [[time, value]] : [];
    }),
  }));
  const made = [lines("The series", { x: "time", y: "value" }, data).node];
  if (weights.length === rows.length) {
    const points = weights.map((weight, at): [number, number] => [rows[at]?.[0] ?? at, weight]);
    made.push(lines("Read-in attention", { x: "time", y: "attention", low: 0 }, [{ name: "attention", points }]).node);
  }
  return made;
}

function text(bytes: string[], given: number[]): HTMLElement[] {
  // A letter of several bytes is shown at its first; the others are empty.
  const weights: number[] = [];
  bytes.forEach((letter, at) => {
    const weight = given[at] ?? 0;
    if (letter) weights.push(weight);
    else if (weights.length) weights[weights.length - 1] = (weights[weights.length - 1] ?? 0) + weight;
  });
  const most = Math.max(1e-12, ...weights);
  const letters = bytes.filter((letter) => letter).map((letter, at) => {
    const made = element("span", { title: percent(weights[at] ?? 0, 2) }, letter);
    const part = Math.round(75 * ((weights[at] ?? 0) / most));
    made.style.background = `color-mix(in srgb, ${colour(4)} ${part}%, transparent)`;
    return made;
  });
  return [element("pre", { class: "text" }, ...letters)];
}
