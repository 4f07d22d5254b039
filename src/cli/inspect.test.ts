import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { switchyard } from '../../test/support/command.js';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** What a command says, with the memory and time that its process took. */
async function measured(...args: string[]) {
  const script = `
    import { readFileSync } from 'node:fs';
    process.argv = [process.argv[0], ...${JSON.stringify(args)}];
    process.on('exit', () => {
      const { user, system } = process.cpuUsage();
      // The peak is counted from the start of the program, where the kernel tells it.
      let peak = process.memoryUsage.rss();
      try { peak = 1024 * Number(/VmHWM:\\s*(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]); } catch {}
      process.stderr.write(JSON.stringify({ seconds: (user + system) / 1e6, peak }));
    });
    await import(${JSON.stringify(`file://${main}`)});`;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '--eval',
    script,
  ]);
  return { stdout, ...(JSON.parse(stderr) as { seconds: number; peak: number }) };
}

describe('inspect', () => {
  test.each([
    ['paper/switch-xxl', 394_543_476_736, 24],
    ['paper/switch-c', 1_571_308_972_448, 30],
  ])('%s allocates nothing', async (name, parameters, layers) => {
    const { stdout, seconds, peak } = await measured('inspect', name, '--json');
    const size = JSON.parse(stdout) as { parameters: number; sparseLayers: number[] };
    expect(size.parameters).toBe(parameters);
    expect(size.sparseLayers).toHaveLength(layers);
    // Of the processor, so that a busy machine does not fail it; a quiet one needs no longer.
    expect(seconds).toBeLessThan(1);
    expect(peak).toBeLessThan(200e6);
  });

  test('an encoder–decoder: both stacks, and what a token is', async () => {
    const { stdout, stderr, code } = await switchyard(['inspect', 'paper/switch-base-8']);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout.split('\n')).toEqual([
      'layers             12 + 12 (12 sparse: 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23)',
      'experts            8 a layer, top 1, router softmax, dispatch capacity',
      'vocabulary         32128',
      'parameters         619M (619339008)',
      'active parameters  223M (222977280)',
      'FLOPs per token    486M forward, 1.46B with backward, of one source and one target token',
      'memory             2.48GB weights, 9.91GB with gradients and AdamW, activations besides',
      '',
    ]);
  });

  test('layers that are not made of experts say what they are', async () => {
    const { stdout } = await switchyard(['inspect', 'paper/smoe-m15-4-4-8']);
    expect(stdout).toMatch(/^sparse layers {6}stratified, strata 4-4-8, topK 2, /m);
    const memory = await switchyard(['inspect', 'paper/sigma-moe-wt103-small-pkm']);
    expect(memory.stdout).toMatch(/^layers {13}16 \(16 sparse: 0, 1, 2, 3, …, 15\)$/m);
    expect(memory.stdout).toMatch(/^sparse layers {6}productKey, heads 4, subKeys 62, topK 128, /m);
  });

  test('--json has the sparse section as it stands in the recipe, null for a dense model', async () => {
    const json = async (name: string): Promise<Record<string, unknown>> =>
      JSON.parse((await switchyard(['inspect', name, '--json'])).stdout) as Record<string, unknown>;
    // The keys of docs/cli.md, in its order.
    expect(Object.keys(await json('paper/t5-base'))).toEqual([
      'kind',
      'vocabSize',
      'parameters',
      'activeParameters',
      'sparseParameters',
      'forwardFlopsPerToken',
      'trainingFlopsPerToken',
      'weightBytes',
      'trainingBytes',
      'sparseLayers',
      'sparse',
    ]);
    expect(await json('paper/smoe-m4-4-4')).toMatchObject({
      kind: 'encoderDecoder',
      vocabSize: 32_000,
      sparse: { kind: 'stratified', every: 2, strata: [4, 4] },
    });
    expect(await json('paper/t5-base')).toMatchObject({
      sparse: null,
      sparseLayers: [],
      sparseParameters: 0,
    });
  });
});
