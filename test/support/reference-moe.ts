/**
 * A sparse layer in plain loops over plain numbers, to be read beside Switch Transformer §2 and believed. Nothing here
 * is shared with the graph: no operator, no sorting trick, no batching. Gradients are in `reference-moe-gradients.ts`.
 */
import type { ActivationName } from '../../src/moe/index.js';

/** Rows of numbers. */
export type Matrix = readonly (readonly number[])[];

/** What the layer is. */
export interface ReferenceOptions {
  readonly numExperts: number;
  readonly topK: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly normalizeGates?: boolean;
  /** Places per expert and group; every choice is served when absent. */
  readonly capacity?: number;
  /** Tokens compete for places within this many consecutive groups. */
  readonly dispatchGroups?: number;
  /** The balance loss is averaged over this many consecutive groups. */
  readonly balanceGroups?: number;
}

/** What the layer reads. */
export interface ReferenceInputs {
  /** `[tokens][hiddenSize]` */
  readonly hidden: Matrix;
  /** Parameters by name, flat, as a `SparseLayer` names them. */
  readonly parameters: ReadonlyMap<string, Float64Array>;
  /** 1 for real tokens; all are real when absent. */
  readonly mask?: readonly number[] | undefined;
  /** Factor on each number of the router's input, 1 everywhere when absent. */
  readonly jitter?: Matrix | undefined;
}

/** Cuts a flat array into rows. */
export function matrix(flat: ArrayLike<number>, columns: number): number[][] {
  return Array.from({ length: flat.length / columns }, (_, row) =>
    Array.from({ length: columns }, (_, column) => flat[row * columns + column]),
  );
}

/** Weights of one expert out of a bank's flat parameters. Absent biases are zeros. */
export function expertWeights(
  parameters: ReadonlyMap<string, Float64Array>,
  expert: number,
  { hiddenSize, intermediateSize }: Pick<ReferenceOptions, 'hiddenSize' | 'intermediateSize'>,
) {
  const part = (name: string, size: number): Float64Array =>
    (parameters.get(`experts.${name}`) ?? new Float64Array((expert + 1) * size)).subarray(
      expert * size,
      (expert + 1) * size,
    );
  const area = hiddenSize * intermediateSize;
  return {
    gate: parameters.has('experts.gate') ? matrix(part('gate', area), intermediateSize) : undefined,
    up: matrix(part('up', area), intermediateSize),
    down: matrix(part('down', area), hiddenSize),
    upBias: [...part('upBias', intermediateSize)],
    downBias: [...part('downBias', hiddenSize)],
  };
}

/** `x W` for one row. */
export function rowTimes(x: readonly number[], weight: Matrix): number[] {
  return weight[0].map((_, column) =>
    x.reduce((total, value, row) => total + value * weight[row][column], 0),
  );
}

/** `a · b` */
export function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((total, value, i) => total + value * b[i], 0);
}

/** `∫ 2/√π e^(−t²)` by its power series: enough digits for |x| < 4. */
export function errorFunction(x: number): number {
  let term = x;
  let total = x;
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const gelu = (x: number): number => 0.5 * x * (1 + errorFunction(x / Math.SQRT2));
const cubic = (x: number): number => Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);

/** The functions behind activation names. A gated one is the function that is applied to the gate. */
export const referenceActivation: Readonly<Record<ActivationName, (x: number) => number>> = {
  relu: (x) => Math.max(x, 0),
  gelu,
  geluTanh: (x) => 0.5 * x * (1 + Math.tanh(cubic(x))),
  silu: (x) => x * sigmoid(x),
  reglu: (x) => Math.max(x, 0),
  swiglu: (x) => x * sigmoid(x),
  geglu: gelu,
  gegluTanh: (x) => 0.5 * x * (1 + Math.tanh(cubic(x))),
};

/** One expert on one row: `W_down f(W_up x + b_up) + b_down`, or gated. */
export function referenceExpert(
  x: readonly number[],
  weights: ReturnType<typeof expertWeights>,
  activation: ActivationName,
): number[] {
  const f = referenceActivation[activation];
  const raised = rowTimes(x, weights.up).map((value, i) => value + weights.upBias[i]);
  const gate = weights.gate && rowTimes(x, weights.gate);
  const inner = raised.map((value, i) => (gate ? f(gate[i]) * value : f(value)));
  return rowTimes(inner, weights.down).map((value, i) => value + weights.downBias[i]);
}

/** A router's decision about every token, with everything it was made of. */
export interface ReferenceRouting {
  readonly logits: Matrix;
  readonly probabilities: Matrix;
  /** `[tokens][topK]`, best first, equal ones by index. */
  readonly experts: Matrix;
  /** `[tokens][topK]` */
  readonly gates: Matrix;
  /** f of each balance group and expert, `[groups][numExperts]`. */
  readonly fractions: Matrix;
  /** Real tokens of each balance group. */
  readonly realTokens: readonly number[];
  readonly balance: number;
  readonly z: number;
}

