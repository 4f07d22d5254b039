/**
 * Files of the live page, each by its name: no path of a request ever reaches a disk.
 * @module
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { pageHtml } from './page-html.js';
import { pageStyle } from './page-style.js';

/** What is served under one path. */
export interface PageFile {
  readonly path: string;
  readonly mediaType: string;
  readonly read: () => string | Promise<string>;
}

/** Modules of ../page, which are built for browsers. */
const scripts = ['live', 'charts', 'elements', 'expert-grid', 'prompt-panel', 'server'] as const;

// They are built beside the server; a server that runs from its sources takes them from the build as well.
const built = new URL(
  import.meta.url.endsWith('.ts') ? '../../../../dist/serve/http/page/' : '../page/',
  import.meta.url,
);

const icon =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="#4269d0"><rect width="7" height="7" rx="2"/><rect x="9" y="9" width="7" height="7" rx="2"/></g><g fill="#b9c4e6"><rect x="9" width="7" height="7" rx="2"/><rect y="9" width="7" height="7" rx="2"/></g></svg>';

/** All of them. uPlot comes from its own package, which is installed with this one. */
export function pageFiles(): readonly PageFile[] {
  const uplot = (file: string) =>
    readFile(createRequire(import.meta.url).resolve(`uplot/dist/${file}`), 'utf8');
  return [
    { path: '/', mediaType: 'text/html; charset=utf-8', read: () => pageHtml },
    { path: '/assets/live.css', mediaType: 'text/css; charset=utf-8', read: () => pageStyle },
    { path: '/assets/icon.svg', mediaType: 'image/svg+xml', read: () => icon },
    { path: '/assets/uplot.css', mediaType: 'text/css; charset=utf-8', read: () => uplot('uPlot.min.css') },
    {
      path: '/assets/uplot.js',
      mediaType: 'text/javascript; charset=utf-8',
      read: () => uplot('uPlot.esm.js'),
    },
    ...scripts.map((name) => ({
      path: `/assets/${name}.js`,
      mediaType: 'text/javascript; charset=utf-8',
      read: () => readFile(fileURLToPath(new URL(`${name}.js`, built)), 'utf8'),
    })),
  ];
}
