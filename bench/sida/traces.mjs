/**
 * What routers decided, text by text, and what predictors expected: recorded from trained models, or drawn from Zipf's law.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { RandomStream, streamKey } from '../../dist/nn/index.js';

const lines = (path) =>
  readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line)
    .map((line) => JSON.parse(line));

/** An order of all experts of a layer. */
function shuffled(count, key) {
  const order = Int32Array.from({ length: count }, (_, i) => i);
  const random = new RandomStream(key);
  for (let i = count - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

const distinct = (experts) => [...new Set(experts)].sort((a, b) => a - b);

/**
 * Texts of a task, each `{ length, layers: [{ experts, needed, one, three }] }`: experts of its tokens, the distinct ones,
 * and the sets that a predictor expects by its first and by its first three guesses (empty where there is no predictor).
 *
 * Teachers have fewer sparse layers than the model that is measured. Further layers are theirs again with their experts
 * renamed by a fixed permutation: as active and as alike from text to text, but other weights.
 */
export function loadTexts(task, { folder, numLayers, numExperts, most = 400 }) {
  const path = folder && join(folder, `${task}-${numExperts}.jsonl`);
  if (!path || !existsSync(path)) return zipfTexts({ numLayers, numExperts, most });
  const predictions = join(folder, `${task}-${numExperts}-sida-seed1.predicted.jsonl`);
  const predicted = existsSync(predictions) ? lines(predictions) : [];
  const names = Array.from({ length: numLayers }, (_, layer) =>
    shuffled(numExperts, streamKey('layer', layer)),
  );
  return lines(path)
    .slice(0, most)
    .map(({ experts }, text) => ({
      length: experts.length,
      layers: names.map((order, layer) => {
        const from = layer % experts[0].length;
        const rename = (list) => (layer < experts[0].length ? list : list.map((expert) => order[expert]));
        const own = rename(experts.map((token) => token[from][0]));
        const guess = predicted[text]?.layers[from];
        return {
          experts: own,
          needed: distinct(own),
          one: guess ? distinct(rename(guess.one)) : [],
          three: guess ? distinct(rename(guess.three)) : [],
        };
      }),
    }));
}

/** Texts of 8 to 40 tokens; experts of a token follow Zipf's law, predictions find nine of ten and guess as many again. */
function zipfTexts({ numLayers, numExperts, most }) {
  const random = new RandomStream(streamKey('zipf', numExperts));
  const weights = Float64Array.from({ length: numExperts }, (_, i) => 1 / (i + 1));
  const total = weights.reduce((a, b) => a + b, 0);
  const draw = () => {
    let left = random.uniform() * total;
    for (let i = 0; i < numExperts; i++) if ((left -= weights[i]) <= 0) return i;
    return numExperts - 1;
  };
  const orders = Array.from({ length: numLayers }, (_, layer) =>
    shuffled(numExperts, streamKey('zipf layer', layer)),
  );
  return Array.from({ length: most }, () => {
    const length = 8 + random.integer(33);
    const layers = orders.map((order) => {
      const experts = Array.from({ length }, () => order[draw()]);
      const needed = distinct(experts);
      const one = needed.filter(() => random.uniform() < 0.9);
      const more = needed.map(() => random.integer(numExperts));
      return { experts, needed, one, three: distinct([...one, ...more]) };
    });
    return { length, layers };
  });
}

/** Steps for policies and simulations, in the order in which passes make them. */
export const stepsOf = (texts) =>
  texts.flatMap(({ layers }) => layers.map(({ needed }, layer) => ({ layer, experts: needed })));
