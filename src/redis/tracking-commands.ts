/** CLIENT TRACKING, CACHING, TRACKINGINFO, GETREDIR, in Redis' words. */
import type { Connection } from './connection.js';
import type { Front } from './front.js';
import { array, bulk, failure, integer, map, OK, set } from './resp-text.js';
import type { OwnTracking, TrackingMode } from './own-tracking.js';

const SYNTAX = failure('ERR syntax error');
const SWITCH = 'before disabling tracking for this client, and then re-enabling it with a different mode.';
const OTHER_KEYS = failure('NOPERM No permissions to access a key');

/** The reply. @param rest behind the name of the subcommand; the first one is there */
export function trackingCommand(front: Front, connection: Connection, rest: readonly string[]): string {
  const { trackers } = front.audience;
  let redirect = 0;
  const asked = new Set<string>();
  const prefixes: string[] = [];
  for (let i = 1; i < rest.length; i++) {
    const word = rest[i]!.toLowerCase();
    const more = rest.length - 1 - i;
    if (word === 'redirect' && more > 0) {
      if (redirect !== 0) return failure('ERR A client can only redirect to a single other client');
      const id = rest[++i]!;
      if (!/^(?:0|-?[1-9]\d{0,17})$/.test(id)) return failure('ERR value is not an integer or out of range');
      redirect = Number(id);
      // Keys of a user are not told to another one.
      if (front.connections.get(redirect)?.user?.name !== connection.user?.name)
        return failure('ERR The client ID you want redirect to does not exist');
    } else if (word === 'prefix' && more > 0) prefixes.push(rest[++i]!);
    else if (/^(?:bcast|optin|optout|noloop)$/.test(word)) asked.add(word);
    else return SYNTAX;
  }
  const isOn = rest[0]!.toLowerCase() === 'on';
  if (!isOn) {
    if (rest[0]!.toLowerCase() !== 'off') return SYNTAX;
    trackers.stop(connection);
    front.audience.adjust();
    return OK;
  }
  const before = connection.tracking;
  const isBroadcast = asked.has('bcast');
  if (!isBroadcast && prefixes.length > 0) return failure('ERR PREFIX option requires BCAST mode to be enabled');
  if (before !== undefined && (before.mode === 'bcast') !== isBroadcast)
    return failure(`ERR You can't switch BCAST mode on/off ${SWITCH}`);
  if (isBroadcast && (asked.has('optin') || asked.has('optout')))
    return failure('ERR OPTIN and OPTOUT are not compatible with BCAST');
  if (asked.has('optin') && asked.has('optout')) return failure("ERR You can't use both OPTIN mode and OPTOUT mode");
  if ((asked.has('optin') && before?.mode === 'optout') || (asked.has('optout') && before?.mode === 'optin'))
    return failure(`ERR You can't switch OPTIN/OPTOUT mode ${SWITCH}`);
  if (isBroadcast) {
    const own = connection.user?.prefix ?? '';
    if (own !== '' && (prefixes.length === 0 || prefixes.some((prefix) => !prefix.startsWith(own)))) return OTHER_KEYS;
    const why = trackers.refusal(connection, prefixes);
    if (why !== undefined) return failure(why);
  }
  const mode: TrackingMode = isBroadcast
    ? 'bcast'
    : asked.has('optin')
      ? 'optin'
      : asked.has('optout')
        ? 'optout'
        : 'all';
  const kept = [...(before?.prefixes ?? []), ...prefixes];
  const own: OwnTracking = {
    mode,
    noLoop: asked.has('noloop'),
    redirect,
    prefixes: new Set(isBroadcast && kept.length === 0 ? [''] : kept),
    caching: undefined,
    isBroken: false,
  };
  trackers.start(connection, own);
  front.audience.adjust();
  return OK;
}

export function cachingCommand({ tracking }: Connection, word: string): string {
  if (tracking === undefined || (tracking.mode !== 'optin' && tracking.mode !== 'optout'))
    return failure(
      'ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled',
    );
  const isYes = word.toLowerCase() === 'yes';
  if (!isYes && word.toLowerCase() !== 'no') return SYNTAX;
  if (isYes && tracking.mode !== 'optin')
    return failure('ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.');
  if (!isYes && tracking.mode !== 'optout')
    return failure('ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.');
  tracking.caching = isYes;
  return OK;
}

export function redirectOf({ tracking }: Connection): number {
  return tracking === undefined ? -1 : tracking.redirect;
}

export function trackingInfo(connection: Connection): string {
  const { tracking, version } = connection;
  const flags = tracking === undefined ? ['off'] : flagsOf(tracking);
  return map(version, [
    bulk('flags'),
    set(version, flags.map(bulk)),
    bulk('redirect'),
    integer(redirectOf(connection)),
    bulk('prefixes'),
    array([...(tracking?.prefixes ?? [])].sort().map(bulk)),
  ]);
}

function flagsOf({ mode, caching, noLoop, isBroken }: OwnTracking): string[] {
  const flags = ['on'];
  if (mode !== 'all') flags.push(mode);
  if (mode === 'optin' && caching === true) flags.push('caching-yes');
  if (mode === 'optout' && caching === false) flags.push('caching-no');
  if (noLoop) flags.push('noloop');
  if (isBroken) flags.push('broken_redirect');
  return flags;
}
