import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readRoutedSteps, RoutingTraceError } from './routed-steps.js';

let file: string;
beforeAll(async () => void (file = join(await mkdtemp(join(tmpdir(), 'routed-steps-')), 'trace.jsonl')));
afterAll(() => rm(join(file, '..'), { recursive: true }));

const layers = [
  { name: '1', numExperts: 4, topK: 2 },
  { name: '3', numExperts: 4, topK: 2 },
];

async function read(...lines: unknown[]): Promise<unknown> {
  await writeFile(
    file,
    lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'),
  );
  return readRoutedSteps(file, [4, 4]);
}

test('every token is a step of each layer that sends it somewhere', async () => {
  const first = {
    tokens: ['a', 'b'],
    layers,
    experts: [
      [
        [0, 3],
        [2, 2],
      ],
      [
        [1, -1],
        [-1, -1],
      ],
    ],
  };
  expect(await read(first, '', { layers, experts: [[[0], [1]]] })).toEqual([
    { layer: 0, experts: [0, 3] },
    { layer: 1, experts: [2] },
    { layer: 0, experts: [1] },
    { layer: 0, experts: [0] },
    { layer: 1, experts: [1] },
  ]);
});

test.each([
  ['no JSON', ['{'], /line 1: /],
  ['nothing', [''], /there is no routing in it/],
  ['no experts', [{ layers, experts: [] }], /there is no routing/],
  [
    'another model',
    [{ layers: [layers[0]], experts: [] }],
    /line 1: recorded from a model whose layers have 4 experts; this one's have 4, 4/,
  ],
  ['a layer too few', [{ layers, experts: [[[0]]] }], /line 1: token 0 has 1 layers instead of 2/],
  ['an expert too many', [{ layers, experts: [[[0], [4]]] }], /line 1: token 0 has expert 4 of 4 in layer 1/],
  ['half an expert', [{ layers, experts: [[[0.5], [1]]] }], /line 1: experts\.0\.0\.0: /],
  ['an array', ['[]'], /line 1: the line: /],
])('refused: %s', async (_, lines, message) => {
  const error = await read(...lines).catch((reason: unknown) => reason as Error);
  expect(error).toBeInstanceOf(RoutingTraceError);
  expect((error as Error).message).toMatch(message);
  expect((error as Error).message).not.toContain('\n');
});

test('a file that is not there', async () => {
  await expect(readRoutedSteps(`${file}.missing`, [4])).rejects.toThrow(/trace\.jsonl\.missing: ENOENT/);
});
