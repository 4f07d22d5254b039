/**
 * `/v1/embeddings` and `/classify`.
 * @module
 */
import { answerHead, mutable } from '../answers/answer-shape.js';
import { classifyAnswer, embeddingsAnswer } from '../answers/answer-schemas.js';
import type { TokenRouting } from '../../engine-client.js';
import { classifyBody, embeddingsBody, textsRequest } from '../requests/texts-body.js';
import { postRoute, requestedModel, type Route } from '../route.js';

/** Routes that read texts. */
export const inputRoutes: readonly Route[] = [
  postRoute({
    path: '/v1/embeddings',
    summary: 'Makes a vector of length 1 of each text.',
    body: embeddingsBody,
    answer: embeddingsAnswer,
    handle: async (exchange, body) => {
      const { name } = requestedModel(exchange, body.model, 'embed');
      const request = textsRequest(body, exchange.settings);
      const vectors = await exchange.client.embed(request, { signal: exchange.signal });
      const encode = body.encoding_format === 'base64' ? base64 : (vector: readonly number[]) => vector;
      const data = vectors.map(({ vector, routing }, index) => ({
        object: 'embedding' as const,
        index,
        embedding: encode(vector),
        ...routed(routing),
      }));
      return Response.json({ object: 'list', model: name, data, usage: usage(vectors) });
    },
  }),
  postRoute({
    path: '/classify',
    summary: 'Tells the class of each text.',
    body: classifyBody,
    answer: classifyAnswer,
    handle: async (exchange, body) => {
      const model = requestedModel(exchange, body.model, 'classify');
      const request = textsRequest(body, exchange.settings);
      const classes = await exchange.client.classify(request, { signal: exchange.signal });
      const data = classes.map(({ label, probabilities, routing }, index) => ({
        index,
        label: `LABEL_${label}`,
        probs: probabilities,
        num_classes: probabilities.length,
        ...routed(routing),
      }));
      return Response.json({ ...answerHead('classify', 'list', model), data, usage: usage(classes) });
    },
  }),
];

function routed(routing: readonly TokenRouting[] | undefined) {
  return routing === undefined ? {} : { switchyard: { routed_experts: routing.map(mutable) } };
}

function usage(read: readonly { readonly tokens: number }[]): {
  prompt_tokens: number;
  total_tokens: number;
} {
  const tokens = read.reduce((sum, { tokens }) => sum + tokens, 0);
  return { prompt_tokens: tokens, total_tokens: tokens };
}

function base64(vector: readonly number[]): string {
  return Buffer.from(Float32Array.from(vector).buffer).toString('base64');
}
