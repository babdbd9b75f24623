/** Where the page gets its numbers: from its server, or from the file it is in. */

import type { Activity, Circuits, Curves, Graph, Measured, Row, Run, Sample } from "./types";

export class Source {
  private constructor(
    readonly run: Run,
    /** Whether there is a server to ask. */
    readonly live: boolean,
  ) {}

  static async open(): Promise<Source> {
    const inlined = document.getElementById("inlined");
    if (inlined) return new Source(JSON.parse(inlined.textContent ?? "") as Run, false);
    return new Source(await ask<Run>("run"), true);
  }

  async curves(): Promise<Curves> {
    if (this.live) return ask<Curves>("curves");
    return this.held(this.run.curves);
  }

  measure(modules: number, edges: number): Promise<Measured> {
    return ask<Measured>(`surgery?modules=${modules}&edges=${edges}`);
  }

  async sample(index: number): Promise<Sample> {
    if (this.live) return ask<Sample>(`sample?i=${index}`);
    return this.held(this.run.samples?.[index]);
  }

  async neuronal(index: number, layer: number): Promise<Activity> {
    if (this.live) return ask<Activity>(`neuronal?i=${index}&layer=${layer}`);
    return this.held(this.run.activities?.[index]?.[layer]);
  }

  async graphOf(index: number): Promise<Graph> {
    if (this.live) return (await ask<{ graph: Graph }>(`graph?i=${index}`)).graph;
    return this.held(this.run.graphs?.[index]);
  }

  async circuits(): Promise<Circuits> {
    return this.live ? ask<Circuits>("circuits") : this.held(this.run.circuits);
  }

  async metrics(): Promise<Record<string, Row[]>> {
    return this.live ? ask("metrics") : this.run.training;
  }

  async save(modules: number, edges: number, name: string): Promise<string> {
    const answer = await ask<{ run: string }>("save", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ modules, edges, name }),
    });
    return answer.run;
  }

  private held<Value>(value: Value | undefined): Value {
    if (value !== undefined) return value;
    throw new Error(this.run.missing ?? "This file does not hold that; open the run with nacs view.");
  }
}

async function ask<Answer>(question: string, options?: RequestInit): Promise<Answer> {
  let response: Response;
  try {
    response = await fetch(`api/${question}`, options);
  } catch {
    throw new Error("The server does not answer; is nacs view still running?");
  }
  const answer = (await response.json().catch(() => ({}))) as Answer & { error?: string };
  if (!response.ok) throw new Error(answer.error ?? `The server answered ${response.status}.`);
  return answer;
}
