/**
 * Settings of Adaptive Clustering routers: what the paper says, what its two releases do, and what is safe to serve.
 * @module
 */
import { z } from 'zod';
import { coefficient } from '../../options.js';
import { plainRouterSchema } from '../plain.js';

/** How tokens are re-weighted. */
export interface ClusteringSettings {
  /**
   * s of a feature in a cluster: `mad` mean absolute deviation, `var` variance (of the population), `pairwise` mean
   * absolute difference of two members.
   */
  readonly dispersion: 'mad' | 'var' | 'pairwise';
  /** ε of the weights 1 / (s + ε). The release adds 0.1 to variances. */
  readonly eps: number;
  /** Weights are cut at this multiple of their mean over clusters and features; null cuts none. */
  readonly clip: number | null;
  /** What the weights are divided by: their mean over clusters for each feature, over everything, or nothing. */
  readonly scale: 'perFeature' | 'global' | 'none';
  /** Whether that mean is taken before or after the cut. */
  readonly scaleMean: 'preClip' | 'postClip';
  /** Who sees the re-weighted tokens. */
  readonly applyTo: 'router' | 'router+experts';
  /** Weights of a token: those of its first choice before, or of all of its choices by their gates. */
  readonly label: 'top1' | 'mixed';
  /**
   * Whose tokens the statistics are of: `batch` those of the batch at hand; `running` the same in training, and a
   * moving average of training outside it; `prefix` the tokens of the same sequence up to the one that is routed.
   */
  readonly stats: 'batch' | 'running' | 'prefix';
  /**
   * Clusters with fewer members are left out of every mean and weigh 1. 0 keeps even empty ones below the highest
   * chosen expert, with weights 1 / ε, as the releases do.
   */
  readonly minMembers: number;
  /** `linear`: the inner router's own logits. `unitEmbedding`: products with expert embeddings of length one. */
  readonly gate: 'linear' | 'unitEmbedding';
}

const plain = {
  dispersion: 'mad',
  eps: 1e-4,
  scaleMean: 'postClip',
  applyTo: 'router',
  label: 'top1',
  gate: 'linear',
} as const;

/** Settings under a name; single ones can be changed. */
export const clusteringPresets = {
  /** Language-model release: `COSAGate_Balance` with --use-var --mad. */
  'released-lm': {
    ...plain,
    clip: 10,
    scale: 'perFeature',
    stats: 'batch',
    minMembers: 0,
    gate: 'unitEmbedding',
  },
  /** Vision release: weights in (0, 1.5], which the experts see too. */
  'released-vision': {
    ...plain,
    clip: 1.5,
    scale: 'global',
    scaleMean: 'preClip',
    applyTo: 'router+experts',
    stats: 'batch',
    minMembers: 0,
  },
  /** M = diag(1/s) up to one factor, nothing cut. */
  paper: { ...plain, clip: null, scale: 'global', stats: 'batch', minMembers: 2 },
  /** Small clusters left out, and nothing depends on the batch outside training. */
  robust: { ...plain, clip: 10, scale: 'perFeature', stats: 'running', minMembers: 2 },
} as const satisfies Readonly<Record<string, ClusteringSettings>>;

type PresetName = keyof typeof clusteringPresets;

/** `adaptiveClustering` in a recipe. */
export const clusteringSchema = z
  .strictObject({
    kind: z.literal('adaptiveClustering'),
    /** The router that sees the re-weighted tokens, and every token of layers without a layer before them. */
    inner: plainRouterSchema.prefault({ kind: 'softmax' }),
    /** Where absent options get their values. */
    preset: z.enum(Object.keys(clusteringPresets) as [PresetName, ...PresetName[]]).default('robust'),
    dispersion: z.enum(['mad', 'var', 'pairwise']).optional(),
    eps: z.number().positive().optional(),
    clip: z.number().positive().nullable().optional(),
    scale: z.enum(['perFeature', 'global', 'none']).optional(),
    scaleMean: z.enum(['preClip', 'postClip']).optional(),
    applyTo: z.enum(['router', 'router+experts']).optional(),
    label: z.enum(['top1', 'mixed']).optional(),
    stats: z.enum(['batch', 'running', 'prefix']).optional(),
    minMembers: z.int().min(0).optional(),
    gate: z.enum(['linear', 'unitEmbedding']).optional(),
    /** Which sparse layers re-weight, counted from 0; all that have one before them when null. */
    layers: z.array(z.int().min(1)).nullable().default(null),
    /** How much of the moving average a training step keeps, with `stats: 'running'`. */
    decay: z.number().min(0).lt(1).default(0.99),
    /** Weight of the balance loss of the unit-embedding gate; the inner router has its own. The release has none. */
    gateBalanceCoefficient: coefficient.default(0),
    /** Controls: `ones` is the gate without re-weighting, `random` draws the dispersions once. */
    weights: z.enum(['clusters', 'ones', 'random']).default('clusters'),
    /** Control: every token gets the weights of the cluster after its own. */
    permuteLabels: z.boolean().default(false),
  })
  .superRefine((options, context) => {
    const { stats, dispersion, gate } = resolveClustering(options);
    const refuse = (path: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [path], message });
    if (stats === 'prefix' && dispersion === 'pairwise') {
      const message =
        "pairwise differences of every prefix take time² · hiddenSize numbers; use 'mad' or 'var'";
      refuse('dispersion', message);
    }
    if (gate === 'linear' && options.gateBalanceCoefficient > 0) {
      const message = "the linear gate is the inner router's: set inner.balanceCoefficient instead";
      refuse('gateBalanceCoefficient', message);
    }
  });

/** Parsed options. */
export type ClusteringOptions = z.infer<typeof clusteringSchema>;

/** The preset with the options that were given. */
export function resolveClustering(
  options: {
    readonly [Name in keyof ClusteringSettings]?: ClusteringSettings[Name] | undefined;
  } & { readonly preset: PresetName },
): ClusteringSettings {
  const preset: ClusteringSettings = clusteringPresets[options.preset];
  const given = Object.keys(preset).filter((name) => options[name as keyof ClusteringSettings] !== undefined);
  return {
    ...preset,
    ...Object.fromEntries(given.map((name) => [name, options[name as keyof typeof options]])),
  };
}
