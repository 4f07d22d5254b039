/**
 * The inner loops of the assignment solver in WebAssembly SIMD: everything that looks at a whole row of costs.
 *
 * Costs are float32 or float64, all else float64. Loops run over two or four columns at a time and read up to three
 * numbers past the end of a row. The arrays beside the costs are padded there such that those columns never win:
 * column duals with −∞, distances with NaN, which no comparison holds for.
 * @module
 */
import { compileFunctions, instructions, type WasmFunction, type WasmMemory } from '../runtime/index.js';

/** Addresses are bytes in the memory; ends are addresses, too. */
export interface AssignmentKernels {
  /**
   * A step of Dijkstra's search from row `row`, whose costs begin at `costs`: for all columns, where
   * `cost − dual − offset` is less than the distance, it becomes the distance and `row` the predecessor.
   * @returns the smallest distance then.
   */
  relax(
    costs: number,
    duals: number,
    distances: number,
    predecessors: number,
    distancesEnd: number,
    offset: number,
    row: number,
  ): number;
  /** The two smallest `cost − dual` of a row, for every fourth column of each rest: eight numbers at `out`. */
  twoSmallest(costs: number, duals: number, dualsEnd: number, out: number): void;
  /** First column from `from` on whose `cost − dual` is at most `bound`; `columns` or more if there is none. */
  findAtMost(costs: number, duals: number, from: number, columns: number, bound: number): number;
  /** First column whose distance is `value`. */
  findDistance(distances: number, columns: number, value: number): number;
  /** 0 if all costs up to `end` are finite, else NaN. */
  checkFinite(costs: number, end: number): number;
}

const { get, set, tee, i32, i32Add, i32Mul, i32EqualsZero, f64, f64Equal, f64LessEqual, f64Add, f64Min } =
  instructions;
const { load, loadHalf, store, anyTrue, or, select, until, advance } = instructions;
const { f64x2Promote, f64x2Splat, f64x2Lane, f64x2Equal, f64x2Less, f64x2LessEqual } = instructions;
const { f64x2Add, f64x2Subtract, f64x2Multiply, f64x2PMin, f64x2PMax } = instructions;

/** Bytes of a float64. */
const DOUBLE = 8;

