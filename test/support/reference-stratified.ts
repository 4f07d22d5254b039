/**
 * A stratified layer in plain loops, token by token, to be read beside arXiv 2305.02176 §3. Nothing here is shared with
 * the graph.
 */
import type { ActivationName } from '../../src/moe/index.js';
import {
  dot,
  expertWeights,
  referenceExpert,
  referenceKept,
  type Matrix,
  type ReferenceInputs,
} from './reference-moe.js';

/** What the layer is. */
export interface ReferenceStrata {
  readonly strata: readonly number[];
  readonly topK: 1 | 2;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly norm: 'rms' | 'layer';
  readonly score?: 'softmax' | 'sigmoid';
  readonly combineWeights?: 'raw' | 'renormalized';
  readonly secondExpert?: 'top' | 'sample' | 'random';
  readonly residual?: 'prenorm' | 'released';
  readonly balanceOver?: 'gates' | 'gatesRun';
  /** Places per expert at a gate, from the tokens there and the experts that it sees; all are served when absent. */
  readonly places?: (tokens: number, visible: number) => number;
}

/** What it made of its inputs. */
export interface StratifiedResult {
  readonly output: number[][];
  readonly balance: number;
  /** By stratum: chosen experts before any is dropped, −1 where there is none. */
  readonly experts: number[][][];
  readonly gates: number[][][];
  readonly dropped: number[];
  /** Gates that each token passed; 0 for padding. */
  readonly requestedCapacity: number[];
}

const mean = (row: readonly number[]): number => row.reduce((a, b) => a + b, 0) / row.length;

function normalize(
  row: readonly number[],
  kind: 'rms' | 'layer',
  weight: Float64Array,
  bias: Float64Array | undefined,
) {
  const middle = kind === 'layer' ? mean(row) : 0;
  const spread = mean(row.map((x) => (x - middle) ** 2));
  const scale = 1 / Math.sqrt(spread + (kind === 'layer' ? 1e-5 : 1e-6));
  return row.map((x, i) => (x - middle) * scale * weight[i] + (bias?.[i] ?? 0));
}

function softmax(row: readonly number[]): number[] {
  const peak = Math.max(...row);
  const total = row.reduce((sum, x) => sum + Math.exp(x - peak), 0);
  return row.map((x) => Math.exp(x - peak) / total);
}

/** Indices from the largest number to the smallest, equal ones by index. */
const ranked = (row: readonly number[]): number[] =>
  row.map((_, i) => i).sort((a, b) => row[b] - row[a] || a - b);

/** @param noise by stratum, `[tokens][visible]` uniform numbers (`sample`) or `[tokens][1]` (`random`) */
export function referenceStratified(
  options: ReferenceStrata,
  { hidden, parameters, mask = hidden.map(() => 1) }: ReferenceInputs,
  noise?: readonly Matrix[],
): StratifiedResult {
  const { strata, topK, norm, residual = 'prenorm', secondExpert = 'top' } = options;
  const total = strata.reduce((a, b) => a + b, 0);
  const stratumOf = strata.flatMap((size, j) => new Array<number>(size).fill(j));
  const normed = (row: readonly number[], name: string): number[] =>
    normalize(row, norm, parameters.get(`${name}.weight`)!, parameters.get(`${name}.bias`));

  let stream = hidden.map((row) => [...row]);
  const state: number[] = mask.map((real) => (real === 1 ? 0 : -1));
  const requestedCapacity = mask.map(() => 0);
  const experts: number[][][] = [];
  const gates: number[][][] = [];
  const dropped: number[] = [];
  const balances: { value: number; ran: boolean }[] = [];
  let offset = 0;
  for (const [i, size] of strata.entries()) {
    const visible = total - offset;
    const columns = Math.min(topK, visible);
    const weight = parameters.get(`gates.${i}.classifier.weight`)!;
    const here = state.map((at) => at === i);
    const count = here.filter(Boolean).length;
    const inputs = stream.map((row) => normed(row, `norms.${i}`));
    const logits = inputs.map((row) =>
      Array.from({ length: visible }, (_, e) =>
        dot(row, [...weight.subarray(e * row.length, (e + 1) * row.length)]),
      ),
    );
    const probabilities = logits.map(softmax);
    const chosen = logits.map((row, t) => {
      if (!here[t]) return new Array<number>(columns).fill(-1);
      const order = ranked(row);
      if (columns === 1) return [order[0]];
      if (noise && secondExpert === 'sample') {
        const perturbed = row.map((z, e) =>
          e === order[0] ? -Infinity : z - Math.log(-Math.log(noise[i][t][e])),
        );
        return [order[0], ranked(perturbed)[0]];
      }
      if (noise && secondExpert === 'random') {
        return [order[0], noise[i][t][0] < 2 * probabilities[t][order[1]] ? order[1] : -1];
      }
      return [order[0], order[1]];
    });
    const capacity = options.places?.(count, visible) ?? Infinity;
    const kept = referenceKept(chosen, { capacity });
    const scores = (t: number, e: number): number =>
      options.score === 'sigmoid' ? 1 / (1 + Math.exp(-logits[t][e])) : probabilities[t][e];
    const weights = chosen.map((row, t) => {
      const raw = row.map((e, k) => (kept[t][k] ? scores(t, e) : 0));
      const sum = raw.reduce((a, b) => a + b, 0);
      return options.combineWeights === 'renormalized' ? raw.map((w) => (sum > 0 ? w / sum : 0)) : raw;
    });
    stream = stream.map((row, t) => {
      if (!here[t]) return row;
      const out = residual === 'released' && i > 0 ? [...inputs[t]] : [...row];
      chosen[t].forEach((e, k) => {
        if (!kept[t][k]) return;
        const y = referenceExpert(
          inputs[t],
          expertWeights(parameters, offset + e, options),
          options.activation,
        );
        y.forEach((value, d) => (out[d] += weights[t][k] * value));
      });
      return out;
    });
    let value = 0;
    for (let e = 0; e < visible; e++) {
      const f = chosen.filter((row, t) => here[t] && row[0] === e).length / Math.max(1, count);
      const p = probabilities.reduce((sum, row, t) => sum + (here[t] ? row[e] : 0), 0) / Math.max(1, count);
      value += visible * f * p;
    }
    balances.push({ value, ran: count > 0 });
    dropped.push(chosen.flat().filter((e, n) => e >= 0 && !kept.flat()[n]).length);
    const start = offset;
    experts.push(chosen.map((row) => row.map((e) => (e < 0 ? -1 : e + start))));
    gates.push(weights);
    here.forEach((at, t) => {
      if (!at) return;
      requestedCapacity[t] += 1;
      state[t] = stratumOf[start + chosen[t][0]] + 1;
    });
    offset += size;
  }
  const over = options.balanceOver === 'gatesRun' ? balances.filter(({ ran }) => ran).length : strata.length;
  const balance = balances.reduce((sum, { value }) => sum + value, 0) / Math.max(1, over);
  const output = residual === 'released' ? stream.map((row) => normed(row, 'exitNorm')) : stream;
  return { output, balance, experts, gates, dropped, requestedCapacity };
}
