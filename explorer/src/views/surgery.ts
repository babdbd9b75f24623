/** Surgery: modules and edges go, and what that costs and saves. */

import { lines, type Chart, type Line } from "../chart";
import { Circuit } from "../circuit";
import { complaint, element, percent, short, slider } from "../dom";
import { csv, framed } from "../figure";
import type { Source } from "../source";
import type { Curves, Graph, Measured } from "../types";

const PATIENCE = 250;

export function surgeryView(place: HTMLElement, source: Source): void {
  const graph = source.run.graph;
  if (!graph) {
    place.append(element("p", { class: "empty" }, `A ${source.run.model} has no learned graph to operate on.`));
    return;
  }
  new Surgery(place, source, graph);
}

class Surgery {
  private readonly circuit: Circuit;
  private readonly said = element("dl", { class: "figures", "aria-live": "polite" });
  private readonly charts = element("div", { class: "charts wide" }, element("p", {}, "Measuring smaller circuits …"));
  private readonly ranked: number[];
  private marks: { modules: Chart[]; edges: Chart[] } = { modules: [], edges: [] };
  private curves: Curves | null = null;
  private timer = 0;
  private asked = 0;

  private readonly modules = slider("Modules removed", { min: 0, max: 0.95, step: 0.01, value: 0 }, percent, () => this.moved());
  private readonly edges: ReturnType<typeof slider>;

  constructor(place: HTMLElement, private readonly source: Source, private readonly graph: Graph) {
    this.edges = slider("Edges removed", { min: graph.edges_removed, max: 1, step: 0.01, value: graph.edges_removed }, percent, () => this.moved());
    this.ranked = graph.importance.map((_, module) => module).sort((a, b) => graph.importance[b]! - graph.importance[a]! || a - b);
    const picture = element("div", { class: "frame" });
    const figure = framed("What is left", picture, { svg: () => this.circuit.svg(), csv: () => this.left() });
    figure.insertBefore(element("div", { class: "controls" }, this.modules.node, this.edges.node), picture);
    const side = element("aside", { class: "about" }, element("h2", {}, "This circuit"), this.said, this.saving());
    place.append(element("div", { class: "beside" }, figure, side), this.charts);
    this.circuit = new Circuit(picture, graph);
    this.moved();
    source.curves().then((curves) => this.plot(curves)).catch((error: unknown) => this.charts.replaceChildren(complaint(error)));
  }

  private get kept(): number {
    return Math.max(1, Math.round(this.graph.modules * (1 - this.modules.value())));
  }

  private moved(): void {
    const alive = new Set(this.ranked.slice(0, this.kept));
    const { rank, left } = this.cut(alive);
    this.circuit.show({ edges: rank, alive });
    this.marks.modules.forEach((chart) => chart.mark(100 * this.modules.value()));
    this.marks.edges.forEach((chart) => chart.mark(100 * this.edges.value()));
    this.say(left, this.near(), "measuring …");
    window.clearTimeout(this.timer);
    if (this.source.live) this.timer = window.setTimeout(() => void this.measure(left), PATIENCE);
    else this.say(left, this.near(), "not measured here");
  }

  /** Up to which rank edges are drawn, and how many are left among the living. */
  private cut(alive: Set<number>): { rank: number; left: number } {
    const { i, j, p } = this.graph.edges;
    const pairs = (alive.size * (alive.size - 1)) / 2;
    const left = pairs - Math.round(this.edges.value() * pairs);
    let [found, rank] = [0, 0];
    while (rank < p.length && found < left) {
      if (alive.has(i[rank]!) && alive.has(j[rank]!)) found++;
      rank++;
    }
    // More lines than this hide each other.
    return { rank: Math.min(rank, 12 * this.graph.modules), left };
  }

  private async measure(left: number): Promise<void> {
    const turn = ++this.asked;
    try {
      const found = await this.source.measure(this.modules.value(), this.edges.value());
      if (turn === this.asked) this.say(left, found, "");
    } catch (error) {
      if (turn === this.asked) this.said.replaceChildren(complaint(error));
    }
  }

  /** What was measured at just these shares, if it was. */
  private near(): Measured | null {
    const [modules, edges] = [this.modules.value(), this.edges.value()];
    const all = [...(this.curves?.modules ?? []), ...(this.curves?.edges ?? [])];
    return all.find((row) => Math.abs(row.modules - modules) < 5e-3 && Math.abs(row.edges - edges) < 5e-3) ?? null;
  }

  private say(left: number, found: Measured | null, otherwise: string): void {
    const rows: [string, string][] = [
      ["modules", `${this.kept} of ${this.graph.modules}`],
      ["edges", String(left)],
      [found?.rmse === undefined ? "accuracy" : "error", found ? score(found) : otherwise],
      ["multiply-adds", found ? short(found.multiply_adds) : otherwise],
      ["speed", found ? `${found.speedup.toFixed(1)} ×` : otherwise],
    ];
    this.said.replaceChildren(...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  }

  private plot(curves: Curves): void {
    this.curves = curves;
    const note = `${curves.modules[0]?.samples ?? 0} test samples; the dashed line is where the sliders are.`;
    const drawn = (["modules", "edges"] as const).map((what) => {
      const rows = curves[what];
      const charts = [
        lines(`Accuracy as ${what} go`, { x: `${what} removed, %`, y: scoreName(rows) }, [line(rows, what, "test", (row) => 100 * (row.accuracy ?? (row.rmse ?? 0) / 100))], note),
        lines(`Multiply-adds as ${what} go`, { x: `${what} removed, %`, y: "share of the whole, %", low: 0, high: 100 }, [line(rows, what, "multiply-adds", (row) => (100 * row.multiply_adds) / (rows[0]?.multiply_adds ?? 1))]),
      ];
      this.marks[what] = charts;
      return charts.map((chart) => chart.node);
    });
    this.charts.replaceChildren(...drawn.flat());
    this.moved();
  }

  private saving(): HTMLElement {
    if (!this.source.live) return element("p", { class: "note" }, "Open the run with nacs view to measure any share and to save a circuit.");
    const name = element("input", { type: "text", required: true, value: `${this.source.run.run}-small`, "aria-label": "Name of the new run folder" });
    const answer = element("p", { class: "note", role: "status" });
    const button = element("button", { type: "submit" }, "Save this circuit");
    const form = element("form", {}, name, button, answer);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      button.disabled = true;
      answer.textContent = "Measuring and writing …";
      this.source.save(this.modules.value(), this.edges.value(), name.value)
        .then((run) => (answer.textContent = `Written to ${run}`))
        .catch((error: unknown) => answer.replaceChildren(complaint(error)))
        .finally(() => (button.disabled = false));
    });
    return form;
  }

  private left(): string {
    return csv(["module", "importance"], this.ranked.slice(0, this.kept).map((module) => [module, this.graph.importance[module]!]));
  }
}

function line(rows: Measured[], what: "modules" | "edges", name: string, value: (row: Measured) => number): Line {
  return { name, dots: true, points: rows.map((row): [number, number] => [100 * row[what], value(row)]) };
}

function score(found: Measured): string {
  return found.accuracy === undefined ? (found.rmse ?? NaN).toPrecision(3) : percent(found.accuracy, 1);
}

function scoreName(rows: Measured[]): string {
  return rows[0]?.accuracy === undefined ? "root mean squared error" : "accuracy, %";
}
