/**
 * Finds the training and the validation part of a text corpus.
 * @module
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { readBytes, wholeFile, type TextRange } from './text-range.js';

/** The two parts of a corpus: ranges of files that do not overlap. */
export interface TextCorpus {
  readonly train: readonly TextRange[];
  readonly validation: readonly TextRange[];
}

const validationNames = ['valid.txt', 'validation.txt', 'val.txt'];

/**
 * Finds the parts of a corpus. `path` is a file, a folder that holds `train.txt` and `valid.txt` (or
 * `validation.txt`, `val.txt`), or a folder whose `.txt` files, at any depth and in the order of their names, are the
 * text. Without a validation text of its own, the last part of the text becomes it, cut where a line begins.
 *
 * @throws Error in one line for a missing or empty file, a folder without text, or a text too short to be split.
 */
export async function findText(
  path: string,
  validation?: string,
  validationFraction?: number,
): Promise<TextCorpus> {
  if (validation !== undefined)
    return { train: await findFiles(path), validation: await findFiles(validation) };
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    const name = validationNames.find((candidate) => existsSync(join(path, candidate)));
    if (name && existsSync(join(path, 'train.txt')) && validationFraction === undefined) {
      return {
        train: [await wholeFile(join(path, 'train.txt'))],
        validation: [await wholeFile(join(path, name))],
      };
    }
  }
  return split(path, await findFiles(path), validationFraction ?? 0.1);
}

async function findFiles(path: string): Promise<TextRange[]> {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return [await wholeFile(path)];
  const names = readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.txt'))
    .map((entry) => join(entry.parentPath, entry.name))
    // By code units, not by locale: the order of the text must not depend on the machine.
    .sort((a, b) => (relative(path, a) < relative(path, b) ? -1 : 1));
  if (names.length === 0) throw new Error(`${path} is a folder without text: it holds no .txt file`);
  return Promise.all(names.map(wholeFile));
}

async function split(path: string, files: readonly TextRange[], fraction: number): Promise<TextCorpus> {
  const total = files.reduce((sum, file) => sum + file.end - file.start, 0);
  let before = Math.floor(total * (1 - fraction));
  const index = files.findIndex((file) => {
    const length = file.end - file.start;
    if (before < length) return true;
    before -= length;
    return false;
  });
  const file = files[index];
  const cut = await nextLine(file, file.start + before);
  const train = [...files.slice(0, index), { ...file, end: cut }].filter((range) => range.end > range.start);
  const validation = [{ ...file, start: cut }, ...files.slice(index + 1)].filter(
    (range) => range.end > range.start,
  );
  if (train.length === 0 || validation.length === 0) {
    throw new Error(
      `${path} has ${total} bytes: too few to keep ${fraction} of it for validation; give a validation text`,
    );
  }
  return { train, validation };
}

/** Bytes that are searched for a line's end before a word's end will do. */
const searched = 1 << 20;

/** The first place at or after `at` where a line begins; in a text without lines a word; else a character. */
async function nextLine(file: TextRange, at: number): Promise<number> {
  if (at === file.start) return at;
  const from = at - 1;
  const bytes = await readBytes(file.path, from, Math.min(file.end, from + searched));
  for (const separator of ['\n', ' ']) {
    const found = bytes.indexOf(separator);
    if (found >= 0 && from + found + 1 < file.end) return from + found + 1;
  }
  let character = at;
  while (character < file.end && character - from < bytes.length && (bytes[character - from] & 0xc0) === 0x80)
    character++;
  return character;
}
