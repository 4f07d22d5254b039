/**
 * The live page in a browser that has no other network than its server.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { chromium, type BrowserContext, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { HttpServer } from '../../src/serve/index.js';
import { FakeEngine } from '../support/fake-engine.js';
import { temporaryFolder } from '../support/tiny-training.js';
import { contrast, flags } from './flags.js';

const KEY = 'sk-browser-0123456789';

let folder: string;
let browser: BrowserContext;
let page: Page;
let server: HttpServer;
let engine: FakeEngine;
let requests: string[];
let complaints: string[];

beforeAll(async () => {
  folder = await temporaryFolder();
  await mkdir(join(folder, 'profile'));
  browser = await chromium.launchPersistentContext(join(folder, 'profile'), {
    executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
    headless: true,
    args: flags,
    viewport: { width: 1180, height: 1000 },
  });
});
afterAll(async () => {
  await browser?.close();
  await rm(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  engine = new FakeEngine({ tokenMilliseconds: 15, layers: 4, numExperts: 32, resident: 12 });
  server = await HttpServer.start(engine, { port: 0, liveMilliseconds: 100 });
  page = await browser.newPage();
  // A browser's first page on a busy machine.
  page.setDefaultTimeout(100_000);
  [requests, complaints] = [[], []];
  page.on('request', (request) => requests.push(request.url()));
  page.on('console', (message) => complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
});
afterEach(async () => {
  await page.close();
  await server.close();
});

const open = async (): Promise<void> => {
  await page.goto(server.url);
  await page.getByRole('heading', { name: 'fake', exact: true }).waitFor();
};

test('follows the server, asks nobody else and complains of nothing', async () => {
  await open();
  await page.getByText('of 128 in memory').waitFor();
  expect(await page.locator('#state').textContent()).toBe('ready');
  expect(await page.getByRole('list', { name: 'Settings' }).textContent()).toContain('policy lru');
  await page.waitForTimeout(600);
  expect(complaints).toEqual([]);
  expect(requests.filter((url) => !url.startsWith(server.url))).toEqual([]);
  expect(await page.locator('.uplot canvas').count()).toBe(4);
});

test('writes, and shows the experts of each token on hover and by keyboard', async () => {
  await open();
  await page.getByRole('textbox', { name: 'Prompt' }).fill('abc');
  await page.getByLabel('tokens', { exact: true }).fill('20');
  await page.getByRole('button', { name: 'Write' }).click();
  await page.getByText('20 tokens in').waitFor();
  const tokens = page.locator('#answer .token');
  expect(await tokens.count()).toBe(23);
  expect(await page.locator('#answer .token.prompt').count()).toBe(3);
  await tokens.nth(0).hover();
  expect(await page.locator('#answer-told').textContent()).toBe(
    '"a" — layer 1: 1, 4 · layer 3: 3, 6 · layer 5: 5, 8 · layer 7: 4, 7',
  );
  await tokens.nth(5).focus();
  expect(await page.locator('#answer-told').textContent()).toMatch(
    /^"\w" \(probability 61 %\) — layer 1: \d/,
  );
  await page.keyboard.press('End');
  expect(await page.locator('#answer-told').textContent()).toContain('no pass has read it');
  await page.getByText('As a table').click();
  await expect.poll(() => page.locator('#grid-table tbody tr').count()).toBe(4);
  expect(complaints).toEqual([]);
});

test('stops when told to, and the engine with it', async () => {
  await open();
  await page.getByLabel('tokens', { exact: true }).fill('200');
  await page.getByRole('button', { name: 'Write' }).click();
  await page.locator('#answer .token').nth(20).waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByRole('button', { name: 'Write' }).waitFor();
  await expect.poll(() => engine.running).toBe(0);
  expect(engine.completed).toBe(0);
});

test('asks for a key where there is one, and keeps it for this tab alone', async () => {
  await server.close();
  server = await HttpServer.start(engine, { port: 0, liveMilliseconds: 100, apiKeys: [KEY] });
  await page.goto(server.url);
  await page.getByLabel('This server wants a key:').fill(KEY);
  await page.getByRole('button', { name: 'Enter' }).click();
  await page.getByRole('heading', { name: 'fake', exact: true }).waitFor();
  await page.getByRole('button', { name: 'Write' }).click();
  await page.getByText('60 tokens in').waitFor();
  expect(requests.some((url) => url.includes(KEY))).toBe(false);
  expect(await page.evaluate('Object.keys(localStorage).length + document.cookie.length')).toBe(0);
});

test('tells what is wrong with a request, and that the engine is away', async () => {
  await open();
  await page.getByRole('textbox', { name: 'Prompt' }).fill('x'.repeat(300));
  await page.getByRole('button', { name: 'Write' }).click();
  await page.getByText('300 tokens are more than the model reads').waitFor();
  engine.kill();
  await page.getByText('restarting').waitFor();
});

test.each(['light', 'dark'] as const)(
  'can be read in a %s theme, also on a narrow screen',
  async (colorScheme) => {
    await page.emulateMedia({ colorScheme });
    await open();
    const colors = (await page.evaluate(
      `['body', '.note', '.legend', '.tile h2'].map((place) => getComputedStyle(document.querySelector(place)).color)`,
    )) as string[];
    const paper = (await page.evaluate('getComputedStyle(document.body).backgroundColor')) as string;
    for (const color of colors) expect(contrast(color, paper)).toBeGreaterThan(4.5);
    await page.setViewportSize({ width: 390, height: 800 });
    await page.waitForTimeout(200);
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(390);
    await page.setViewportSize({ width: 1180, height: 1000 });
    // What the documentation shows: SWITCHYARD_PICTURE=docs/pictures/live-page.png
    const picture = process.env['SWITCHYARD_PICTURE'];
    if (picture === undefined || colorScheme === 'dark') return;
    const asked = Array.from({ length: 6 }, (_, i) =>
      fetch(`${server.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ prompt: `text ${i}`, max_tokens: 240 }),
      }),
    );
    await page.getByRole('button', { name: 'Write' }).click();
    await page.getByText('60 tokens in').waitFor();
    await page.locator('#answer .token').nth(24).focus();
    await page.screenshot({ path: picture, fullPage: true });
    await Promise.all(asked);
  },
);
