/**
 * The objective of every kind of model.
 * @module
 */
import { EncoderDecoder, type Model } from '../../models/index.js';
import type { Objective } from '../objective.js';
import { languageModelling } from './language-modelling.js';
import { sequenceToSequence } from './sequence-to-sequence.js';

/** What a model is trained for. */
export function objectiveOf(model: Model): Objective {
  return model instanceof EncoderDecoder ? sequenceToSequence(model) : languageModelling(model);
}
