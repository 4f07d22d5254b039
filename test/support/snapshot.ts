/**
 * Drawings kept in files: a test draws them again and compares, and leaves a changed one beside the old for review.
 * @module
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, extname } from 'node:path';
import { expect } from 'vitest';

const taken = new Set<string>();

/**
 * Compares a text with the file that keeps it. Where they differ, the new text is written beside as
 * `name-changed.svg` and the test fails; `UPDATE_SNAPSHOTS=1` replaces the file instead. A file that does not exist is
 * written, except under CI, where nobody would commit it.
 * @throws Error if the same file is compared twice in one run.
 */
export function expectSameAsFile(file: string, text: string): void {
  if (taken.has(file)) throw new Error(`two tests keep their drawing in ${file}`);
  taken.add(file);
  const changed = file.slice(0, -extname(file).length) + '-changed' + extname(file);
  const exists = existsSync(file);
  if (exists && readFileSync(file, 'utf8') === text) {
    rmSync(changed, { force: true });
    return;
  }
  mkdirSync(dirname(file), { recursive: true });
  if (process.env['UPDATE_SNAPSHOTS'] || (!exists && !process.env['CI'])) {
    rmSync(changed, { force: true });
    writeFileSync(file, text);
    return;
  }
  writeFileSync(changed, text);
  expect.fail(
    `${exists ? 'differs from' : 'is not kept in'} ${file}: see ${changed}, or set UPDATE_SNAPSHOTS=1`,
  );
}
