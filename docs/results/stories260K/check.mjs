/**
 * Imports data/stories260K in both of its forms and checks what its README says of it; writes result.json.
 *
 *   npm run build && node docs/results/stories260K/check.mjs
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Generator } from '../../../dist/decode/index.js';
import { input } from '../../../dist/graph/index.js';
import { evaluationContext } from '../../../dist/nn/index.js';
import { compile } from '../../../dist/runtime/index.js';
import { loadModel } from '../../../dist/train/index.js';

const folder = 'data/stories260K';
const notes = readFileSync(join(folder, 'README.md'), 'utf8');
const documentedText = /gives exactly the text [^"]*"([^"]*)"/.exec(notes)[1];
const documentedLogits = [...notes.matchAll(/\((\d+), ([\d.]+)\)/g)].map(([, id, value]) => [+id, +value]);
const BOS = 1;

const work = mkdtempSync(join(tmpdir(), 'stories-'));
const results = [];
for (const source of [folder, join(folder, 'stories260K.bin')]) {
  const path = join(work, `model-${results.length}`);
  execFileSync('node', ['dist/cli/main.js', 'import', source, path], { stdio: 'inherit' });
  const { model, tokenizer, weights } = await loadModel(path);
  const tokens = input('tokens', 'int32', [1, 1]);
  const { logits } = model.forward({ tokens }, evaluationContext());
  const program = (await compile({ logits })).bindKnown(weights);
  const values = (await program.run({ tokens: Int32Array.of(BOS) })).logits;
  const largest = Array.from(values, (value, id) => [id, value]).sort((a, b) => b[1] - a[1]).slice(0, 5);
  await program.release();
  const generator = await Generator.create(model, weights);
  const ids = [];
  const greedy = { maxTokens: 200, temperature: 0, topK: 0, topP: 1, seed: 1 };
  for await (const id of generator.generate([BOS], greedy)) {
    ids.push(id);
    if (tokenizer.decode(ids).length >= documentedText.length) break;
  }
  await generator.release();
  const text = tokenizer.decode(ids);
  results.push({
    source,
    parameters: [...weights.values()].reduce((sum, { length }) => sum + length, 0),
    text,
    textIsDocumented: text === documentedText,
    logits: largest.map(([id, value]) => [id, Number(value.toFixed(4))]),
    idsAreDocumented: largest.map(([id]) => id).join() === documentedLogits.map(([id]) => id).join(),
    largestDifference: Math.max(...largest.map(([, value], i) => Math.abs(value - documentedLogits[i][1]))),
  });
}
rmSync(work, { recursive: true });
writeFileSync(new URL('result.json', import.meta.url), `${JSON.stringify(results, null, 2)}\n`);
console.log(JSON.stringify(results, null, 2));
const holds = results.every((one) => one.textIsDocumented && one.idsAreDocumented && one.largestDifference < 1e-4);
process.exitCode = holds ? 0 : 1;
