/**
 * A model with its experts taken out.
 * @module
 */
import type { Passes } from '../../decode/index.js';
import type { Model } from '../../models/index.js';
import type { RuntimeOptions } from '../../runtime/index.js';
import type { RoundingOptions } from '../quantised/rounded-experts.js';
import { RoundedProducts } from '../quantised/rounded-products.js';
import type { ExpertStore } from '../store/expert-store.js';
import { expertWidths } from './expert-network.js';
import { ExpertRunner } from './expert-runner.js';
import type { Prefetcher, RoutingObserver, RoutingSource } from './hooks.js';
import { layersOfExperts, type LayerOfExperts } from './layers-of-experts.js';
import { StagedPasses } from './staged-passes.js';

/** Settings of {@link openSplitModel}. */
export interface SplitModelOptions {
  readonly runtime?: RuntimeOptions | undefined;
  /** Rounds the matrices that every token multiplies with, routers excepted; they are of single precision when absent. */
  readonly dense?: RoundingOptions | undefined;
  /** Sees every decision. */
  readonly observer?: RoutingObserver | undefined;
  /** Reads ahead. */
  readonly prefetcher?: Prefetcher | undefined;
  /** Decides in place of the routers. */
  readonly routing?: RoutingSource | undefined;
}

/**
 * Opens passes of a model whose experts are in a store.
 *
 * @param model with named parameters
 * @param weights every parameter that is not of a single expert, by name; others are not looked at
 * @returns passes for the writers of `decode/`; releasing them leaves the store open.
 * @throws Error if the store is of another model, or a layer's experts cannot be computed by themselves.
 */
export async function openSplitModel(
  model: Model,
  weights: ReadonlyMap<string, Float32Array>,
  store: ExpertStore,
  { runtime, dense, ...hooks }: SplitModelOptions = {},
): Promise<Passes> {
  const found = layersOfExperts(model);
  checkLayers(store, found);
  const layers = found.map((layer, index) => ({
    ...layer,
    ...expertWidths(layer.bank, store.layers[index], model.options.hiddenSize),
  }));
  const runner = await ExpertRunner.open(store, layers, runtime);
  const own = expertParameters(store);
  const resident = new Map([...weights].filter(([name]) => !own.has(name)));
  const rounded = dense && new RoundedProducts(resident, dense);
  return new StagedPasses({
    ...{ layers, weights: resident, runner, rounded },
    ...(runtime && { runtime }),
    ...hooks,
  });
}

/** Names of all parameters that belong to single experts, and are a store's instead of a program's. */
export function expertParameters({ layers }: Pick<ExpertStore, 'layers'>): ReadonlySet<string> {
  return new Set(
    layers.flatMap(({ name, parameters }) =>
      Object.keys(parameters).map((parameter) => `${name}.${parameter}`),
    ),
  );
}

function checkLayers(store: ExpertStore, layers: readonly LayerOfExperts[]): void {
  const same =
    store.layers.length === layers.length &&
    store.layers.every(({ name, numExperts }, index) => {
      const { bank, name: expected } = layers[index];
      return name === expected && numExperts === bank.numExperts;
    });
  if (same) return;
  const list = (names: readonly string[]): string => names.join(', ') || 'none';
  throw new Error(
    `the store is of another model: its layers are ${list(store.layers.map(({ name, numExperts }) => `${name} (${numExperts})`))}, ` +
      `the model's are ${list(layers.map(({ name, bank }) => `${name} (${bank.numExperts})`))}`,
  );
}
