/**
 * `/v1/completions` and `/v1/chat/completions`.
 * @module
 */
import { answerTexts } from '../answers/answer-texts.js';
import { chatAnswer, completionAnswer } from '../answers/answer-schemas.js';
import type { Wanted } from '../answers/answer-shape.js';
import { ChatShape } from '../answers/chat-shape.js';
import { CompletionShape } from '../answers/completion-shape.js';
import { chatBody, chatRequest } from '../requests/chat-body.js';
import { completionBody, completionRequests } from '../requests/completion-body.js';
import type { SamplingBody } from '../requests/sampling-fields.js';
import { postRoute, requestedModel, type Route } from '../route.js';

/** Routes that write. */
export const textRoutes: readonly Route[] = [
  postRoute({
    path: '/v1/completions',
    summary: 'Continues texts.',
    body: completionBody,
    answer: completionAnswer,
    handle: (exchange, body) => {
      const model = requestedModel(exchange, body.model, 'generate');
      const requests = completionRequests(body, exchange.settings);
      const wanted = wantedBy(body, body.logprobs != null);
      const shape = new CompletionShape(model, wanted, body.echo ?? false);
      return answerTexts(exchange, requests, { ...streamed(body), model, wanted, shape });
    },
  }),
  postRoute({
    path: '/v1/chat/completions',
    summary: 'Answers a conversation by the chat template of the model.',
    body: chatBody,
    answer: chatAnswer,
    handle: (exchange, body) => {
      const model = requestedModel(exchange, body.model, 'generate');
      const request = chatRequest(body, exchange.settings, model);
      const wanted = wantedBy(body, body.logprobs ?? false);
      const shape = new ChatShape(model, wanted);
      return answerTexts(exchange, [request], { ...streamed(body), model, wanted, shape });
    },
  }),
];

function wantedBy({ switchyard }: SamplingBody, logProbabilities: boolean): Wanted {
  return {
    logProbabilities,
    tokenIds: switchyard?.token_ids ?? false,
    routedExperts: switchyard?.routed_experts ?? false,
  };
}

function streamed({ stream, stream_options: options }: SamplingBody): { stream: boolean; usage: boolean } {
  return { stream: stream ?? false, usage: options?.include_usage ?? false };
}
