/**
 * How parameters start.
 * @module
 */
import { fillNormal, fillTruncatedNormal, fillUniform } from './random.js';

/** Fills a parameter from the random stream `key`. */
export type Initializer = (key: number, out: Float32Array | Float64Array) => void;

/** Every element the same. */
export function constantValue(value: number): Initializer {
  return (_key, out) => void out.fill(value);
}

/** Zeros: biases, and outputs that should start silent. */
export const zeros: Initializer = constantValue(0);

/** Ones: the weights of normalisation layers. */
export const ones: Initializer = constantValue(1);

/** Normal with mean 0. */
export function normal(standardDeviation: number): Initializer {
  return (key, out) => fillNormal(key, out, standardDeviation);
}

/** Normal with mean 0, redrawn beyond two standard deviations. */
export function truncatedNormal(standardDeviation: number): Initializer {
  return (key, out) => fillTruncatedNormal(key, out, standardDeviation);
}

/** Uniform in ±bound. */
export function uniform(bound: number): Initializer {
  return (key, out) => fillUniform(key, out, -bound, bound);
}

/** Which rule gives each weight matrix its spread. */
export interface WeightInitialization {
  /** `fanIn`: truncated normal with σ = √(scale / fanIn) (Switch Transformer §2.4); `normal`: fixed σ (GPT-2). */
  readonly kind: 'fanIn' | 'normal';
  /** Switch's s = 0.1 for `fanIn`. */
  readonly scale: number;
  /** σ for `normal`. */
  readonly standardDeviation: number;
}

/** Initializer of a weight matrix that reads `fanIn` inputs. */
export function weightInitializer(rule: WeightInitialization, fanIn: number): Initializer {
  return rule.kind === 'fanIn'
    ? truncatedNormal(Math.sqrt(rule.scale / fanIn))
    : normal(rule.standardDeviation);
}
