/**
 * Measures of classifiers, with how far chance moves them.
 * @module
 */

/** A measure and its standard error. */
export interface Estimate {
  readonly value: number;
  readonly standardError: number;
}

/** How good a classifier is on a set of examples. */
export interface ClassificationScores {
  readonly examples: number;
  /** Share of examples whose class is told right. */
  readonly accuracy: Estimate;
  /**
   * Harmonic mean of precision and recall: of class 1 where there are two classes (as GLUE has it), else the mean over
   * classes. A class without examples and predictions counts 0.
   */
  readonly f1: Estimate;
  /**
   * Matthews correlation; for more than two classes Gorodkin's R_K (Comput. Biol. Chem. 28, 2004). 0 where either side
   * knows one class only, as for a classifier that always says the same.
   */
  readonly matthews: Estimate;
  /** Always saying the class that is most frequent here. */
  readonly majority: { readonly class: number; readonly accuracy: number };
  /** Accuracy less that of the majority; its error is that of the difference, example by example. */
  readonly gain: Estimate;
  /** `[true class][predicted class]` */
  readonly confusion: readonly (readonly number[])[];
}

/** Whether an estimate is above a value by more than two standard errors. */
export function exceeds({ value, standardError }: Estimate, baseline: number): boolean {
  return value - baseline > 2 * standardError;
}

/**
 * Scores of predicted classes. Standard errors are the jackknife's (each example left out in turn), which needs one
 * evaluation for each cell of the confusion matrix only.
 *
 * @throws RangeError if there are fewer than two examples, or a class is not 0 … numClasses − 1.
 */
export function classificationScores(
  labels: ArrayLike<number>,
  predictions: ArrayLike<number>,
  numClasses: number,
): ClassificationScores {
  if (labels.length !== predictions.length || labels.length < 2) {
    throw new RangeError(
      `${labels.length} labels and ${predictions.length} predictions: at least 2 of each are needed`,
    );
  }
  const confusion = Array.from({ length: numClasses }, () => new Array<number>(numClasses).fill(0));
  for (let i = 0; i < labels.length; i++) {
    if (!(labels[i] in confusion && predictions[i] in confusion)) {
      throw new RangeError(
        `example ${i} is of class ${labels[i]}, predicted ${predictions[i]}: there are ${numClasses} classes`,
      );
    }
    confusion[labels[i]][predictions[i]]++;
  }
  const counts = confusion.map(sum);
  const majority = counts.indexOf(Math.max(...counts));
  const baseline = (matrix: Confusion): number => sum(matrix[majority]) / total(matrix);
  return {
    examples: labels.length,
    accuracy: jackknife(confusion, accuracyOf),
    f1: jackknife(confusion, f1Of),
    matthews: jackknife(confusion, matthewsOf),
    majority: { class: majority, accuracy: baseline(confusion) },
    gain: jackknife(confusion, (matrix) => accuracyOf(matrix) - baseline(matrix)),
    confusion,
  };
}

type Confusion = readonly (readonly number[])[];

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const total = (matrix: Confusion): number => sum(matrix.map(sum));
const columns = (matrix: Confusion): number[] => matrix.map((_, j) => sum(matrix.map((row) => row[j])));
const ratio = (a: number, b: number): number => (b === 0 ? 0 : a / b);

function accuracyOf(matrix: Confusion): number {
  return sum(matrix.map((row, i) => row[i])) / total(matrix);
}

function f1Of(matrix: Confusion): number {
  const predicted = columns(matrix);
  const each = matrix.map((row, i) => ratio(2 * row[i], sum(row) + predicted[i]));
  return each.length === 2 ? each[1] : sum(each) / each.length;
}

function matthewsOf(matrix: Confusion): number {
  const [right, n] = [sum(matrix.map((row, i) => row[i])), total(matrix)];
  const [truly, predicted] = [matrix.map(sum), columns(matrix)];
  const products = (a: readonly number[], b: readonly number[]): number => sum(a.map((x, i) => x * b[i]));
  const spread = (n * n - products(predicted, predicted)) * (n * n - products(truly, truly));
  return ratio(right * n - products(truly, predicted), Math.sqrt(spread));
}

/** An estimate whose error comes from leaving out each example in turn; examples of one cell are alike. */
function jackknife(matrix: Confusion, statistic: (matrix: Confusion) => number): Estimate {
  const n = total(matrix);
  const left = matrix.flatMap((row, i) =>
    row.flatMap((count, j) => {
      if (count === 0) return [];
      const without = matrix.map((cells, a) =>
        cells.map((cell, b) => (a === i && b === j ? cell - 1 : cell)),
      );
      return [{ count, value: statistic(without) }];
    }),
  );
  const mean = sum(left.map(({ count, value }) => count * value)) / n;
  const squares = sum(left.map(({ count, value }) => count * (value - mean) ** 2));
  return { value: statistic(matrix), standardError: Math.sqrt(((n - 1) / n) * squares) };
}
