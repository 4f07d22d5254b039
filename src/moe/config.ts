/**
 * Options of a sparse layer as they stand in a recipe, and how they become one. The registries are data: a new
 * router, dispatch or expert bank is one file and one line here.
 * @module
 */
import { z } from 'zod';
import { weightInitializer, type WeightInitialization } from '../nn/index.js';
import { activations, type ActivationName } from './activations.js';
import type { Dispatch } from './dispatch.js';
import { CapacityDispatch } from './dispatch/capacity.js';
import { DroplessDispatch } from './dispatch/dropless.js';
import type { ExpertBank } from './expert-bank.js';
import { FeedForwardBank } from './experts/feed-forward-bank.js';
import type { Router } from './router.js';
import { SoftmaxTopKRouter } from './routers/softmax-top-k.js';
import { SparseLayer } from './sparse-layer.js';

/** Name of an activation function. */
export const activationSchema = z.enum(Object.keys(activations) as [ActivationName, ...ActivationName[]]);

const size = z.int().min(1);
const rate = z.number().min(0).lt(1);
const coefficient = z.number().min(0);
const group = z.enum(['batch', 'sequence']).default('batch');

/** What the layer around a part has already fixed. */
export interface SparseLayerSizes {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly topK: number;
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly bias: boolean;
  readonly initialization: WeightInitialization;
  /** Spread of the output projections, which some recipes scale by depth. */
  readonly outputInitialization: WeightInitialization;
}

const softmaxRouterSchema = z.strictObject({
  kind: z.literal('softmax'),
  normalizeGates: z.boolean().default(false),
  jitter: rate.default(0),
  balanceCoefficient: coefficient.default(0.01),
  zLossCoefficient: coefficient.default(0),
  group,
  /** σ of the router's weights; the layer's own rule when absent. */
  standardDeviation: z.number().positive().optional(),
});

/** Router options by `kind`. */
export const routerSchema = z.discriminatedUnion('kind', [softmaxRouterSchema]);

const routers: { readonly [Kind in z.infer<typeof routerSchema>['kind']]: RouterFactory<Kind> } = {
  softmax: (options, sizes) => {
    const { standardDeviation, ...rest } = options;
    const rule: WeightInitialization =
      standardDeviation === undefined
        ? sizes.initialization
        : { kind: 'normal', scale: 1, standardDeviation };
    return new SoftmaxTopKRouter({ ...rest, ...sizes }, weightInitializer(rule, sizes.hiddenSize));
  },
};
type RouterFactory<Kind> = (
  options: Extract<z.infer<typeof routerSchema>, { kind: Kind }>,
  sizes: SparseLayerSizes,
) => Router;

const capacitySchema = z.strictObject({
  kind: z.literal('capacity'),
  capacityFactor: z.number().positive().default(1.25),
  evalCapacityFactor: z.number().positive().default(2),
  minimumCapacity: z.int().min(1).default(4),
  group,
});

/** Dispatch options by `kind`. */
export const dispatchSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('dropless') }),
  capacitySchema,
]);

const dispatches: { readonly [Kind in z.infer<typeof dispatchSchema>['kind']]: DispatchFactory<Kind> } = {
  dropless: () => new DroplessDispatch(),
  capacity: (options) => new CapacityDispatch(options),
};
type DispatchFactory<Kind> = (options: Extract<z.infer<typeof dispatchSchema>, { kind: Kind }>) => Dispatch;

/** Expert bank options by `kind`. */
export const expertsSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('feedForward'),
    /** The model's own when absent. */
    activation: activationSchema.optional(),
    expertDropout: rate.default(0),
    /** The model's own when absent. */
    bias: z.boolean().optional(),
  }),
]);

const banks: { readonly [Kind in z.infer<typeof expertsSchema>['kind']]: BankFactory<Kind> } = {
  feedForward: (options, sizes) =>
    new FeedForwardBank(
      {
        ...sizes,
        expertDropout: options.expertDropout,
        activation: options.activation ?? sizes.activation,
        bias: options.bias ?? sizes.bias,
      },
      weightInitializer(sizes.initialization, sizes.hiddenSize),
      weightInitializer(sizes.outputInitialization, sizes.intermediateSize),
    ),
};
type BankFactory<Kind> = (
  options: Extract<z.infer<typeof expertsSchema>, { kind: Kind }>,
  sizes: SparseLayerSizes,
) => ExpertBank;

/** Options of the sparse layers of a model. */
export const sparseSchema = z
  .strictObject({
    /** Every n-th block is sparse, counted from the end of each group of n: 2 makes blocks 1, 3, 5 … sparse. */
    every: size.default(1),
    numExperts: size,
    topK: size.default(1),
    /** Width inside one expert; the dense layers' width when absent. */
    intermediateSize: size.optional(),
    router: routerSchema.prefault({ kind: 'softmax' }),
    dispatch: dispatchSchema.prefault({ kind: 'dropless' }),
    experts: expertsSchema.prefault({ kind: 'feedForward' }),
  })
  .superRefine(({ topK, numExperts }, context) => {
    if (numExperts >= 1 && topK > numExperts) {
      const message = `topK ${topK} is more than numExperts ${numExperts}; choose 1 … ${numExperts}`;
      context.addIssue({ code: 'custom', path: ['topK'], message });
    }
  });

/** Parsed form of {@link sparseSchema}. */
export type SparseOptions = z.infer<typeof sparseSchema>;

/** Whether a block of the model is sparse: the last of every group of `every`, as in the reference code. */
export function isSparseBlock({ every }: SparseOptions, index: number): boolean {
  return index % every === every - 1;
}

/** Builds the layer that the options describe. */
export function createSparseLayer(
  options: SparseOptions,
  sizes: Omit<SparseLayerSizes, 'numExperts' | 'topK'>,
): SparseLayer {
  const all: SparseLayerSizes = {
    ...sizes,
    numExperts: options.numExperts,
    topK: options.topK,
    intermediateSize: options.intermediateSize ?? sizes.intermediateSize,
  };
  return new SparseLayer({
    router: routers[options.router.kind](options.router, all),
    dispatch: (dispatches[options.dispatch.kind] as AnyDispatchFactory)(options.dispatch),
    experts: banks[options.experts.kind](options.experts, all),
  });
}

/** TypeScript does not see that an entry fits the options it is looked up by; the registry's own type guarantees it. */
type AnyDispatchFactory = (options: SparseOptions['dispatch']) => Dispatch;
