/** Elements of the page, made in one line each. */

type Child = Node | string;
type Attributes = Record<string, string | number | boolean>;

export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  set(made, attributes);
  made.append(...children);
  return made;
}

export function drawn(tag: string, attributes: Attributes = {}, ...children: Child[]): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(made, attributes);
  made.append(...children);
  return made;
}

function set(made: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
}

export interface Slider {
  node: HTMLElement;
  input: HTMLInputElement;
  value: () => number;
}

/** A labelled slider that says its value in words. */
export function slider(
  label: string,
  range: { min: number; max: number; step: number; value: number },
  say: (value: number) => string,
  moved: (value: number) => void,
): Slider {
  const input = element("input", { type: "range", ...range });
  const output = element("output", {}, say(range.value));
  input.addEventListener("input", () => {
    output.textContent = say(input.valueAsNumber);
    moved(input.valueAsNumber);
  });
  const node = element("label", { class: "slider" }, element("span", {}, label), output, input);
  return { node, input, value: () => input.valueAsNumber };
}

export function choice(
  label: string,
  options: Record<string, string>,
  chosen: (value: string) => void,
): HTMLLabelElement {
  const select = element("select");
  for (const [value, text] of Object.entries(options)) {
    select.append(element("option", { value }, text));
  }
  select.addEventListener("change", () => chosen(select.value));
  return element("label", { class: "choice" }, element("span", {}, label), select);
}

export function toggle(label: string, on: boolean, chosen: (on: boolean) => void): HTMLLabelElement {
  const input = element("input", { type: "checkbox", checked: on });
  input.addEventListener("change", () => chosen(input.checked));
  return element("label", { class: "choice" }, input, element("span", {}, label));
}

export function numberField(
  label: string,
  range: { min: number; max?: number; value?: number },
  chosen: (value: number | null) => void,
): HTMLLabelElement {
  const input = element("input", { type: "number", step: 1, ...range });
  input.addEventListener("change", () => {
    chosen(input.value === "" || !input.checkValidity() ? null : input.valueAsNumber);
  });
  return element("label", { class: "choice" }, element("span", {}, label), input);
}

/** What went wrong, in the place of what should have been there. */
export function complaint(error: unknown): HTMLElement {
  const text = error instanceof Error ? error.message : String(error);
  return element("p", { class: "complaint", role: "alert" }, text);
}

export function bytes(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

export function percent(share: number, digits = 0): string {
  return `${(100 * share).toFixed(digits)} %`;
}

export function short(value: number): string {
  const units: [number, string][] = [[1e9, " G"], [1e6, " M"], [1e3, " k"]];
  for (const [size, name] of units) {
    if (Math.abs(value) >= size) return `${(value / size).toPrecision(3)}${name}`;
  }
  return String(Number(value.toPrecision(3)));
}
