/**
 * Activation functions that experts and dense layers can be asked for by name.
 * @module
 */
import { gelu, geluTanh, relu, silu, type Tensor } from '../graph/index.js';

/** One elementwise function, and whether it gates a second projection (`f(x W_gate) · x W_up`). */
export interface Activation {
  readonly apply: (x: Tensor) => Tensor;
  readonly gated: boolean;
}

/**
 * By name: `relu`, `gelu` (exact), `geluTanh` (GPT-2), `silu`, and the gated `reglu`, `swiglu`, `geglu`, `gegluTanh`
 * (T5 v1.1).
 */
export const activations = {
  relu: { apply: relu, gated: false },
  gelu: { apply: gelu, gated: false },
  geluTanh: { apply: geluTanh, gated: false },
  silu: { apply: silu, gated: false },
  reglu: { apply: relu, gated: true },
  swiglu: { apply: silu, gated: true },
  geglu: { apply: gelu, gated: true },
  gegluTanh: { apply: geluTanh, gated: true },
} as const satisfies Record<string, Activation>;

/** A key of {@link activations}. */
export type ActivationName = keyof typeof activations;
