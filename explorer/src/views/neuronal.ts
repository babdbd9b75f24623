/** A neuronal layer: its wiring in groups, what neurons do, how long logits take. */

import { bars, lines } from "../chart";
import { colour } from "../colours";
import { choice, complaint, drawn, element, short, slider } from "../dom";
import { csv, framed, svgText } from "../figure";
import { heat } from "../heat";
import type { Source } from "../source";
import type { Activity } from "../types";
import { chooser } from "./input";

export function neuronalView(place: HTMLElement, source: Source): void {
  if (!source.run.layers) {
    place.append(element("p", { class: "empty" }, `A ${source.run.model} has no neuronal layer.`));
    return;
  }
  const holder = element("div", {}, element("p", {}, "Running the model …"));
  let [sample, layer] = [0, 0];
  const show = (): void => {
    source.neuronal(sample, layer)
      .then((activity) => holder.replaceChildren(element("div", { class: "charts" }, ...pictures(activity))))
      .catch((error: unknown) => holder.replaceChildren(complaint(error)));
  };
  const controls = chooser(source, (index) => ((sample = index), show()));
  const numbers = Object.fromEntries(Array.from({ length: source.run.layers }, (_, n) => [n, String(n)]));
  controls.append(choice("Layer", numbers, (value) => ((layer = Number(value)), show())));
  place.append(controls, holder);
  show();
}

function pictures(activity: Activity): HTMLElement[] {
  const { edges, counts } = activity.time_constants;
  return [
    wiring(activity),
    ...Object.entries(activity.activity).map(([group, rows]) => along(group, rows)),
    relaxing(activity),
    bars("Time constants", { x: "1/ω, horizons", y: "pairs" }, edges.slice(0, -1).map(short), { pairs: counts }),
  ];
}

const WIDTH = 560;
const HEIGHT = 420;

/** Groups from left to right; a synapse is as wide as the traffic it carried. */
function wiring(activity: Activity): HTMLElement {
  const picture = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": "Wiring of the layer" });
  const places = new Map<string, [number, number]>();
  const groups = Object.entries(activity.groups);
  groups.forEach(([group, busy], column) => busy.forEach((_, neuron) => {
    const y = 40 + ((HEIGHT - 50) * (neuron + 0.5)) / busy.length;
    places.set(`${group} ${neuron}`, [50 + (column * (WIDTH - 100)) / (groups.length - 1), y]);
  }));
  const most = Math.max(1e-12, ...activity.synapses.map((wire) => wire[3]));
  for (const [from, to, weight, traffic] of activity.synapses) {
    const [a, b] = [places.get(from), places.get(to)];
    if (!a || !b) continue;
    const bend = a[0] === b[0] ? 36 : 0;
    const share = Math.sqrt(traffic / most);
    const wire = drawn("path", {
      d: `M${a[0]} ${a[1]}Q${(a[0] + b[0]) / 2 + bend} ${(a[1] + b[1]) / 2} ${b[0]} ${b[1]}`, fill: "none",
      stroke: colour(weight > 0 ? 0 : 1), "stroke-width": 0.3 + 2.2 * share, "stroke-opacity": 0.1 + 0.7 * share,
    });
    wire.append(drawn("title", {}, `${from} → ${to}: weight ${short(weight)}, traffic ${short(traffic)}`));
    picture.append(wire);
  }
  groups.forEach(([group, busy]) => {
    const top = Math.max(1e-12, ...busy);
    busy.forEach((value, neuron) => {
      const [cx, cy] = places.get(`${group} ${neuron}`)!;
      const dot = drawn("circle", { cx, cy, r: 1.5 + 4 * Math.sqrt(value / top), fill: "currentColor" });
      dot.append(drawn("title", {}, `${group} ${neuron}: mean activity ${short(value)}`));
      picture.append(dot);
    });
    const x = places.get(`${group} 0`)?.[0] ?? 0;
    picture.append(drawn("text", { x, y: 18, "text-anchor": "middle", "font-size": 12, fill: "currentColor" }, `${group} (${busy.length})`));
  });
  const note = `Blue excites, orange inhibits; width is traffic. ${activity.synapses.length} of ${activity.synapse_count} synapses, the busiest.`;
  return framed("Wiring", picture, { svg: () => svgText(picture), csv: () => csv(["from", "to", "weight", "traffic"], activity.synapses) }, note);
}

/** Neurons by tokens, against the strongest. */
function along(group: string, rows: number[][]): HTMLElement {
  const most = Math.max(1e-12, ...rows.flat().map(Math.abs));
  const width = rows[0]?.length ?? 0;
  const levels = rows.flat().map((value) => 127.5 + (127.5 * value) / most);
  return heat(`Activity: ${group}`, levels.map(Math.round), [...rows.keys()], [...Array(width).keys()], width, "Neuron by token; 0 is most negative, ½ silent, 1 most positive.");
}

/** a(t) = φ/ω (1 − exp(−ωt)) of a chosen token's pairs. */
function relaxing(activity: Activity): HTMLElement {
  const { first, drive } = activity.logits;
  const last = first + drive.length - 1;
  const holder = element("div", {}, relaxation(activity, last));
  const query = slider(
    "Logits of token", { min: first, max: last, step: 1, value: last }, String,
    (token) => holder.replaceChildren(relaxation(activity, token)),
  );
  return element("div", { class: "query" }, query.node, holder);
}

function relaxation(activity: Activity, token: number): HTMLElement {
  const { first, ...logits } = activity.logits;
  const [keys, drive, slow] = [logits.keys, logits.drive, logits.time_constant].map((rows) => rows[token - first]!) as [number[], number[], number[]];
  const end = 3 * Math.max(1e-6, ...slow);
  const data = keys.map((key, pair) => ({
    name: `key ${key}`,
    points: Array.from({ length: 41 }, (_, step): [number, number] => {
      const time = (end * step) / 40;
      return [time, drive[pair]! * slow[pair]! * (1 - Math.exp(-time / slow[pair]!))];
    }),
  }));
  return lines(`Logits of token ${token}`, { x: "time, horizons", y: "logit" }, data, "How its pairs with the chosen keys relax, first head.").node;
}
