/**
 * Which model an engine serves, and how: what a server tells its engine's process.
 * @module
 */
import { z } from 'zod';

/** Settings of {@link openEngine}. */
export const sourceSchema = z.strictObject({
  /** A run or model folder. */
  path: z.string(),
  /** Name in requests; the folder's when absent. */
  name: z.string().optional(),
  /** Threads of the runtime; its own choice when absent. */
  threads: z.int().min(1).optional(),
});

/** Settings of {@link openEngine}. */
export type EngineSource = z.infer<typeof sourceSchema>;
