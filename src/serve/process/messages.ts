/**
 * What a server and its engine's process tell each other. Both check what they are told.
 * @module
 */
import { z } from 'zod';
import type { ModelInfo } from '../engine-client.js';
import {
  EngineError,
  EngineUnavailableError,
  QueueFullError,
  RequestError,
  TimeLimitError,
} from '../engine-errors.js';
import type { EngineStats } from '../engine-stats.js';
import { sourceSchema } from '../engine/engine-source.js';

const id = z.int().min(0);
const count = z.int().min(0);

const limitsSchema = z
  .strictObject({
    slots: z.int().min(1),
    queueLimit: count,
    timeLimitMilliseconds: z.number().positive(),
    readTokens: z.int().min(1),
    cacheBytes: z.number().positive(),
  })
  .partial();

/** To the engine. Requests are checked by the engine itself. */
export const toEngineSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('open'), source: sourceSchema, limits: limitsSchema }),
  z.strictObject({ kind: z.enum(['generate', 'classify', 'embed']), id, request: z.unknown() }),
  /** The reader of a text has taken so many events: as many more may come. */
  z.strictObject({ kind: z.literal('read'), id, count }),
  z.strictObject({ kind: z.literal('cancel'), id }),
  z.strictObject({ kind: z.literal('stats'), id }),
  z.strictObject({ kind: z.literal('stop'), graceMilliseconds: z.number().min(0) }),
]);

/** What the server sends. */
export type ToEngine = z.infer<typeof toEngineSchema>;

const experts = z.array(z.array(z.int().min(-1)));
const scored = {
  id: count,
  text: z.string(),
  bytes: z.array(z.int().min(0).max(255)),
  logProbability: z.number(),
};
const probabilities = z.strictObject({ ...scored, top: z.array(z.strictObject(scored)) });
const eventSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('prompt'),
    tokens: count,
    text: z.string().optional(),
    detail: z
      .array(z.strictObject({ id: count, text: z.string(), probabilities: probabilities.optional() }))
      .optional(),
    routing: z.array(experts).optional(),
    seed: count,
  }),
  z.strictObject({
    kind: z.literal('token'),
    index: count,
    id: count,
    text: z.string(),
    probabilities: probabilities.optional(),
    routing: experts.optional(),
  }),
  z.strictObject({
    kind: z.literal('end'),
    index: count,
    reason: z.enum(['stop', 'length']),
    stop: z.union([z.string(), z.number()]).optional(),
    text: z.string(),
    tokens: count,
  }),
]);

const told = { tokens: count, routing: z.array(experts).optional() };
const resultsSchema = z.union([
  z.array(z.strictObject({ label: count, probabilities: z.array(z.number()), ...told })),
  z.array(z.strictObject({ vector: z.array(z.number()), ...told })),
]);

const histogram = z.strictObject({
  bounds: z.array(z.number()),
  counts: z.array(count),
  sum: z.number(),
  count,
});
const statsSchema: z.ZodType<EngineStats> = z.strictObject({
  ...{ queued: count, running: count, slots: count, queueLimit: count },
  requests: z.strictObject({
    ...{ completed: count, cancelled: count, timedOut: count, refused: count, failed: count },
  }),
  ...{ promptTokens: count, generatedTokens: count, passes: count },
  ...{ queueSeconds: histogram, firstTokenSeconds: histogram },
  ...{ tokenSeconds: histogram, requestSeconds: histogram },
  restarts: count,
  residentBytes: count,
  store: z.record(z.string(), z.number()),
  experts: z
    .array(
      z.strictObject({
        places: z.array(z.enum(['cold', 'reading', 'ready', 'pinned'])),
        accesses: z.array(count),
      }),
    )
    .exactOptional(),
});

const modelSchema: z.ZodType<ModelInfo> = z.strictObject({
  name: z.string(),
  kind: z.enum(['languageModel', 'encoderDecoder', 'classifier']),
  contextLength: count,
  targetLength: count.exactOptional(),
  vocabSize: count,
  hiddenSize: count,
  numLabels: count.exactOptional(),
  hasChatTemplate: z.boolean(),
  tasks: z.array(z.enum(['generate', 'classify', 'embed'])),
  routedLayers: z.array(
    z.strictObject({ name: z.string(), layerIndex: count, numExperts: count, topK: count }),
  ),
  placement: z.array(z.strictObject({ what: z.string(), where: z.string(), bytes: z.number() })),
  settings: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
});

const errorSchema = z.strictObject({
  code: z.enum(['request', 'queueFull', 'timeLimit', 'unavailable']),
  message: z.string(),
  field: z.string().optional(),
  limit: z.number().optional(),
  retryAfterSeconds: z.number().optional(),
  milliseconds: z.number().optional(),
});

const fromEngineSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('ready'), model: modelSchema }),
  /** The model cannot be opened. */
  z.strictObject({ kind: z.literal('failed'), message: z.string() }),
  /** The process is alive, at least between two passes. */
  z.strictObject({ kind: z.literal('beat'), stats: statsSchema.optional() }),
  z.strictObject({ kind: z.literal('event'), id, event: eventSchema }),
  z.strictObject({ kind: z.literal('results'), id, results: resultsSchema }),
  z.strictObject({ kind: z.literal('stats'), id, stats: statsSchema }),
  z.strictObject({ kind: z.literal('end'), id }),
  z.strictObject({ kind: z.literal('error'), id, error: errorSchema }),
]);

/** What the engine's process sends. */
export type FromEngine = z.infer<typeof fromEngineSchema>;

/** Messages of one turn, in their order. */
export const turnSchema = z.array(fromEngineSchema);

/** An error, to be sent. */
export function packError(error: unknown): z.infer<typeof errorSchema> {
  if (!(error instanceof EngineError)) {
    return { code: 'unavailable', message: error instanceof Error ? error.message : String(error) };
  }
  const { code, message } = error;
  if (error instanceof RequestError) return { code, message, field: error.field };
  if (error instanceof QueueFullError)
    return { code, message, limit: error.limit, retryAfterSeconds: error.retryAfterSeconds };
  if (error instanceof TimeLimitError) return { code, message, milliseconds: error.milliseconds };
  return { code, message };
}

/** The error that was sent. */
export function unpackError(sent: z.infer<typeof errorSchema>): EngineError {
  const { code, message, field = '', limit = 0, retryAfterSeconds = 1, milliseconds = 0 } = sent;
  switch (code) {
    case 'request':
      return new RequestError(field, field === '' ? message : message.slice(field.length + 2));
    case 'queueFull':
      return new QueueFullError(limit, retryAfterSeconds);
    case 'timeLimit':
      return new TimeLimitError(milliseconds);
    case 'unavailable':
      return new EngineUnavailableError(message);
  }
}
