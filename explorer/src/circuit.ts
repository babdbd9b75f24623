/** The graph of a circuit, drawn by sigma: modules, read-outs, edges, what is looked at. */

import { NodeSquareProgram } from "@sigma/node-square";
import Graphology from "graphology";
import Sigma from "sigma";
import { colour, hex, shade, styled } from "./colours";
import { element } from "./dom";
import type { Graph } from "./types";

export type Layout = "by_force" | "by_signature";
export type Paint = "community" | "code" | "importance";

const NEAR = 12;
/** More modules and edges than this are not drawn together while the graph is moved. */
const FLUID = 1000;
/** Milliseconds after which a graph that was moved stands still. */
const SETTLED = 150;

/** What is shown: the first `edges` edges, and only these modules if some are gone. */
export interface Shown {
  edges: number;
  alive?: Set<number>;
  readouts?: boolean;
}

export interface Listeners {
  /** Hears which node is looked at, hovered before pinned. */
  told?: (node: number | null) => void;
  /** The colour of an edge, asked whenever it is drawn. */
  tone?: (rank: number) => string;
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
  private stale = true;
  private killed = false;
  private settled = 0;

  constructor(parent: HTMLElement, private readonly data: Graph, private readonly listeners: Listeners = {}) {
    parent.append(this.place);
    this.shown = { edges: usual(data) };
    this.neighbours = Array.from({ length: data.modules + data.readouts }, () => new Map());
    this.fill();
    this.read();
    this.link();
    this.sigma = new Sigma(this.graph, this.place, {
      allowInvalidContainer: true,
      labelRenderedSizeThreshold: 9,
      labelColor: { color: styled("text") },
      zIndex: true,
      nodeProgramClasses: { square: NodeSquareProgram },
      defaultDrawNodeHover: ring,
      nodeReducer: (key, node) => this.node(Number(key), node),
      edgeReducer: (key, edge) => this.edge(Number(key), edge),
    });
    this.lighten();
    this.listen();
  }

  show(shown: Shown): void {
    this.shown = { ...shown };
    this.stale = true;
    this.lighten();
    this.redraw();
  }

  arrange(layout: Layout): void {
    this.data[layout].forEach(([x, y], module) => this.graph.mergeNodeAttributes(module, { x, y }));
    this.sigma.refresh();
  }

  paint(by: Paint): void {
    const [low, high] = ends(this.data.importance);
    const colours: Record<Paint, (module: number) => string> = {
      community: (module) => colour(this.data.community[module]!),
      code: (module) => hex(shade(this.data.code?.[module] ?? 0)),
      importance: (module) => blend((this.data.importance[module]! - low) / (high - low || 1)),
    };
    for (let module = 0; module < this.data.modules; module++) this.graph.setNodeAttribute(module, "color", colours[by](module));
    this.redraw();
  }

  pin(node: number | null): void {
    this.pinned = node !== null && node >= 0 && node < this.neighbours.length ? node : null;
    this.look();
  }

  /** Let go of the canvases: a browser has sixteen for the whole page. */
  kill(): void {
    this.killed = true;
    this.sigma.kill();
    this.place.remove();
  }

  /** Neighbours of a node by P, the likeliest first. */
  heard(node: number): [number, number][] {
    const all = [...(this.neighbours[node] ?? [])].filter(([other]) => !this.gone(other));
    const known = all.map(([other, rank]): [number, number] => [other, this.probability(rank)]);
    return known.sort((a, b) => b[1] - a[1]).slice(0, NEAR);
  }

  name(node: number): string {
    return node < this.data.modules ? String(node) : `read-out ${node - this.data.modules}`;
  }

  /** Modules and edges as they lie on the screen, for a download. */
  svg(): string {
    const { width, height } = this.sigma.getDimensions();
    const parts = [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}">`];
    const { i, j, p } = this.data.edges;
    for (let rank = 0; rank < Math.min(this.shown.edges, p.length); rank++) {
      if (this.gone(i[rank]!) || this.gone(j[rank]!)) continue;
      const [from, to] = [this.where(i[rank]!), this.where(j[rank]!)];
      parts.push(`<line x1="${from.x.toFixed(1)}" y1="${from.y.toFixed(1)}" x2="${to.x.toFixed(1)}" y2="${to.y.toFixed(1)}" stroke="${this.listeners.tone?.(rank).slice(0, 7) ?? "#888"}" stroke-opacity="${(0.15 + 0.6 * p[rank]!).toFixed(2)}"/>`);
    }
    for (let module = 0; module < this.neighbours.length; module++) {
      if (this.gone(module)) continue;
      const { x, y } = this.where(module);
      const node = this.graph.getNodeAttributes(module) as { size: number; color: string };
      const corner = module < this.data.modules ? node.size : 1;
      parts.push(`<rect x="${(x - node.size).toFixed(1)}" y="${(y - node.size).toFixed(1)}" width="${2 * node.size}" height="${2 * node.size}" rx="${corner}" fill="${node.color}"><title>${this.name(module)}</title></rect>`);
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
      this.graph.addNode(module, { x, y, size: 3 + (largest - 3) * Math.sqrt(part), color: this.listeners.tone ? "#999999" : colour(this.data.community[module]!), label: String(module) });
    }
    edges.p.forEach((_, rank) => this.meet(rank));
  }

