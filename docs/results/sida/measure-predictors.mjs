/**
 * Measures predictors against their teachers on the validation set: hits with and without padding, |α error|, what has to be
 * loaded, and what the teacher says when the prediction replaces its routers.
 *
 *   node docs/results/sida/measure-predictors.mjs --task sst2 --experts 128 --variant sida
 */
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { classificationScores } from '../../../dist/metrics/index.js';
import { loadPredictor, PredictorProgram, RoutingRecording } from '../../../dist/serve/index.js';
import { expertCounts, measured, once, taskNames } from './tasks.mjs';
import { compileTeacher, openTeacher } from './teacher.mjs';
import { predictorId, recordingId } from './variants.mjs';

const { values: flags } = parseArgs({
  options: {
    task: { type: 'string', multiple: true, default: taskNames },
    experts: { type: 'string', multiple: true, default: expertCounts.map(String) },
    variant: { type: 'string', multiple: true, default: ['sida'] },
    seed: { type: 'string', multiple: true, default: ['1'] },
    steps: { type: 'string' },
    fidelity: { type: 'boolean', default: true },
    /** Read only every so manyth batch; by default all; of MultiRC every third. */
    every: { type: 'string' },
    data: { type: 'string', default: 'data' },
    out: { type: 'string', default: 'runs/sida' },
    records: { type: 'string', default: new URL('.', import.meta.url).pathname },
    threads: { type: 'string', default: '2' },
  },
  allowNegative: true,
});
const { data, out } = flags;
const runtime = { threads: Number(flags.threads) };
const guesses = 3;

/** Row by row: what the classifier says, and how far that is from what the teacher says. */
class Answers {
  labels = [];
  predictions = [];
  loss = 0;
  agreed = 0;
  difference = 0;
  largest = 0;

  /** @param logits, teacher `[rows, 2]` */
  add(targets, logits, teacher) {
    for (let row = 0; row < targets.length; row++) {
      if (targets[row] < 0) continue;
      const share = (values) => 1 / (1 + Math.exp(values[2 * row] - values[2 * row + 1]));
      const [p, q] = [share(logits), share(teacher)];
      this.labels.push(targets[row]);
      this.predictions.push(p > 0.5 ? 1 : 0);
      this.loss -= Math.log(Math.max(1e-12, targets[row] === 1 ? p : 1 - p));
      this.agreed += Number(p > 0.5 === q > 0.5);
      this.difference += Math.abs(p - q);
      for (const i of [2 * row, 2 * row + 1]) this.largest = Math.max(this.largest, Math.abs(logits[i] - teacher[i]));
    }
  }

  report() {
    const count = this.labels.length;
    const { accuracy, f1, majority } = classificationScores(this.labels, this.predictions, 2);
    return {
      accuracy,
      f1,
      majority: majority.accuracy,
      loss: this.loss / count,
      agreement: this.agreed / count,
      meanDifference: this.difference / count,
      largestLogitDifference: this.largest,
    };
  }
}

/** The teacher's decisions as what replaces its routers. */
function oracle(found, layers) {
  return Object.fromEntries(layers.flatMap((index) => ['experts', 'gates'].map((name) => [`${name}.${index}`, found[`${name}.${index}`]])));
}

/** Experts drawn at random, one a token, with the teacher's gates: how much the choice matters at all. */
function drawn(found, layers, experts, random) {
  const chosen = oracle(found, layers);
  for (const index of layers) chosen[`experts.${index}`] = found[`experts.${index}`].map((e) => (e < 0 ? -1 : Math.floor(random() * experts)));
  return chosen;
}

/** For every token id the experts that it was sent to most often in the recording, `[layers][vocabSize][3]`: what a table without a network knows. */
async function tableOf(folder, vocabSize, experts) {
  const recording = await RoutingRecording.open(folder);
  return recording.layers.map((_, l) => {
    const counts = new Uint32Array(vocabSize * experts);
    for (let sequence = 0; sequence < recording.sequences; sequence++) {
      const tokens = recording.tokensOf(sequence);
      const { candidates } = recording.decisionsOf(sequence, l);
      const width = candidates.length / tokens.length;
      tokens.forEach((id, t) => counts[id * experts + candidates[t * width]]++);
    }
    const overall = Array.from({ length: experts }, (_n, e) => {
      let total = 0;
      for (let id = 0; id < vocabSize; id++) total += counts[id * experts + e];
      return total / 1e9;
    });
    return Array.from({ length: vocabSize }, (_n, id) => {
      const score = (e) => counts[id * experts + e] + overall[e];
      return Array.from({ length: experts }, (_e, e) => e)
        .sort((a, b) => score(b) - score(a))
        .slice(0, guesses);
    });
  });
}

