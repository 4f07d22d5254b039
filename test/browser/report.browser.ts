/**
 * The report as its readers see it: in a browser, from a file, without a network.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium, type BrowserContext, type Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { figures, reportPage } from '../../src/report/index.js';
import { madeUpReport } from '../support/report-data.js';
import { temporaryFolder } from '../support/tiny-training.js';
import { contrast, flags } from './flags.js';

let folder: string;
let browser: BrowserContext;
let page: Page;
let requests: string[];
let complaints: string[];

beforeAll(async () => {
  folder = await temporaryFolder();
  const report = madeUpReport();
  await writeFile(join(folder, 'report.html'), reportPage(report, 'report.json'));
  await writeFile(join(folder, 'report.json'), JSON.stringify(report));
  await mkdir(join(folder, 'profile'));
  browser = await chromium.launchPersistentContext(join(folder, 'profile'), {
    executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
    headless: true,
    args: flags,
    offline: true,
    viewport: { width: 1180, height: 900 },
  });
});
afterAll(async () => {
  await browser?.close();
  await rm(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  page = await browser.newPage();
  [requests, complaints] = [[], []];
  page.on('request', (request) => requests.push(request.url()));
  page.on('console', (message) => complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(pathToFileURL(join(folder, 'report.html')).href);
});

test('opens from a file, asks for nothing else and complains of nothing', async () => {
  await page.waitForLoadState('networkidle');
  const others = requests.filter((url) => !url.endsWith('/report.html') && !url.startsWith('data:'));
  expect(others).toEqual([]);
  expect(complaints).toEqual([]);
  expect(await page.title()).toBe('Report: switch, strata, dense');
});

test('every figure is there, has a size, and stays inside the page', async () => {
  for (const { id, title } of figures) {
    const section = page.getByRole('region', { name: title, exact: true });
    expect(await section.count(), title).toBe(1);
    expect(await section.getAttribute('id')).toBe(id);
    for (const figure of await section.locator('figure').all()) {
      const box = (await figure.boundingBox())!;
      expect(box.width, id).toBeGreaterThan(100);
      expect(box.height, id).toBeGreaterThan(40);
      expect(box.x + box.width, id).toBeLessThanOrEqual(1180);
    }
  }
  expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(1180);
});

test('drawings have names for those who cannot see them', async () => {
  const drawings = page.getByRole('img');
  expect(await drawings.count()).toBe(await page.locator('figure > svg').count());
  expect(await page.getByRole('img', { name: 'Training and validation loss over steps' }).count()).toBe(1);
});

test.each(['light', 'dark'] as const)('can be read in a %s theme', async (colorScheme) => {
  await page.emulateMedia({ colorScheme });
  const [ink, paper] = (await page.evaluate(
    `(() => { const { color, backgroundColor } = getComputedStyle(document.body); return [color, backgroundColor]; })()`,
  )) as [string, string];
  expect(contrast(ink, paper)).toBeGreaterThan(7);
  // Cells of heat maps are mixed from the theme's colours: none may be left black by a colour that is not known.
  const fills = (await page.evaluate(
    `[...document.querySelectorAll('#agreement rect')].map((cell) => getComputedStyle(cell).fill)`,
  )) as string[];
  expect(new Set(fills).size).toBeGreaterThan(3);
  expect(fills).not.toContain('rgb(0, 0, 0)');
  expect((await page.screenshot({ fullPage: true })).length).toBeGreaterThan(50_000);
});

test('a narrow screen scrolls figures, not the page', async () => {
  await page.setViewportSize({ width: 390, height: 800 });
  expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(390);
});

test('a click in the contents goes to its figure', async () => {
  await page.getByRole('link', { name: 'Stability over training' }).click();
  expect(new URL(page.url()).hash).toBe('#stability');
  expect(complaints).toEqual([]);
});
