/** Circuits that depend on their input: a map of them, two side by side, the difference. */

import { scatter } from "../chart";
import { Circuit } from "../circuit";
import { colour, GREY } from "../colours";
import { choice, complaint, element, numberField, percent, slider } from "../dom";
import { csv, framed } from "../figure";
import type { Source } from "../source";
import type { Circuits, Graph } from "../types";

type Side = "left" | "right";

export function circuitsView(place: HTMLElement, source: Source): void {
  const shown = { left: 0, right: 1 };
  const map = element("div", {}, element("p", {}, "Writing the circuits of many inputs …"));
  const pair = element("div");
  let undo = (): void => {};
  const show = (): void => {
    Promise.all([source.graphOf(shown.left), source.graphOf(shown.right)])
      .then(([left, right]) => {
        undo();
        undo = compare(pair, shown, left, right);
      })
      .catch((error: unknown) => pair.replaceChildren(complaint(error)));
  };
  const fields: Record<Side, HTMLElement> = { left: chosen("left"), right: chosen("right") };
  function chosen(side: Side): HTMLElement {
    const set = (index: number | null): void => ((shown[side] = index ?? 0), show());
    const label = side === "left" ? "Left sample" : "Right sample";
    if (source.live) return numberField(label, { min: 0, value: shown[side] }, set);
    const numbers = (source.run.graphs ?? []).map((_, index): [string, string] => [`n${index}`, String(index)]);
    const made = choice(label, Object.fromEntries(numbers), (value) => set(Number(value.slice(1))));
    made.querySelector("select")!.selectedIndex = Math.min(shown[side], numbers.length - 1);
    return made;
  }
  let next: Side = "left";
  const open = (index: number): void => {
    shown[next] = index;
    const field = fields[next].querySelector<HTMLInputElement>("input");
    if (field) field.value = String(index);
    show();
  };
  const side = choice("A click on the map opens", { left: "the left", right: "the right" }, (value) => (next = value as Side));
  const head = element("div", { class: "controls" }, fields.left, fields.right, side);
  place.append(head, pair, map);
  show();
  source.circuits()
    .then((found) => map.replaceChildren(atlas(found, source, open)))
    .catch((error: unknown) => map.replaceChildren(complaint(error)));
}

function atlas(found: Circuits, source: Source, open: (index: number) => void): HTMLElement {
  const names = source.run.data.classes;
  const held = source.run.graphs?.length ?? Infinity;
  const dots = found.places.map((at, index) => ({
    at,
    name: `sample ${found.samples[index]}${names.length ? `: ${names[found.targets[index]!]}` : ""}`,
    colour: colour(found.targets[index] ?? 0),
  }));
  const [first, second] = found.told.map((share) => percent(share));
  const note = `A point is a test sample, coloured by its class; near ones have alike links. The two directions hold ${first} and ${second} of the variance of P.`;
  const pick = (index: number): void => {
    const sample = found.samples[index]!;
    if (sample < held) open(sample);
  };
  return element("div", { class: "charts wide" }, scatter("Map of circuits", { x: "first direction", y: "second" }, dots, pick, note));
}

/** Three graphs with the same places; returns what lets go of them. */
function compare(place: HTMLElement, shown: Record<Side, number>, left: Graph, right: Graph): () => void {
  const both = union(left, right);
  let least = 0.5;
  const tone = (rank: number): string => colour(both.first[rank]! < least ? 1 : both.second[rank]! < least ? 0 : GREY);
  const moved = { ...right, by_force: left.by_force, community: left.community };
  const pictures = [0, 1, 2].map(() => element("div", { class: "frame small" }));
  const circuits = [new Circuit(pictures[0]!, left), new Circuit(pictures[1]!, moved), new Circuit(pictures[2]!, both.graph, { tone })];
  const table = (): string => csv(["i", "j", "p left", "p right"], both.graph.edges.i.map((i, rank) => [i, both.graph.edges.j[rank]!, both.first[rank]!, both.second[rank]!]));
  const titles = [`Sample ${shown.left}`, `Sample ${shown.right}`, "The difference"];
  const figures = circuits.map((circuit, at) => framed(titles[at]!, pictures[at]!, { svg: () => circuit.svg(), ...(at === 2 ? { csv: table } : {}) }));
  const said = element("p", { class: "legend", role: "status" });
  const show = (value: number): void => {
    least = value;
    circuits.forEach((circuit, at) => circuit.show({ edges: above([left, moved, both.graph][at]!, least) }));
    said.replaceChildren(...legend(both, least));
  };
  const { p } = both.graph.edges;
  const start = above(both.graph, 0.5) ? 0.5 : p[Math.min(p.length, left.modules) - 1] ?? 0.5;
  const threshold = slider("Links with P at least", { min: 0, max: 1, step: 0.01, value: start }, (value) => value.toFixed(2), show);
  place.replaceChildren(element("div", { class: "controls" }, threshold.node, said), element("div", { class: "three" }, ...figures));
  show(start);
  return () => circuits.forEach((circuit) => circuit.kill());
}

interface Union {
  graph: Graph;
  first: number[];
  second: number[];
}

/** Every edge of either graph with both of its probabilities, the likeliest first. */
function union(left: Graph, right: Graph): Union {
  const key = (i: number, j: number): number => i * left.modules + j;
  const found = new Map<number, [number, number]>();
  left.edges.p.forEach((p, rank) => found.set(key(left.edges.i[rank]!, left.edges.j[rank]!), [p, 0]));
  right.edges.p.forEach((p, rank) => {
    const at = key(right.edges.i[rank]!, right.edges.j[rank]!);
    found.set(at, [found.get(at)?.[0] ?? 0, p]);
  });
  const rows = [...found].sort(([, a], [, b]) => Math.max(...b) - Math.max(...a));
  const edges = { i: rows.map(([at]) => Math.floor(at / left.modules)), j: rows.map(([at]) => at % left.modules), p: rows.map(([, each]) => Math.max(...each)) };
  return { graph: { ...left, edges, readouts: 0, heard: [] }, first: rows.map(([, each]) => each[0]), second: rows.map(([, each]) => each[1]) };
}

function above(graph: Graph, least: number): number {
  const end = graph.edges.p.findIndex((p) => p < least);
  return end < 0 ? graph.edges.p.length : end;
}

function legend({ first, second }: Union, least: number): HTMLElement[] {
  const count = (fits: (a: boolean, b: boolean) => boolean): number => first.filter((p, rank) => fits(p >= least, second[rank]! >= least)).length;
  const rows: [number, number, string][] = [
    [0, count((a, b) => a && !b), "only left"], [1, count((a, b) => b && !a), "only right"], [GREY, count((a, b) => a && b), "in both"],
  ];
  return rows.map(([tone, links, what]) => {
    const swatch = element("i");
    swatch.style.background = colour(tone);
    return element("span", {}, swatch, `${links} ${what}`);
  });
}