function generator(state) {
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function* part(batches, every) {
  let index = 0;
  for (const batch of batches) if (index++ % every === 0) yield batch;
}

for (const experts of flags.experts.map(Number)) {
  for (const task of flags.task) {
    const every = Number(flags.every ?? (task === 'multirc' ? 3 : 1));
    const teacher = await openTeacher(task, experts, { data, out });
    const { batchSize, contextLength } = teacher.shape;
    const program = await compileTeacher(teacher, runtime);
    const { layers } = program;
    const replaced = flags.fidelity ? { 1: await compileTeacher(teacher, { ...runtime, topK: 1 }), 3: await compileTeacher(teacher, { ...runtime, topK: 3 }) } : {};
    const opened = await teacher.open();
    const record = (name) => join(flags.records, `${name}.json`);
    const save = async (name, found) => {
      await rm(record(name), { force: true });
      await once(record(name), (path) => writeFile(path, `${JSON.stringify(found, null, 1)}\n`));
    };

    if (flags.fidelity) {
      const name = `fidelity-${task}-${experts}-controls`;
      if (!existsSync(record(name))) {
        const controls = { teacher: new Answers(), oracle: new Answers(), randomExperts: new Answers() };
        const random = generator(1);
        for (const batch of part(measured(opened.validation(), task), every)) {
          const found = await program.run(batch);
          controls.teacher.add(batch.targets, found.logits, found.logits);
          const feeds = { oracle: oracle(found, layers), randomExperts: drawn(found, layers, experts, random) };
          for (const [key, override] of Object.entries(feeds)) {
            const { logits } = await replaced[1].run(batch, override);
            controls[key].add(batch.targets, logits, found.logits);
          }
        }
        await save(name, { task, experts, ...Object.fromEntries(Object.entries(controls).map(([key, answers]) => [key, answers.report()])) });
      }
    }

    const tableName = `table-${task}-${experts}`;
    const recorded = join(out, 'recordings', recordingId(task, experts, false));
    if (existsSync(join(recorded, 'recording.json')) && !existsSync(record(tableName))) {
      const table = await tableOf(recorded, teacher.model.options.vocabSize, experts);
      const hits = layers.map(() => [0, 0]);
      let tokens = 0;
      for (const batch of part(measured(opened.validation(), task), every)) {
        const found = await program.run(batch);
        batch.sourceMask.forEach((real, position) => {
          if (!real) return;
          tokens++;
          layers.forEach((index, l) => {
            const rank = table[l][batch.source[position]].indexOf(found[`experts.${index}`][position]);
            hits[l][0] += Number(rank === 0);
            hits[l][1] += Number(rank >= 0);
          });
        });
      }
      await save(tableName, { task, experts, tokens, top1: hits.map(([n]) => n / tokens), top3: hits.map(([, n]) => n / tokens) });
    }

    for (const variant of flags.variant) {
      for (const seed of flags.seed.map(Number)) {
        const id = predictorId(task, experts, variant, seed, flags.steps);
        if (!existsSync(join(out, 'predictors', id, 'model.safetensors')) || existsSync(record(`measured-${id}`))) continue;
        const predictor = new PredictorProgram(await loadPredictor(join(out, 'predictors', id)), teacher.weights.get('embedding.weight'), {
          batchSize,
          topK: experts,
          contextLength,
          runtime,
        });
        const [real, padding, all] = [0, 1, 2].map(() => ({ tokens: 0, first: layers.map(() => 0), third: layers.map(() => 0), alphaError: 0, constantError: 0, alpha: 0 }));
        /** Of every text its length, and of each layer the experts that its tokens need, and those in their first and first three guesses. */
        const texts = [];
        const modes = ['top1', 'top1Released', 'top3', 'top3Released'];
        const answers = Object.fromEntries(modes.map((mode) => [mode, new Answers()]));
        for (const batch of part(measured(opened.validation(), task), every)) {
          const found = await program.run(batch);
          const rows = [];
          for (let row = 0; row < batchSize; row++) if (batch.targets[row] >= 0) rows.push(row);
          const lengthOf = (row) => batch.sourceMask.subarray(row * contextLength, (row + 1) * contextLength).reduce((a, b) => a + b, 0);
          const lengths = rows.map(lengthOf);
          // What is read for serving: texts without padding.
          const predicted = await predictor.predict(rows.map((row, i) => batch.source.slice(row * contextLength, row * contextLength + lengths[i])));
          const filled = await predictor.predict(rows.map((row) => batch.source.slice(row * contextLength, (row + 1) * contextLength)));
          const ofText = lengths.map((length) => ({ length, layers: [] }));
          const overrides = Object.fromEntries(modes.map((mode) => [mode, {}]));
          layers.forEach((index, l) => {
            const probabilities = found[`probabilities.${index}`];
            const given = Object.fromEntries([1, guesses].map((k) => [k, { experts: new Int32Array(batchSize * contextLength * k).fill(-1), gates: new Float32Array(batchSize * contextLength * k) }]));
            /** The teacher's first choice at a position, also of padding. */
            const choiceAt = (position) => {
              let best = 0;
              for (let e = 1; e < experts; e++) if (probabilities[position * experts + e] > probabilities[position * experts + best]) best = e;
              return best;
            };
            const count = (into, said, at, position) => {
              const choice = choiceAt(position);
              const rank = said.experts.subarray(at * experts, (at + 1) * experts).indexOf(choice);
              const q = probabilities[position * experts + choice];
              into.tokens += l === 0 ? 1 : 0;
              into.first[l] += Number(rank === 0);
              into.third[l] += Number(rank < guesses);
              into.alphaError += Math.abs(said.probabilities[at * experts + rank] - q);
              into.constantError += Math.abs(1 / experts - q);
              into.alpha += q;
              return { choice, rank };
            };
            let at = 0;
            rows.forEach((row, i) => {
              const sets = { needed: new Set(), one: new Set(), three: new Set() };
              for (let t = 0; t < lengths[i]; t++, at++) {
                const position = row * contextLength + t;
                const { choice } = count(real, predicted[l], at, position);
                sets.needed.add(choice);
                for (const k of [1, guesses]) {
                  for (let r = 0; r < k; r++) {
                    const expert = predicted[l].experts[at * experts + r];
                    sets[k === 1 ? 'one' : 'three'].add(expert);
                    given[k].experts[position * k + r] = expert;
                    given[k].gates[position * k + r] = predicted[l].probabilities[at * experts + r];
                  }
                }
              }
              ofText[i].layers.push(Object.fromEntries(Object.entries(sets).map(([name, set]) => [name, [...set].sort((a, b) => a - b)])));
              for (let t = 0; t < contextLength; t++) {
                const [said, place] = [i * contextLength + t, row * contextLength + t];
                count(all, filled[l], said, place);
                if (t >= lengths[i]) count(padding, filled[l], said, place);
              }
            });
            const scaled = (k, factors) => given[k].gates.map((gate, i) => gate * factors[i % k]);
            const released = [0.5, 0.25, 0.25];
            const put = (mode, k, factors) => {
              overrides[mode][`experts.${index}`] = given[k].experts;
              overrides[mode][`gates.${index}`] = scaled(k, factors);
            };
            put('top1', 1, [1]);
            put('top1Released', 1, released);
            put('top3', guesses, [1, 1, 1]);
            put('top3Released', guesses, released);
          });
          texts.push(...ofText);
          if (!flags.fidelity) continue;
          for (const mode of modes) {
            const { logits } = await replaced[mode.startsWith('top1') ? 1 : 3].run(batch, overrides[mode]);
            answers[mode].add(batch.targets, logits, found.logits);
          }
        }
        await predictor.release();
        const shares = ({ tokens, first, third, alphaError, constantError, alpha }) => {
          const mean = (values) => values.map((value) => value / tokens);
          const decisions = tokens * layers.length;
          const average = (value) => value / decisions;
          return { tokens, top1: mean(first), top3: mean(third), alphaError: average(alphaError), constantError: average(constantError), alpha: average(alpha) };
        };
        const report = {
          task,
          experts,
          variant,
          seed,
          steps: flags.steps && Number(flags.steps),
          every,
          real: shares(real),
          ...(padding.tokens > 0 ? { padding: shares(padding), withPadding: shares(all) } : {}),
          ...(flags.fidelity ? { answers: Object.fromEntries(modes.map((mode) => [mode, answers[mode].report()])) } : {}),
        };
        await save(`measured-${id}`, report);
        await once(join(out, 'traces', `${id}.predicted.jsonl`), (path) => writeFile(path, texts.map((text) => `${JSON.stringify(text)}\n`).join('')));
        const mean = (values) => (100 * values.reduce((a, b) => a + b, 0)) / values.length;
        console.log(
          `${id}: hits ${mean(report.real.top1).toFixed(1)} % top-1, ${mean(report.real.top3).toFixed(1)} % top-3; with padding ${report.withPadding ? `${mean(report.withPadding.top1).toFixed(1)}, ${mean(report.withPadding.top3).toFixed(1)}` : 'none'}; α error ${report.real.alphaError.toFixed(4)} (constant ${report.real.constantError.toFixed(4)})`,
        );
      }
    }
    await program.release();
    for (const each of Object.values(replaced)) await each.release();
  }
}
