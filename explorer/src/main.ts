/** The page: one view a tab, each made when it is first looked at. */

import { themed } from "./colours";
import { complaint, element, percent, short } from "./dom";
import { Source } from "./source";
import type { Run } from "./types";
import { circuitsView } from "./views/circuits";
import { graphView } from "./views/graph";
import { inputView } from "./views/input";
import { matrixView } from "./views/matrix";
import { neuronalView } from "./views/neuronal";
import { surgeryView } from "./views/surgery";
import { trainingView } from "./views/training";
import "./style.css";

type View = (place: HTMLElement, source: Source) => void;

const VIEWS: Record<string, View> = {
  Graph: graphView,
  Circuits: circuitsView,
  Surgery: surgeryView,
  Matrix: matrixView,
  Input: inputView,
  Neuronal: neuronalView,
  Training: trainingView,
};

const tabs = document.getElementById("tabs")!;
const views = document.getElementById("views")!;

async function start(): Promise<void> {
  themed(document.getElementById("theme") as HTMLButtonElement);
  try {
    const source = await Source.open();
    head(source.run);
    views.replaceChildren();
    const names = Object.keys(VIEWS).filter((name) => fits(name, source.run));
    names.forEach((name) => tabs.append(tab(name, source)));
    const wanted = decodeURIComponent(location.hash.slice(1));
    open(names.includes(wanted) ? wanted : names[0]!, source);
  } catch (error) {
    views.replaceChildren(complaint(error));
  }
  performance.mark("shown");
}

/** Attentive views for circuits, the neuronal one for neuronal models. */
function fits(name: string, run: Run): boolean {
  if (name === "Circuits") return run.graph?.conditional === true;
  if (name === "Neuronal") return run.layers > 0;
  return run.layers === 0 || !["Graph", "Surgery", "Matrix"].includes(name);
}

function head(run: Run): void {
  document.title = `${run.run} · nacs explorer`;
  document.getElementById("title")!.textContent = run.run;
  const said = [`${run.model} on ${run.data.source}`, `${short(run.figures["parameters"] ?? 0)} parameters`];
  const accuracy = run.figures["test_accuracy"];
  if (accuracy !== undefined) said.push(`test accuracy ${percent(accuracy, 1)}`);
  document.getElementById("figures")!.textContent = said.join(" · ");
  if (run.missing) views.before(complaint(run.missing));
}

function tab(name: string, source: Source): HTMLElement {
  const made = element("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `view-${name}` }, name);
  made.addEventListener("click", () => open(name, source));
  made.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const all = [...tabs.children] as HTMLElement[];
    const next = all[(all.indexOf(made) + step + all.length) % all.length]!;
    next.click();
    next.focus();
  });
  return made;
}

function open(name: string, source: Source): void {
  for (const each of tabs.children) {
    const chosen = each.textContent === name;
    each.setAttribute("aria-selected", String(chosen));
    each.setAttribute("tabindex", chosen ? "0" : "-1");
  }
  for (const each of views.children) (each as HTMLElement).hidden = true;
  const there = document.getElementById(`view-${name}`);
  if (there) there.hidden = false;
  else make(name, source);
  history.replaceState(null, "", `#${name}`);
}

function make(name: string, source: Source): void {
  const place = element("section", { id: `view-${name}`, role: "tabpanel", "aria-labelledby": `tab-${name}` });
  views.append(place);
  try {
    VIEWS[name]!(place, source);
  } catch (error) {
    place.replaceChildren(complaint(error));
  }
}

void start();
