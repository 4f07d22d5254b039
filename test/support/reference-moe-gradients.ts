/**
 * Gradients of the plain-loop sparse layer, derived by hand (Switch Transformer §2; the choice, the fractions f and the
 * places are constants). `reference-moe.test.ts` holds them against finite differences of the forward loops.
 */
import type { ActivationName } from '../../src/moe/index.js';
import {
  dot,
  expertWeights,
  logSumExp,
  matrix,
  referenceActivation,
  referenceExpert,
  referenceLayer,
  rowTimes,
  type Matrix,
  type ReferenceInputs,
  type ReferenceOptions,
} from './reference-moe.js';

/** The function whose gradient is taken: `Σ outputWeights · output + balance · L_balance + z · L_z`. */
export interface ReferenceLoss {
  /** `[tokens][hiddenSize]` */
  readonly outputWeights: Matrix;
  readonly balance: number;
  readonly z: number;
}

/** Value of {@link ReferenceLoss}. */
export function referenceLossValue(
  options: ReferenceOptions,
  inputs: ReferenceInputs,
  loss: ReferenceLoss,
): number {
  const { output, balance, z } = referenceLayer(options, inputs);
  const task = output.reduce((total, row, t) => total + dot(row, loss.outputWeights[t]), 0);
  return task + loss.balance * balance + loss.z * z;
}

/** Gradients by name (`hidden` and every parameter), flat. */
export function referenceGradients(
  options: ReferenceOptions,
  inputs: ReferenceInputs,
  loss: ReferenceLoss,
): Map<string, Float64Array> {
  const { numExperts, topK, hiddenSize, activation, normalizeGates = false, balanceGroups = 1 } = options;
  const { hidden, parameters, mask = hidden.map(() => 1), jitter } = inputs;
  const result = referenceLayer(options, inputs);
  const gradients = new Map<string, Float64Array>([['hidden', new Float64Array(hidden.length * hiddenSize)]]);
  for (const [name, data] of parameters) gradients.set(name, new Float64Array(data.length));
  const classifier = matrix(parameters.get('router.classifier.weight')!, hiddenSize);
  const forHidden = gradients.get('hidden')!;
  const forClassifier = gradients.get('router.classifier.weight')!;
  const real = Math.max(
    1,
    mask.reduce((a, b) => a + b, 0),
  );
  const countedGroups = Math.max(1, result.realTokens.filter((count) => count > 0).length);

  hidden.forEach((x, t) => {
    const p = result.probabilities[t];
    const arriving = loss.outputWeights[t];
    // Through the experts, and what each gate is worth to the task: ⟨dL/dy_t, E_e(x_t)⟩ where the choice was kept.
    const forGates = result.experts[t].map((expert, rank) => {
      if (!result.kept[t][rank]) return 0;
      const weights = expertWeights(parameters, expert, options);
      const scaled = arriving.map((value) => value * result.gates[t][rank]);
      expertBackward(x, weights, activation, scaled, expert, gradients).forEach(
        (value, i) => (forHidden[t * hiddenSize + i] += value),
      );
      return dot(arriving, referenceExpert(x, weights, activation));
    });
    // From gates to probabilities.
    const forProbabilities = p.map(() => 0);
    const chosen = result.experts[t];
    const total = chosen.reduce((sum, expert) => sum + p[expert], 0) + 1e-9;
    for (let rank = 0; rank < topK; rank++) {
      forProbabilities[chosen[rank]] += normalizeGates ? forGates[rank] / total : forGates[rank];
    }
    if (normalizeGates) {
      const shared = chosen.reduce((sum, expert, rank) => sum + forGates[rank] * p[expert], 0) / total ** 2;
      for (const expert of chosen) forProbabilities[expert] -= shared;
    }
    // From the balance loss: ∂/∂p_ti = α N f_i / T.
    if (mask[t] === 1) {
      const group = Math.floor((t * balanceGroups) / hidden.length);
      for (let expert = 0; expert < numExperts; expert++) {
        const share = result.fractions[group][expert] / (result.realTokens[group] * countedGroups);
        forProbabilities[expert] += loss.balance * numExperts * share;
      }
    }
    // Through the softmax, and from the z-loss: ∂/∂z_j = 2 log Σ e^z · p_j / T.
    const mean = dot(forProbabilities, p);
    const forLogits = p.map(
      (probability, j) =>
        probability * (forProbabilities[j] - mean) +
        (mask[t] * loss.z * 2 * logSumExp(result.logits[t]) * probability) / real,
    );
    // Through W_r, whose input is x times the jitter.
    for (let i = 0; i < hiddenSize; i++) {
      const factor = jitter?.[t]![i] ?? 1;
      for (let expert = 0; expert < numExperts; expert++) {
        forClassifier[expert * hiddenSize + i] += forLogits[expert] * x[i] * factor;
        forHidden[t * hiddenSize + i] += forLogits[expert] * classifier[expert][i] * factor;
      }
    }
  });
  return gradients;
}

/** Adds one row's share to the gradients of one expert; returns the gradient of the row. */
function expertBackward(
  x: readonly number[],
  weights: ReturnType<typeof expertWeights>,
  activation: ActivationName,
  arriving: readonly number[],
  expert: number,
  gradients: ReadonlyMap<string, Float64Array>,
): number[] {
  const f = referenceActivation[activation];
  const raised = rowTimes(x, weights.up).map((value, i) => value + weights.upBias[i]);
  const gate = weights.gate && rowTimes(x, weights.gate);
  const inner = raised.map((value, i) => (gate ? f(gate[i]) * value : f(value)));
  const forInner = weights.down.map((row) => dot(row, arriving));
  const forRaised = forInner.map((g, i) => g * (gate ? f(gate[i]) : slope(activation, raised[i])));
  const forGate = gate && forInner.map((g, i) => g * slope(activation, gate[i]) * raised[i]);

  addOuter(gradients.get('experts.down')!, expert, inner, arriving);
  addOuter(gradients.get('experts.up')!, expert, x, forRaised);
  if (forGate) addOuter(gradients.get('experts.gate')!, expert, x, forGate);
  addRow(gradients.get('experts.upBias'), expert, forRaised);
  addRow(gradients.get('experts.downBias'), expert, arriving);
  return x.map((_, i) => dot(weights.up[i], forRaised) + (forGate ? dot(weights.gate![i], forGate) : 0));
}

/** Derivative of an activation; 0 at relu's kink. */
function slope(activation: ActivationName, x: number): number {
  if (activation === 'relu') return x > 0 ? 1 : 0;
  const f = referenceActivation[activation];
  const h = 1e-4;
  // Five points: exact to about 1e-13 for functions this smooth.
  return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h);
}

function addOuter(target: Float64Array, expert: number, a: readonly number[], b: readonly number[]): void {
  const offset = expert * a.length * b.length;
  a.forEach((left, i) => b.forEach((right, j) => (target[offset + i * b.length + j] += left * right)));
}

function addRow(target: Float64Array | undefined, expert: number, row: readonly number[]): void {
  if (target) row.forEach((value, i) => (target[expert * row.length + i] += value));
}
