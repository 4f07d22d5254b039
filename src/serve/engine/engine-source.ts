/**
 * Which model an engine serves, and how: what a server tells its engine's process.
 * @module
 */
import { z } from 'zod';
import { policyNames } from '../store/index.js';

/** What predictions are used for. */
export const servingModes = ['none', 'prefetch', 'sida'] as const;

/** One of {@link servingModes}. */
export type ServingMode = (typeof servingModes)[number];

/** Settings of {@link openEngine}. */
export const sourceSchema = z.strictObject({
  /** A run or model folder. */
  path: z.string(),
  /** Name in requests; the folder's when absent. */
  name: z.string().optional(),
  /** Bytes for everything: weights, and keys and values of texts. All experts are in memory when absent. */
  memoryBudget: z.int().min(1).optional(),
  /** Which expert gives way; `lfu` when absent. */
  policy: z.enum(policyNames).optional(),
  /** File of recorded routing that policy `static` goes by. */
  routingTrace: z.string().optional(),
  /**
   * `none`: experts are read when a router has chosen them. `prefetch`: those that are expected are read ahead, and what is
   * computed stays the same; the default under a budget. `sida`: predictions take the routers' place.
   */
  mode: z.enum(servingModes).optional(),
  /** Folder of a predictor, for `prefetch` and `sida`; `prefetch` looks ahead with the model's own routers when absent. */
  predictor: z.string().optional(),
  /** Experts that the predictor names for a token of each layer; as many as its router chooses when absent. */
  guesses: z.int().min(1).optional(),
  /** How experts of a compressed folder are computed. */
  experts: z.enum(['rebuilt', 'factorised']).optional(),
  /** Rounds experts to so many bits as they arrive. */
  expertBits: z.union([z.literal(4), z.literal(8)]).optional(),
  /** Threads of the runtime; its own choice when absent. */
  threads: z.int().min(1).optional(),
});

/** Settings of {@link openEngine}. */
export type EngineSource = z.infer<typeof sourceSchema>;
