/** Matrices as pixels. */

import { shade } from "./colours";
import { element, percent, short } from "./dom";
import { canvasSvg, csv, framed } from "./figure";

/** A matrix of bytes, rows and columns in the given orders; `top` and more is brightest. */
export function heat(title: string, levels: ArrayLike<number>, rows: number[], columns: number[], stride: number, note = "", top = 1): HTMLElement {
  const canvas = element("canvas", { class: "heat", role: "img", "aria-label": title, tabindex: 0 });
  paint(canvas, levels, rows, columns, stride, top);
  const said = element("p", { class: "note" }, note);
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const row = rows[Math.floor(((event.clientY - box.top) / box.height) * rows.length)];
    const column = columns[Math.floor(((event.clientX - box.left) / box.width) * columns.length)];
    if (row === undefined || column === undefined) return;
    said.textContent = `row ${row}, column ${column}: ${percent((levels[row * stride + column] ?? 0) / 255)}`;
  });
  canvas.addEventListener("pointerleave", () => (said.textContent = note));
  const table = (): string => csv(
    ["", ...columns.map(String)],
    rows.map((row) => [row, ...columns.map((column) => Number(((levels[row * stride + column] ?? 0) / 255).toFixed(3)))]),
  );
  const node = framed(title, canvas, { svg: () => canvasSvg(canvas), csv: table });
  node.append(scale(top), said);
  return node;
}

function paint(canvas: HTMLCanvasElement, levels: ArrayLike<number>, rows: number[], columns: number[], stride: number, top: number): void {
  canvas.width = columns.length;
  canvas.height = rows.length;
  const context = canvas.getContext("2d");
  if (!context || !rows.length || !columns.length) return;
  const table = Array.from({ length: 256 }, (_, level) => shade(level / 255 / top));
  const pixels = context.createImageData(columns.length, rows.length);
  rows.forEach((row, y) => columns.forEach((column, x) => {
    const [red, green, blue] = table[levels[row * stride + column] ?? 0]!;
    pixels.data.set([red, green, blue, 255], 4 * (y * columns.length + x));
  }));
  context.putImageData(pixels, 0, 0);
}

/** The scale of colours. */
function scale(top: number): HTMLElement {
  const canvas = element("canvas", { width: 128, height: 1, class: "scale" });
  const context = canvas.getContext("2d");
  for (let x = 0; context && x < 128; x++) {
    context.fillStyle = `rgb(${shade(x / 127).join(",")})`;
    context.fillRect(x, 0, 1, 1);
  }
  return element("p", { class: "legend" }, "0", canvas, short(top));
}
