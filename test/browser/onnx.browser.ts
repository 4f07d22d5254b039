/**
 * An exported model in a browser: onnxruntime-web fetches graph and weights and computes what the native runtime does.
 */
import { createReadStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, join, resolve } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { chromium, type BrowserContext } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exportOnnx } from '../../src/checkpoints/index.js';
import { exportedModels, memoryModel } from '../support/exported-models.js';
import { temporaryFolder } from '../support/tiny-training.js';
import { flags } from './flags.js';

const runtime = resolve('node_modules/onnxruntime-web/dist');
const types: Readonly<Record<string, string>> = { mjs: 'text/javascript', wasm: 'application/wasm' };

let folder: string;
let server: Server;
let browser: BrowserContext;

beforeAll(async () => {
  folder = await temporaryFolder();
  await mkdir(join(folder, 'profile'));
  // `/runtime/…` is the npm package, `/model/…` the export, and all else an empty page.
  server = createServer((request, response) => {
    const [, place, name = ''] = request.url!.split('/').map((part) => basename(decodeURIComponent(part)));
    if (name === '') return response.setHeader('content-type', 'text/html').end('<!doctype html>');
    response.setHeader('content-type', types[name.split('.').at(-1)!] ?? 'application/octet-stream');
    return createReadStream(join(place === 'runtime' ? runtime : join(folder, 'model'), name)).pipe(response);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  browser = await chromium.launchPersistentContext(join(folder, 'profile'), {
    executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
    headless: true,
    args: flags,
  });
});
afterAll(async () => {
  await browser?.close();
  server?.close();
  await rm(folder, { recursive: true, force: true });
});

test('a sparse language model, exported, says in Chromium what it says in Node', async () => {
  const source = memoryModel(exportedModels['language model with two of four experts']);
  await exportOnnx(source, join(folder, 'model'), { sequenceLength: 9 });
  const ids = Array.from({ length: 9 }, (_, i) => (i * 5 + 2) % 23);

  const session = await InferenceSession.create(join(folder, 'model', 'model.onnx'), { logSeverityLevel: 3 });
  const int64 = (numbers: number[]): Tensor =>
    new Tensor('int64', BigInt64Array.from(numbers, BigInt), [1, 9]);
  const feeds = { input_ids: int64(ids), attention_mask: int64(ids.map(() => 1)) };
  const expected = (await session.run(feeds))['logits'].data as Float32Array;
  await session.release();

  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  const logits = (await page.evaluate(`(async () => {
    const ort = await import('/runtime/ort.wasm.bundle.min.mjs');
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = '/runtime/';
    const session = await ort.InferenceSession.create('/model/model.onnx', {
      executionProviders: ['wasm'],
      externalData: [{ path: 'model.onnx.data', data: '/model/model.onnx.data' }],
    });
    const int64 = (numbers) => new ort.Tensor('int64', BigInt64Array.from(numbers, BigInt), [1, 9]);
    const ids = ${JSON.stringify(ids)};
    const { logits } = await session.run({ input_ids: int64(ids), attention_mask: int64(ids.map(() => 1)) });
    return [...logits.data];
  })()`)) as number[];
  expect(logits.length).toBe(9 * 23);
  const largest = Math.max(...expected.map(Math.abs));
  const worst = Math.max(...logits.map((value, i) => Math.abs(value - expected[i])));
  expect(largest).toBeGreaterThan(0.01);
  expect(worst / largest).toBeLessThan(1e-5);
});
