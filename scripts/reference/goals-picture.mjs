/**
 * The picture of all goals: one bar a row, on a logarithmic axis, from the goal to what was measured. To the right of
 * the line a goal is met, to the left it is missed. A row with several figures shows the one that is worst beside its
 * own goal.
 */
const WIDTH = 940;
const NAME_WIDTH = 150;
const FIGURE_WIDTH = 350;
const ROW_HEIGHT = 22;
const TOP = 44;
/** Eight times better or worse than the goal is as far as the axis goes. */
const FARTHEST = 3;
const MET = '#1a7f5a';
const MISSED = '#b3403a';

/** How many doublings a figure is better than its goal (negative: worse); undefined if it was not measured. */
function margin({ value, atMost, atLeast }) {
  if (typeof value !== 'number') return undefined;
  if (atMost === 0 || value === 0) return atMost !== undefined && value <= atMost ? FARTHEST : -FARTHEST;
  return Math.log2(atMost === undefined ? value / atLeast : atMost / value);
}

/** The SVG for rows of measurements, each with `name`, `measured`, `goal`, `figures` and `holds`. */
export function picture(rows) {
  const height = TOP + rows.length * ROW_HEIGHT + 16;
  const left = NAME_WIDTH;
  const right = WIDTH - FIGURE_WIDTH;
  const at = (doublings) =>
    left + ((Math.max(-FARTHEST, Math.min(FARTHEST, doublings)) + FARTHEST) / (2 * FARTHEST)) * (right - left);
  const zero = at(0);
  const ticks = [-3, -2, -1, 0, 1, 2, 3].map((doublings) => {
    const label = doublings === 0 ? 'goal' : doublings < 0 ? `${2 ** -doublings}× worse` : `${2 ** doublings}× better`;
    return `<line x1="${fixed(at(doublings))}" x2="${fixed(at(doublings))}" y1="${TOP - 8}" y2="${height - 12}" stroke="${doublings === 0 ? '#444' : '#ddd'}"/><text x="${fixed(at(doublings))}" y="${TOP - 14}" text-anchor="middle" fill="#666">${label}</text>`;
  });
  const bars = rows.map(({ name, measured, goal, figures, holds }, index) => {
    const y = TOP + index * ROW_HEIGHT;
    const margins = figures.map(margin);
    const worst = margins.includes(undefined) ? -FARTHEST : Math.min(...margins);
    const [x1, x2] = [Math.min(zero, at(worst)), Math.max(zero, at(worst))];
    const colour = holds ? MET : MISSED;
    return [
      `<text x="${left - 10}" y="${y + 11}" text-anchor="end" fill="#222">${escaped(name)}</text>`,
      `<rect x="${fixed(x1)}" y="${y + 1}" width="${fixed(Math.max(2, x2 - x1))}" height="13" fill="${colour}"/>`,
      `<text x="${right + 12}" y="${y + 11}" fill="${colour}">${escaped(`${holds ? 'met' : 'missed'}: ${measured.split(' (')[0]}, goal ${goal}`)}</text>`,
    ].join('');
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="11" role="img" aria-label="Every goal, and how far what was measured lies from it">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    ...ticks,
    ...bars,
    '</svg>',
    '',
  ].join('\n');
}

const fixed = (value) => value.toFixed(1);

const escaped = (text) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
