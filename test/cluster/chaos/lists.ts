/**
 * Appends to lists, and reads of whole lists, judged against what the lists hold in the end. An append's reply is the
 * length behind it, so it says at which place its element must be.
 */

export interface Append {
  readonly list: string;
  /** Given to no other append. */
  readonly element: string;
  readonly invokedMs: number;
  /** Undefined: the outcome is unknown. */
  readonly completedMs: number | undefined;
  /** The length that was replied. */
  readonly length: number | undefined;
  /** It may have been sent more often than once: by this many times more. */
  readonly repeats: number;
}

export interface ListRead {
  readonly list: string;
  readonly invokedMs: number;
  readonly completedMs: number;
  readonly elements: readonly string[];
}

export interface ListVerdict {
  readonly appended: number;
  readonly lost: readonly string[];
  readonly doubled: readonly string[];
  readonly reordered: readonly string[];
  /** Elements that nobody appended, or that were surely not appended. */
  readonly strange: readonly string[];
}

/** @param finals what each list holds in the end */
export function judgeLists(
  appends: readonly Append[],
  reads: readonly ListRead[],
  finals: ReadonlyMap<string, readonly string[]>,
): ListVerdict {
  const lost: string[] = [];
  const doubled: string[] = [];
  const reordered: string[] = [];
  const strange: string[] = [];
  const byList = groupBy(appends);
  for (const [list, elements] of finals) {
    const own = new Map((byList.get(list) ?? []).map((append) => [append.element, append]));
    const times = new Map<string, number>();
    for (const element of elements) times.set(element, (times.get(element) ?? 0) + 1);
    for (const [element, count] of times) {
      const append = own.get(element);
      if (append === undefined) strange.push(`${list}: ${element}`);
      else if (count > 1 + append.repeats) doubled.push(`${list}: ${element} ${count} times`);
    }
    for (const { element, length } of own.values()) {
      if (length === undefined) continue;
      if (!times.has(element)) lost.push(`${list}: ${element}, at ${length}`);
      else if (elements[length - 1] !== element)
        reordered.push(`${list}: ${element} not at ${length}, but at ${elements.indexOf(element) + 1}`);
    }
  }
  for (const list of byList.keys()) if (!finals.has(list)) lost.push(`${list}: not readable`);
  const order = [
    ...appends.flatMap(({ list, invokedMs, completedMs, length, element }) =>
      completedMs === undefined || length === undefined
        ? []
        : [{ list, invokedMs, completedMs, place: length, what: `append of ${element}` }],
    ),
    ...reads.map(({ list, invokedMs, completedMs, elements }) => {
      const final = finals.get(list) ?? [];
      const at = elements.findIndex((element, i) => final[i] !== element);
      if (at >= 0) reordered.push(`${list}: a read saw ${elements[at]} at ${at + 1}, where ${final[at]} is in the end`);
      // Behind the append that made it that long, before the next one.
      return { list, invokedMs, completedMs, place: elements.length + 0.5, what: `read of ${elements.length}` };
    }),
  ];
  for (const each of groupBy(order).values()) reordered.push(...realTime(each));
  return { appended: appends.length, lost, doubled, reordered, strange };
}

interface Placed {
  readonly list: string;
  readonly invokedMs: number;
  readonly completedMs: number;
  readonly place: number;
  readonly what: string;
}

/** What ended before something else began has an earlier place. */
function realTime(placed: readonly Placed[]): string[] {
  const wrong: string[] = [];
  const begun = [...placed].sort((a, b) => a.invokedMs - b.invokedMs);
  const ended = [...placed].sort((a, b) => a.completedMs - b.completedMs);
  let furthest: Placed | undefined;
  let next = 0;
  for (const each of begun) {
    for (; ended[next]!.completedMs < each.invokedMs; next++)
      if (furthest === undefined || ended[next]!.place > furthest.place) furthest = ended[next]!;
    if (furthest !== undefined && furthest.place > each.place)
      wrong.push(
        `${each.list}: ${each.what} at ${each.place} began after ${furthest.what} at ${furthest.place} had ended`,
      );
  }
  return wrong;
}

function groupBy<T extends { readonly list: string }>(all: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const each of all) {
    const group = groups.get(each.list);
    if (group === undefined) groups.set(each.list, [each]);
    else group.push(each);
  }
  return groups;
}
