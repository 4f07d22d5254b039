/**
 * Routers that several layers have in common. Omni-router (arXiv 2507.05724): every sparse layer l computes
 * `z^l = W x^l + b` on its own hidden state x^l with the same W and b, so that an expert's index means the same at
 * every depth. The experts stay each layer's own.
 * @module
 */
import { z } from 'zod';
import { Module } from '../nn/index.js';
import type { FeedForwardContext } from './feed-forward.js';
import type { GateRule, RouterModule, Routing } from './router.js';

/** Options of sharing, as they stand in a recipe. */
export const routerSharingSchema = z.strictObject({
  /** Consecutive sparse layers that share; all when null. 1 is a router of its own for every layer. */
  layers: z.int().min(1).nullable().default(null),
  /**
   * `weights`: the Omni-router. `decision`: layers repeat what the first of them chose. `initialization`: routers of
   * their own that start equal.
   */
  share: z.enum(['weights', 'decision', 'initialization']).default('weights'),
});

/** Parsed form of {@link routerSharingSchema}. */
export type RouterSharing = z.infer<typeof routerSharingSchema>;

/** Hands out one router per group of layers. One pool belongs to one model. */
export class RouterPool {
  private readonly routers = new Map<number, RouterModule>();

  /**
   * The router of a sparse layer.
   * @param sparseIndex how many sparse layers come before it
   */
  take(sharing: RouterSharing | null, sparseIndex: number, create: () => RouterModule): RouterModule {
    if (sharing === null) return create();
    const group = sharing.layers === null ? 0 : Math.floor(sparseIndex / sharing.layers);
    const first = this.routers.get(group);
    if (sharing.share === 'initialization') {
      const router = create();
      for (const [name, parameter] of router.parameters()) parameter.stream = `routers.${group}.${name}`;
      return router;
    }
    if (!first) {
      const router = create();
      this.routers.set(group, router);
      return router;
    }
    return sharing.share === 'weights' ? first : new RepeatedDecision(first);
  }
}

/**
 * Sends every token where the sparse layer before sent it, with the same weights, whose gradient goes to that layer's
 * router. Experts read their own layer's input as it is, even where the router rescaled its own.
 */
export class RepeatedDecision extends Module implements RouterModule {
  readonly numExperts: number;
  readonly topK: number;
  readonly expectedTopK: number;
  readonly leak: string | undefined;
  readonly gateRule: GateRule | undefined;

  constructor({ numExperts, topK, expectedTopK = topK, leak, gateRule }: RouterModule) {
    super();
    this.numExperts = numExperts;
    this.topK = topK;
    this.expectedTopK = expectedTopK;
    this.leak = leak;
    this.gateRule = gateRule;
  }

  /** @throws Error if no layer before has decided. */
  route(_hidden: unknown, { previousRouting, layerIndex }: FeedForwardContext): Routing {
    if (!previousRouting)
      throw new Error(`layer ${layerIndex} repeats a decision that no layer before it made`);
    const { experts, gates, probabilities, partial = false, dispatch } = previousRouting;
    return { experts, gates, probabilities, partial, losses: [], ...(dispatch && { dispatch }) };
  }
}
