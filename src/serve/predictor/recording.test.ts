import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { evaluationContext } from '../../nn/index.js';
import { compile } from '../../runtime/index.js';
import { objectiveOf } from '../../train/index.js';
import { RoutingRecording } from './recording.js';
import { recordRouting, type RecordingOptions } from './routing-recorder.js';
import { longestText, smallClassifier, smallTexts } from './small-model.case.js';

let folder: string;
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'recording-'))));
afterEach(() => rm(folder, { recursive: true, force: true }));

const small = smallClassifier();
const settings = (change: Partial<RecordingOptions> = {}): RecordingOptions => ({
  folder,
  ...small,
  batches: smallTexts(23),
  source: 'random texts',
  truncation: 3,
  sequencesPerPart: 10,
  batchSize: 4,
  ...change,
});

describe('a recording', () => {
  test('holds what the routers decided about every real token', async () => {
    await recordRouting(settings());
    const recording = await RoutingRecording.open(folder);
    expect(recording.sequences).toBe(23);
    expect(recording.manifest.parts).toHaveLength(3);
    const shape = { batchSize: 5, contextLength: longestText };
    const traced = objectiveOf(small.model).trace(evaluationContext(), { shape, padded: true });
    const program = (
      await compile(
        Object.fromEntries(
          traced.records.flatMap(({ name, experts, gates, probabilities }) => [
            [`${name}.experts`, experts],
            [`${name}.gates`, gates],
            [`${name}.probabilities`, probabilities],
          ]),
        ),
      )
    ).bindKnown(small.weights);
    let sequence = 0;
    for (const { source, sourceMask, targets } of smallTexts(23)) {
      program.bindKnown(Object.entries({ source, sourceMask }));
      const found = await program.run();
      for (let row = 0; row < 5 && targets[row] >= 0; row++, sequence++) {
        const length = recording.lengthOf(sequence);
        const start = row * longestText;
        expect(recording.tokensOf(sequence)).toEqual(source.slice(start, start + length));
        expect(length === longestText || sourceMask[start + length] === 0).toBe(true);
        traced.records.forEach(({ name, numExperts }, l) => {
          const { experts, gates, candidates } = recording.decisionsOf(sequence, l);
          const shares = recording.sharesOf(sequence, l);
          for (let t = 0; t < length; t++) {
            expect(experts[t]).toBe(Number(found[`${name}.experts`][start + t]));
            expect(gates[t]).toBeCloseTo(Number(found[`${name}.gates`][start + t]), 5);
            const all = found[`${name}.probabilities`].slice(
              (start + t) * numExperts,
              (start + t + 1) * numExperts,
            );
            const best = [...all].map((p, e) => [Number(p), e]).sort((a, b) => b[0] - a[0]);
            for (let k = 0; k < 3; k++) {
              expect(candidates[t * 3 + k]).toBe(best[k][1]);
              expect(shares[t * 3 + k]).toBeCloseTo(best[k][0], 3);
            }
          }
        });
      }
    }
    expect(sequence).toBe(23);
    await program.release();
  });

  test('keeps padding where it is asked for', async () => {
    await recordRouting(settings({ padding: true }));
    const recording = await RoutingRecording.open(folder);
    for (let i = 0; i < recording.sequences; i++) {
      expect(recording.lengthOf(i)).toBe(longestText);
      expect(recording.realOf(i)).toBeLessThanOrEqual(longestText);
    }
    expect(recording.tokens).toBeLessThan(23 * longestText);
  });

  test('stops at the tokens that are enough, and goes on where it was broken off', async () => {
    const stop = new AbortController();
    const broken = recordRouting(settings({ signal: stop.signal, onProgress: () => stop.abort() }));
    await expect(broken).rejects.toThrow('aborted');
    await expect(RoutingRecording.open(folder)).rejects.toThrow('not finished');
    await recordRouting(settings({ maxTokens: 100 }));
    const resumed = await RoutingRecording.open(folder);
    expect(resumed.tokens).toBeGreaterThanOrEqual(100);
    expect(resumed.tokens).toBeLessThan(100 + longestText);
    const whole = await mkdtemp(join(tmpdir(), 'recording-'));
    await recordRouting(settings({ folder: whole, maxTokens: 100 }));
    const uninterrupted = await RoutingRecording.open(whole);
    expect(uninterrupted.sequences).toBe(resumed.sequences);
    for (let i = 0; i < resumed.sequences; i++)
      expect(resumed.decisionsOf(i, 1)).toEqual(uninterrupted.decisionsOf(i, 1));
    await rm(whole, { recursive: true });
  });

  test('is not gone on with by another model or other options', async () => {
    await recordRouting(settings());
    const other = smallClassifier(2);
    await expect(recordRouting(settings(other))).rejects.toThrow('another fingerprint');
    await expect(recordRouting(settings({ truncation: 2 }))).rejects.toThrow('another layers');
    await expect(recordRouting(settings({ source: 'others' }))).rejects.toThrow('another source');
  });
});

