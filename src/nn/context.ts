/**
 * What a layer needs to know while it is traced, besides its input.
 * @module
 */
import { input, type DType, type Tensor } from '../graph/index.js';
import type { ExpertsElsewhere } from './experts-elsewhere.js';
import { streamKey, fillNormal, fillUniform } from './random.js';

/** Distribution of one noise input. */
export type NoiseKind = 'uniform' | 'normal';

interface NoiseSite {
  readonly kind: NoiseKind;
  readonly tensor: Tensor;
}

/**
 * The noise inputs of one traced program. Layers ask for noise by site; before every step {@link fill} writes the
 * numbers of (seed, step, site) into the bound buffers. The same three give the same noise, on any day.
 */
export class NoiseInputs {
  private readonly sites = new Map<string, NoiseSite>();

  /**
   * A fed tensor of noise, uniform in [0, 1) or standard normal.
   * @throws Error if the site is already taken: two layers must never share noise by accident.
   */
  request(site: string, kind: NoiseKind, dtype: DType, shape: readonly number[]): Tensor {
    if (this.sites.has(site)) throw new Error(`noise site '${site}' is requested twice`);
    const tensor = input(`noise.${site}`, dtype, shape);
    this.sites.set(site, { kind, tensor });
    return tensor;
  }

  /** Feed names with their tensors. */
  get feeds(): ReadonlyMap<string, Tensor> {
    return new Map([...this.sites].map(([site, { tensor }]) => [`noise.${site}`, tensor]));
  }

  /** Writes the noise of one step into buffers that are bound as the feeds. */
  fill(seed: number, step: number, buffers: Readonly<Record<string, Float32Array | Float64Array>>): void {
    for (const [site, { kind }] of this.sites) {
      const out = buffers[`noise.${site}`];
      const key = streamKey(seed, step, site);
      if (kind === 'uniform') fillUniform(key, out);
      else fillNormal(key, out);
    }
  }
}

/** Settings that hold for one traced program. */
export interface TraceContext {
  /** Whether noise (dropout, jitter) is on and losses are wanted. */
  readonly training: boolean;
  /** Where layers get their noise. */
  readonly noise: NoiseInputs;
  /** Computes the experts of sparse layers outside the program; they are part of it when absent. */
  readonly experts?: ExpertsElsewhere | undefined;
}

/** A context for evaluation: no noise. */
export function evaluationContext(): TraceContext {
  return { training: false, noise: new NoiseInputs() };
}

/** A context for training. */
export function trainingContext(): TraceContext {
  return { training: true, noise: new NoiseInputs() };
}