/** Softmax routing, Switch Transformer eq. 1 with top-k, and its two losses. */
export function referenceRouting(
  options: ReferenceOptions,
  { hidden, parameters, mask = hidden.map(() => 1), jitter }: ReferenceInputs,
): ReferenceRouting {
  const { numExperts, topK, hiddenSize, normalizeGates = false, balanceGroups = 1 } = options;
  const classifier = matrix(parameters.get('router.classifier.weight')!, hiddenSize);
  const seen = hidden.map((row, t) => row.map((value, i) => value * (jitter?.[t]![i] ?? 1)));
  const logits = seen.map((row) => classifier.map((weights) => dot(row, weights)));
  const probabilities = logits.map((row) => {
    const peak = Math.max(...row);
    const total = row.reduce((sum, value) => sum + Math.exp(value - peak), 0);
    return row.map((value) => Math.exp(value - peak) / total);
  });
  const experts = probabilities.map((row) =>
    row
      .map((_, expert) => expert)
      .sort((a, b) => row[b] - row[a] || a - b)
      .slice(0, topK),
  );
  const gates = probabilities.map((row, t) => {
    const chosen = experts[t].map((expert) => row[expert]);
    const total = chosen.reduce((a, b) => a + b, 0) + 1e-9;
    return normalizeGates ? chosen.map((value) => value / total) : chosen;
  });

  const perGroup = hidden.length / balanceGroups;
  const realTokens: number[] = [];
  const fractions: number[][] = [];
  let balance = 0;
  for (let group = 0; group < balanceGroups; group++) {
    const tokens = hidden.map((_, t) => t).filter((t) => Math.floor(t / perGroup) === group && mask[t] === 1);
    const f = new Array<number>(numExperts).fill(0);
    const P = new Array<number>(numExperts).fill(0);
    for (const t of tokens) {
      for (const expert of experts[t]) f[expert] += 1 / (tokens.length * topK);
      for (let expert = 0; expert < numExperts; expert++)
        P[expert] += probabilities[t][expert] / tokens.length;
    }
    realTokens.push(tokens.length);
    fractions.push(f);
    balance += numExperts * dot(f, P);
  }
  balance /= Math.max(1, realTokens.filter((count) => count > 0).length);

  const real = mask.reduce((a, b) => a + b, 0);
  const z = logits.reduce((total, row, t) => total + (mask[t] * logSumExp(row) ** 2) / Math.max(1, real), 0);
  return { logits, probabilities, experts, gates, fractions, realTokens, balance, z };
}

/** `log Σ eˣ` */
export function logSumExp(row: readonly number[]): number {
  const peak = Math.max(...row);
  return peak + Math.log(row.reduce((sum, value) => sum + Math.exp(value - peak), 0));
}

/**
 * Which choices find a place, `[tokens][topK]`: first choices in token order, then second choices in token order,
 * each group by itself; padding and choices of −1 ask for none.
 */
export function referenceKept(
  experts: Matrix,
  {
    capacity = Infinity,
    groups = 1,
    mask,
  }: { capacity?: number; groups?: number; mask?: readonly number[] | undefined },
): boolean[][] {
  const topK = experts[0].length;
  const perGroup = experts.length / groups;
  const kept = experts.map((row) => row.map(() => false));
  for (let group = 0; group < groups; group++) {
    const taken = new Map<number, number>();
    for (let rank = 0; rank < topK; rank++) {
      for (let t = group * perGroup; t < (group + 1) * perGroup; t++) {
        if (mask && mask[t] !== 1) continue;
        const expert = experts[t][rank];
        if (expert < 0) continue;
        const before = taken.get(expert) ?? 0;
        taken.set(expert, before + 1);
        kept[t][rank] = before < capacity;
      }
    }
  }
  return kept;
}

/** What the layer made of its inputs. */
export interface ReferenceResult extends ReferenceRouting {
  /** `[tokens][hiddenSize]` */
  readonly output: number[][];
  readonly kept: readonly (readonly boolean[])[];
  /** Choices per expert over real tokens, before any is dropped. */
  readonly load: number[];
  readonly dropped: number;
}

/** `y_t = Σ_k m_tk g_tk E_{e_tk}(x_t)` */
export function referenceLayer(options: ReferenceOptions, inputs: ReferenceInputs): ReferenceResult {
  const { numExperts, topK, capacity, dispatchGroups, activation } = options;
  const { hidden, parameters, mask = hidden.map(() => 1) } = inputs;
  const routing = referenceRouting(options, inputs);
  const kept = referenceKept(routing.experts, {
    ...(capacity === undefined ? {} : { capacity }),
    ...(dispatchGroups === undefined ? {} : { groups: dispatchGroups }),
    mask,
  });
  const load = new Array<number>(numExperts).fill(0);
  let dropped = 0;
  const output = hidden.map((x, t) => {
    const y = x.map(() => 0);
    for (let rank = 0; rank < topK; rank++) {
      const expert = routing.experts[t][rank];
      if (mask[t] === 1) load[expert] += 1;
      if (mask[t] === 1 && !kept[t][rank]) dropped++;
      if (!kept[t][rank]) continue;
      const result = referenceExpert(x, expertWeights(parameters, expert, options), activation);
      result.forEach((value, i) => (y[i] += routing.gates[t][rank] * value));
    }
    return y;
  });
  return { ...routing, output, kept, load, dropped };
}
