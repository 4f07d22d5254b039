/**
 * Fields that completions and chats have in common.
 * @module
 */
import { z } from 'zod';
import { invalid } from '../api-error.js';
import type { GenerationRequest } from '../../engine-client.js';
import type { HttpSettings } from '../settings.js';

const count = (most: number): z.ZodNumber => z.int().min(1).max(most);

/** The fields; `null` is as good as none, as in OpenAI's API. Unknown fields are refused. */
export function samplingFields({ limits }: HttpSettings) {
  const stopString = z
    .string()
    .min(1, 'an empty stop string would end every text at once')
    .max(limits.stopLength);
  return {
    model: z.string().min(1).max(512).nullish().describe('The served model; needless, as there is one.'),
    max_tokens: count(limits.maxTokens).nullish().describe('Tokens to add at most.'),
    n: count(limits.n).nullish().describe('Texts to write.'),
    seed: z.int().min(0).nullish().describe('The same seed gives the same texts.'),
    temperature: z
      .number()
      .min(0)
      .max(100)
      .nullish()
      .describe('0 takes the most probable token; 1 when absent.'),
    top_p: z
      .number()
      .gt(0)
      .max(1)
      .nullish()
      .describe('The fewest tokens that together reach this probability.'),
    top_k: z.int().min(0).nullish().describe('Only so many most probable tokens; all when 0.'),
    min_p: z.number().min(0).max(1).nullish().describe('Only tokens this share as probable as the best.'),
    repetition_penalty: z.number().gt(0).max(100).nullish(),
    presence_penalty: z.number().min(-2).max(2).nullish(),
    frequency_penalty: z.number().min(-2).max(2).nullish(),
    logit_bias: z
      .record(z.string().regex(/^\d{1,9}$/, 'must be a token id'), z.number().min(-100).max(100))
      .refine(
        (bias) => Object.keys(bias).length <= limits.logitBias,
        `has more than ${limits.logitBias} entries`,
      )
      .nullish()
      .describe('Added to the scores of tokens, by id.'),
    stop: z
      .union([stopString, z.array(stopString).max(limits.stop)], {
        error: `must be a text of 1 to ${limits.stopLength} characters, or at most ${limits.stop} of them`,
      })
      .nullish(),
    stop_token_ids: z.array(z.int().min(0)).max(64).nullish().describe('Further tokens that end a text.'),
    ignore_eos: z.boolean().nullish().describe("Write on over the model's own end tokens."),
    stream: z.boolean().nullish(),
    stream_options: z
      .strictObject({ include_usage: z.boolean().nullish() })
      .nullish()
      .describe('Only with `stream`.'),
    switchyard: z
      .strictObject({
        routed_experts: z.boolean().optional().describe("Tell every token's experts."),
        token_ids: z.boolean().optional().describe("Tell every token's id."),
      })
      .nullish()
      .describe('What goes beyond OpenAI’s API.'),
    user: z.string().max(512).nullish().describe('Accepted and not used.'),
    metadata: z.record(z.string(), z.string()).nullish().describe('Accepted and not used.'),
  };
}

/** A body with the fields of {@link samplingFields}. */
export type SamplingBody = z.output<z.ZodObject<ReturnType<typeof samplingFields>>>;

/**
 * What these fields ask of the engine.
 * @throws ApiError 400 naming a field that does not go with another or with the server's settings.
 */
export function samplingRequest(
  body: SamplingBody,
  settings: HttpSettings,
): Omit<GenerationRequest, 'prompt'> {
  if (body.stream_options && !body.stream) throw invalid('stream_options', 'is for stream alone');
  if (body.switchyard?.routed_experts && !settings.routedExperts)
    throw invalid('switchyard.routed_experts', 'this server does not tell the experts of tokens', 'disabled');
  const { stop } = body;
  const stops = typeof stop === 'string' ? [stop] : (stop ?? undefined);
  return withoutAbsent({
    maxTokens: body.max_tokens,
    n: body.n,
    seed: body.seed,
    temperature: body.temperature,
    topP: body.top_p,
    topK: body.top_k,
    minP: body.min_p,
    repetitionPenalty: body.repetition_penalty,
    presencePenalty: body.presence_penalty,
    frequencyPenalty: body.frequency_penalty,
    logitBias: body.logit_bias,
    stop: stops,
    stopTokens: body.stop_token_ids,
    ignoreEnd: body.ignore_eos,
    routing: body.switchyard?.routed_experts,
    timeLimitMilliseconds: settings.requestMilliseconds,
  });
}

type Present<Fields> = { [Key in keyof Fields]?: NonNullable<Fields[Key]> };

function withoutAbsent<Fields extends object>(fields: Fields): Present<Fields> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null)) as Present<Fields>;
}
