/** Curves and bars as SVG, small enough to need no library. */

import { colour } from "./colours";
import { drawn, element, short } from "./dom";
import { csv, framed, svgText } from "./figure";

export interface Line {
  name: string;
  points: [number, number][];
  dots?: boolean;
  dashed?: boolean;
}

export interface Chart {
  node: HTMLElement;
  /** Move the vertical mark to a place on the x axis. */
  mark: (x: number) => void;
}

interface Axes {
  x: string;
  y: string;
  /** Forced ends of the y axis. */
  low?: number;
  high?: number;
}

const HEIGHT = 260;
const SPACE = { left: 48, right: 14, top: 28, bottom: 38 };

type Scale = (value: number) => number;

export function lines(title: string, axes: Axes, data: Line[], note = ""): Chart {
  const { picture, x, y, width } = frame(axes, data.flatMap((line) => line.points));
  data.forEach((line, index) => picture.append(...curve(line, colour(index), x, y)));
  const bar = drawn("line", { y1: SPACE.top, y2: HEIGHT - SPACE.bottom, stroke: "currentColor", "stroke-dasharray": "4 3", visibility: "hidden" });
  picture.append(bar);
  const table = () => csv(["line", axes.x, axes.y], data.flatMap((line) => line.points.map(([a, b]) => [line.name, a, b])));
  const node = framed(title, picture, { svg: () => svgText(picture), csv: table }, note);
  if (data.length > 1) node.insertBefore(legend(data.map((line) => line.name)), picture);
  hover(picture, data, x, y);
  const mark = (at: number): void => {
    bar.setAttribute("visibility", "visible");
    bar.setAttribute("x1", String(Math.min(width, x(at))));
    bar.setAttribute("x2", String(Math.min(width, x(at))));
  };
  return { node, mark };
}

/** Bars side by side; one series, or a few with the same bins. */
export function bars(title: string, axes: Axes, names: string[], data: Record<string, number[]>, marked = -1, note = ""): HTMLElement {
  const series = Object.entries(data);
  const count = names.length;
  const points = series.flatMap(([, values]) => values.map((v): [number, number] => [0, v]));
  const { picture, y, width } = frame({ low: 0, ...axes }, [[0, 0], [count, 0], ...points], names);
  const step = (width - SPACE.left - SPACE.right) / Math.max(1, count);
  const wide = (0.86 * step) / series.length;
  series.forEach(([name, values], which) => {
    values.forEach((value, index) => {
      const bar = drawn("rect", {
        x: SPACE.left + (index + 0.07) * step + which * wide, y: y(value), width: Math.max(0.5, wide),
        height: Math.max(0, y(0) - y(value)), fill: colour(index === marked ? 2 : which),
      });
      bar.append(drawn("title", {}, `${names[index]}: ${short(value)} (${name})`));
      picture.append(bar);
    });
  });
  const table = () => csv([axes.x, ...series.map(([name]) => name)], names.map((name, i) => [name, ...series.map(([, v]) => v[i] ?? null)]));
  const node = framed(title, picture, { svg: () => svgText(picture), csv: table }, note);
  if (series.length > 1) node.insertBefore(legend(series.map(([name]) => name)), picture);
  return node;
}

export interface Dot {
  at: [number, number];
  name: string;
  colour: string;
}

/** Points to be chosen from; `chosen` hears which, by click or key. */
export function scatter(title: string, axes: Axes, dots: Dot[], chosen: (index: number) => void, note = ""): HTMLElement {
  const { picture, x, y } = frame(axes, dots.map((dot) => dot.at));
  dots.forEach(({ at, name, colour: fill }, index) => {
    const dot = drawn("circle", { cx: x(at[0]), cy: y(at[1]), r: 4.5, fill, "fill-opacity": 0.8, class: "dot", tabindex: 0, role: "button", "aria-label": name });
    dot.append(drawn("title", {}, name));
    dot.addEventListener("click", () => chosen(index));
    dot.addEventListener("keydown", (event) => (event as KeyboardEvent).key === "Enter" && chosen(index));
    picture.append(dot);
  });
  const table = () => csv(["name", axes.x, axes.y], dots.map((dot) => [dot.name, ...dot.at]));
  return framed(title, picture, { svg: () => svgText(picture), csv: table }, note);
}

