/** The graph of a circuit, drawn by sigma: modules, edges, what is hovered and pinned. */

import Graphology from "graphology";
import Sigma from "sigma";
import { colour, styled } from "./colours";
import { element } from "./dom";
import type { Graph } from "./types";

export type Layout = "by_force" | "by_signature";

const NEAR = 12;
/** While the graph is moved, no more edges than this are drawn. */
const FLUID = 1000;

/** What is shown: the first `edges` edges, and only these modules if some are gone. */
export interface Shown {
  edges: number;
  alive?: Set<number>;
}

export class Circuit {
  readonly place = element("div", { class: "circuit", tabindex: 0, role: "img", "aria-label": "Graph of the circuit: arrow keys move it, + and - zoom, Escape lets go of a module" });
  private readonly sigma: Sigma;
  private readonly graph = new Graphology({ type: "undirected" });
  private readonly neighbours: Map<number, number>[];
  private shown: Shown;
  private hovered: number | null = null;
  private pinned: number | null = null;
  private waiting = false;

  /** `told` hears which module is looked at, hovered before pinned. */
  constructor(parent: HTMLElement, private readonly data: Graph, private readonly told: (module: number | null) => void = () => {}) {
    parent.append(this.place);
    this.shown = { edges: usual(data) };
    this.neighbours = Array.from({ length: data.modules }, () => new Map());
    this.fill();
    this.sigma = new Sigma(this.graph, this.place, {
      allowInvalidContainer: true,
      labelRenderedSizeThreshold: 9,
      labelColor: { color: styled("text") },
      hideEdgesOnMove: this.shown.edges > FLUID,
      zIndex: true,
      defaultDrawNodeHover: ring,
      nodeReducer: (key, node) => this.node(Number(key), node),
      edgeReducer: (key, edge) => this.edge(Number(key), edge),
    });
    this.listen();
  }

  show(shown: Shown): void {
    this.shown = shown;
    this.sigma.setSetting("hideEdgesOnMove", shown.edges > FLUID);
    this.redraw();
  }

  arrange(layout: Layout): void {
    this.data[layout].forEach(([x, y], module) => this.graph.mergeNodeAttributes(module, { x, y }));
    this.sigma.refresh();
  }

  paint(by: "community" | "importance"): void {
    const [low, high] = ends(this.data.importance);
    this.data.community.forEach((group, module) => {
      const part = (this.data.importance[module]! - low) / (high - low || 1);
      this.graph.setNodeAttribute(module, "color", by === "community" ? colour(group) : blend(part));
    });
    this.redraw();
  }

  pin(module: number | null): void {
    this.pinned = module !== null && module >= 0 && module < this.data.modules ? module : null;
    this.look();
  }

  /** Neighbours of a module by P, the likeliest first. */
  heard(module: number): [number, number][] {
    const alive = this.shown.alive;
    const all = [...(this.neighbours[module] ?? [])].filter(([other]) => !alive || alive.has(other));
    return all.map(([other, rank]): [number, number] => [other, this.data.edges.p[rank]!]).slice(0, NEAR);
  }

  /** Modules and edges as they lie on the screen, for a download. */
  svg(): string {
    const { width, height } = this.sigma.getDimensions();
    const parts = [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}">`];
    const { i, j, p } = this.data.edges;
    for (let rank = 0; rank < Math.min(this.shown.edges, p.length); rank++) {
      if (this.gone(i[rank]!) || this.gone(j[rank]!)) continue;
      const [from, to] = [this.where(i[rank]!), this.where(j[rank]!)];
      parts.push(`<line x1="${from.x.toFixed(1)}" y1="${from.y.toFixed(1)}" x2="${to.x.toFixed(1)}" y2="${to.y.toFixed(1)}" stroke="#888" stroke-opacity="${(0.15 + 0.6 * p[rank]!).toFixed(2)}"/>`);
    }
    for (let module = 0; module < this.data.modules; module++) {
      if (this.gone(module)) continue;
      const { x, y } = this.where(module);
      const node = this.graph.getNodeAttributes(module) as { size: number; color: string };
      parts.push(`<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${node.size.toFixed(1)}" fill="${node.color}"><title>module ${module}</title></circle>`);
    }
    return `${parts.join("\n")}\n</svg>\n`;
  }

  /** Where a module lies in the picture, in pixels. */
  where(module: number): { x: number; y: number } {
    return this.sigma.graphToViewport(this.graph.getNodeAttributes(module) as { x: number; y: number });
  }

  resize(): void {
    this.sigma.resize();
    this.redraw();
  }

