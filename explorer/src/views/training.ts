/** Training: curves of the run as it goes, and of those beside it. */

import { lines, type Line } from "../chart";
import { complaint, element } from "../dom";
import type { Source } from "../source";
import type { Row } from "../types";

const EVERY = 3000;
const HIDDEN = new Set(["epoch", "seconds", "val_count"]);

export function trainingView(place: HTMLElement, source: Source): void {
  let shown = "";
  const show = (runs: Record<string, Row[]>): void => {
    const now = JSON.stringify(runs);
    if (now === shown) return;
    shown = now;
    place.replaceChildren(...charts(runs));
  };
  show(source.run.training);
  if (!source.live) return;
  window.setInterval(() => {
    if (!place.offsetParent || document.hidden) return;
    source.metrics().then(show, (error: unknown) => {
      if (!place.querySelector(".complaint")) place.prepend(complaint(error));
      shown = "";
    });
  }, EVERY);
}

function charts(runs: Record<string, Row[]>): HTMLElement[] {
  const names = new Set(Object.values(runs).flatMap((rows) => rows.flatMap((row) => Object.keys(row))));
  const asked = [...names].filter((name) => !HIDDEN.has(name));
  if (!asked.length) return [element("p", { class: "empty" }, "No epoch is finished yet; the curves come as they are.")];
  const made = asked.filter((name) => name !== "val_loss" || !names.has("loss")).map((name) => chart(name, runs, names));
  return [element("div", { class: "charts" }, ...made)];
}

/** Losses of training and validation share a chart. */
function chart(name: string, runs: Record<string, Row[]>, names: Set<string>): HTMLElement {
  const both = name === "loss" && names.has("val_loss");
  const several = Object.keys(runs).length > 1;
  const data = Object.entries(runs).flatMap(([run, rows]): Line[] =>
    (both ? ["loss", "val_loss"] : [name]).map((each) => ({
      name: both ? `${several ? `${run}: ` : ""}${each === "loss" ? "training" : "validation"}` : run,
      dashed: both && each === "loss",
      points: points(rows, each),
    })),
  );
  const title = name.replace("val_", "validation ").replaceAll("_", " ");
  return lines(title.charAt(0).toUpperCase() + title.slice(1), { x: "epoch", y: title }, data).node;
}

function points(rows: Row[], name: string): [number, number][] {
  return rows.flatMap((row): [number, number][] => {
    const [epoch, value] = [row["epoch"], row[name]];
    return typeof epoch === "number" && typeof value === "number" ? [[epoch, value]] : [];
  });
}
