/**
 * What the cases of the system benchmark say together: rows with the bound of overlap, a table, a plot.
 */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { isResident, modes } from './case.mjs';

const sum = (list) => list.reduce((a, b) => a + b, 0);
const round = (x, digits = 2) => (x === undefined || !Number.isFinite(x) ? '–' : x.toFixed(digits));
const percent = (x) => (x === undefined || !Number.isFinite(x) ? '–' : (100 * x).toFixed(1));

/** Whole experts, or factors beside a centre: they cost different computing. */
const formOf = (mode) => (modes[mode].residuals ? 'residuals' : 'experts');

/**
 * Every case beside what could be had. Computing alone is what the same texts took with everything resident, loading alone
 * is the bytes that were moved at the rate that the disk had just before and just after: one after the other they take their
 * sum, and whoever overlaps them perfectly takes the longer of both.
 */
export function rowsOf({ cases }) {
  const residents = new Map(
    cases
      .filter(({ mode, result }) => isResident(mode) && result.times)
      .sort((a, b) => a.result.textsPerSecond - b.result.textsPerSecond)
      .map(({ task, mode, result }) => [`${task} ${formOf(mode)}`, result]),
  );
  const done = cases.filter(({ result }) => result.times);
  return done.map((one) => {
    const { task, mode, budget, result } = one;
    const bytesPerSecond = diskRate(one);
    const resident = residents.get(`${task} ${formOf(mode)}`);
    const whole = residents.get(`${task} experts`);
    const { times } = result;
    // Where it went further than the resident case, that one's mean stands for the rest.
    const took = (other) => {
      if (!other) return undefined;
      const same = other.times.slice(0, times.length);
      return sum(same) + (times.length - same.length) * (sum(other.times) / other.times.length);
    };
    const compute = took(resident);
    const load = result.bytesRead / bytesPerSecond;
    const bound = compute && Math.max(compute, load);
    return {
      ...{ task, mode, budget, result, compute, load, bytesPerSecond },
      ofResident: whole && took(whole) / result.wallSeconds,
      overlapBound: bound && times.length / bound,
      ofBound: bound && bound / result.wallSeconds,
      boundBy: bound && (load > compute ? 'disk' : 'compute'),
    };
  });
}

/** What the disk gave around a case, or in it where that was more. */
function diskRate({ diskBytesPerSecond: { before, after }, result }) {
  return Math.max((before + after) / 2, result.bytesRead / result.wallSeconds);
}

/** The table, for people. */
export function tableOf(record) {
  const rows = rowsOf(record);
  const { pageCache, model, machine } = record;
  const rates = record.cases.map(({ diskBytesPerSecond: { after } }) => after);
  const lru = new Map(
    rows
      .filter(({ mode }) => mode === 'lru')
      .map((row) => [`${row.task} ${row.budget}`, row.result.textsPerSecond]),
  );
  const gigabytes = (bytes) => round(bytes / 1e9, 1);
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const heads = [
    ...[
      'traces',
      'experts held by',
      'budget %',
      'in memory, GB',
      'texts/s',
      'median, ms',
      'p95, ms',
      'hits %',
    ],
    ...[
      'GB read a text',
      'stalled, s a text',
      'disk, GB/s',
      '% of resident',
      '× LRU',
      'bound, texts/s',
      '% of bound',
      'bound by',
    ],
  ];
  const body = rows.map((row) => {
    const { task, mode, budget, result, ofResident, overlapBound, ofBound, boundBy, bytesPerSecond } = row;
    const base = lru.get(`${task} ${budget}`);
    const { texts } = result;
    return line([
      ...[task, mode, isResident(mode) ? 100 : Math.round(100 * budget)],
      gigabytes(result.expertMemoryBytes + result.alwaysResidentBytes),
      ...[
        round(result.textsPerSecond),
        round(1000 * result.latency.median, 0),
        round(1000 * result.latency.p95, 0),
      ],
      ...[percent(result.hitRate), round(result.bytesRead / texts / 1e9), round(result.stallSeconds / texts)],
      round(bytesPerSecond / 1e9),
      ...[percent(ofResident), base ? round(result.textsPerSecond / base) : '–'],
      ...[round(overlapBound), percent(ofBound), boundBy ?? '–'],
    ]);
  });
  const traces = [
    ...new Map(rows.filter(({ mode }) => mode === 'lru').map((row) => [`${row.task} ${row.budget}`, row])),
  ].map(([, { task, budget, result }]) =>
    line([
      task,
      Math.round(100 * budget),
      percent(result.activeShare),
      percent(result.lruHitRate),
      percent(result.beladyHitRate),
    ]),
  );
  return `${[
    `${model.numEncoderLayers} encoder layers, ${model.numEncoderLayers / 2} of them sparse with ${model.numExperts} experts, width ${model.hiddenSize}, experts of width ${model.intermediateSize}, float32: ${gigabytes(model.expertBytes)} GB of experts in ${model.experts}. ${machine}. One text at a time, as it comes. Reads are direct (O_DIRECT: the page cache is ${pageCache}); measured between all cases, the disk gave ${round(Math.min(...rates) / 1e9)} to ${round(Math.max(...rates) / 1e9)} GB/s.`,
    '',
    line(heads),
    line(heads.map((_, i) => (i < 2 ? '---' : '---:'))),
    ...body,
    '',
    line([
      'traces',
      'budget %',
      'experts that a text needs, % of all',
      'LRU hits %, simulated',
      'Belady hits %, simulated',
    ]),
    line(['---', '---:', '---:', '---:', '---:']),
    ...traces,
    ...residualLines(rows),
  ].join('\n')}\n`;
}

