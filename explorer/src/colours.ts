/** Colours that colour-blind readers tell apart, and the switch of dark and light. */

/** Okabe and Ito's palette without black, which a dark page swallows; Tol's wine, and grey. */
export const PALETTE = [
  "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#F0E442", "#7B6CC4", "#999999",
] as const;

export const GREY = PALETTE.length - 1;

export function colour(index: number): string {
  return PALETTE[Math.min(index, PALETTE.length - 1)] ?? "#999999";
}

/** Cividis at nine places: even steps of light, the same for all readers. */
const CIVIDIS: [number, number, number][] = [
  [0, 34, 78], [24, 53, 111], [63, 75, 109], [91, 96, 111], [123, 123, 120],
  [150, 142, 115], [185, 171, 98], [219, 196, 79], [254, 232, 56],
];

/** Red, green and blue of a value in [0, 1]. */
export function shade(value: number): [number, number, number] {
  const place = Math.max(0, Math.min(1, value)) * (CIVIDIS.length - 1);
  const below = Math.min(CIVIDIS.length - 2, Math.floor(place));
  const part = place - below;
  const [from, to] = [CIVIDIS[below]!, CIVIDIS[below + 1]!];
  return [0, 1, 2].map((c) => Math.round(from[c]! + part * (to[c]! - from[c]!))) as [
    number, number, number,
  ];
}

export function hex(parts: number[]): string {
  return `#${parts.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;
}

/** A colour of the style sheet, as it is now. */
export function styled(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const THEMES = ["auto", "light", "dark"];

/** Let a button go through the themes; `themechange` tells who draws by hand. */
export function themed(button: HTMLButtonElement): void {
  const root = document.documentElement;
  const show = (theme: string): void => {
    root.dataset["theme"] = theme;
    button.textContent = `Theme: ${theme}`;
    remember(theme);
    window.dispatchEvent(new Event("themechange"));
  };
  button.addEventListener("click", () => {
    const next = THEMES.indexOf(root.dataset["theme"] ?? "auto") + 1;
    show(THEMES[next % THEMES.length]!);
  });
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", () => window.dispatchEvent(new Event("themechange")));
  show(remembered());
}

function remember(theme: string): void {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // A page opened as a file may have no storage.
  }
}

function remembered(): string {
  try {
    const theme = localStorage.getItem("theme") ?? "auto";
    return THEMES.includes(theme) ? theme : "auto";
  } catch {
    return "auto";
  }
}
