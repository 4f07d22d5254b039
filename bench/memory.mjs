/** One process, one JSON line: resident memory of a small training run, and how many sessions it opened. */
import { InferenceSession } from 'onnxruntime-node';
import { CldrCorpus, ByteTokenizer, PackedLines } from '../dist/data/index.js';
import { LanguageModel, languageModelSchema } from '../dist/models/index.js';
import { Trainer, trainSchema } from '../dist/train/index.js';
import { argument } from './config.mjs';

const steps = Number(argument('steps', '2000'));
let sessions = 0;
const create = InferenceSession.create.bind(InferenceSession);
InferenceSession.create = (...parameters) => {
  sessions++;
  return create(...parameters);
};
const options = trainSchema.parse({ batchSize: 16, steps, threads: 2 });
const corpus = new CldrCorpus({ seed: 1, languages: ['en', 'de', 'ja', 'ar'] });
const train = new PackedLines(corpus, {
  batchSize: 16,
  contextLength: 64,
  tokenizer: new ByteTokenizer(),
  fingerprint: 'bench',
});
const model = new LanguageModel(
  languageModelSchema.parse({
    vocabSize: 256,
    hiddenSize: 128,
    numLayers: 2,
    numHeads: 4,
    intermediateSize: 512,
    contextLength: 64,
    sparse: { every: 2, numExperts: 16 },
  }),
);
const trainer = await Trainer.create({ model, data: { train }, options, seed: 1, padded: false });
let after100 = 0;
let opened = 0;
for (let step = 1; step <= steps; step++) {
  await trainer.update();
  if (step === 1) opened = sessions;
  if (step === 100) after100 = process.memoryUsage().rss;
}
const rss = process.memoryUsage().rss;
process.stdout.write(
  `${JSON.stringify({ steps, rssAfter100: after100, rssAfterAll: rss, growth: rss / after100 - 1, sessions, sessionsOpenedLater: sessions - opened })}\n`,
);