  private fill(): void {
    const { edges, importance, modules } = this.data;
    const [low, high] = ends(importance);
    const largest = modules > 400 ? 8 : modules > 100 ? 11 : 16;
    for (let module = 0; module < modules; module++) {
      const [x, y] = this.data.by_force[module]!;
      const part = (importance[module]! - low) / (high - low || 1);
      this.graph.addNode(module, { x, y, size: 3 + (largest - 3) * Math.sqrt(part), color: colour(this.data.community[module]!), label: String(module) });
    }
    edges.p.forEach((p, rank) => {
      this.graph.addEdgeWithKey(rank, edges.i[rank], edges.j[rank], { size: 0.5 + 1.5 * p, color: tint(p / (edges.p[0] || 1)) });
      this.neighbours[edges.i[rank]!]!.set(edges.j[rank]!, rank);
      this.neighbours[edges.j[rank]!]!.set(edges.i[rank]!, rank);
    });
  }

  private listen(): void {
    this.sigma.on("enterNode", ({ node }) => this.hover(Number(node)));
    this.sigma.on("leaveNode", () => this.hover(null));
    this.sigma.on("clickNode", ({ node }) => this.pin(this.pinned === Number(node) ? null : Number(node)));
    this.sigma.on("clickStage", () => this.pin(null));
    window.addEventListener("themechange", () => {
      this.sigma.setSetting("labelColor", { color: styled("text") });
    });
    this.place.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.place.offsetWidth && this.resize()).observe(this.place);
  }

  private key(event: KeyboardEvent): void {
    const camera = this.sigma.getCamera();
    const step = 0.08 * camera.ratio;
    const moves: Record<string, () => void> = {
      ArrowLeft: () => camera.setState({ x: camera.x - step }),
      ArrowRight: () => camera.setState({ x: camera.x + step }),
      ArrowUp: () => camera.setState({ y: camera.y + step }),
      ArrowDown: () => camera.setState({ y: camera.y - step }),
      "+": () => camera.setState({ ratio: camera.ratio / 1.25 }),
      "-": () => camera.setState({ ratio: camera.ratio * 1.25 }),
      Escape: () => this.pin(null),
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    move();
  }

  private hover(module: number | null): void {
    this.hovered = module;
    this.look();
  }

  private look(): void {
    this.told(this.looked());
    this.redraw();
  }

  private looked(): number | null {
    return this.hovered ?? this.pinned;
  }

  private gone(module: number): boolean {
    return this.shown.alive !== undefined && !this.shown.alive.has(module);
  }

  private node(module: number, node: Record<string, unknown>): Record<string, unknown> {
    if (this.gone(module)) return { ...node, color: styled("faint"), size: 2, label: "" };
    const looked = this.looked();
    if (looked === null) return node;
    if (module === looked) return { ...node, highlighted: true, forceLabel: true, zIndex: 2 };
    const rank = this.neighbours[looked]!.get(module);
    const near = rank !== undefined && rank < this.shown.edges;
    return near ? { ...node, zIndex: 1 } : { ...node, color: styled("faint"), label: "" };
  }

  private edge(rank: number, edge: Record<string, unknown>): Record<string, unknown> {
    const [i, j] = [this.data.edges.i[rank]!, this.data.edges.j[rank]!];
    if (rank >= this.shown.edges || this.gone(i) || this.gone(j)) return { ...edge, hidden: true };
    const looked = this.looked();
    if (looked === null) return edge;
    if (i !== looked && j !== looked) return { ...edge, hidden: true };
    return { ...edge, color: "#E69F00", zIndex: 1 };
  }

  /** Draw again, once a frame however often it is asked for. */
  private redraw(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.sigma.refresh({ skipIndexation: true });
    });
  }
}

/** How many edges are shown at first: those above ½, at most the likeliest three a module. */
export function usual(graph: Graph): number {
  const sure = graph.edges.p.findIndex((p) => p <= 0.5);
  const likely = sure < 0 ? graph.edges.p.length : sure;
  const few = Math.min(graph.edges.p.length, 3 * graph.modules);
  return likely >= graph.modules ? Math.min(likely, few) : few;
}

function ends(values: number[]): [number, number] {
  return values.reduce<[number, number]>(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

/** Grey that fades as links get unlikely, multiplied by its opacity as WebGL blends. */
function tint(part: number): string {
  const opacity = 0.1 + 0.75 * part;
  const parts = [124 * opacity, 135 * opacity, 152 * opacity, 255 * opacity];
  return `#${parts.map((each) => Math.round(each).toString(16).padStart(2, "0")).join("")}`;
}

/** From light blue to dark orange, as importance grows. */
function blend(part: number): string {
  const [from, to] = [[86, 180, 233], [213, 94, 0]];
  const mixed = from!.map((c, at) => Math.round(c + part * (to![at]! - c)));
  return `#${mixed.map((c) => c.toString(16).padStart(2, "0")).join("")}`;
}

function ring(context: CanvasRenderingContext2D, node: { x: number; y: number; size: number; label?: string | null }): void {
  context.strokeStyle = styled("text");
  context.lineWidth = 2;
  context.beginPath();
  context.arc(node.x, node.y, node.size + 3, 0, 2 * Math.PI);
  context.stroke();
  context.fillStyle = styled("text");
  context.font = "bold 13px sans-serif";
  context.fillText(node.label ?? "", node.x + node.size + 6, node.y + 4);
}
