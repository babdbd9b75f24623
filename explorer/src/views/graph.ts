/** The graph: threshold, layouts, what a module is linked to. */

import { Circuit, usual, type Layout, type Paint } from "../circuit";
import { choice, element, numberField, percent, slider, toggle } from "../dom";
import { csv, framed } from "../figure";
import type { Source } from "../source";
import type { Graph } from "../types";

export function graphView(place: HTMLElement, source: Source): void {
  const graph = source.run.graph;
  if (!graph) {
    place.append(element("p", { class: "empty" }, `A ${source.run.model} has no learned graph: every module hears every other.`));
    return;
  }
  if (graph.conditional) place.append(element("p", { class: "note" }, "Every input has a circuit of its own; this is that of test sample 0. Others are under Circuits."));
  const picture = element("div", { class: "frame" });
  const about = element("aside", { class: "about", "aria-live": "polite" });
  const figure = framed("The circuit", picture, { svg: () => circuit.svg(), csv: () => table(graph) });
  place.append(element("div", { class: "beside" }, figure, about));
  const circuit = new Circuit(picture, graph, { told: (module) => tell(about, graph, circuit, module) });
  figure.insertBefore(controls(circuit, graph), picture);
  tell(about, graph, circuit, null);
  Object.assign(window, { circuit });
}

function controls(circuit: Circuit, graph: Graph): HTMLElement {
  const shown = { edges: usual(graph), readouts: true };
  circuit.show(shown);
  const threshold = slider(
    "Links shown", { min: 0, max: graph.edges.p.length, step: 1, value: shown.edges },
    (count) => `${count} with P ≥ ${(graph.edges.p[Math.max(0, count - 1)] ?? 1).toFixed(3)}`,
    (edges) => circuit.show(Object.assign(shown, { edges })),
  );
  const layout = choice("Layout", { by_force: "by force", by_signature: "by signature" }, (value) => circuit.arrange(value as Layout));
  const ways = { community: "community", ...(graph.code ? { code: "code similarity" } : {}), importance: "importance" };
  const paint = choice("Colour", ways, (value) => circuit.paint(value as Paint));
  const module = numberField("Module", { min: 0, max: graph.modules - 1 }, (value) => circuit.pin(value));
  const made = element("div", { class: "controls" }, threshold.node, layout, paint, module);
  if (graph.readouts) made.append(toggle("Read-outs", true, (readouts) => circuit.show(Object.assign(shown, { readouts }))));
  return made;
}

function tell(about: HTMLElement, graph: Graph, circuit: Circuit, module: number | null): void {
  if (module === null) {
    const groups = new Set(graph.community).size;
    about.replaceChildren(
      element("h2", {}, `${graph.modules} modules`),
      element("p", {}, `${graph.pairs} edges, ${groups} communities, ${graph.outputs} read-outs.`),
      element("p", { class: "note" }, "A module is as large as it is important: Σ P of its links. Squares are read-outs, with the five modules that each hears most. Hover shows whom a node talks to, a click pins it."),
    );
    return;
  }
  const rows = circuit.heard(module).map(([other, p]) => element("tr", {}, element("td", {}, circuit.name(other)), element("td", {}, percent(p, 1))));
  about.replaceChildren(
    ...heading(graph, circuit, module),
    element("table", {}, element("thead", {}, element("tr", {}, element("th", {}, "talks to"), element("th", {}, "P"))), element("tbody", {}, ...rows)),
  );
}

function table(graph: Graph): string {
  const { i, j, p } = graph.edges;
  return csv(["i", "j", "p"], p.map((each, rank) => [i[rank]!, j[rank]!, each]));
}

function heading(graph: Graph, circuit: Circuit, node: number): HTMLElement[] {
  if (node >= graph.modules) return [element("h2", {}, `R${circuit.name(node).slice(1)}`)];
  const about = `Importance ${graph.importance[node]?.toFixed(2)}, community ${graph.community[node]}.`;
  return [element("h2", {}, `Module ${node}`), element("p", {}, about)];
}
