/**
 * The body of `/v1/completions`.
 * @module
 */
import { z } from 'zod';
import { invalid } from '../api-error.js';
import type { GenerationRequest, Prompt } from '../../engine-client.js';
import type { HttpSettings } from '../settings.js';
import { samplingFields, samplingRequest } from './sampling-fields.js';

/** Tokens that are added where the body does not say, as in OpenAI's API. */
const DEFAULT_TOKENS = 16;

/** The schema under a server's limits. */
export function completionBody(settings: HttpSettings) {
  const { limits } = settings;
  const ids = z.array(z.int().min(0)).min(1);
  const text = z.string().min(1);
  return z.strictObject({
    prompt: z
      .union([text, ids, z.array(text).min(1).max(limits.inputs), z.array(ids).min(1).max(limits.inputs)], {
        error: `must be a text, a list of token ids, or a list of at most ${limits.inputs} of either; none may be empty`,
      })
      .describe('Texts to continue, or their token ids.'),
    logprobs: z
      .int()
      .min(0)
      .max(limits.topLogProbabilities)
      .nullish()
      .describe('Tell each token’s log-probability, and those of as many of the most probable ones.'),
    echo: z.boolean().nullish().describe('Begin the answer with the prompt.'),
    ...samplingFields(settings),
  });
}

/** A checked body. */
export type CompletionBody = z.output<ReturnType<typeof completionBody>>;

/** One request to the engine for each prompt. */
export function completionRequests(
  body: CompletionBody,
  settings: HttpSettings,
): readonly GenerationRequest[] {
  const prompts = promptsOf(body.prompt);
  const { texts } = settings.limits;
  if (prompts.length * (body.n ?? 1) > texts)
    throw invalid('n', `${prompts.length} prompts with ${body.n} texts each are more than ${texts} texts`);
  const request = {
    maxTokens: DEFAULT_TOKENS,
    ...samplingRequest(body, settings),
    ...(body.logprobs != null && { topLogProbabilities: body.logprobs }),
    ...(body.echo != null && { echo: body.echo }),
  };
  return prompts.map((prompt) => ({ ...request, prompt }));
}

function promptsOf(prompt: CompletionBody['prompt']): readonly Prompt[] {
  if (typeof prompt === 'string') return [{ text: prompt }];
  const [first] = prompt;
  if (typeof first === 'number') return [{ ids: prompt as readonly number[] }];
  if (typeof first === 'string') return (prompt as readonly string[]).map((text) => ({ text }));
  return (prompt as readonly (readonly number[])[]).map((ids) => ({ ids }));
}