/** Bytes that ResMoE's residuals move beside whole experts, with as many places and the same predictions. */
function residualLines(rows) {
  return rows.flatMap(({ task, mode, budget, result }) => {
    const other = rows.find(
      (one) => one.task === task && one.budget === budget && `ResMoE × ${one.mode}` === mode,
    );
    if (!other) return [];
    const each = (one) => one.bytesRead / one.reads;
    return [
      '',
      `${mode} on ${task} at ${Math.round(100 * budget)} % of the places: hits ${percent(result.hitRate)} % (${percent(other.result.hitRate)} % with whole experts), ${round(result.bytesRead / result.texts / 1e9)} GB a text against ${round(other.result.bytesRead / other.result.texts / 1e9)}; a read moves ${percent(each(result) / each(other.result))} % of the bytes.`,
    ];
  });
}

/** Throughput against the bound of overlap: on the line it is reached. */
export function plotOf(record) {
  const rows = rowsOf(record).filter(({ overlapBound }) => overlapBound);
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const points = rows.map(({ task, mode, budget, result, overlapBound }) => ({
    ...{ task, mode, bound: overlapBound, reached: result.textsPerSecond },
    budget: isResident(mode) ? 100 : Math.round(100 * budget),
  }));
  const most = 1.2 * Math.max(...points.flatMap(({ bound, reached }) => [bound, reached]));
  const least = 0.8 * Math.min(...points.flatMap(({ bound, reached }) => [bound, reached]));
  const svg = Plot.plot({
    ...{ width: 760, height: 520, marginLeft: 60, marginBottom: 45, grid: true, document },
    style: { background: 'white', color: '#1b1e23', fontSize: '12px', fontFamily: 'system-ui, sans-serif' },
    ariaLabel: 'Texts a second against the bound of perfect overlap',
    x: {
      type: 'log',
      domain: [least, most],
      label: 'bound: texts a second if loading and computing overlapped perfectly',
    },
    y: { type: 'log', domain: [least, most], label: 'texts a second' },
    color: { legend: false },
    marks: [
      Plot.line(
        [
          [least, least],
          [most, most],
        ],
        { stroke: '#888' },
      ),
      Plot.line(
        [
          [least, 0.9 * least],
          [most, 0.9 * most],
        ],
        { stroke: '#bbb', strokeDasharray: '4 3' },
      ),
      Plot.dot(points, { x: 'bound', y: 'reached', stroke: 'mode', r: 4 }),
      Plot.text(points, {
        x: 'bound',
        y: 'reached',
        text: ({ mode, budget }) => `${mode} ${budget}`,
        dx: 6,
        textAnchor: 'start',
        fill: 'mode',
        fontSize: 9,
      }),
    ],
  });
  svg.setAttribute('role', 'img');
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  return `${svg.outerHTML}\n`;
}
