/**
 * What the sparse decoders of Hugging Face have in common: experts after Mixtral's pattern, and which layers have them.
 * @module
 */
import type { z } from 'zod';
import type { routerSchema } from '../../moe/index.js';
import type { LanguageModelOptions } from '../../models/index.js';
import type { JsonObject } from '../json.js';
import type { ConfigReader } from './config-reader.js';
import { UnfitModelError } from './errors.js';

/** Options of a layer of experts. */
export type ExpertOptions = Extract<NonNullable<LanguageModelOptions['sparse']>, { kind: 'experts' }>;
type SoftmaxOptions = Extract<ExpertOptions['router'], { kind: 'softmax' }>;
/** Options of a layer of experts before they are checked, as far as configurations say them. */
export interface ExpertInput {
  readonly numExperts: number;
  readonly topK: number;
  readonly layers?: number[];
  readonly intermediateSize?: number;
  readonly sharedIntermediateSize?: number;
  readonly router: z.input<typeof routerSchema>;
}

/** Which blocks are sparse, as options: all, or a list. */
export function placement(
  numLayers: number,
  isSparse: (layer: number) => boolean,
): { readonly layers?: number[] } | undefined {
  const layers = Array.from({ length: numLayers }, (_, layer) => layer).filter(isSparse);
  if (layers.length === numLayers) return {};
  return layers.length === 0 ? undefined : { layers };
}

/** The layers with experts, in order. */
export function sparseLayers({ numLayers, sparse }: LanguageModelOptions): readonly number[] {
  const every = sparse?.every ?? Infinity;
  return (
    sparse?.layers ??
    Array.from({ length: numLayers }, (_, layer) => layer).filter((layer) => layer % every === every - 1)
  );
}

/** `decoder_sparse_step` and `mlp_only_layers` of the Qwen families. */
export function readSparseStep(config: ConfigReader, numLayers: number): ReturnType<typeof placement> {
  const step = config.size('decoder_sparse_step', 1);
  const dense = config.counts('mlp_only_layers');
  return placement(numLayers, (layer) => (layer + 1) % step === 0 && !dense.includes(layer));
}

/** The same keys of a model: what step there is, or every dense layer by name. */
export function writeSparseStep(options: LanguageModelOptions): JsonObject {
  const sparse = new Set(sparseLayers(options));
  const { numLayers } = options;
  const every = options.sparse?.layers ? 1 : (options.sparse?.every ?? 1);
  const dense = Array.from({ length: numLayers }, (_, layer) => layer).filter((layer) => !sparse.has(layer));
  return {
    decoder_sparse_step: every,
    mlp_only_layers: every === 1 ? dense : [],
  };
}

/** The softmax router of Mixtral's pattern. */
export function readSoftmaxRouter(config: ConfigReader, balance: number): ExpertInput['router'] {
  return {
    kind: 'softmax',
    normalizeGates: config.boolean('norm_topk_prob', false),
    balanceCoefficient: config.number('router_aux_loss_coef', balance),
  };
}

/**
 * The experts of a model.
 * @throws UnfitModelError if it has none, or sparse layers of another kind.
 */
export function expertsOf({ sparse }: LanguageModelOptions): ExpertOptions {
  if (sparse?.kind === 'experts') return sparse;
  throw new UnfitModelError(
    sparse ? `its sparse layers have experts, unlike ${sparse.kind}` : 'it has experts',
  );
}

/**
 * The softmax router of a model's experts.
 * @throws UnfitModelError for another router.
 */
export function softmaxRouter({ router }: ExpertOptions): SoftmaxOptions {
  if (router.kind !== 'softmax') throw new UnfitModelError(`its router is softmax, not ${router.kind}`);
  return router;
}

/**
 * What `olmoe`, `qwen2_moe` and `qwen3_moe` say of experts and router in the same keys.
 * @throws UnfitModelError for another router.
 */
export function writeSoftmaxRouter(sparse: ExpertOptions): JsonObject {
  const { balanceCoefficient, normalizeGates } = softmaxRouter(sparse);
  return {
    num_experts: sparse.numExperts,
    num_experts_per_tok: sparse.topK,
    norm_topk_prob: normalizeGates,
    router_aux_loss_coef: balanceCoefficient,
  };
}
