/**
 * Where a program runs, and the session settings that follow.
 * @module
 */
import type { InferenceSession } from 'onnxruntime-node';

/** Execution devices. `webgpu` and `cuda` are passed through to ONNX Runtime. */
export const devices = ['cpu', 'webgpu', 'cuda'] as const;

/** One of {@link devices}. */
export type Device = (typeof devices)[number];

/** Thrown when a device cannot be opened on this machine; the message says what is missing and what would help. */
export class DeviceError extends Error {
  override readonly name = 'DeviceError';
}

/** Settings of {@link compile}. */
export interface RuntimeOptions {
  /** Default `cpu`. */
  readonly device?: Device;
  /** Threads inside one operator; ONNX Runtime's own choice (one per core) when absent. */
  readonly threads?: number;
  /**
   * For one of many small programs: no memory of its own set aside between runs, and no rearranging of its graph, so that it
   * is opened sooner and holds little but its constants.
   */
  readonly small?: boolean;
  /**
   * Lets threads wait for each other by spinning while a program runs, and only then: a tenth faster where large products follow
   * each other, as for a single token, on a machine with nothing else to do; slower by as much or more on a busy one.
   */
  readonly spinWhileRunning?: boolean;
  /** Writes ONNX Runtime's profile (time and shapes of every node) to `<profile>_<date>.json` when the program is released. */
  readonly profile?: string;
}

/**
 * Session options for a device. Spinning threads are off unless asked for: as fast in training, and idle sessions cost nothing.
 * @param float64 whether the graph computes in double precision: ONNX Runtime would fuse `x · sigmoid(x)` into an
 *   operator that has no such kernel, and round the factor of a scaled matrix product to single precision.
 * @throws DeviceError if the device is not one of {@link devices} or the thread count makes no sense.
 */
export function sessionOptions(
  { device = 'cpu', threads, profile, small = false, spinWhileRunning = false }: RuntimeOptions,
  float64 = false,
): InferenceSession.SessionOptions {
  if (!devices.includes(device)) {
    throw new DeviceError(`there is no device '${String(device)}'; the devices are: ${devices.join(', ')}`);
  }
  if (threads !== undefined && (!Number.isInteger(threads) || threads < 1)) {
    throw new DeviceError(`threads must be a whole number of at least 1, not ${threads}`);
  }
  return {
    executionProviders: device === 'cpu' ? ['cpu'] : [device, 'cpu'],
    graphOptimizationLevel: small ? 'disabled' : 'all',
    ...(small ? { enableCpuMemArena: false, enableMemPattern: false } : {}),
    logSeverityLevel: 3,
    ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
    ...(profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: profile }),
    extra: {
      session: {
        ...(spinWhileRunning
          ? { intra_op: { allow_spinning: '1' }, force_spinning_stop: '1' }
          : { intra_op: { allow_spinning: '0' } }),
        use_device_allocator_for_initializers: '0',
      },
      ...(float64
        ? { optimization: { disable_specified_optimizers: 'QuickGeluFusion;MatMulScaleFusion' } }
        : {}),
    },
  };
}

const remedies: Readonly<Record<Exclude<Device, 'cpu'>, string>> = {
  webgpu: 'it needs a GPU with a Vulkan, Metal or D3D12 driver that ONNX Runtime can open',
  cuda: "it needs an NVIDIA GPU with CUDA 12 and onnxruntime-node's CUDA files (npm rebuild onnxruntime-node --foreground-scripts --ignore-scripts=false)",
};

/** Turns a failed start on `device` into one clear error. */
export function explainDeviceFailure(device: Device, error: unknown): Error {
  const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
  if (device === 'cpu') return new DeviceError(`the program could not be opened: ${reason}`);
  return new DeviceError(`device '${device}' is not available here: ${remedies[device]} (${reason})`);
}
