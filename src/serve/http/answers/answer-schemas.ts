/**
 * Answers of the API, which are also their types.
 * @module
 */
import { z } from 'zod';

/** Experts of tokens: `[tokens][layers][topK]`, −1 for places that a token did not use. */
const routedExperts = z.array(z.array(z.array(z.int())));

const usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
});

const choiceExtras = z
  .object({
    token_ids: z.array(z.int()).optional(),
    routed_experts: routedExperts
      .optional()
      .describe('One entry a token: the experts of the pass that chose it, which read the token before it.'),
  })
  .optional();

const extras = z
  .object({
    seed: z.int().optional(),
    layers: z
      .array(z.object({ name: z.string(), num_experts: z.int(), top_k: z.int() }))
      .optional()
      .describe('The layers of routed_experts, in its order.'),
    prompts: z
      .array(
        z.object({
          tokens: z.int(),
          token_ids: z.array(z.int()).optional(),
          routed_experts: routedExperts.optional(),
        }),
      )
      .optional(),
  })
  .optional();

const finish = z.enum(['stop', 'length']).nullable();

const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
  text_offset: z.array(z.int()),
});

/** The answer of `/v1/completions`, and each chunk of its stream. */
export const completionAnswer = z.object({
  id: z.string(),
  object: z.literal('text_completion'),
  created: z.int(),
  model: z.string(),
  choices: z.array(
    z.object({
      index: z.int(),
      text: z.string(),
      logprobs: completionLogprobs.nullable(),
      finish_reason: finish,
      switchyard: choiceExtras,
    }),
  ),
  usage: usage.nullish(),
  switchyard: extras,
});

const scored = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(z.int()) });
const chatLogprobs = z.object({ content: z.array(scored.extend({ top_logprobs: z.array(scored) })) });

/** The answer of `/v1/chat/completions`. */
export const chatAnswer = z.object({
  id: z.string(),
  object: z.literal('chat.completion'),
  created: z.int(),
  model: z.string(),
  choices: z.array(
    z.object({
      index: z.int(),
      message: z.object({ role: z.literal('assistant'), content: z.string(), refusal: z.null() }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finish,
      switchyard: choiceExtras,
    }),
  ),
  usage: usage.nullish(),
  switchyard: extras,
});

/** One chunk of a streamed chat. */
export const chatChunk = z.object({
  id: z.string(),
  object: z.literal('chat.completion.chunk'),
  created: z.int(),
  model: z.string(),
  choices: z.array(
    z.object({
      index: z.int(),
      delta: z.object({ role: z.literal('assistant').optional(), content: z.string().optional() }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finish,
      switchyard: choiceExtras,
    }),
  ),
  usage: usage.nullish(),
  switchyard: extras,
});

const textExtras = z.object({ routed_experts: routedExperts.optional() }).optional();
const textUsage = z.object({ prompt_tokens: z.int(), total_tokens: z.int() });

/** The answer of `/v1/embeddings`. */
export const embeddingsAnswer = z.object({
  object: z.literal('list'),
  model: z.string(),
  data: z.array(
    z.object({
      object: z.literal('embedding'),
      index: z.int(),
      embedding: z.array(z.number()).or(z.string()),
      switchyard: textExtras,
    }),
  ),
  usage: textUsage,
});

/** The answer of `/classify`. */
export const classifyAnswer = z.object({
  id: z.string(),
  object: z.literal('list'),
  created: z.int(),
  model: z.string(),
  data: z.array(
    z.object({
      index: z.int(),
      label: z.string(),
      probs: z.array(z.number()),
      num_classes: z.int(),
      switchyard: textExtras,
    }),
  ),
  usage: textUsage,
});

const model = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: z.int(),
  owned_by: z.literal('switchyard'),
  switchyard: z.object({
    kind: z.enum(['languageModel', 'encoderDecoder', 'classifier']),
    tasks: z.array(z.enum(['generate', 'classify', 'embed'])),
    context_length: z.int(),
    vocab_size: z.int(),
    hidden_size: z.int(),
    chat: z.boolean(),
    layers: z.array(z.object({ name: z.string(), num_experts: z.int(), top_k: z.int() })),
    placement: z.array(z.object({ what: z.string(), where: z.string(), bytes: z.number() })),
    settings: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  }),
});

/** The answer of `/v1/models/{model}`. */
export const modelAnswer = model;

/** The answer of `/v1/models`. */
export const modelsAnswer = z.object({ object: z.literal('list'), data: z.array(model) });

/** The answer of `/health` and `/ready`. */
export const healthAnswer = z.object({
  status: z.enum(['ok', 'unavailable']),
  engine: z.enum(['starting', 'ready', 'restarting', 'stopping', 'stopped']),
  draining: z.boolean(),
});

/** Every error. */
export const errorAnswer = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
});
