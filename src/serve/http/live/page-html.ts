/**
 * The live page's skeleton; its scripts fill it.
 * @module
 */

const tiles = [
  ['tokens', 'Tokens written a second'],
  ['load', 'Texts being written'],
  ['hits', 'Experts found in memory'],
  ['reads', 'Weights read'],
]
  .map(
    ([name, title]) => `<div class="tile"><h2>${title}</h2>
<div class="value" id="${name}-value">–</div><div class="note" id="${name}-note"></div>
<div class="chart" id="chart-${name}" aria-hidden="true"></div></div>`,
  )
  .join('\n');

/** HTML without a script or a style of its own, so that its policy can forbid both. */
export const pageHtml = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Switchyard</title>
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/assets/uplot.css">
<link rel="stylesheet" href="/assets/live.css">
<script type="module" src="/assets/live.js"></script>
</head>
<body>
<main>
<header><h1 id="model">Switchyard</h1><span id="state" role="status" data-state="starting">connecting</span></header>
<ul id="settings" aria-label="Settings and placement"></ul>
<form id="key-form" hidden>
<label for="key">This server wants a key:</label>
<input id="key" type="password" autocomplete="off" required>
<button>Enter</button>
</form>
<div class="tiles">
${tiles}
</div>
<section id="ask-section" aria-labelledby="ask-title">
<div class="title"><h2 id="ask-title">Ask</h2><p>Point at a token, or move with the arrow keys, to see the experts that read it.</p></div>
<form id="ask">
<label for="prompt" hidden>Prompt</label>
<textarea id="prompt" name="prompt" aria-label="Prompt" required>Once upon a time</textarea>
<div class="row">
<button id="ask-button">Write</button>
<span id="ask-options">
<label>tokens<input name="tokens" type="number" min="1" max="4096" value="60"></label>
<label>temperature<input name="temperature" type="number" min="0" max="5" step="0.1" value="0.8"></label>
</span>
<span id="answer-note" role="status"></span>
</div>
</form>
<div id="answer" role="group" aria-label="Tokens"></div>
<p class="told" id="answer-told" aria-live="polite"></p>
</section>
<section id="experts-section" aria-labelledby="experts-title">
<div class="title"><h2 id="experts-title">Experts</h2><p>A row for each layer, a cell for each expert: <span id="grid-count"></span></p></div>
<div class="scroll"><canvas id="grid" role="img" aria-label="Experts"></canvas></div>
<ul class="legend">
<li>on disk</li><li class="reading">being read</li><li class="memory">in memory, stronger the more it was needed</li>
<li class="used">used just now</li><li class="chosen">by the token</li>
</ul>
<p class="told" id="grid-told"></p>
<details id="grid-details"><summary>As a table</summary>
<table id="grid-table"><thead><tr><th scope="col">layer</th><th scope="col">on disk</th><th scope="col">being read</th><th scope="col">in memory</th><th scope="col">in use</th><th scope="col">most needed</th></tr></thead><tbody></tbody></table>
</details>
</section>
<footer id="foot"></footer>
</main>
</body>
</html>
`;
