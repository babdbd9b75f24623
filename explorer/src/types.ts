/** What `nacs.view` sends: see src/nacs/view/look.py. */

export interface Graph {
  modules: number;
  importance: number[];
  community: number[];
  /** Place in [0, 1] along the line on which codes differ most. */
  code: number[] | null;
  /** Places of the modules, then of the read-outs. */
  by_signature: [number, number][];
  by_force: [number, number][];
  /** Ends i < j and P, the likeliest first. */
  edges: { i: number[]; j: number[]; p: number[] };
  /** How many edges there are; `edges` may hold fewer. */
  pairs: number;
  conditional: boolean;
  edges_removed: number;
  outputs: number;
  /** How many read-outs are drawn, and [module, modules + read-out, P] of whom they hear. */
  readouts: number;
  heard: [number, number, number][];
}

/** Test samples of a conditional circuit, near each other where their circuits are alike. */
export interface Circuits {
  samples: number[];
  ids: string[];
  targets: number[];
  places: [number, number][];
  told: [number, number];
}

export interface Matrix {
  links: string;
  prior: string | null;
  matched: number[] | null;
  codes: string | null;
  degrees: { edges: number[]; counts: Record<string, number[]> };
}

export type Row = Record<string, number | null>;

export interface Measured {
  modules: number;
  edges: number;
  kept: number;
  accuracy?: number;
  rmse?: number;
  samples: number;
  multiply_adds: number;
  speedup: number;
}

export interface Curves {
  modules: Measured[];
  edges: Measured[];
}

export interface Sample {
  index: number;
  id: string;
  kind: string;
  shape?: [number, number, number];
  pixels?: string;
  rows?: (number | null)[][];
  text?: string[];
  points?: number[][];
  probabilities?: number[];
  said?: number[];
  target: number | number[];
  tokens?: number;
  attention?: string;
  peaks?: number[];
  flow?: number[][];
  confidences?: number[];
  heard?: number[];
}

export interface Histogram {
  edges: number[];
  counts: number[];
}

export interface Activity {
  layer: number;
  groups: Record<string, number[]>;
  /** Sender, receiver, weight, traffic; the busiest first. */
  synapses: [string, string, number, number][];
  synapse_count: number;
  activity: Record<string, number[][]>;
  times: number[] | null;
  time_constants: Histogram;
  /** By query, of which `first` is the first, and pair. */
  logits: { first: number; keys: number[][]; drive: number[][]; time_constant: number[][] };
}

export interface Run {
  run: string;
  model: string;
  sizes: Record<string, unknown>;
  figures: Record<string, number>;
  training: Record<string, Row[]>;
  data: { source: string; kind: string; classes: string[]; columns: string[] };
  layers: number;
  graph: Graph | null;
  matrix: Matrix | null;
  /** Only in the single file, which has no server to ask. */
  samples?: Sample[];
  activities?: Activity[][];
  curves?: Curves;
  circuits?: Circuits;
  graphs?: Graph[];
  missing?: string;
}
