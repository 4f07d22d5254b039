/**
 * Routes that tell what is served and how it does.
 * @module
 */
import type { z } from 'zod';
import { layerAnswer } from '../answers/answer-shape.js';
import { healthAnswer, modelAnswer, modelsAnswer } from '../answers/answer-schemas.js';
import type { ModelInfo } from '../../engine-client.js';
import { prometheusText } from '../prometheus.js';
import { getRoute, requestedModel, type Exchange, type Route } from '../route.js';

/** When this server began, which is when its model was made as far as clients are concerned. */
const STARTED = Math.floor(Date.now() / 1000);

/** Routes of models, health and metrics. */
export const stateRoutes: readonly Route[] = [
  getRoute({
    path: '/v1/models',
    summary: 'Lists the served model.',
    answer: modelsAnswer,
    handle: ({ client }) => Response.json({ object: 'list', data: [describe(client.model)] }),
  }),
  getRoute({
    path: '/v1/models/:model{.+}',
    summary: 'Tells what the served model is.',
    answer: modelAnswer,
    handle: (exchange) => Response.json(describe(requestedModel(exchange, exchange.parameters['model']))),
  }),
  getRoute({
    path: '/health',
    summary: 'Whether the server and its engine work.',
    isPublic: true,
    answer: healthAnswer,
    handle: (exchange) => health(exchange, ['ready', 'stopping'].includes(exchange.client.state)),
  }),
  getRoute({
    path: '/ready',
    summary: 'Whether new requests are taken.',
    isPublic: true,
    answer: healthAnswer,
    handle: (exchange) => health(exchange, exchange.client.state === 'ready' && !exchange.draining),
  }),
  getRoute({
    path: '/metrics',
    summary: 'Counters and histograms for Prometheus.',
    mediaType: 'text/plain; version=0.0.4; charset=utf-8',
    handle: async ({ client, metrics, draining }) => {
      const text = prometheusText(await client.stats(), metrics, {
        state: client.state,
        draining,
        model: nameOf(client),
      });
      return new Response(text, { headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' } });
    },
  }),
];

function health({ client, draining }: Exchange, well: boolean): Response {
  const answer: z.input<typeof healthAnswer> = {
    status: well ? 'ok' : 'unavailable',
    engine: client.state,
    draining,
  };
  return Response.json(answer, { status: well ? 200 : 503 });
}

/** The model's name; empty while it is opened for the first time. */
function nameOf(client: Exchange['client']): string {
  try {
    return client.model.name;
  } catch {
    return '';
  }
}

function describe(model: ModelInfo): z.input<typeof modelAnswer> {
  return {
    id: model.name,
    object: 'model',
    created: STARTED,
    owned_by: 'switchyard',
    switchyard: {
      kind: model.kind,
      tasks: [...model.tasks],
      context_length: model.contextLength,
      vocab_size: model.vocabSize,
      hidden_size: model.hiddenSize,
      chat: model.hasChatTemplate,
      layers: model.routedLayers.map(layerAnswer),
      placement: model.placement.map((part) => ({ ...part })),
      settings: { ...model.settings },
    },
  };
}