  /** Read-outs after the modules, their edges after the modules' own. */
  private read(): void {
    const { modules, readouts, heard, edges } = this.data;
    for (let out = 0; out < readouts; out++) {
      const [x, y] = this.data.by_force[modules + out]!;
      this.graph.addNode(modules + out, { x, y, size: 6, type: "square", color: "#999999", label: this.name(modules + out) });
    }
    heard.forEach((_, at) => this.meet(edges.p.length + at));
  }

  private meet(rank: number): void {
    const [i, j] = this.extremes(rank);
    this.neighbours[i]!.set(j, rank);
    this.neighbours[j]!.set(i, rank);
  }

  /** Sigma gets the edges that are shown alone: it would draw hidden ones too, unseen. */
  private link(): void {
    const { edges, heard } = this.data;
    this.graph.clearEdges();
    for (let rank = 0; rank < edges.p.length + heard.length; rank++) {
      if (!this.drawn(rank)) continue;
      const p = this.probability(rank);
      const [i, j] = this.extremes(rank);
      this.graph.addEdgeWithKey(rank, i, j, { size: 0.5 + 1.5 * p, color: tint(p / (edges.p[0] || 1)) });
    }
    this.stale = false;
  }

  /** With many edges, modules alone are drawn while the graph is moved. */
  private lighten(): void {
    const many = this.data.modules + this.shown.edges > FLUID;
    this.sigma.setSetting("hideEdgesOnMove", many);
    this.sigma.setSetting("hideLabelsOnMove", many);
    this.place.classList.toggle("many", many);
  }

  private probability(rank: number): number {
    const { p } = this.data.edges;
    return rank < p.length ? p[rank]! : this.data.heard[rank - p.length]![2];
  }

  private extremes(rank: number): [number, number] {
    const { i, j, p } = this.data.edges;
    if (rank < p.length) return [i[rank]!, j[rank]!];
    const [from, to] = this.data.heard[rank - p.length]!;
    return [from, to];
  }

  private drawn(rank: number): boolean {
    const total = this.data.edges.p.length;
    return rank < total ? rank < this.shown.edges : this.shown.readouts === true;
  }

  private listen(): void {
    this.sigma.on("enterNode", ({ node }) => this.hover(Number(node)));
    this.sigma.on("leaveNode", () => this.hover(null));
    this.sigma.on("clickNode", ({ node }) => this.pin(this.pinned === Number(node) ? null : Number(node)));
    this.sigma.on("clickStage", () => this.pin(null));
    this.sigma.getCamera().on("updated", () => this.moved());
    window.addEventListener("themechange", () => {
      this.sigma.setSetting("labelColor", { color: styled("text") });
    });
    this.place.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.place.offsetWidth && !this.killed && this.resize()).observe(this.place);
  }

  /** A canvas costs a frame time even if nothing is on it: see `.moving` in style.css. */
  private moved(): void {
    this.place.classList.add("moving");
    clearTimeout(this.settled);
    this.settled = window.setTimeout(() => this.place.classList.remove("moving"), SETTLED);
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
    this.listeners.told?.(this.looked());
    this.redraw();
  }

  private looked(): number | null {
    return this.hovered ?? this.pinned;
  }

  private gone(node: number): boolean {
    if (node >= this.data.modules) return !this.shown.readouts;
    return this.shown.alive !== undefined && !this.shown.alive.has(node);
  }

  private node(module: number, node: Record<string, unknown>): Record<string, unknown> {
    if (module >= this.data.modules && this.gone(module)) return { ...node, hidden: true };
    if (this.gone(module)) return { ...node, color: styled("faint"), size: 2, label: "" };
    const looked = this.looked();
    if (looked === null) return node;
    if (module === looked) return { ...node, highlighted: true, forceLabel: true, zIndex: 2 };
    const rank = this.neighbours[looked]!.get(module);
    const near = rank !== undefined && this.drawn(rank);
    return near ? { ...node, zIndex: 1 } : { ...node, color: styled("faint"), label: "" };
  }

  private edge(rank: number, edge: Record<string, unknown>): Record<string, unknown> {
    const [i, j] = this.extremes(rank);
    if (this.gone(i) || this.gone(j)) return { ...edge, hidden: true };
    const toned = this.listeners.tone && rank < this.data.edges.p.length;
    if (toned) edge = { ...edge, color: this.listeners.tone!(rank), size: 2.5 };
    const looked = this.looked();
    if (looked === null) return edge;
    if (i !== looked && j !== looked) return { ...edge, hidden: true };
    return toned ? { ...edge, zIndex: 1 } : { ...edge, color: "#E69F00", zIndex: 1 };
  }

  /** Draw again, once a frame however often it is asked for. */
  private redraw(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.killed) return;
      if (this.stale) this.link();
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
  return hex([124 * opacity, 135 * opacity, 152 * opacity, 255 * opacity]);
}

/** From light blue to dark orange, as importance grows. */
function blend(part: number): string {
  const [from, to] = [[86, 180, 233], [213, 94, 0]];
  return hex(from!.map((c, at) => Math.round(c + part * (to![at]! - c))));
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
