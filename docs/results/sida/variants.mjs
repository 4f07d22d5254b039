/**
 * The predictors that are compared: SiDA's, and it with one thing changed.
 */
const schedule = { kind: 'cosine', learningRate: 0.005, warmupSteps: 50, finalFraction: 0.05 };

/** What a task's predictors learn from, and for how long; `maxTokens` without padding. */
export const predictorTraining = {
  sst2: { examples: 67_349, maxTokens: 1_000_000, train: { batchSize: 64, steps: 1000, schedule } },
  mrpc: { examples: 3667, maxTokens: 1_000_000, train: { batchSize: 16, steps: 600, schedule } },
  multirc: { examples: 3000, maxTokens: 1_000_000, train: { batchSize: 8, steps: 240, schedule } },
};

/** Updates of a task's predictors, where they differ: the machine had other work, and SST-2's with fewer experts got half. */
export const stepsOf = (task, experts) => (task === 'sst2' && experts < 128 ? 500 : predictorTraining[task].train.steps);

/** `sida` has the paper's loss and network; the others differ from it as they say. */
export const variants = {
  sida: {},
  crossEntropy: { train: { loss: { kind: 'crossEntropy' } } },
  distillation: { train: { loss: { kind: 'truncatedDistillation', crossEntropyWeight: 0 } } },
  kl: { train: { loss: { kind: 'truncatedDistillation', distance: 'kl' } } },
  lstmAlone: { network: { attention: 'none' } },
  released: { network: { sparsemax: 'released' } },
  /** Padding counts in the loss, as in the released code. */
  padded: { padding: true },
};

export const recordingId = (task, experts, padding) => `${task}-${experts}${padding ? '-padded' : ''}`;
export const predictorId = (task, experts, variant, seed, steps) =>
  `${task}-${experts}-${variant}-seed${seed}${steps === undefined ? '' : `-steps${steps}`}`;
