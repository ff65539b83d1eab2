/**
 * Checks how long the datagrams may be that pass between this host and each replica: of the cluster's length, and, where
 * operations may be longer, in IP fragments. A path that silently drops long packets is otherwise noticed only as
 * operations and transfers that do not end.
 */
import type { AskedHost, InquiryOptions } from '../../client/asking-loop.js';
import { fragmentedBytes, PathProbe, type PathFound } from '../../client/path-probe.js';
import type { Limits } from '../../protocol/config.js';
import { formatCount } from '../../console/units.js';
import { DATAGRAM_BYTES_MIN } from '../../wire/envelope.js';
import { fail, ok, warn, type Finding } from './finding.js';
import type { Host } from './host.js';

/** What an operation or a result takes in a datagram beside its own bytes, at most. */
const AROUND_BYTES = 100;

/** IP fragments that this host's kernel has made since it started; undefined if it does not tell. */
function fragmentsMade(host: Host): number | undefined {
  const [names, values] = (host.read('proc/net/snmp') ?? '').split('\n').map((line) => line.split(' '));
  const made4 = values?.[names!.indexOf('FragCreates')];
  if (names?.[0] !== 'Ip:' || made4 === undefined) return undefined;
  const made6 = /^Ip6FragCreates\s+(\d+)$/m.exec(host.read('proc/net/snmp6') ?? '')?.[1] ?? 0;
  return Number(made4) + Number(made6);
}

/**
 * Tries the path to each of these replicas, which answer. Throws the errors of `PathProbe.open`.
 * @param host whose kernel sends, if it can be looked at
 */
export async function checkPaths(
  options: InquiryOptions,
  limits: Limits,
  asked: readonly AskedHost[],
  timeoutMs: number,
  host: Host | undefined,
): Promise<Finding[]> {
  if (asked.length === 0) return [];
  await using probe = await PathProbe.open(options, asked);
  const before = host && fragmentsMade(host);
  const found = await probe.tryFull(timeoutMs);
  const after = host && fragmentsMade(host);
  const findings = found.map((path) => pathFinding(path, probe.datagramBytes));
  if (findings.every(({ level }) => level === 'ok') && before !== undefined && after! > before)
    findings.push(
      warn(
        'path',
        `this host's kernel cuts datagrams of ${formatCount(probe.datagramBytes)} bytes into fragments: it knows of a narrower path to a replica`,
        'each costs two packets, and is lost where fragments do not pass: find the MTU with ip route get ADDRESS, and write that MTU less 48 as "datagramBytes" into the cluster file of all hosts',
      ),
    );
  const longest = Math.max(limits.operationBytes, limits.resultBytes);
  if (longest + AROUND_BYTES <= probe.datagramBytes) return findings;
  const fragments = await probe.tryFragments(timeoutMs);
  const without = found.filter(({ answers }, slot) => answers && !fragments[slot]).map(({ id }) => id);
  const tried = formatCount(fragmentedBytes(probe.datagramBytes));
  const whole = probe.datagramBytes - AROUND_BYTES;
  findings.push(
    without.length === 0
      ? ok('fragments', `datagrams of ${tried} bytes arrive in fragments at every replica that answers`)
      : warn(
          'fragments',
          `a datagram of ${tried} bytes does not arrive at replica ${without.join(', ')}: IP fragments are lost on the way`,
          `an operation of more than ${formatCount(whole)} bytes ends with outcome-unknown: let IP fragments pass (firewalls often drop them), or have longer operations refused: "limits": {"operationBytes": ${whole}, "resultBytes": ${whole}} in the cluster file of all replicas and clients`,
        ),
  );
  return findings;
}

function pathFinding(path: PathFound, datagramBytes: number): Finding {
  const { id, longestBack, cameBack } = path;
  const check = `path ${id}`;
  const length = formatCount(datagramBytes);
  if (!path.answers) return warn(check, 'it does not answer any more', 'run doctor again');
  if (!path.isNarrowThere && !path.isNarrowBack)
    return ok(
      check,
      cameBack < datagramBytes
        ? `datagrams of ${length} bytes arrive there, and of ${formatCount(cameBack)} here`
        : `datagrams of ${length} bytes pass there and back`,
    );
  const way = path.isNarrowThere ? 'on the way there' : 'on the way back';
  const passes = longestBack > 0 ? `; the longest that passed had ${formatCount(longestBack)}` : '';
  const write =
    longestBack >= DATAGRAM_BYTES_MIN
      ? `, or write "datagramBytes": ${longestBack} into the cluster file of all replicas and clients, and start the replicas anew`
      : '';
  return fail(
    check,
    `datagrams of ${length} bytes are lost ${way}${passes}`,
    `replies, snapshots and the log do not arrive when they fill a datagram: raise the MTU of the path, let ICMP "fragmentation needed" pass${write}`,
  );
}