/** The kernels for costs of `bytesPerCost` bytes in `memory`. */
export function assignmentKernels(memory: WasmMemory, bytesPerCost: 4 | 8): AssignmentKernels {
  /** Two costs, `column` columns on, in double precision. */
  const twoCosts = (costs: number, column = 0): number[] =>
    bytesPerCost === DOUBLE
      ? [...get(costs), ...load(column * DOUBLE)]
      : [...get(costs), ...loadHalf(column * bytesPerCost), ...f64x2Promote];
  /** Two reduced costs `cost − dual`. */
  const reduced = (costs: number, duals: number, column = 0): number[] => [
    ...twoCosts(costs, column),
    ...get(duals),
    ...load(column * DOUBLE),
    ...f64x2Subtract,
  ];
  const splat = (value: number[], register: number): number[] => [...value, ...f64x2Splat, ...set(register)];

  function relax(): WasmFunction {
    const [costs, duals, distances, predecessors, end, offset, row] = [0, 1, 2, 3, 4, 5, 6];
    const [offsets, rows, best] = [7, 8, 9];
    const pairs = [
      { column: 0, candidate: 10, distance: 11, closer: 12 },
      { column: 2, candidate: 13, distance: 14, closer: 15 },
    ];
    const compare = pairs.flatMap(({ column, candidate, distance, closer }) => [
      ...[...reduced(costs, duals, column), ...get(offsets), ...f64x2Subtract, ...tee(candidate)],
      ...[...get(distances), ...load(column * DOUBLE), ...tee(distance)],
      ...[...f64x2Less, ...tee(closer)],
    ]);
    const update = pairs.flatMap(({ column, candidate, distance, closer }) => [
      ...[...get(distances), ...get(candidate), ...get(distance), ...get(closer), ...select],
      ...[...tee(distance), ...store(column * DOUBLE)],
      ...[...get(predecessors), ...get(rows), ...get(predecessors), ...load(column * DOUBLE)],
      ...[...get(closer), ...select, ...store(column * DOUBLE)],
    ]);
    return {
      parameters: ['i32', 'i32', 'i32', 'i32', 'i32', 'f64', 'f64'],
      results: ['f64'],
      locals: new Array<'v128'>(9).fill('v128'),
      body: [
        ...[...splat(get(offset), offsets), ...splat(get(row), rows), ...splat(f64(Infinity), best)],
        ...until(distances, end, [
          ...[...compare, ...or, ...anyTrue, ...instructions.if(update)],
          ...[
            ...get(best),
            ...pairs.flatMap(({ distance }) => [...get(distance), ...f64x2PMin]),
            ...set(best),
          ],
          ...advance(costs, 4 * bytesPerCost),
          ...[duals, distances, predecessors].flatMap((array) => advance(array, 4 * DOUBLE)),
        ]),
        ...[...get(best), ...f64x2Lane(0), ...get(best), ...f64x2Lane(1), ...f64Min],
      ],
    };
  }

  function twoSmallest(): WasmFunction {
    const [costs, duals, end, out, value] = [0, 1, 2, 3, 8];
    const pairs = [
      { column: 0, smallest: 4, second: 5 },
      { column: 2, smallest: 6, second: 7 },
    ];
    const registers = pairs.flatMap(({ smallest, second }) => [smallest, second]);
    const step = pairs.flatMap(({ column, smallest, second }) => [
      ...[...reduced(costs, duals, column), ...set(value)],
      ...[...get(second), ...get(smallest), ...get(value), ...f64x2PMax, ...f64x2PMin, ...set(second)],
      ...[...get(smallest), ...get(value), ...f64x2PMin, ...set(smallest)],
    ]);
    return {
      parameters: ['i32', 'i32', 'i32', 'i32'],
      locals: new Array<'v128'>(5).fill('v128'),
      body: [
        ...registers.flatMap((register) => splat(f64(Infinity), register)),
        ...until(duals, end, [...step, ...advance(costs, 4 * bytesPerCost), ...advance(duals, 4 * DOUBLE)]),
        ...registers.flatMap((register, i) => [...get(out), ...get(register), ...store(16 * i)]),
      ],
    };
  }

  function findAtMost(): WasmFunction {
    const [costs, duals, from, columns, bound, bounds, value] = [0, 1, 2, 3, 4, 5, 6];
    const skip = (array: number, bytes: number): number[] => [
      ...[...get(array), ...get(from), ...i32(bytes), ...i32Mul, ...i32Add, ...set(array)],
    ];
    const second = [...get(value), ...f64x2Lane(0), ...get(bound), ...f64LessEqual, ...i32EqualsZero];
    return {
      parameters: ['i32', 'i32', 'i32', 'i32', 'f64'],
      results: ['i32'],
      locals: ['v128', 'v128'],
      body: [
        ...[...splat(get(bound), bounds), ...skip(costs, bytesPerCost), ...skip(duals, DOUBLE)],
        ...until(from, columns, [
          ...[...reduced(costs, duals), ...tee(value), ...get(bounds), ...f64x2LessEqual, ...anyTrue],
          ...instructions.if([...get(from), ...second, ...i32Add, ...instructions.return]),
          ...[...advance(costs, 2 * bytesPerCost), ...advance(duals, 2 * DOUBLE), ...advance(from, 2)],
        ]),
        ...get(columns),
      ],
    };
  }

  function findDistance(): WasmFunction {
    const [distances, columns, value, column, values, pair] = [0, 1, 2, 3, 4, 5];
    const second = [...get(pair), ...f64x2Lane(0), ...get(value), ...f64Equal, ...i32EqualsZero];
    return {
      parameters: ['i32', 'i32', 'f64'],
      results: ['i32'],
      locals: ['i32', 'v128', 'v128'],
      body: [
        ...splat(get(value), values),
        ...until(column, columns, [
          ...[...get(distances), ...load(), ...tee(pair), ...get(values), ...f64x2Equal, ...anyTrue],
          ...instructions.if([...get(column), ...second, ...i32Add, ...instructions.return]),
          ...[...advance(distances, 2 * DOUBLE), ...advance(column, 2)],
        ]),
        ...get(columns),
      ],
    };
  }

  function checkFinite(): WasmFunction {
    const [costs, end, total, zero] = [0, 1, 2, 3];
    return {
      parameters: ['i32', 'i32'],
      results: ['f64'],
      locals: ['v128', 'v128'],
      body: [
        // 0 · x is 0 for every finite x, NaN for all others.
        ...until(costs, end, [
          ...[...get(total), ...twoCosts(costs), ...get(zero), ...f64x2Multiply, ...f64x2Add, ...set(total)],
          ...advance(costs, 2 * bytesPerCost),
        ]),
        ...[...get(total), ...f64x2Lane(0), ...get(total), ...f64x2Lane(1), ...f64Add],
      ],
    };
  }

  return compileFunctions(
    {
      relax: relax(),
      twoSmallest: twoSmallest(),
      findAtMost: findAtMost(),
      findDistance: findDistance(),
      checkFinite: checkFinite(),
    },
    memory,
  );
}
