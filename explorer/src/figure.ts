/** A titled frame around a picture, with its numbers and itself to be downloaded. */

import { element } from "./dom";

export interface Files {
  svg?: () => string;
  csv?: () => string;
}

export function framed(title: string, picture: Node, files: Files, note = ""): HTMLElement {
  const buttons = element("span", { class: "files" });
  for (const [kind, make] of Object.entries(files) as [keyof Files, () => string][]) {
    const button = element("button", { type: "button", "aria-label": `${kind} of ${title}` }, kind.toUpperCase());
    button.addEventListener("click", () => download(`${slug(title)}.${kind}`, make()));
    buttons.append(button);
  }
  const caption = element("figcaption", {}, element("strong", {}, title), buttons);
  const made = element("figure", {}, caption, picture);
  if (note) made.append(element("p", { class: "note" }, note));
  return made;
}

export function csv(header: string[], rows: Iterable<(string | number | null)[]>): string {
  const lines = [header, ...rows].map((row) => row.map(cell).join(","));
  return `${lines.join("\n")}\n`;
}

function cell(value: string | number | null): string {
  const text = value === null ? "" : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** An SVG of the page as a file of its own, with the page's colour of text. */
export function svgText(picture: SVGElement): string {
  const copy = picture.cloneNode(true) as SVGElement;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("color", getComputedStyle(picture).color);
  copy.setAttribute("font-family", "sans-serif");
  return new XMLSerializer().serializeToString(copy);
}

/** A canvas as an SVG that holds its pixels. */
export function canvasSvg(canvas: HTMLCanvasElement): string {
  const { width, height } = canvas;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}">` +
    `<image width="${width}" height="${height}" href="${canvas.toDataURL()}"` +
    ` image-rendering="pixelated"/></svg>`
  );
}

function download(name: string, text: string): void {
  const type = name.endsWith("svg") ? "image/svg+xml" : "text/csv";
  const link = element("a", { download: name });
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function slug(title: string): string {
  return title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
}
