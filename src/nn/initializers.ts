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

/**
 * Truncated normal, scaled afterwards so that the numbers that were drawn have exactly this spread (σ-MoE's code for
 * its dense and attention layers).
 */
export function exactTruncatedNormal(standardDeviation: number): Initializer {
  return (key, out) => {
    fillTruncatedNormal(key, out);
    let mean = 0;
    for (const value of out) mean += value / out.length;
    let squares = 0;
    for (const value of out) squares += (value - mean) ** 2;
    // A single number has no spread.
    const scale = squares > 0 ? standardDeviation / Math.sqrt(squares / (out.length - 1)) : standardDeviation;
    for (let i = 0; i < out.length; i++) out[i] *= scale;
  };
}

/** Uniform in ±√(6 / (fanIn + fanOut)) (Glorot and Bengio 2010). */
export function xavierUniform(fanIn: number, fanOut: number): Initializer {
  return uniform(Math.sqrt(6 / (fanIn + fanOut)));
}

/** Uniform in ±bound. */
export function uniform(bound: number): Initializer {
  return (key, out) => fillUniform(key, out, -bound, bound);
}

/** Which rule gives each weight matrix its spread. */
export interface WeightInitialization {
  /**
   * `fanIn`: truncated normal with σ = √(scale / fanIn) (Switch Transformer §2.4); `normal`: fixed σ (GPT-2);
   * `depthScaled`: truncated normal of exactly σ = √(2 / (numLayers · fanIn)) (σ-MoE's code, for pre-norm models);
   * `uniform`: ±1/√fanIn, biases too, as PyTorch's Linear starts.
   */
  readonly kind: 'fanIn' | 'normal' | 'depthScaled' | 'uniform';
  /** Switch's s = 0.1 for `fanIn`. */
  readonly scale: number;
  /** σ for `normal`. */
  readonly standardDeviation: number;
  /** Blocks of the model, for `depthScaled`. */
  readonly numLayers?: number;
}

/** Initializer of a weight matrix that reads `fanIn` inputs. */
export function weightInitializer(rule: WeightInitialization, fanIn: number): Initializer {
  switch (rule.kind) {
    case 'fanIn':
      return truncatedNormal(Math.sqrt(rule.scale / fanIn));
    case 'normal':
      return normal(rule.standardDeviation);
    case 'depthScaled':
      if (rule.numLayers === undefined) throw new RangeError('depthScaled weights need the number of layers');
      return exactTruncatedNormal(Math.sqrt(2 / (rule.numLayers * fanIn)));
    case 'uniform':
      return uniform(1 / Math.sqrt(fanIn));
  }
}

/** Initializer of the bias beside it: zeros, unless the rule spreads biases as well. */
export function biasInitializer(rule: WeightInitialization, fanIn: number): Initializer {
  return rule.kind === 'uniform' ? uniform(1 / Math.sqrt(fanIn)) : zeros;
}
