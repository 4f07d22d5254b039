/**
 * The cache policies.
 * @module
 */
import { createKind, kindUnion } from '../../../moe/index.js';
import type { CachePolicy, PolicySurroundings } from '../cache-policy.js';
import { belady } from './belady.js';
import { fifo } from './fifo.js';
import { layered } from './layered.js';
import { lfu } from './lfu.js';
import { lru } from './lru.js';
import { predicted, predictedLfu } from './predicted.js';
import { staticPlacement } from './static.js';

const kinds = [fifo, lru, lfu, layered, predicted, predictedLfu, staticPlacement, belady] as const;

/** Schema of the options of a policy: `{ kind: 'lru' }`. */
export const policySchema = kindUnion(kinds);

/** Names of the policies. */
export const policyNames = kinds.map(({ schema }) => schema.shape.kind.value);

/** One of {@link policyNames}. */
export type PolicyName = (typeof policyNames)[number];

/**
 * Makes a policy.
 * @throws RangeError if it needs a trace and there is none.
 */
export function createPolicy(kind: PolicyName, surroundings: PolicySurroundings): CachePolicy {
  return createKind(kinds, policySchema.parse({ kind }), surroundings);
}
