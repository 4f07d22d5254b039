/**
 * Options that several parts of a sparse layer have in common.
 * @module
 */
import { z } from 'zod';
import { activations, type ActivationName } from './activations.js';

/** Name of an activation function. */
export const activationSchema = z.enum(Object.keys(activations) as [ActivationName, ...ActivationName[]]);
/** A width or a count. */
export const size = z.int().min(1);
/** A probability of dropping something. */
export const rate = z.number().min(0).lt(1);
/** Weight of an auxiliary loss. */
export const coefficient = z.number().min(0);
/** Tokens that are treated together: the whole batch, or each sequence by itself. */
export const group = z.enum(['batch', 'sequence']).default('batch');
/** Factor of the balance loss: the paper's, or that of σ-MoE's code. */
export const balanceForm = z.enum(['paper', 'releasedSigmaMoe']).default('paper');
