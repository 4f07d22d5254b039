import { expect, test } from 'vitest';
import { exp, input } from '../graph/index.js';
import { compile, DeviceError } from './index.js';
import { explainDeviceFailure, sessionOptions } from './device.js';

const y = exp(input('x', 'float32', [2]));

test('a device that is not there gives one clear error', async () => {
  const attempt = compile({ y }, { device: 'cuda' });
  // A machine with CUDA opens it; everywhere else the message says what is missing.
  const outcome = await attempt.then(
    async (program) => program.release().then(() => 'opened'),
    (error: unknown) => error,
  );
  if (outcome === 'opened') return;
  expect(outcome).toBeInstanceOf(DeviceError);
  expect((outcome as Error).message).toMatch(
    /^device 'cuda' is not available here: it needs an NVIDIA GPU with CUDA 12/,
  );
  expect((outcome as Error).message.split('\n')).toHaveLength(1);
});

test('a device or thread count that makes no sense is refused before anything is opened', async () => {
  await expect(compile({ y }, { device: 'tpu' as 'cpu' })).rejects.toThrow(
    /no device 'tpu'; the devices are: cpu, webgpu, cuda/,
  );
  for (const threads of [0, -1, 1.5]) {
    await expect(compile({ y }, { threads })).rejects.toThrow(/threads must be a whole number of at least 1/);
  }
});

test('settings reach ONNX Runtime', () => {
  expect(sessionOptions({ device: 'webgpu', threads: 3 })).toMatchObject({
    executionProviders: ['webgpu', 'cpu'],
    intraOpNumThreads: 3,
  });
  expect(sessionOptions({})).not.toHaveProperty('intraOpNumThreads');
});

test('a failure keeps the first line of its reason', () => {
  const { message } = explainDeviceFailure('webgpu', new Error('no adapter\nat somewhere'));
  expect(message).toMatch(/^device 'webgpu' is not available here: .* \(no adapter\)$/);
  expect(explainDeviceFailure('cpu', 'bad model').message).toBe('the program could not be opened: bad model');
});

test('one thread and two threads agree', async () => {
  const data = Float32Array.of(0.5, -1);
  const results = [];
  for (const threads of [1, 2]) {
    const program = await compile({ y }, { threads });
    results.push((await program.run({ x: data })).y);
    await program.release();
  }
  expect(results[1]).toEqual(results[0]);
});
