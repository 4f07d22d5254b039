/**
 * Small models over stores of few places.
 * @module
 */
import { Programs, type Passes } from '../../src/decode/index.js';
import {
  createPolicy,
  openSplitModel,
  PagedExpertStore,
  type PolicyName,
  type RoutedStep,
  type SplitModelOptions,
} from '../../src/serve/index.js';
import { KeptExperts, type BuiltModel } from './kept-experts.js';

/** How {@link SplitModels.serve} opens a model. */
export interface ServeOptions extends SplitModelOptions {
  /** Experts that fit in memory; all when absent. */
  readonly slots?: number;
  readonly policy?: PolicyName;
  readonly trace?: readonly RoutedStep[];
  /** Whether an expert cannot be read now. */
  readonly isBroken?: (layer: number, expert: number) => boolean;
}

/** Opens models and closes them at the end of a test file. */
export class SplitModels {
  private readonly opened: (() => Promise<void>)[] = [];

  /** A model whose experts are in a store. */
  async serve(
    built: BuiltModel,
    { slots = Infinity, policy = 'lru', trace = [], isBroken, ...hooks }: ServeOptions = {},
  ): Promise<{ passes: Passes; store: PagedExpertStore }> {
    const cold = new KeptExperts(built, true, isBroken);
    const numExperts = cold.layers.map((layer) => layer.numExperts);
    const store = new PagedExpertStore(cold, { slots, policy: createPolicy(policy, { numExperts, trace }) });
    const passes = await openSplitModel(built.model, built.weights, store, hooks);
    this.opened.push(
      () => passes.release(),
      () => store.close(),
    );
    return { passes, store };
  }

  /** A model as one program a pass. */
  whole({ weights }: BuiltModel): Passes {
    const passes = new Programs(weights);
    this.opened.push(() => passes.release());
    return passes;
  }

  /** Frees everything. */
  async close(): Promise<void> {
    for (const close of this.opened.splice(0)) await close();
  }
}
