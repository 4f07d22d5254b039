/**
 * Encodes and decodes every line of WikiText-2 and NTREX with the tokenizers of data/tokenizers, for compare.py.
 *
 *   npm run build && node docs/results/tokenizers/encode.mjs OUT && python docs/results/tokenizers/compare.py OUT
 *
 * OUT gets, for each tokenizer, its tokenizer.json; for each corpus the lines, and the ids as int32: count, ids, count, …
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HuggingFaceTokenizer, loadTokenizer } from '../../../dist/data/index.js';

const out = process.argv[2];
if (!out) throw new Error('name a folder for the ids');
mkdirSync(out, { recursive: true });

const textFiles = (name) =>
  readdirSync(`data/${name}`)
    .filter((file) => file.endsWith('.txt') && !file.includes('docids'))
    .sort()
    .map((file) => readFileSync(`data/${name}/${file}`, 'utf8'));
const corpora = { 'wikitext-2': textFiles('wikitext-2'), ntrex: textFiles('ntrex') };
const tokenizers = {
  gpt2: 'gpt2/tokenizer.json',
  'bert-base-uncased': 'bert-base-uncased/vocab.txt',
  'spm-ende-4k': 'spm-ende-4k/tokenizer.model',
};
/** Lines in every so many that @huggingface/tokenizers, which is slower, encodes too. */
const libraryStride = 10;

const report = [];
for (const [name, path] of Object.entries(tokenizers)) {
  const tokenizer = loadTokenizer(join('data/tokenizers', path));
  writeFileSync(join(out, `${name}.json`), JSON.stringify(tokenizer.toFile()));
  const library = new HuggingFaceTokenizer(tokenizer.toFile(), tokenizer.special);
  for (const [corpus, texts] of Object.entries(corpora)) {
    const lines = texts.flatMap((text) => text.split('\n'));
    const began = performance.now();
    const ids = lines.map((line) => tokenizer.encode(line));
    const seconds = (performance.now() - began) / 1000;
    const decoded = ids.map((each) => tokenizer.decode(each));
    const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
    const wholeFiles = texts.filter((text) => tokenizer.decode(tokenizer.encode(text)) === text).length;
    const sampled = lines.flatMap((line, index) => (index % libraryStride ? [] : [index]));
    const libraryBegan = performance.now();
    const otherIds = sampled.map((index) => library.encode(lines[index]));
    const librarySeconds = (performance.now() - libraryBegan) / 1000;
    report.push({
      tokenizer: name,
      corpus,
      files: texts.length,
      lines: lines.length,
      tokens: ids.reduce((sum, each) => sum + each.length, 0),
      megabytesPerSecond: bytes / 1e6 / seconds,
      losslessFiles: wholeFiles,
      losslessLines: lines.filter((line, index) => decoded[index] === line).length,
      library: {
        lines: sampled.length,
        different: sampled.filter((index, at) => otherIds[at].join() !== ids[index].join()).length,
        megabytesPerSecond: sampled.reduce((sum, index) => sum + Buffer.byteLength(lines[index]), 0) / 1e6 / librarySeconds,
      },
    });
    process.stderr.write(`${JSON.stringify(report.at(-1))}\n`);
    writeFileSync(join(out, `${corpus}.lines`), lines.join('\n'));
    writeFileSync(join(out, `${name}.${corpus}.decoded`), decoded.map((text) => JSON.stringify(text)).join('\n'));
    const flat = Int32Array.from(ids.flatMap((each) => [each.length, ...each]));
    writeFileSync(join(out, `${name}.${corpus}.ids`), new Uint8Array(flat.buffer));
  }
}
writeFileSync(join(out, 'report.json'), JSON.stringify(report, null, 2));
