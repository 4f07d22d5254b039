/**
 * Writes parameter-counts.md: the size of every recipe of a paper beside the count that the paper prints.
 *
 *   npm run build && node docs/results/parameter-counts.mjs
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createModel, sizeOfModel } from '../../dist/models/index.js';
import { loadRecipe, vocabularySize } from '../../dist/recipes/index.js';

const file = (extension) => new URL(`./parameter-counts.${extension}`, import.meta.url);
const published = JSON.parse(readFileSync(file('json'), 'utf8'));

/** `148.5M`, `1.072B` */
function short(count) {
  const [unit, suffix] = count >= 1e9 ? [1e9, 'B'] : [1e6, 'M'];
  return `${Number((count / unit).toPrecision(6))}${suffix}`;
}

const rows = published.map(({ recipe: name, published: count, source, note }) => {
  const recipe = loadRecipe(name);
  const size = sizeOfModel(createModel({ ...recipe.model, vocabSize: vocabularySize(recipe) }));
  const difference = count === undefined ? undefined : (100 * (size.parameters - count)) / count;
  const path = `../../recipes/${name}.json`;
  return [
    `[${name.slice('paper/'.length)}](${path})`,
    size.parameters.toLocaleString('en-US'),
    count === undefined ? '–' : short(count),
    difference === undefined ? '–' : `${difference > 0 ? '+' : ''}${difference.toFixed(2)} %`,
    [source, note].filter(Boolean).join('; '),
    `${short(size.activeParameters)}`,
    `${short(size.forwardFlopsPerToken)}`,
  ];
});

const head = ['recipe', 'ours', 'published', 'difference', 'where, and why it differs', 'active', 'FLOPs a token'];
const line = (cells) => `| ${cells.join(' | ')} |`;
const marks = head.map((_, i) => ([1, 2, 3, 5, 6].includes(i) ? '---:' : '---'));
writeFileSync(
  file('md'),
  `# Parameter counts

\`npm run build && node docs/results/parameter-counts.mjs\`. Nothing is allocated: \`switchyard inspect paper/switch-c\` sizes
1.57 trillion parameters in half a second.

${[head, marks, ...rows].map(line).join('\n')}

- Active parameters are those that one token multiplies with or looks up; of an encoder–decoder, one source token in the
  encoder and one target token in the decoder. The table of embeddings counts whole.
- FLOPs are those of the forward pass at full context, two per multiplied weight, and two per query, key and head dimension
  in attention. SMoE prints FLOPs of another count (dense M4: 167M, M15: 506M); what its methods add to the dense model agrees:
  SMoE-4-4 adds 50M in both, SMoE-2-2-2-2 80M in both, SMoE-4-12 150M in the paper and 151M here.
- Switch-XXL is printed with 64 experts in every second layer, which is 204B; the printed 395B is that of 128.
- σ-MoE on Enwik8: ours has all 256 bytes in its vocabulary, the paper the 205 that occur (41.24M).
- ACMoE's counts hold the linear gate that its released code keeps, unused, in adaptive layers; so do ours.
`,
);
