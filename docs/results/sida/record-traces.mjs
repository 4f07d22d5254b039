/**
 * Writes where every token of a teacher's validation set goes: one JSON object a text, as `switchyard inspect --routing --json`
 * prints it, without padding; and how many experts a text needs by its length.
 *
 *   node docs/results/sida/record-traces.mjs --task sst2 --experts 128
 */
import { createWriteStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { once as event } from 'node:events';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { expertCounts, measured, taskNames } from './tasks.mjs';
import { compileTeacher, openTeacher } from './teacher.mjs';

const { values: flags } = parseArgs({
  options: {
    task: { type: 'string', multiple: true, default: taskNames },
    experts: { type: 'string', multiple: true, default: expertCounts.map(String) },
    data: { type: 'string', default: 'data' },
    out: { type: 'string', default: 'runs/sida' },
    records: { type: 'string', default: new URL('.', import.meta.url).pathname },
    threads: { type: 'string', default: '2' },
  },
});
const { data, out } = flags;
await mkdir(join(out, 'traces'), { recursive: true });

for (const task of flags.task) {
  for (const experts of flags.experts.map(Number)) {
    const teacher = await openTeacher(task, experts, { data, out });
    const { batchSize, contextLength } = teacher.shape;
    const program = await compileTeacher(teacher, { threads: Number(flags.threads) });
    const { layers } = program;
    const opened = await teacher.open();
    const path = join(out, 'traces', `${task}-${experts}.jsonl`);
    const file = createWriteStream(path);
    const head = layers.map((index) => ({ name: `encoder.${index}`, numExperts: experts, topK: 1 }));
    /** Of every text: its tokens, and in each layer how many experts it needs. */
    const active = [];
    for (const batch of measured(opened.validation(), task)) {
      const found = await program.run(batch);
      for (let row = 0; row < batchSize; row++) {
        if (batch.targets[row] < 0) continue;
        const start = row * contextLength;
        let length = 0;
        while (length < contextLength && batch.sourceMask[start + length] > 0) length++;
        const at = (name, digits) =>
          Array.from({ length }, (_, t) => layers.map((index) => [Number(Number(found[`${name}.${index}`][start + t]).toFixed(digits))]));
        const chosen = at('experts', 0);
        const ids = [...batch.source.subarray(start, start + length)];
        const line = { ids, layers: head, shape: [length, layers.length, 1], experts: chosen, gates: at('gates', 4) };
        if (!file.write(`${JSON.stringify(line)}\n`)) await event(file, 'drain');
        active.push([length, layers.map((_, l) => new Set(chosen.map((of) => of[l][0])).size)]);
      }
    }
    file.end();
    await event(file, 'finish');
    await program.release();
    await writeFile(join(flags.records, `active-${task}-${experts}.json`), `${JSON.stringify({ task, experts, layers, active })}\n`);
    const share = active.reduce((sum, [, counts]) => sum + counts.reduce((a, b) => a + b, 0) / (counts.length * experts), 0) / active.length;
    console.log(`${path}: ${active.length} texts, ${(100 * share).toFixed(1)} % of the experts active in one`);
  }
}
