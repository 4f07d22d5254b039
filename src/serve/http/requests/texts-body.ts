/**
 * Bodies of `/v1/embeddings` and `/classify`.
 * @module
 */
import { z } from 'zod';
import { invalid } from '../api-error.js';
import type { TextsRequest } from '../../engine-client.js';
import type { HttpSettings } from '../settings.js';

function textFields({ limits }: HttpSettings) {
  const ids = z.array(z.int().min(0)).min(1);
  const text = z.string().min(1);
  return {
    model: z.string().min(1).max(512).nullish(),
    input: z.union(
      [text, ids, z.array(text).min(1).max(limits.inputs), z.array(ids).min(1).max(limits.inputs)],
      {
        error: `must be a text, a list of token ids, or a list of at most ${limits.inputs} of either; none may be empty`,
      },
    ),
    user: z.string().max(512).nullish().describe('Accepted and not used.'),
    switchyard: z
      .strictObject({ routed_experts: z.boolean().optional().describe("Tell every token's experts.") })
      .nullish(),
  };
}

/** The body of `/v1/embeddings` under a server's limits. */
export function embeddingsBody(settings: HttpSettings) {
  return z.strictObject({
    ...textFields(settings),
    encoding_format: z
      .enum(['float', 'base64'])
      .nullish()
      .describe('Numbers, or their little-endian float32 bytes in base64.'),
  });
}

/** The body of `/classify` under a server's limits. */
export function classifyBody(settings: HttpSettings) {
  return z.strictObject(textFields(settings));
}

/** A checked body of either. */
export type TextsBody = z.output<ReturnType<typeof classifyBody>>;

/** What it asks of the engine. */
export function textsRequest({ input, switchyard }: TextsBody, settings: HttpSettings): TextsRequest {
  const routing = switchyard?.routed_experts === true;
  if (routing && !settings.routedExperts)
    throw invalid('switchyard.routed_experts', 'this server does not tell the experts of tokens', 'disabled');
  const single = typeof input === 'string' || typeof input[0] === 'number';
  return {
    inputs: (single ? [input] : input) as TextsRequest['inputs'],
    timeLimitMilliseconds: settings.requestMilliseconds,
    tokenLimit: settings.limits.inputTokens,
    ...(routing && { routing, routingLimit: settings.limits.routedExperts }),
  };
}
