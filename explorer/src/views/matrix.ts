/** Matrices: links beside the prior, codes, degrees. */

import { bars } from "../chart";
import { bytes, choice, element } from "../dom";
import { heat } from "../heat";
import type { Source } from "../source";
import type { Graph, Matrix } from "../types";

export function matrixView(place: HTMLElement, source: Source): void {
  const { graph, matrix } = source.run;
  if (!graph || !matrix) {
    const why = graph ? "The circuit has too many modules for its matrices to be shown." : `A ${source.run.model} has no learned graph.`;
    place.append(element("p", { class: "empty" }, why));
    return;
  }
  const orders = ordered(graph, matrix);
  const holder = element("div", { class: "charts" });
  const draw = (name: string): void => holder.replaceChildren(...pictures(matrix, orders[name]!));
  const names: Record<string, string> = { community: "by community", importance: "by importance", module: "by number" };
  if (matrix.matched) names["matched"] = "as the prior was matched";
  place.append(element("div", { class: "controls" }, choice("Order", names, draw)), holder);
  draw("community");
  holder.after(degrees(matrix));
}

function ordered(graph: Graph, matrix: Matrix): Record<string, number[]> {
  const module = graph.importance.map((_, index) => index);
  const weight = (index: number): number => graph.importance[index]!;
  const importance = [...module].sort((a, b) => weight(b) - weight(a));
  const community = [...module].sort((a, b) => graph.community[a]! - graph.community[b]! || weight(b) - weight(a));
  return { module, importance, community, matched: matrix.matched ?? module };
}

function pictures(matrix: Matrix, order: number[]): HTMLElement[] {
  const size = order.length;
  const links = bytes(matrix.links);
  const prior = matrix.prior ? bytes(matrix.prior) : null;
  const top = Math.max(0.02, brightest(links, size), prior ? brightest(prior, size) : 0);
  const made = [heat("Link probabilities", links, order, order, size, "Row hears column; every module hears itself.", top)];
  if (prior) made.push(heat("The prior", prior, order, order, size, "What was asked for, matched to the modules.", top));
  if (matrix.codes) made.push(heat("Likeness of codes", bytes(matrix.codes), order, order, size, "Cosine; 0 is opposite, 1 the same."));
  return made;
}

/** The largest entry off the diagonal, in [0, 1]. */
function brightest(levels: Uint8Array, size: number): number {
  return levels.reduce((most, level, at) => (at % (size + 1) === 0 ? most : Math.max(most, level)), 0) / 255;
}

function degrees(matrix: Matrix): HTMLElement {
  const { edges, counts } = matrix.degrees;
  const names = edges.slice(0, -1).map((edge) => edge.toFixed(1));
  return element("div", { class: "charts" }, bars("Links a module", { x: "expected links, Σ P", y: "modules" }, names, counts));
}
