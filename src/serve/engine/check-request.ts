/**
 * What requests may ask, with the values of what they leave out.
 * @module
 */
import { randomInt } from 'node:crypto';
import { z } from 'zod';
import { chatRoles } from '../../data/index.js';
import type { RoutedLayerInfo, TextsRequest } from '../engine-client.js';
import { RequestError } from '../engine-errors.js';

const tokenId = z.int().min(0);
const penalty = z.number().min(-100).max(100);
const timeLimit = z.number().positive().optional();

const promptSchema = z.union(
  [
    z.strictObject({ text: z.string() }),
    z.strictObject({ ids: z.array(tokenId) }),
    z.strictObject({
      messages: z
        .array(z.strictObject({ role: z.enum(chatRoles), content: z.string() }))
        .min(1, 'there is no message'),
    }),
  ],
  { error: 'must be {text}, {ids} or {messages: [{role, content}, …]}' },
);

/** A request to write, checked by itself: the model may still refuse it. */
export const generationSchema = z.strictObject({
  prompt: promptSchema,
  maxTokens: z.int().min(0).optional(),
  n: z.int().min(1).max(128).default(1),
  seed: z
    .int()
    .min(0)
    .default(() => randomInt(2 ** 47)),
  temperature: z.number().min(0).max(100).default(1),
  topK: z.int().min(0).default(0),
  topP: z.number().gt(0).max(1).default(1),
  minP: z.number().min(0).max(1).default(0),
  repetitionPenalty: z.number().min(1e-3).max(1e3).default(1),
  presencePenalty: penalty.default(0),
  frequencyPenalty: penalty.default(0),
  logitBias: z
    .record(z.string().regex(/^(0|[1-9]\d{0,9})$/, 'must be the id of a token'), penalty)
    .refine((bias) => Object.keys(bias).length <= 1024, 'has more than 1024 tokens')
    .default({}),
  stop: z.array(z.string().min(1, 'is empty: every text would end at once').max(1000)).max(16).default([]),
  stopTokens: z.array(tokenId).max(256).default([]),
  ignoreEnd: z.boolean().default(false),
  topLogProbabilities: z.int().min(0).max(20).optional(),
  echo: z.boolean().default(false),
  routing: z.boolean().default(false),
  timeLimitMilliseconds: timeLimit,
});

/** Texts whose class or vector is wanted. */
export const textsSchema = z.strictObject({
  inputs: z
    .array(z.union([z.string(), z.array(tokenId)]))
    .min(1, 'there is no text')
    .max(2048),
  routing: z.boolean().default(false),
  tokenLimit: z.int().min(0).optional(),
  routingLimit: z.int().min(0).optional(),
  timeLimitMilliseconds: timeLimit,
});

/** A request to write with everything in it. */
export type CheckedRequest = z.infer<typeof generationSchema>;

/** A request about texts with everything in it. */
export type CheckedTexts = z.infer<typeof textsSchema>;

/** @throws RequestError naming the first field that is wrong. */
export function checkRequest<Schema extends z.ZodType>(schema: Schema, request: unknown): z.infer<Schema> {
  const parsed = schema.safeParse(request);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  throw new RequestError(path.join('.'), message);
}

/**
 * @param texts token ids of the inputs
 * @throws RequestError if they have more tokens in all, or a longer routing trace, than the request allows.
 */
export function checkTotals(
  {
    routing,
    tokenLimit = Infinity,
    routingLimit = Infinity,
  }: Pick<TextsRequest, 'routing' | 'tokenLimit' | 'routingLimit'>,
  texts: readonly (readonly number[])[],
  layers: readonly RoutedLayerInfo[],
): void {
  const tokens = texts.reduce((sum, { length }) => sum + length, 0);
  const remedy = 'give fewer or shorter texts';
  if (tokens > tokenLimit)
    throw new RequestError(
      'inputs',
      `have ${tokens} tokens in all, and ${tokenLimit} are allowed: ${remedy}`,
    );
  const numbers = tokens * layers.reduce((sum, { topK }) => sum + topK, 0);
  if (routing && numbers > routingLimit)
    throw new RequestError(
      'routing',
      `would be ${numbers} numbers, and ${routingLimit} are allowed: ${remedy}`,
    );
}
