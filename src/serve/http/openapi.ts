/**
 * The server's routes as an OpenAPI document.
 * @module
 */
import { z } from 'zod';
import { errorAnswer } from './answers/answer-schemas.js';
import type { Route } from './route.js';
import type { HttpSettings } from './settings.js';

/**
 * OpenAPI 3.1, made from the very schemas by which bodies are checked.
 * @param version of this package
 */
export function openApiDocument(routes: readonly Route[], settings: HttpSettings, version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const path = route.path.replaceAll(/:(\w+)(\{[^}]*\})?/g, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route, settings) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Switchyard',
      version,
      description: 'An OpenAI-compatible server of sparse Mixture-of-Experts models.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    components: {
      schemas: { Error: schema(errorAnswer, 'output') },
      securitySchemes: { key: { type: 'http', scheme: 'bearer' } },
    },
    security: settings.apiKeys.length > 0 ? [{ key: [] }] : [],
    paths,
  };
}

function operation(route: Route, settings: HttpSettings): object {
  const parameters = [...route.path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
  const mediaType = (route.mediaType ?? 'application/json').split(';')[0];
  const answer = route.answer === undefined ? { type: 'string' } : schema(route.answer, 'output');
  const body = route.body?.(settings);
  return {
    summary: route.summary,
    operationId: operationId(route),
    ...(route.isPublic && { security: [] }),
    ...(parameters.length > 0 && { parameters }),
    ...(body && {
      requestBody: { required: true, content: { 'application/json': { schema: schema(body, 'input') } } },
    }),
    responses: {
      200: { description: 'The answer.', content: { [mediaType]: { schema: answer } } },
      default: {
        description: 'What went wrong.',
        content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
      },
    },
  };
}

function operationId({ method, path }: Route): string {
  const words = path
    .replaceAll(/\{[^}]*\}/g, '')
    .split(/[^A-Za-z0-9]+/)
    .filter(Boolean);
  return [method.toLowerCase(), ...(words.length > 0 ? words : ['root'])]
    .map((word, index) => (index === 0 ? word : word[0].toUpperCase() + word.slice(1)))
    .join('');
}

function schema(type: z.ZodType, io: 'input' | 'output'): object {
  const { $schema: _, ...rest } = z.toJSONSchema(type, { io, unrepresentable: 'any' });
  return rest;
}