describe('a damaged recording is refused', () => {
  const part = (): string => join(folder, 'part-00001.safetensors');
  const manifest = (): string => join(folder, 'recording.json');

  /** Overwrites bytes of a tensor of part 1. */
  async function poke(tensor: string, offset: number, bytes: readonly number[]): Promise<void> {
    const data = await readFile(part());
    const length = Number(data.readBigUInt64LE());
    const header = JSON.parse(data.toString('utf8', 8, 8 + length)) as Record<
      string,
      { data_offsets: [number, number] }
    >;
    data.set(bytes, 8 + length + header[tensor].data_offsets[0] + offset);
    await writeFile(part(), data);
  }

  async function change(edit: (value: Record<string, unknown>) => void): Promise<void> {
    const value = JSON.parse(await readFile(manifest(), 'utf8')) as Record<string, unknown>;
    edit(value);
    await writeFile(manifest(), JSON.stringify(value));
  }

  test.each<[string, () => Promise<unknown>, string]>([
    ['no manifest', () => rm(manifest()), 'there is no recording here'],
    ['a manifest that is no JSON', () => truncate(manifest(), 40), 'recording.json: not JSON'],
    ['another format', () => change((m) => (m['format'] = 'other')), 'recording.json: format'],
    ['a version to come', () => change((m) => (m['version'] = 2)), 'recording.json: version'],
    [
      'a part outside the folder',
      () => change((m) => ((m['parts'] as { file: string }[])[0].file = '../x.safetensors')),
      'parts.0.file: expected part-00000.safetensors',
    ],
    [
      'more positions than there are',
      () => change((m) => ((m['parts'] as { positions: number }[])[1].positions = 2e9)),
      'damaged: tensor tokens should be I32 [2000000000]',
    ],
    ['a missing part', () => rm(part()), 'cannot read'],
    ['a part that was cut short', () => truncate(part(), 1000), 'it has 1000 bytes instead of'],
    ['a token outside the vocabulary', () => poke('tokens', 0, [40, 0, 0, 0]), 'token 40 is not below'],
    ['a negative token', () => poke('tokens', 4, [255, 255, 255, 255]), 'token -1 is not below'],
    ['a length of 0', () => poke('lengths', 0, [0, 0, 0, 0]), 'sequence 0 has 0 positions'],
    [
      'lengths that do not add up',
      () => poke('lengths', 0, [8, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0]),
      'its sequences have',
    ],
    ['more real tokens than positions', () => poke('real', 0, [99, 0, 0, 0]), 'has 99 real tokens'],
    ['an expert that is not there', () => poke('encoder.1.experts', 2, [4]), 'chose expert 4 of 4'],
    ['a candidate that is not there', () => poke('encoder.3.candidates', 2, [9]), 'has candidate 9 of 4'],
    ['a gate that is no number', () => poke('encoder.1.gates', 0, [0, 0, 192, 127]), 'a gate of NaN'],
    ['a probability above 1', () => poke('encoder.1.probabilities', 0, [0, 0x40]), 'has a probability of 2'],
    [
      'a negative probability',
      () => poke('encoder.1.probabilities', 0, [0, 0xbc]),
      'has a probability of -1',
    ],
  ])('%s', async (_, damage, message) => {
    await recordRouting(settings());
    await damage();
    await expect(RoutingRecording.open(folder)).rejects.toThrow(message);
  });
});
