/**
 * A flame graph of boxes: each as wide as its share, callers above what they call. Positions are percentages, so it
 * fits any width.
 */
import { escapeHtml } from '../../src/measure/report/html.js';
import type { Frame } from './cpu-profile.js';

const ROW_PX = 19;
/** Narrower boxes would not be visible, and there are thousands of them. */
const SHARE_MIN = 0.002;
/** Below this no letter fits. */
const LABEL_SHARE_MIN = 0.02;

export const FLAME_STYLE = `
.flame{position:relative;min-width:620px;margin-top:6px}
.flame div{position:absolute;height:${ROW_PX - 1}px;overflow:hidden;padding:0 4px;border-radius:2px;box-shadow:inset -1px 0 var(--card);font-size:11px;line-height:${ROW_PX - 1}px;white-space:nowrap;text-overflow:ellipsis}
.flame div.thin{padding:0}
.flame div:hover{outline:1.5px solid var(--ink);outline-offset:-1px}
.flame .ours,.swatch.ours{background:color-mix(in srgb,var(--a) 30%,var(--card))}
.flame .node,.swatch.node{background:color-mix(in srgb,var(--c) 26%,var(--card))}
.flame .native,.swatch.native{background:color-mix(in srgb,var(--b) 36%,var(--card))}
.flame .collector,.swatch.collector{background:color-mix(in srgb,var(--event) 40%,var(--card))}
.swatch{display:inline-block;width:13px;height:13px;margin-right:7px;border-radius:3px;vertical-align:-2px}
@media print{.flame{min-width:0}}
`;

export const FLAME_LEGEND = `<ul class="legend">${[
  ['ours', 'this package'],
  ['node', 'Node and other packages'],
  ['native', 'native code'],
  ['collector', 'garbage collection'],
]
  .map(([kind, text]) => `<li><span class="swatch ${kind}"></span>${text}</li>`)
  .join('')}</ul>`;

/** @param describe text of a box when the pointer rests on it, given its share of `root` */
export function flameGraph(root: Frame, label: string, describe: (frame: Frame, share: number) => string): string {
  if (root.total === 0) return '<p class="note">Not one sample that was not idle.</p>';
  const boxes: string[] = [];
  let depthMax = 0;
  const draw = (caller: Frame, depth: number, start: number): void => {
    let at = start;
    const callees = [...caller.callees.values()].sort((a, b) => b.total - a.total);
    for (const frame of callees) {
      const share = frame.total / root.total;
      if (share >= SHARE_MIN) {
        depthMax = Math.max(depthMax, depth);
        const thin = share < LABEL_SHARE_MIN;
        boxes.push(
          `<div class="${frame.kind}${thin ? ' thin' : ''}" style="left:${percent(at)};width:${percent(share)};top:${depth * ROW_PX}px" title="${escapeHtml(describe(frame, share))}">${thin ? '' : escapeHtml(frame.name)}</div>`,
        );
        draw(frame, depth + 1, at);
      }
      at += share;
    }
  };
  draw(root, 0, 0);
  return `<div class="scroll"><div class="flame" role="img" aria-label="${escapeHtml(label)}" style="height:${(depthMax + 1) * ROW_PX}px">${boxes.join('')}</div></div>`;
}

function percent(share: number): string {
  return `${Number((share * 100).toFixed(3))}%`;
}