function frame(axes: Axes, points: [number, number][], names?: string[]): { picture: SVGElement; x: Scale; y: Scale; width: number } {
  const width = Math.max(300, Math.min(440, window.innerWidth - 42));
  const [left, right] = extent(points.map((p) => p[0]));
  const [lowest, highest] = extent(points.map((p) => p[1]));
  const ticks = steps(axes.low ?? lowest, axes.high ?? highest, 5);
  const [low, high] = [Math.min(axes.low ?? lowest, ticks[0]!), Math.max(axes.high ?? highest, ticks.at(-1)!)];
  const x: Scale = (v) => SPACE.left + ((v - left) / (right - left)) * (width - SPACE.left - SPACE.right);
  const y: Scale = (v) => HEIGHT - SPACE.bottom - ((v - low) / (high - low)) * (HEIGHT - SPACE.top - SPACE.bottom);
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, class: "chart", role: "img", "aria-label": `${axes.y} by ${axes.x}` });
  for (const tick of ticks) {
    picture.append(
      drawn("line", { x1: SPACE.left, x2: width - SPACE.right, y1: y(tick), y2: y(tick), stroke: "currentColor", opacity: 0.15 }),
      words(exact(tick), SPACE.left - 6, y(tick) + 4, "end"),
    );
  }
  if (names) {
    const longest = 7 * Math.min(8, Math.max(...names.map((name) => name.length))) + 6;
    const every = Math.ceil((names.length * longest) / (width - SPACE.left - SPACE.right));
    const half = (x(1) - x(0)) / 2;
    names.forEach((name, i) => i % every === 0 && picture.append(words(name.slice(0, 8), x(i) + half, HEIGHT - SPACE.bottom + 15, "middle")));
  } else {
    for (const tick of steps(left, right, 6)) {
      if (tick >= left && tick <= right) picture.append(words(exact(tick), x(tick), HEIGHT - SPACE.bottom + 15, "middle"));
    }
  }
  picture.append(words(axes.x, (SPACE.left + width) / 2, HEIGHT - 6, "middle"));
  picture.append(words(axes.y, 4, 14, "start"));
  return { picture, x, y, width };
}

function curve(line: Line, stroke: string, x: Scale, y: Scale): SVGElement[] {
  const path = line.points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const made = [drawn("path", { d: path, fill: "none", stroke, "stroke-width": 2, "stroke-dasharray": line.dashed ? "6 4" : false })];
  if (line.dots || line.points.length < 12) made.push(...line.points.map(([a, b]) => drawn("circle", { cx: x(a), cy: y(b), r: 3, fill: stroke })));
  return made;
}

/** Say the numbers of the nearest point under the pointer. */
function hover(picture: SVGElement, data: Line[], x: Scale, y: Scale): void {
  const dot = drawn("circle", { r: 5, fill: "none", stroke: "currentColor", "stroke-width": 2, visibility: "hidden" });
  const said = words("", 0, 0, "start");
  picture.append(dot, said);
  picture.addEventListener("pointerleave", () => {
    dot.setAttribute("visibility", "hidden");
    said.textContent = "";
  });
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const zoom = box.width / Number(picture.getAttribute("viewBox")?.split(" ")[2] ?? 1);
    const [px, py] = [(event.clientX - box.left) / zoom, (event.clientY - box.top) / zoom];
    const all = data.flatMap((line) => line.points.map((point) => ({ name: line.name, point })));
    const near = all.reduce<{ name: string; point: [number, number]; far: number } | null>((best, each) => {
      const far = (x(each.point[0]) - px) ** 2 + (y(each.point[1]) - py) ** 2;
      return best && best.far <= far ? best : { ...each, far };
    }, null);
    if (!near) return;
    const [cx, cy] = [x(near.point[0]), y(near.point[1])];
    dot.setAttribute("cx", String(cx));
    dot.setAttribute("cy", String(cy));
    dot.setAttribute("visibility", "visible");
    said.textContent = `${short(near.point[0])}: ${short(near.point[1])}`;
    said.setAttribute("text-anchor", cx > box.width / zoom / 2 ? "end" : "start");
    said.setAttribute("x", String(cx + (cx > box.width / zoom / 2 ? -9 : 9)));
    said.setAttribute("y", String(Math.max(SPACE.top + 10, cy - 8)));
  });
}

function legend(names: string[]): HTMLElement {
  const made = element("p", { class: "legend" });
  names.forEach((name, index) => {
    const swatch = element("i");
    swatch.style.background = colour(index);
    made.append(element("span", {}, swatch, name));
  });
  return made;
}

function words(text: string, x: number, y: number, anchor: string): SVGElement {
  return drawn("text", { x, y, "text-anchor": anchor, "font-size": 12, fill: "currentColor" }, text);
}

/** All digits of a tick, which has few, unless it is long. */
function exact(tick: number): string {
  return Math.abs(tick) < 1e4 ? String(tick) : short(tick);
}

function extent(values: number[]): [number, number] {
  const found = values.filter(Number.isFinite);
  let [low, high] = [Infinity, -Infinity];
  for (const value of found) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (!found.length) return [0, 1];
  return low === high ? [low - 0.5 * (Math.abs(low) || 1), high + 0.5 * (Math.abs(high) || 1)] : [low, high];
}

/** Round numbers that cover [low, high] in about `count` steps. */
function steps(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * ([1, 2, 5, 10].find((each) => each * size >= rough) ?? 10);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}
