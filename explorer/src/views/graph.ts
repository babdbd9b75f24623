/** The graph: threshold, layouts, what a module is linked to. */

import { Circuit, usual, type Layout } from "../circuit";
import { choice, complaint, element, numberField, percent, slider } from "../dom";
import { csv, framed } from "../figure";
import type { Source } from "../source";
import type { Graph } from "../types";

export function graphView(place: HTMLElement, source: Source): void {
  const graph = source.run.graph;
  if (!graph) {
    place.append(element("p", { class: "empty" }, `A ${source.run.model} has no learned graph: every module hears every other.`));
    return;
  }
  const holder = element("div");
  place.append(holder);
  show(holder, graph);
  if (!graph.conditional || !source.live) return;
  const other = numberField("Sample", { min: 0, value: 0 }, (index) => {
    source.graphOf(index ?? 0).then((found) => show(holder, found.graph)).catch((error: unknown) => holder.replaceChildren(complaint(error)));
  });
  place.prepend(element("p", {}, "Every input has a circuit of its own. "), other);
}

function show(place: HTMLElement, graph: Graph): void {
  const picture = element("div", { class: "frame" });
  const about = element("aside", { class: "about", "aria-live": "polite" });
  const figure = framed("The circuit", picture, { svg: () => circuit.svg(), csv: () => table(graph) });
  place.replaceChildren(element("div", { class: "beside" }, figure, about));
  const circuit = new Circuit(picture, graph, (module) => tell(about, graph, circuit, module));
  const total = graph.edges.p.length;
  const threshold = slider(
    "Links shown", { min: 0, max: total, step: 1, value: usual(graph) },
    (count) => `${count} with P ≥ ${(graph.edges.p[Math.max(0, count - 1)] ?? 1).toFixed(3)}`,
    (edges) => circuit.show({ edges }),
  );
  const layout = choice("Layout", { by_force: "by force", by_signature: "by signature" }, (value) => circuit.arrange(value as Layout));
  const paint = choice("Colour", { community: "community", importance: "importance" }, (value) => circuit.paint(value as "community"));
  const module = numberField("Module", { min: 0, max: graph.modules - 1 }, (value) => circuit.pin(value));
  figure.insertBefore(element("div", { class: "controls" }, threshold.node, layout, paint, module), picture);
  tell(about, graph, circuit, null);
  Object.assign(window, { circuit });
}

function tell(about: HTMLElement, graph: Graph, circuit: Circuit, module: number | null): void {
  if (module === null) {
    const groups = new Set(graph.community).size;
    about.replaceChildren(
      element("h2", {}, `${graph.modules} modules`),
      element("p", {}, `${graph.pairs} edges, ${groups} communities, ${graph.outputs} read-outs.`),
      element("p", { class: "note" }, "A module is as large as it is important: Σ P of its links. Hover shows whom it talks to, a click pins it."),
    );
    return;
  }
  const rows = circuit.heard(module).map(([other, p]) => element("tr", {}, element("td", {}, String(other)), element("td", {}, percent(p, 1))));
  about.replaceChildren(
    element("h2", {}, `Module ${module}`),
    element("p", {}, `Importance ${graph.importance[module]?.toFixed(2)}, community ${graph.community[module]}.`),
    element("table", {}, element("thead", {}, element("tr", {}, element("th", {}, "talks to"), element("th", {}, "P"))), element("tbody", {}, ...rows)),
  );
}

function table(graph: Graph): string {
  const { i, j, p } = graph.edges;
  return csv(["i", "j", "p"], p.map((each, rank) => [i[rank]!, j[rank]!, each]));
}
