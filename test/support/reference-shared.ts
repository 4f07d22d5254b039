/** The expert that every token visits, in plain loops, to be read beside arXiv 2401.06066 §3.2. */
import { dot, matrix, type Matrix, type ReferenceInputs } from './reference-moe.js';

/** Adds `σ(w · x) shared(x)`, or `shared(x)` where there is no gate; the shared network is a ReLU one. */
export function withShared(output: Matrix, { hidden, parameters }: ReferenceInputs): number[][] {
  const up = matrix(parameters.get('shared.up.weight')!, hidden[0].length);
  const down = matrix(parameters.get('shared.down.weight')!, up.length);
  const gate = parameters.get('sharedGate.weight');
  return hidden.map((x, t) => {
    const inner = up.map((row) => Math.max(dot(row, x), 0));
    const weight = gate ? 1 / (1 + Math.exp(-dot([...gate], x))) : 1;
    return output[t].map((value, d) => value + weight * dot(down[d], inner));
  });
}
