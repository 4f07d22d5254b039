/**
 * The body of `/v1/chat/completions`.
 * @module
 */
import { z } from 'zod';
import { chatRoles, type ChatMessage } from '../../../data/index.js';
import { invalid } from '../api-error.js';
import type { GenerationRequest, ModelInfo } from '../../engine-client.js';
import type { HttpSettings } from '../settings.js';
import { samplingFields, samplingRequest } from './sampling-fields.js';

/** Only text: nothing that would have to be fetched or read from a disk. */
const textPart = z.strictObject({
  type: z.literal('text', 'only text is understood: images, audio and files are not'),
  text: z.string(),
});

/** The schema under a server's limits. */
export function chatBody(settings: HttpSettings) {
  const { limits } = settings;
  const message = z.strictObject({
    role: z.enum(chatRoles),
    content: z.string().or(z.array(textPart).min(1).max(256)),
  });
  return z.strictObject({
    messages: z.array(message).min(1).max(limits.messages),
    max_completion_tokens: z
      .int()
      .min(1)
      .max(limits.maxTokens)
      .nullish()
      .describe('Another name of `max_tokens`.'),
    logprobs: z.boolean().nullish().describe('Tell each token’s log-probability.'),
    top_logprobs: z
      .int()
      .min(0)
      .max(limits.topLogProbabilities)
      .nullish()
      .describe('With `logprobs`: also those of so many of the most probable tokens.'),
    response_format: z.strictObject({ type: z.literal('text') }).nullish(),
    ...samplingFields(settings),
  });
}

/** A checked body. */
export type ChatBody = z.output<ReturnType<typeof chatBody>>;

/** What it asks of the engine. */
export function chatRequest(body: ChatBody, settings: HttpSettings, model: ModelInfo): GenerationRequest {
  if (!model.hasChatTemplate)
    throw invalid(
      'messages',
      `'${model.name}' has no chat template: give its prompts to /v1/completions`,
      'no_chat_template',
    );
  const { max_tokens: one, max_completion_tokens: other } = body;
  if (one != null && other != null && one !== other)
    throw invalid('max_completion_tokens', 'is not max_tokens: give one of them');
  if (body.top_logprobs != null && !body.logprobs) throw invalid('top_logprobs', 'is for logprobs alone');
  const maxTokens = one ?? other;
  return {
    ...samplingRequest(body, settings),
    ...(maxTokens != null && { maxTokens }),
    ...(body.logprobs && { topLogProbabilities: body.top_logprobs ?? 0 }),
    prompt: { messages: body.messages.map(chatMessage) },
  };
}

function chatMessage({ role, content }: ChatBody['messages'][number]): ChatMessage {
  return { role, content: typeof content === 'string' ? content : content.map(({ text }) => text).join('') };
}
